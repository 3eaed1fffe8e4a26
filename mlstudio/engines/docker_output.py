"""A container's output as Docker keeps it: frames taken apart, and marks from which reading resumes exactly.

The engine sends records of 8 bytes of header (stream, three zeros, length) and "timestamp SP data"
(https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach). A line over
16 KiB is kept in several records that all bear the first one's time; so a record is known by its time and by how many
bear the same time, and a mark is ``<time in ns>:<how many of them were read>``. The records' times do not always rise
(two streams are written by two threads; a line that stays open for hours keeps its first time, as a progress bar
does). So resuming asks for output from a little before the mark and drops what comes until the mark; where a line is
open, the mark has a third part, the time since which to ask.
"""

from __future__ import annotations

import struct
from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass
from time import gmtime, strftime, strptime

from mlstudio.model.launch import Chunk

_NS = 1_000_000_000
_SLACK_NS = 2 * _NS
_STAMPS_KEPT = 4096
_STDERR = 2
_HEADER = struct.Struct(">BxxxI")


@dataclass(frozen=True, slots=True)
class Record:
    """One stored piece of output. `stamp` is its time as the engine wrote it, with nine digits after the point."""

    is_error_stream: bool
    stamp: bytes
    data: bytes


class FrameReader:
    """Takes the engine's stream apart, whatever the pieces in which it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Record]:
        """The records that are complete now."""
        self._buffer += data
        whole = bytes(self._buffer)
        records = []
        at = 0
        while at + 8 <= len(whole):
            stream, size = _HEADER.unpack_from(whole, at)
            end = at + 8 + size
            if end > len(whole):
                break
            space = whole.find(b" ", at + 8, end)
            if space >= 0:
                records.append(Record(stream == _STDERR, whole[at + 8 : space], whole[space + 1 : end]))
            at = end
        del self._buffer[:at]
        return records


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a container's output: after the `count`-th record of the time `ns`."""

    ns: int
    count: int
    open_ns: int | None = None
    """Time of a line that began before and is not over."""

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """The mark that `str` wrote; None for the beginning, and for text that is no mark."""
        try:
            numbers = [int(part) for part in text.split(":")]
        except ValueError:
            return None
        if len(numbers) not in (2, 3):
            return None
        return cls(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None)

    def __str__(self) -> str:
        text = f"{self.ns}:{self.count}"
        return text if self.open_ns is None else f"{text}:{self.open_ns}"

    @property
    def since(self) -> str:
        """What to ask the engine for, as its `since` parameter takes it: seconds with nine digits."""
        return since_text(min(self.ns, self.ns if self.open_ns is None else self.open_ns) - _SLACK_NS)


def since_text(ns: int) -> str:
    ns = max(0, ns)
    return f"{ns // _NS}.{ns % _NS:09d}"


class OutputReader:
    """Turns records into chunks with marks, beginning after `mark`. One for each connection.

    While it looks for the mark, `is_searching`; if the record is no longer there (rotated away), nothing would ever
    come: the caller begins again with ``search=False``.
    """

    def __init__(self, mark: Mark | None, *, search: bool = True) -> None:
        self._target = stamp_of(mark.ns) if mark is not None and search else b""
        self._wanted = mark.count if mark is not None else 0
        self.is_searching = bool(self._target)
        self.has_passed = False
        """Whether records came that are so much newer than the mark that it cannot come any more."""
        self._passed_ns = (mark.ns if mark is not None else 0) + 2 * _SLACK_NS
        self._counts: dict[bytes, int] = {}
        self._open: dict[bool, bytes] = {}
        self._frames = FrameReader()
        self._seconds: tuple[bytes, int] = (b"", 0)

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that `data` completes: neighbouring records of one stream come as one."""
        parts: list[bytes] = []
        last: Record | None = None
        for record in self._frames.feed(data):
            if last is not None and last.is_error_stream is not record.is_error_stream:
                yield self._chunk(parts, last)
                parts, last = [], None
            self._count(record)
            if self.is_searching:
                self._search(record)
                continue
            parts.append(record.data)
            last = record
        if last is not None:
            yield self._chunk(parts, last)

    def _count(self, record: Record) -> None:
        counts = self._counts
        stamp = record.stamp
        counts[stamp] = counts.pop(stamp, 0) + 1
        if len(counts) > _STAMPS_KEPT:
            kept = set(self._open.values())
            for old in list(counts)[: _STAMPS_KEPT // 2]:
                if old not in kept:
                    del counts[old]
        if record.data.endswith(b"\n"):
            self._open.pop(record.is_error_stream, None)
        else:
            self._open.setdefault(record.is_error_stream, stamp)

    def _search(self, record: Record) -> None:
        if record.stamp == self._target and self._counts[record.stamp] >= self._wanted:
            self.is_searching = False
        elif not self.has_passed:
            self.has_passed = self._ns(record.stamp) > self._passed_ns

    def _chunk(self, parts: list[bytes], last: Record) -> Chunk:
        ns = self._ns(last.stamp)
        open_ns = min((self._ns(stamp) for stamp in self._open.values()), default=ns)
        mark = Mark(ns, self._counts[last.stamp], open_ns if open_ns < ns else None)
        return Chunk(
            data=b"".join(parts), position=str(mark), time=ns / _NS, is_error_stream=last.is_error_stream
        )

    def _ns(self, stamp: bytes) -> int:
        second, _, fraction = stamp.partition(b".")
        if second != self._seconds[0]:
            self._seconds = (second, timegm(strptime(second[:19].decode("ascii"), "%Y-%m-%dT%H:%M:%S")))
        digits = fraction.rstrip(b"Z")
        return self._seconds[1] * _NS + (int(digits.ljust(9, b"0")[:9]) if digits else 0)


def stamp_of(ns: int) -> bytes:
    """The engine's way of writing a time (RFC 3339 with nine digits, UTC)."""
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(ns // _NS)).encode() + b".%09dZ" % (ns % _NS)
