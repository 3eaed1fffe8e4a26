"""From output bytes to numbered lines, and how blocks of lines are packed.

A block: version (u8), coding (u8: 0 plain, 1 zlib), then (compressed or not) the count of stretches (u32), stretches of
lines with the same time and flags (u32 count, f64 time, u8 flags), and the lines' bytes joined by newlines.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlstudio.model.record import LogBlock
from mlstudio.model.run import LogLine
from mlstudio.store.opening import BrokenPacking

LINE_LIMIT = 64 * 1024
"""Longer lines are cut into several."""

_VERSION = 1
_PLAIN, _ZLIB = 0, 1
_HEAD = struct.Struct("<BB")
_COUNT = struct.Struct("<I")
_STRETCH = struct.Struct("<IdB")
_ERROR_STREAM, _CONTINUED = 1, 2
_COMPRESS_FROM = 512


@dataclass(slots=True)
class OpenLine:
    """The beginning of a line whose end has not come yet. `was_cut`: earlier parts of it are lines already."""

    data: bytes = b""
    time: float | None = None
    was_cut: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` lines in a row with the same time and flags."""

    count: int
    time: float
    is_error_stream: bool
    continued: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """Finished lines: their bytes, and stretches that cover them."""

    texts: tuple[bytes, ...] = ()
    stretches: tuple[Stretch, ...] = ()


class LineMaker:
    """Puts output together to lines, each stream for itself, numbered as their ends come.

    `output` and `error` are the unfinished lines; after a restart they are given back from the database.
    """

    def __init__(self, output: OpenLine | None = None, error: OpenLine | None = None) -> None:
        self.output = output or OpenLine()
        self.error = error or OpenLine()
        self._texts: list[bytes] = []
        self._stretches: list[Stretch] = []

    def feed(self, block: LogBlock) -> None:
        place = 0
        for is_error, count, time in block.spans:
            self._feed(block.data[place : place + count], time, is_error)
            place += count

    def end(self) -> None:
        """No more output comes: what is open becomes lines."""
        for is_error in (False, True):
            line = self.error if is_error else self.output
            if line.data:
                self._add((line.data,), line.time or 0.0, is_error, line.was_cut)
            line.data, line.time, line.was_cut = b"", None, False

    def take(self) -> Lines:
        """The lines that were finished since the last call."""
        lines = Lines(tuple(self._texts), tuple(self._stretches))
        self._texts, self._stretches = [], []
        return lines

    def _feed(self, data: bytes, time: float, is_error: bool) -> None:
        if not data:
            return
        line = self.error if is_error else self.output
        ends_in_newline = data.endswith(b"\n")
        texts = data.split(b"\n")
        rest = texts.pop()
        if texts:
            # The first one may have begun earlier; its time is that of its beginning.
            self._finish(line, texts[0], time, is_error)
            if len(texts) > 1:
                self._finish_all(texts[1:], time, is_error)
        if ends_in_newline:
            return
        if line.time is None:
            line.time = time
        pieces, line.data = _cut(line.data + rest)
        for piece in pieces:
            self._add((piece,), line.time, is_error, line.was_cut)
            line.time, line.was_cut = time, True

    def _finish(self, line: OpenLine, text: bytes, time: float, is_error: bool) -> None:
        began = time if line.time is None else line.time
        was_cut = line.was_cut
        pieces, rest = _cut(line.data + text)
        for piece in pieces:
            self._add((piece,), began, is_error, was_cut)
            began, was_cut = time, True
        self._add((rest,), began, is_error, was_cut)
        line.data, line.time, line.was_cut = b"", None, False

    def _finish_all(self, texts: list[bytes], time: float, is_error: bool) -> None:
        if max(map(len, texts)) <= LINE_LIMIT:
            self._add(texts, time, is_error, False)
            return
        for text in texts:
            self._finish(OpenLine(), text, time, is_error)

    def _add(self, texts: Iterable[bytes], time: float, is_error: bool, continued: bool) -> None:
        before = len(self._texts)
        self._texts.extend(texts)
        count = len(self._texts) - before
        last = self._stretches[-1] if self._stretches else None
        if last is not None and (last.time, last.is_error_stream, last.continued) == (
            time,
            is_error,
            continued,
        ):
            self._stretches[-1] = Stretch(last.count + count, time, is_error, continued)
        else:
            self._stretches.append(Stretch(count, time, is_error, continued))


def pack_lines(lines: Lines) -> bytes:
    body = b"".join(
        [
            _COUNT.pack(len(lines.stretches)),
            *(
                _STRETCH.pack(
                    part.count,
                    part.time,
                    (_ERROR_STREAM if part.is_error_stream else 0) | (_CONTINUED if part.continued else 0),
                )
                for part in lines.stretches
            ),
            b"\n".join(lines.texts),
        ]
    )
    if len(body) >= _COMPRESS_FROM:
        packed = zlib.compress(body, 1)
        if len(packed) < len(body):
            return _HEAD.pack(_VERSION, _ZLIB) + packed
    return _HEAD.pack(_VERSION, _PLAIN) + body


def unpack_lines(data: bytes) -> Lines:
    """The lines of a block. Raises BrokenPacking."""
    try:
        return _unpack_lines(data)
    except (ValueError, struct.error, zlib.error) as error:
        raise BrokenPacking(str(error)) from error


def _unpack_lines(data: bytes) -> Lines:
    version, coding = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"log block of version {version}")
    body = zlib.decompress(memoryview(data)[_HEAD.size :]) if coding == _ZLIB else data[_HEAD.size :]
    (count,) = _COUNT.unpack_from(body)
    end = _COUNT.size + count * _STRETCH.size
    stretches = tuple(
        Stretch(lines, time, bool(flags & _ERROR_STREAM), bool(flags & _CONTINUED))
        for lines, time, flags in _STRETCH.iter_unpack(body[_COUNT.size : end])
    )
    return Lines(tuple(body[end:].split(b"\n")), stretches)


def join_lines(blocks: Iterable[Lines]) -> Lines:
    """Neighbouring blocks as one."""
    texts: list[bytes] = []
    stretches: list[Stretch] = []
    for block in blocks:
        texts.extend(block.texts)
        stretches.extend(block.stretches)
    return Lines(tuple(texts), tuple(stretches))


def as_log_lines(lines: Lines, first: int, *, start: int = 0, stop: int | None = None) -> Iterator[LogLine]:
    """The lines as the model has them; `first` is the number of the block's first line; `start`, `stop` are numbers."""
    number = first
    for stretch in lines.stretches:
        end = number + stretch.count
        low, high = max(number, start), end if stop is None else min(end, stop)
        for at in range(low, high):
            yield LogLine(
                number=at,
                time=stretch.time,
                text=readable(lines.texts[at - first]),
                is_error_stream=stretch.is_error_stream,
                continued=stretch.continued,
            )
        number = end


def readable(data: bytes) -> str:
    """A line's bytes as text, without the carriage return of a Windows line end."""
    return data.decode("utf-8", "replace").removesuffix("\r")


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Pieces of at most `LINE_LIMIT` bytes, none cut inside a character, and the rest, which is no longer than that."""
    pieces = []
    start = 0
    while len(data) - start > LINE_LIMIT:
        end = start + LINE_LIMIT
        while end > start + LINE_LIMIT - 4 and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[start:end])
        start = end
    return pieces, data[start:] if start else data
