"""The pyramid: what is remarkable of each chunk, kept beside it, so that a picture of a million points reads thousands.

`fine` holds of every 64 points the lowest, the highest and the first of each sort of holes (`thinning`), as places in the
chunk and values; steps and times come from the axis. `coarse` holds of every 2048 points the same, with steps and times:
for series so long that not even their axes shall be read. What is remarkable of a longer stretch is among what is
remarkable of its parts, so every level is exact.

Layout, little endian: CRC-32 of what follows (u32), version (u8), bytes of a value (u8), how many (u32); values (float32
where it holds all of them, else float64); in a coarse one steps (i64) and times (f64); places (u16).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from mlstudio.store.columns import CHUNK_POINTS, Reals, Steps
from mlstudio.store.opening import BrokenPacking
from mlstudio.store.thinning import Indices, remarkable

FINE, COARSE = 64, 2048
"""Points of which a level keeps what is remarkable."""
_FINE_FROM, _COARSE_FROM = 8 * FINE, 8 * COARSE
_VERSION = 1
_CHECK = struct.Struct("<I")
_HEAD = struct.Struct("<BBI")
_EMPTY = b""

assert CHUNK_POINTS <= 2**16, "places are kept in 16 bits"


def pack_levels(steps: Steps, times: Reals, values: Reals) -> tuple[bytes, bytes]:
    """(coarse, fine) of a chunk; empty where it has so few points that they are read themselves."""
    if len(values) < _FINE_FROM:
        return _EMPTY, _EMPTY
    at = remarkable(values, FINE)
    fine = _pack(values[at], at)
    if len(values) < _COARSE_FROM:
        return _EMPTY, fine
    at = remarkable(values, COARSE)
    return _pack(values[at], at, steps[at], times[at]), fine


def unpack_fine(data: bytes) -> tuple[Indices, Reals]:
    """(places, values). Raises BrokenPacking."""
    at, values, _, _ = _unpack(data, is_coarse=False)
    return at, values


def unpack_coarse(data: bytes) -> tuple[Indices, Steps, Reals, Reals]:
    """(places, steps, times, values). Raises BrokenPacking."""
    at, values, steps, times = _unpack(data, is_coarse=True)
    return at, steps, times, values


def _pack(values: Reals, at: Indices, steps: Steps | None = None, times: Reals | None = None) -> bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        singles = values.astype("<f4")
        is_single = bool((singles.astype("<f8").view(np.int64) == values.view(np.int64)).all())
    parts = [_HEAD.pack(_VERSION, 4 if is_single else 8, len(at))]
    parts += [singles.tobytes() if is_single else values.astype("<f8", copy=False).tobytes()]
    if steps is not None and times is not None:
        parts += [steps.astype("<i8", copy=False).tobytes(), times.astype("<f8", copy=False).tobytes()]
    parts.append(at.astype("<u2").tobytes())
    body = b"".join(parts)
    return _CHECK.pack(zlib.crc32(body)) + body


def _unpack(data: bytes, *, is_coarse: bool) -> tuple[Indices, Reals, Steps, Reals]:
    try:
        if _CHECK.unpack_from(data)[0] != zlib.crc32(memoryview(data)[_CHECK.size :]):
            raise ValueError("a wrong check sum")
        version, width, count = _HEAD.unpack_from(data, _CHECK.size)
        if version != _VERSION or width not in (4, 8):
            raise ValueError(f"a level of the pyramid of version {version}")
        place = _CHECK.size + _HEAD.size
        values = np.frombuffer(data, "<f4" if width == 4 else "<f8", count, place).astype(np.float64)
        place += width * count
        steps, times = np.empty(0, np.int64), np.empty(0, np.float64)
        if is_coarse:
            steps = np.frombuffer(data, "<i8", count, place)
            times = np.frombuffer(data, "<f8", count, place + 8 * count)
            place += 16 * count
        return np.frombuffer(data, "<u2", count, place).astype(np.intp), values, steps, times
    except (ValueError, struct.error) as error:
        raise BrokenPacking(str(error)) from error
