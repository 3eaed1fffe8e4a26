"""How points are packed: sealed columnar chunks, and the small rows that wait to be sorted into them.

A chunk holds one series. Layout, little endian: version (u8), count (u32), then for each of steps (int64), times and
values (float64): coding (u8), length (u32), bytes. Codings:

- 0 plain: eight bytes a value
- 1 even: first value and difference, for steps that count evenly
- 2 shuffled: the 64-bit patterns with all first bytes first, then all second ones …, through zlib; measured curves agree
  in their upper bytes
- 3 shuffled differences: the same of the differences (modulo 2^64) of neighbouring patterns

A tail row holds several series of one run: for each its id (u64), count (u32), flags (u8), and the columns that are not
"the same as those of the series before" (flag 1: steps, flag 2: times), eight bytes a value.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from mlstudio.store.opening import BrokenPacking

Steps = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Columns = tuple[Steps, Reals, Reals]
"""Steps, times, values; equally long."""

_VERSION = 1
_PLAIN, _EVEN, _SHUFFLED, _SHUFFLED_DIFFERENCES = 0, 1, 2, 3
_CHUNK_HEAD = struct.Struct("<BI")
_COLUMN_HEAD = struct.Struct("<BI")
_EVEN_STEPS = struct.Struct("<qq")
_TAIL_HEAD = struct.Struct("<QIB")
_SAME_STEPS, _SAME_TIMES = 1, 2
_SMALL = 48
"""Shorter columns stay plain: zlib would not make them smaller."""
_SWAP = sys.byteorder == "big"


def empty_columns() -> Columns:
    return np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.float64)


def join(parts: list[Columns]) -> Columns:
    """The parts one after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty_columns()
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def pack_chunk(columns: Columns, *, compressed: bool) -> bytes:
    """One series' columns as bytes. Not `compressed`: for a chunk that will soon be packed again."""
    steps, times, values = columns
    parts = [
        _CHUNK_HEAD.pack(_VERSION, len(steps)),
        _pack_steps(steps, compressed=compressed),
        _pack(times.view(np.int64), differences=True, compressed=compressed),
        _pack(values.view(np.int64), differences=False, compressed=compressed),
    ]
    return b"".join(parts)


def unpack_chunk(data: bytes) -> Columns:
    """The columns of a chunk. Raises BrokenPacking."""
    try:
        return _unpack_chunk(data)
    except (ValueError, struct.error, zlib.error) as error:
        raise BrokenPacking(str(error)) from error


def _unpack_chunk(data: bytes) -> Columns:
    version, count = _CHUNK_HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"chunk of version {version}")
    place = _CHUNK_HEAD.size
    found = []
    for _ in range(3):
        coding, length = _COLUMN_HEAD.unpack_from(data, place)
        place += _COLUMN_HEAD.size
        found.append(_unpack(coding, memoryview(data)[place : place + length], count))
        place += length
    return found[0], found[1].view(np.float64), found[2].view(np.float64)


def pack_tail(rows: Iterable[tuple[int, array[int], array[float], array[float]]]) -> bytes:
    """(series id, steps, times, values) of several series as one row."""
    parts: list[bytes] = []
    last_steps = last_times = b""
    for series, steps, times, values in rows:
        packed_steps, packed_times = _bytes(steps), _bytes(times)
        flags = 0
        if packed_steps == last_steps:
            flags |= _SAME_STEPS
        if packed_times == last_times:
            flags |= _SAME_TIMES
        parts.append(_TAIL_HEAD.pack(series, len(values), flags))
        if not flags & _SAME_STEPS:
            parts.append(packed_steps)
        if not flags & _SAME_TIMES:
            parts.append(packed_times)
        parts.append(_bytes(values))
        last_steps, last_times = packed_steps, packed_times
    return b"".join(parts)


def unpack_tail(data: bytes, *, only: int | None = None) -> Iterator[tuple[int, Columns]]:
    """(series id, columns) of a tail row, of all series or `only` one. Raises BrokenPacking."""
    try:
        yield from _unpack_tail(data, only)
    except (ValueError, struct.error) as error:
        raise BrokenPacking(str(error)) from error


def _unpack_tail(data: bytes, only: int | None) -> Iterator[tuple[int, Columns]]:
    place = 0
    head = _TAIL_HEAD
    steps_at = times_at = 0
    while place < len(data):
        series, count, flags = head.unpack_from(data, place)
        place += head.size
        if not flags & _SAME_STEPS:
            steps_at = place
            place += 8 * count
        if not flags & _SAME_TIMES:
            times_at = place
            place += 8 * count
        if only is None or series == only:
            yield (
                series,
                (
                    np.frombuffer(data, "<i8", count, steps_at),
                    np.frombuffer(data, "<f8", count, times_at),
                    np.frombuffer(data, "<f8", count, place),
                ),
            )
        place += 8 * count


def _bytes(values: array[int] | array[float]) -> bytes:
    if _SWAP:
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _pack_steps(steps: Steps, *, compressed: bool) -> bytes:
    if len(steps) > 1:
        difference = int(steps[1]) - int(steps[0])
        last = int(steps[0]) + difference * (len(steps) - 1)
        if last == int(steps[-1]) and abs(difference) < 2**62 and bool((np.diff(steps) == difference).all()):
            return _COLUMN_HEAD.pack(_EVEN, _EVEN_STEPS.size) + _EVEN_STEPS.pack(int(steps[0]), difference)
    return _pack(steps, differences=True, compressed=compressed)


def _pack(patterns: Steps, *, differences: bool, compressed: bool) -> bytes:
    patterns = np.ascontiguousarray(patterns, "<i8")
    plain = patterns.tobytes()
    if compressed and len(patterns) >= _SMALL:
        if differences:
            patterns = np.diff(patterns, prepend=np.int64(0))
        planes = patterns.view(np.uint8).reshape(-1, 8).T.tobytes()
        packed = zlib.compress(planes, 1)
        if len(packed) < len(plain):
            coding = _SHUFFLED_DIFFERENCES if differences else _SHUFFLED
            return _COLUMN_HEAD.pack(coding, len(packed)) + packed
    return _COLUMN_HEAD.pack(_PLAIN, len(plain)) + plain


def _unpack(coding: int, data: memoryview, count: int) -> Steps:
    if coding == _PLAIN:
        return np.frombuffer(data, "<i8", count)
    if coding == _EVEN:
        first, difference = _EVEN_STEPS.unpack(data)
        return np.arange(count, dtype=np.int64) * np.int64(difference) + np.int64(first)
    if coding not in (_SHUFFLED, _SHUFFLED_DIFFERENCES):
        raise ValueError(f"column coding {coding}")
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(8, count)
    patterns = np.ascontiguousarray(planes.T).view("<i8").reshape(-1)
    if coding == _SHUFFLED_DIFFERENCES:
        return np.cumsum(patterns, dtype=np.int64)
    return patterns
