"""Output in records: taken apart however it arrives, and resumed exactly wherever reading stopped."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstudio.engines.docker_output import FrameReader, Mark, OutputReader, since_text, stamp_of
from mlstudio.model.launch import Chunk

_NS = 1_000_000_000
START_NS = 1_795_429_503_000_000_000


@dataclass(frozen=True)
class Stored:
    """A record as the engine stores it."""

    ns: int
    is_error_stream: bool
    data: bytes

    def frame(self) -> bytes:
        payload = stamp_of(self.ns) + b" " + self.data
        return struct.pack(">BxxxI", 2 if self.is_error_stream else 1, len(payload)) + payload


@st.composite
def outputs(draw: st.DrawFn) -> list[Stored]:
    """What two writers of an engine store: lines, long ones in pieces that bear the first piece's time.

    Times repeat, and of two records by different writers the later one may bear the earlier time.
    """
    now = START_NS
    stored: list[Stored] = []
    opened: dict[bool, int] = {}
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 0, 1, 1000, 300_000_000, 5 * _NS]))
        stream = draw(st.booleans())
        ends = draw(st.booleans())
        text = draw(st.binary(max_size=12)).replace(b"\n", b"")
        ns = opened.get(stream, now - draw(st.sampled_from([0, 0, 1, 50_000])))
        stored.append(Stored(ns, stream, text + (b"\n" if ends else b"")))
        if ends:
            opened.pop(stream, None)
        else:
            opened[stream] = ns
    return stored


def read(stored: list[Stored], mark: Mark | None, *, sizes: list[int]) -> list[Chunk]:
    """What a reader gets who asks the engine from a mark: the engine leaves out what is older than `since`."""
    since = 0
    if mark is not None:
        seconds, _, nanos = mark.since.partition(".")
        since = int(seconds) * _NS + int(nanos)
    data = b"".join(record.frame() for record in stored if record.ns >= since)
    reader = OutputReader(mark)
    chunks: list[Chunk] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        chunks += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert not reader.is_searching
    return chunks


@given(outputs(), st.lists(st.integers(1, 200), min_size=1, max_size=5))
@settings(max_examples=300)
def test_reading_resumes_exactly_after_every_chunk(stored: list[Stored], sizes: list[int]) -> None:
    whole = b"".join(record.data for record in stored)
    chunks = read(stored, None, sizes=sizes)
    assert b"".join(chunk.data for chunk in chunks) == whole
    done = b""
    for chunk in chunks:
        done += chunk.data
        rest = read(stored, Mark.parse(chunk.position), sizes=sizes)
        assert done + b"".join(later.data for later in rest) == whole
        # And again from a mark that was made after resuming.
        if rest:
            again = read(stored, Mark.parse(rest[0].position), sizes=sizes)
            assert done + rest[0].data + b"".join(later.data for later in again) == whole


@given(outputs(), st.integers(1, 500))
def test_frames_survive_any_cutting(stored: list[Stored], size: int) -> None:
    data = b"".join(record.frame() for record in stored)
    reader = FrameReader()
    records = [record for at in range(0, len(data), size) for record in reader.feed(data[at : at + size])]
    assert [(record.is_error_stream, record.data) for record in records] == [
        (record.is_error_stream, record.data) for record in stored
    ]


def test_neighbours_of_one_stream_come_as_one_chunk() -> None:
    stored = [Stored(START_NS + i, i == 2, b"%d\n" % i) for i in range(5)]
    chunks = read(stored, None, sizes=[10_000])
    assert [chunk.data for chunk in chunks] == [b"0\n1\n", b"2\n", b"3\n4\n"]
    assert [chunk.is_error_stream for chunk in chunks] == [False, True, False]


def test_an_open_line_is_remembered_in_the_mark() -> None:
    """A progress bar keeps the time at which its line began; what it prints later must not be left out."""
    stored = [
        Stored(START_NS, False, b"10%"),
        Stored(START_NS + 60 * _NS, True, b"warning\n"),
        Stored(START_NS, False, b"\r90%\n"),
    ]
    chunks = read(stored, None, sizes=[10_000])
    rest = read(stored, Mark.parse(chunks[1].position), sizes=[10_000])
    assert [chunk.data for chunk in rest] == [b"\r90%\n"]


def test_a_mark_that_was_rotated_away_is_noticed() -> None:
    reader = OutputReader(Mark(START_NS, 3))
    newer = Stored(START_NS + 60 * _NS, False, b"new\n")
    assert list(reader.feed(newer.frame())) == []
    assert reader.is_searching
    assert reader.has_passed
    assert [chunk.data for chunk in OutputReader(Mark(START_NS, 3), search=False).feed(newer.frame())] == [
        b"new\n"
    ]


@pytest.mark.parametrize("text", ["", "abc", "1", "1:2:3:4", "1:x", "::"])
def test_text_that_is_no_mark(text: str) -> None:
    assert Mark.parse(text) is None


@given(st.integers(0, 2**62), st.integers(1, 10**6), st.one_of(st.none(), st.integers(0, 2**62)))
def test_marks_are_text_and_back(ns: int, count: int, open_ns: int | None) -> None:
    mark = Mark(ns, count, open_ns)
    assert Mark.parse(str(mark)) == mark


def test_times_are_written_as_the_engine_takes_them() -> None:
    assert since_text(1_500_000_001) == "1.500000001"
    assert since_text(-5) == "0.000000000"
    assert stamp_of(0) == b"1970-01-01T00:00:00.000000000Z"
    (chunk,) = OutputReader(None).feed(Stored(START_NS + 123_456_789, False, b"x").frame())
    assert chunk.time == pytest.approx((START_NS + 123_456_789) / 1e9, abs=1e-6)
    assert chunk.position == f"{START_NS + 123_456_789}:1"
