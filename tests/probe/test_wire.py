"""Frames: whatever stands between them and however the stream is cut, what went in comes out."""

from __future__ import annotations

import base64
import json
import math
import zlib
from array import array
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.probe import wire
from mlstudio.probe.wire import (
    Decoder,
    Frame,
    WireError,
    decode_points,
    decode_spool,
    encode_frame,
    encode_points,
    parse_frame,
    spool_data,
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
BODIES = st.dictionaries(
    st.text().filter(lambda name: name not in ("log", "t", "series")),
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8),
    max_size=4,
)
LOGS = st.lists(
    st.sampled_from([b"epoch 1 loss 0.5\n", b"no newline", b"\n", b"\r 10%", "ü\n".encode(), b"x" * 300])
)
"""Output as the probe passes it on: without 0x1E."""
HOSTILE = st.lists(
    st.binary(max_size=30)
    | st.sampled_from(
        [
            b"\x1e",
            b"\n",
            b"\x1eMLS1 ",
            b"\n\x1eMLS1 0 00000000 {}\n",
            b"\x1eMLS1 99999999999999999999 00000000 {}\n",
            encode_frame(7, {"t": 1, "log": {"n": "x", "spans": [[0]]}}),
            encode_frame(8, {"series": [{"name": "a", "n": 1, "step": "!", "time": None, "value": []}]}),
            encode_frame(9, {"log": [1], "events": 3}),
            encode_frame(1, {"a": "b" * 400})[:-7],
        ]
    )
).map(b"".join)


def written(parts: list[tuple[bytes, dict[str, Any]]]) -> bytes:
    """The stream that a probe would write: each part's output and then its frame."""
    stream = b""
    for seq, (log, body) in enumerate(parts):
        is_open = bool(log) and not log.endswith(b"\n")
        part = {"n": len(log), "open": is_open, "spans": [[0, len(log), 1.5]] if log else []}
        stream += log + (b"\n" if is_open else b"") + encode_frame(seq, {**body, "t": 2.5, "log": part})
    return stream


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def fed(pieces: list[bytes]) -> tuple[list[Frame], bytes]:
    decoder = Decoder()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    return frames, decoder.pending


@given(st.lists(st.tuples(LOGS.map(b"".join), BODIES), max_size=6), st.lists(st.integers(0), max_size=20))
def test_what_was_written_is_read_however_it_is_cut(
    parts: list[tuple[bytes, dict[str, Any]]], cuts: list[int]
) -> None:
    frames, pending = fed(cut(written(parts), cuts))
    assert pending == b""
    assert [frame.seq for frame in frames] == list(range(len(parts)))
    assert [frame.log for frame in frames] == [log for log, _ in parts]
    assert all(frame.intact for frame in frames)
    for frame, (log, body) in zip(frames, parts, strict=True):
        assert {name: frame.body[name] for name in body} == body
        assert frame.spans == (((False, len(log), 1.5),) if log else ())


@given(st.lists(st.tuples(LOGS.map(b"".join), BODIES), min_size=1, max_size=3))
def test_byte_by_byte(parts: list[tuple[bytes, dict[str, Any]]]) -> None:
    stream = written(parts)
    frames, _ = fed([stream[i : i + 1] for i in range(len(stream))])
    assert frames == fed([stream])[0]


@given(HOSTILE, st.lists(st.integers(0), max_size=20))
def test_hostile_bytes_neither_crash_nor_depend_on_the_cut(data: bytes, cuts: list[int]) -> None:
    frames, pending = fed(cut(data, cuts))
    assert (frames, pending) == fed([data])
    for frame in frames:
        assert sum(count for _, count, _ in frame.spans) == len(frame.log)
        assert all(math.isfinite(time) for _, _, time in frame.spans)
        decode_points(frame.body)
    list(decode_spool(data))


@given(HOSTILE, BODIES)
def test_a_frame_after_rubbish_is_found(rubbish: bytes, body: dict[str, Any]) -> None:
    frames, _ = fed([rubbish + b"\n" + encode_frame(123456, body)])
    assert frames[-1].seq == 123456
    assert frames[-1].body == body


@given(BODIES.filter(bool), st.data())
def test_a_damaged_frame_is_output(body: dict[str, Any], data: st.DataObject) -> None:
    line = encode_frame(3, body)
    place = data.draw(st.integers(6, len(line) - 2))
    damaged = line[:place] + bytes([line[place] ^ 0x01]) + line[place + 1 :]
    parsed = parse_frame(damaged.rstrip(b"\n"))
    # The number alone is outside the checksum.
    assert parsed is None or parsed[1] == body


def test_a_long_body_travels_packed() -> None:
    body = {"events": [{"type": "text", "value": "a" * 100_000}]}
    line = encode_frame(0, body)
    assert len(line) < 2000
    assert parse_frame(line[:-1]) == (0, body)


