"""Turning real bytes into wrong ones, as a hypothesis strategy: what is found is made small by hypothesis itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

_NUMBERS = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f",
    b"\xff" * 8, b"\x00" * 7 + b"\x80", b"\xff" * 10, b"NaN", b"Infinity", b"1e999", b"-0", b"\x1e", b"\n", b"\r",
    b'"', b"{", b"[", b"\\u0000", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa9", b"0" * 400, b"9" * 30,
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, corpus: Sequence[bytes], most: int = 4000) -> bytes:
    """A piece of one of `corpus` with bytes turned, taken out, doubled, put in, or another piece put in its place."""
    data = bytearray(_piece(draw, corpus, most))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 6)):
            case 0 if data:
                data[place % len(data)] ^= 1 << draw(st.integers(0, 7))
            case 1 if data:
                data[place % len(data)] = draw(st.integers(0, 255))
            case 2:
                del data[place : place + draw(st.integers(1, 60))]
            case 3:
                data[place:place] = draw(st.sampled_from(_NUMBERS))
            case 4:
                length = draw(st.integers(1, 60))
                data[place:place] = data[place : place + length] * draw(st.sampled_from((1, 2, 50)))
            case 5:
                number = draw(st.sampled_from(_NUMBERS))
                data[place : place + len(number)] = number
            case _:
                data[place:] = _piece(draw, corpus, most)
    return bytes(data)


def _piece(draw: st.DrawFn, corpus: Sequence[bytes], most: int) -> bytes:
    whole = corpus[draw(st.integers(0, len(corpus) - 1))]
    if len(whole) <= most:
        return whole
    begin = draw(st.integers(0, len(whole) - most))
    return whole[begin : begin + most]


def cuts(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[low:high] for low, high in pairwise(edges)] or [b""]
