"""The tail of a run: a row for each commit of the recorder, with the new points of all of its series.

Layout, little endian: mark (u64, last byte 255), how many series and how many axes (u32 each), CRC-32 of what follows
(u32) and zeros (u32); ids of
the series (u64 each), number of points and axis of each (u32), number of points of each axis (u32), zeros up to eight
bytes; then steps and times of each axis, then values of each series, eight bytes each. The directory in front lets a
reader take one series of hundreds without looking at the others. The check sum is looked at where damage is expected:
readers of live runs come several times a second.

Rows without the mark are of version 1: for each series its id (u64), count (u32), flags (u8), and the columns that are
not those of the series before (flag 1: steps, flag 2: times).
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from mlstudio.store.columns import Columns
from mlstudio.store.opening import BrokenPacking

_MARK = 0xFF00_0000_0000_0002
_HEAD = struct.Struct("<QIIII")
_SERIES_BYTES, _AXIS_BYTES = 8 + 4 + 4, 4
_FIRST_HEAD = struct.Struct("<QIB")
_SAME_STEPS, _SAME_TIMES = 1, 2
_SWAP = sys.byteorder == "big"


def pack_tail(rows: Iterable[tuple[int, array[int], array[float], array[float]]]) -> bytes:
    """(series id, steps, times, values) of several series as one row. A series may come more than once."""
    ids, counts, axis_of, axis_counts = array("Q"), array("I"), array("I"), array("I")
    axes: list[bytes] = []
    numbers: dict[tuple[bytes, bytes], int] = {}
    values: list[bytes] = []
    for series, steps, times, numbers_of in rows:
        axis = (_bytes(steps), _bytes(times))
        known = numbers.get(axis)
        if known is None:
            known = numbers[axis] = len(numbers)
            axes += axis
            axis_counts.append(len(steps))
        ids.append(series)
        counts.append(len(numbers_of))
        axis_of.append(known)
        values.append(_bytes(numbers_of))
    size = _HEAD.size + _SERIES_BYTES * len(ids) + _AXIS_BYTES * len(axis_counts)
    directory = [_bytes(ids), _bytes(counts), _bytes(axis_of), _bytes(axis_counts), bytes(-size % 8)]
    body = b"".join([*directory, *axes, *values])
    return _HEAD.pack(_MARK, len(ids), len(axis_counts), zlib.crc32(body), 0) + body


def is_whole_tail(data: bytes) -> bool:
    """Whether a tail row is as it was written, as far as that can be told."""
    if len(data) < 8 or data[7] != 0xFF:
        return True
    return len(data) >= _HEAD.size and _HEAD.unpack_from(data)[3] == zlib.crc32(
        memoryview(data)[_HEAD.size :]
    )


def unpack_tail(data: bytes, *, only: int | None = None) -> Iterator[tuple[int, Columns]]:
    """(series id, columns) of a tail row, of all series or `only` one. Raises BrokenPacking."""
    try:
        if len(data) >= 8 and data[7] == 0xFF:
            yield from _unpack(data, only)
        else:
            yield from _unpack_first(data, only)
    except (ValueError, IndexError, struct.error) as error:
        raise BrokenPacking(str(error)) from error


def _unpack(data: bytes, only: int | None) -> Iterator[tuple[int, Columns]]:
    mark, series, axes, _, _ = _HEAD.unpack_from(data)
    if mark != _MARK:
        raise ValueError("a tail row of an unknown version")
    place = _HEAD.size
    ids = np.frombuffer(data, "<u8", series, place)
    counts = np.frombuffer(data, "<u4", series, place + 8 * series)
    axis_of = np.frombuffer(data, "<u4", series, place + 12 * series)
    axis_counts = np.frombuffer(data, "<u4", axes, place + 16 * series)
    place += _SERIES_BYTES * series + _AXIS_BYTES * axes
    place += -place % 8
    axes_at = np.concatenate(([0], np.cumsum(16 * axis_counts.astype(np.int64)))) + place
    values_at = np.concatenate(([0], np.cumsum(8 * counts.astype(np.int64)))) + axes_at[-1]
    if int(values_at[-1]) > len(data):
        raise ValueError("a tail row that is cut short")
    wanted = range(series) if only is None else np.flatnonzero(ids == only).tolist()
    for number in wanted:
        count, axis = int(counts[number]), int(axis_of[number])
        if count != axis_counts[axis]:
            raise ValueError("an axis of another length")
        at = int(axes_at[axis])
        yield (
            int(ids[number]),
            (
                np.frombuffer(data, "<i8", count, at),
                np.frombuffer(data, "<f8", count, at + 8 * count),
                np.frombuffer(data, "<f8", count, int(values_at[number])),
            ),
        )


def _unpack_first(data: bytes, only: int | None) -> Iterator[tuple[int, Columns]]:
    place = 0
    head = _FIRST_HEAD
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