def test_a_small_frame_that_unpacks_into_everything_is_refused() -> None:
    payload = b"z" + base64.b64encode(zlib.compress(b" " * (wire.MAX_FRAME_BYTES + 10) + b"{}"))
    assert parse_frame(b"\x1eMLS1 0 %08x %s" % (zlib.crc32(payload), payload)) is None


def test_deep_nesting_is_refused() -> None:
    payload = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    assert parse_frame(b"\x1eMLS1 0 %08x %s" % (zlib.crc32(payload), payload)) is None


def test_lost_output_is_noticed() -> None:
    stream = written([(b"first\n", {}), (b"second\nthird\n", {})])
    frames, _ = fed([stream.replace(b"second\n", b"")])
    assert [frame.intact for frame in frames] == [True, False]
    assert frames[1].log == b"third\n"
    assert frames[1].spans == ((False, 6, 2.5),)


def test_a_stream_that_begins_in_the_middle() -> None:
    stream = written([(b"a\n", {"k": "v" * 20}), (b"b\n", {})])
    frames, _ = fed([stream[20:]])
    assert [(frame.seq, frame.intact) for frame in frames] == [(1, False)]


def test_too_much_output_without_a_frame() -> None:
    decoder = Decoder()
    for _ in range(64):
        decoder.feed(b"x" * 1024 * 1024)
    with pytest.raises(WireError):
        decoder.feed(b"x")
    assert len(decoder.pending) <= wire.MAX_PENDING_BYTES + 1024 * 1024


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_frame_that_never_ends_costs_no_more_than_its_length(piece: int) -> None:
    """Cut into small pieces it must not be copied again for each of them."""
    decoder = Decoder()
    assert decoder.feed(b"\x1eMLS1 0 ") == []
    count = min(500_000, (wire.MAX_FRAME_BYTES - 100) // piece)
    for _ in range(count):
        assert decoder.feed(b"a" * piece) == []
    assert decoder.pending == b"\x1eMLS1 0 " + b"a" * piece * count


@given(
    st.text(min_size=1, max_size=20),
    st.sampled_from(["metric", "system"]),
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(), st.floats())),
    st.sampled_from(["", "W"]),
)
def test_points(name: str, kind: str, points: list[tuple[int, float, float]], unit: str) -> None:
    steps = array("q", [step for step, _, _ in points])
    times = array("d", [time for _, time, _ in points])
    values = array("d", [value for _, _, value in points])
    body = {"series": [encode_points(name, kind, steps, times, values, unit)]}
    parsed = parse_frame(encode_frame(0, body)[:-1])
    assert parsed is not None
    (columns,) = decode_points(parsed[1])
    assert (columns.name, columns.kind, columns.unit) == (name, kind, unit)
    assert columns.steps == steps
    assert columns.times.tobytes() == times.tobytes()
    assert columns.values.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"name": 3},
        {"name": "a", "kind": "other", "n": 0, "step": "", "time": "", "value": ""},
        {"name": "a", "n": 2, "step": "", "time": "", "value": ""},
        {"name": "a", "n": 1, "step": "AAAA", "time": "AAAA", "value": "AAAA"},
        {"name": "a", "n": 0, "step": 3, "time": "", "value": ""},
    ],
)
def test_malformed_points_are_left_out(entry: object) -> None:
    good = encode_points("good", "metric", array("q", [1]), array("d", [2.0]), array("d", [3.0]))
    assert [columns.name for columns in decode_points({"series": [entry, good]})] == ["good"]
    assert decode_points({"series": entry}) == []


def test_names_are_always_text_that_can_be_stored() -> None:
    entry = encode_points("a\ud800b", "metric", array("q", [1]), array("d", [2.0]), array("d", [3.0]))
    (columns,) = decode_points({"series": [entry]})
    assert columns.name.encode("utf-8") == b"a?b"


@given(st.lists(st.tuples(st.binary(max_size=400), BODIES), max_size=5), st.booleans())
def test_the_spool_holds_the_output_too(parts: list[tuple[bytes, dict[str, Any]]], is_cut: bool) -> None:
    data = b""
    for seq, (log, body) in enumerate(parts):
        part = {"n": len(log), "spans": [[1, len(log), 1.0]] if log else [], "data": spool_data(log)}
        data += encode_frame(seq, {**body, "log": part})
    if is_cut:
        data += encode_frame(99, {"log": {"n": 0, "data": spool_data(b"")}, "x": "y" * 50})[:-20]
    frames = list(decode_spool(data))
    assert [frame.log for frame in frames] == [log for log, _ in parts]
    assert all(frame.intact for frame in frames)


def test_a_nan_has_no_place_in_a_body() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_frame(0, {"t": math.nan})


def test_a_frame_is_ascii_on_one_line() -> None:
    line = encode_frame(12, {"name": "a\nb\u2028😀"})
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line.split(b" ", 3)[3]) == {"name": "a\nb\u2028😀"}
