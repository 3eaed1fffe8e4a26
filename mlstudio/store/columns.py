"""How points are packed: the columns of sealed chunks, without loss to the last bit (NaN payloads, −0.0, any order).

Series that are logged together have the same steps and times. Those lie once, in an *axis*; a chunk of a series has only
its values, and says which part of which axis they stand at. Both begin with the CRC-32 of what follows (u32), version
(u8) and count (u32); then one column (values) or two (steps, times), each as coding (u8), length (u32), bytes; all little
endian.
A real is taken as its 64-bit pattern. Codings:

- 0 plain: eight bytes a value
- 1 even: first pattern and difference, for steps that count evenly and for whatever never changes
- 2 integers: order (u8), bytes kept of each (u8), first, base (i64), then planes of pattern − base (order 0), or of
  difference − base (order 1: of neighbouring patterns), modulo 2^64
- 3 decimals: exponent (u8), then as integers: the value is the integer / 10^exponent (printed numbers are such)
- 4 singles: order (u8), then planes of float32 patterns, for values that float32 holds (what `tensor.item()` gives)
- 5 doubles: the same with 64 bits

Singles and doubles are turned left by one bit (order 0: the exponent then fills the first byte), or are the zigzag of
the differences of neighbours (order 1). Planes: all first bytes, then all second ones …: noise is in the lower ones,
which are left as they are, what repeats in the upper ones, which zstd packs; plane by plane where they are long.

Version 1 (steps, times and values in one chunk, zlib) is still read.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from mlstudio.store.opening import BrokenPacking

Steps = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Columns = tuple[Steps, Reals, Reals]
"""Steps, times, values; equally long."""
Bits = npt.NDArray[Any]
"""Unsigned integers of 1, 2, 4 or 8 bytes."""

CHUNK_POINTS = 65536
"""A chunk holds at most this many points (places in it are kept in 16 bits)."""

_VERSION = 2
_CHECK = struct.Struct("<I")
_HEAD = struct.Struct("<BI")
_COLUMN_HEAD = struct.Struct("<BI")
_PLAIN, _EVEN, _INTEGERS, _DECIMALS, _SINGLES, _DOUBLES = range(6)
_EVEN_BODY = struct.Struct("<qq")
_INTEGERS_HEAD = struct.Struct("<BBqq")
_RAW_PLANES, _ONE_FRAME, _PLANE_BY_PLANE = range(3)
_LENGTH = struct.Struct("<I")
_IS_RAW = 1 << 31
_LONG = 2048
"""From this many values on each plane is packed by itself."""
_SMALL = 8
"""Shorter columns stay plain."""
_SAMPLE = 2048
_MOST_DECIMALS = 8
_LEVEL = 1
"""Of zstd. Higher ones gain less than a hundredth on curves."""
_ERRORS = (ValueError, struct.error, zlib.error, zstandard.ZstdError, OverflowError)


class Codec:
    """zstd's working memory, made once for many columns. For one thread at a time."""

    def __init__(self) -> None:
        self._compressor: zstandard.ZstdCompressor | None = None
        self._decompressor: zstandard.ZstdDecompressor | None = None

    def compress(self, data: bytes) -> bytes:
        if self._compressor is None:
            self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        return self._compressor.compress(data)

    def decompress(self, data: memoryview, size: int) -> bytes:
        """Raises ValueError unless that gives `size` bytes: damage shall not fill the memory."""
        if zstandard.frame_content_size(data) != size:
            raise ValueError("a frame of another size")
        if self._decompressor is None:
            self._decompressor = zstandard.ZstdDecompressor()
        return self._decompressor.decompress(data)


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


# -- axes and values --------------------------------------------------------------------------------------------------


def pack_axis(steps: Steps, times: Reals, codec: Codec) -> bytes:
    """Steps and times that one series or several stand at."""
    return _checked(
        _HEAD.pack(_VERSION, len(steps))
        + _pack_integers(_patterns(steps), codec)
        + _pack_integers(_patterns(times), codec)
    )


def unpack_axis(data: bytes, codec: Codec) -> tuple[Steps, Reals]:
    """Raises BrokenPacking."""
    try:
        count, (steps, times) = _columns(data, 2)
        return _unpack_patterns(steps, count, codec), _unpack_patterns(times, count, codec).view(np.float64)
    except _ERRORS as error:
        raise BrokenPacking(str(error)) from error


def pack_values(values: Reals, codec: Codec) -> bytes:
    return _checked(
        _HEAD.pack(_VERSION, len(values)) + _pack_reals(np.ascontiguousarray(values, "<f8"), codec)
    )


def unpack_values(data: bytes, codec: Codec) -> Reals:
    """Raises BrokenPacking."""
    try:
        count, (values,) = _columns(data, 1)
        return _unpack_reals(values, count, codec)
    except _ERRORS as error:
        raise BrokenPacking(str(error)) from error


def unpack_chunk(data: bytes) -> Columns:
    """A chunk of version 1, which has its steps and times in it. Raises BrokenPacking."""
    try:
        return _unpack_first(data)
    except _ERRORS as error:
        raise BrokenPacking(str(error)) from error


def _checked(body: bytes) -> bytes:
    return _CHECK.pack(zlib.crc32(body)) + body


def _columns(data: bytes, how_many: int) -> tuple[int, list[tuple[int, memoryview]]]:
    """How many points there are, and (coding, bytes) of each column."""
    body = memoryview(data)[_CHECK.size :]
    if _CHECK.unpack_from(data)[0] != zlib.crc32(body):
        raise ValueError("a wrong check sum")
    version, count = _HEAD.unpack_from(body)
    if version != _VERSION or count > CHUNK_POINTS:
        raise ValueError(f"packed points of version {version}, {count} of them")
    place = _HEAD.size
    found = []
    for _ in range(how_many):
        coding, length = _COLUMN_HEAD.unpack_from(body, place)
        place += _COLUMN_HEAD.size
        found.append((coding, body[place : place + length]))
        place += length
    return count, found


# -- columns ----------------------------------------------------------------------------------------------------------


def _patterns(column: Steps | Reals) -> Steps:
    return np.ascontiguousarray(column).view(np.int64)


def _column(coding: int, body: bytes) -> bytes:
    return _COLUMN_HEAD.pack(coding, len(body)) + body


def _plain(patterns: Steps) -> bytes:
    return _column(_PLAIN, patterns.astype("<i8", copy=False).tobytes())


def _pack_integers(patterns: Steps, codec: Codec) -> bytes:
    if len(patterns) < 2:
        return _plain(patterns)
    differences = np.diff(patterns)
    if bool((differences == differences[0]).all()):
        return _column(_EVEN, _EVEN_BODY.pack(int(patterns[0]), int(differences[0])))
    if len(patterns) < _SMALL:
        return _plain(patterns)
    return _shorter(_column(_INTEGERS, _integers(patterns, differences, 1, codec)), _plain(patterns))


def _integers(patterns: Steps, differences: Steps, order: int, codec: Codec) -> bytes:
    """Integers of no more bytes than the widest needs."""
    numbers = differences if order else patterns
    base = numbers.min()
    rest = (numbers - base).view(np.uint64)
    width = max(1, (int(rest.max()).bit_length() + 7) // 8)
    kind = "<u1" if width == 1 else "<u2" if width == 2 else "<u4" if width <= 4 else "<u8"
    head = _INTEGERS_HEAD.pack(order, width, int(patterns[0]), int(base))
    return head + _pack_planes(rest.astype(kind), width, codec)


def _pack_reals(values: Reals, codec: Codec) -> bytes:
    patterns = _patterns(values)
    if len(values) < 2:
        return _plain(patterns)
    if bool((patterns == patterns[0]).all()):
        return _column(_EVEN, _EVEN_BODY.pack(int(patterns[0]), 0))
    if len(values) < _SMALL:
        return _plain(patterns)
    exponent = _exponent(values)
    if exponent is not None:
        numbers = _as_integers(values, exponent)
        differences = np.diff(numbers)
        found = [
            _column(_DECIMALS, bytes([exponent]) + _integers(numbers, differences, order, codec))
            for order in (0, 1)
        ]
        return _shorter(_plain(patterns), *found)
    with np.errstate(over="ignore", invalid="ignore"):
        singles = values.astype("<f4")
        is_single = bool((singles.astype("<f8").view(np.int64) == patterns).all())
    if is_single:
        return _shorter(_plain(patterns), _floats(_SINGLES, singles.view("<u4"), codec))
    return _shorter(_plain(patterns), _floats(_DOUBLES, values.view("<u8"), codec))


def _floats(coding: int, bits: Bits, codec: Codec) -> bytes:
    """Patterns as they are, or their differences: what is shorter for a sample of them is taken for all."""
    width = bits.dtype.itemsize
    middle = max(0, (len(bits) - _SAMPLE) // 2)
    sample = bits[middle : middle + _SAMPLE]
    order = min((0, 1), key=lambda order: (len(_pack_planes(_shaped(sample, order), width, codec)), order))
    return _column(coding, bytes([order]) + _pack_planes(_shaped(bits, order), width, codec))


def _shaped(bits: Bits, order: int) -> Bits:
    top = 8 * bits.dtype.itemsize - 1
    one, last = bits.dtype.type(1), bits.dtype.type(top)
    shaped: Bits
    if not order:
        shaped = (bits << one) | (bits >> last)
        return shaped
    before = np.empty_like(bits)
    before[0] = 0
    before[1:] = bits[:-1]
    difference = bits - before
    shaped = (difference << one) ^ (~((difference >> last) - one))
    return shaped


def _unshaped(planes: Bits, order: int) -> Bits:
    top = 8 * planes.dtype.itemsize - 1
    one, last = planes.dtype.type(1), planes.dtype.type(top)
    if order == 0:
        turned = planes << last
        planes >>= one
        planes |= turned
        return planes
    if order != 1:
        raise ValueError(f"differences of order {order}")
    difference = (planes >> one) ^ (~((planes & one) - one))
    unshaped: Bits = np.cumsum(difference, dtype=planes.dtype)
    return unshaped


def _exponent(values: Reals) -> int | None:
    """With how many decimals all of the values can be written exactly; None if that takes too many."""
    sample = values[:: max(1, len(values) // 32)]
    if _is_decimal(sample, 0):
        least = 0
    elif _is_decimal(sample, _MOST_DECIMALS):
        least = next(exponent for exponent in range(1, _MOST_DECIMALS + 1) if _is_decimal(sample, exponent))
    else:
        return None
    for exponent in range(least, _MOST_DECIMALS + 1):
        if _is_decimal(values, exponent):
            return exponent
    return None


def _is_decimal(values: Reals, exponent: int) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * 10.0**exponent
        # The bits, so that −0.0 and NaN are none; and no integers that float64 does not hold.
        again = np.rint(scaled) / 10.0**exponent
        return bool(
            ((again.view(np.int64) == values.view(np.int64)) & (np.abs(scaled) < 2.0**53)).all()
            and not (np.signbit(values) & (values == 0)).any()
        )


def _as_integers(values: Reals, exponent: int) -> Steps:
    return np.rint(values * 10.0**exponent).astype(np.int64)


def _shorter(*candidates: bytes) -> bytes:
    return min(candidates, key=len)


def _unpack_patterns(column: tuple[int, memoryview], count: int, codec: Codec) -> Steps:
    coding, data = column
    if coding == _PLAIN:
        return np.frombuffer(data, "<i8", count)
    if coding == _EVEN:
        first, difference = _EVEN_BODY.unpack(data)
        return np.arange(count, dtype=np.int64) * np.int64(difference) + np.int64(first)
    if coding == _INTEGERS:
        return _unpack_integers(data, count, codec)
    raise ValueError(f"column coding {coding}")


def _unpack_integers(data: memoryview, count: int, codec: Codec) -> Steps:
    order, width, first, base = _INTEGERS_HEAD.unpack_from(data)
    if order > 1 or not 1 <= width <= 8:
        raise ValueError("integers of an unknown sort")
    rest = _unpack_planes(data[_INTEGERS_HEAD.size :], count - order, width, codec)
    found = np.empty(count, np.int64)
    if not order:
        np.copyto(found, rest, casting="unsafe")
        found += base
        return found
    found[0] = first
    np.copyto(found[1:], rest, casting="unsafe")
    found[1:] += base
    return np.cumsum(found, out=found)


def _unpack_reals(column: tuple[int, memoryview], count: int, codec: Codec) -> Reals:
    coding, data = column
    if coding in (_PLAIN, _EVEN):
        return _unpack_patterns(column, count, codec).view(np.float64)
    if coding == _DECIMALS:
        if data[0] > _MOST_DECIMALS:
            raise ValueError("too many decimals")
        return _unpack_integers(data[1:], count, codec) / 10.0 ** data[0]
    if coding == _SINGLES:
        singles = _unshaped(_unpack_planes(data[1:], count, 4, codec), data[0]).view("<f4")
        return singles.astype(np.float64)
    if coding == _DOUBLES:
        return _unshaped(_unpack_planes(data[1:], count, 8, codec), data[0]).view("<f8")
    raise ValueError(f"column coding {coding}")


# -- planes -----------------------------------------------------------------------------------------------------------


def _pack_planes(numbers: Bits, width: int, codec: Codec) -> bytes:
    """The `width` lower bytes of the numbers, all first ones first."""
    count = len(numbers)
    planes = np.ascontiguousarray(numbers.view(np.uint8).reshape(count, -1).T[:width])
    if count < _LONG:
        plain = planes.tobytes()
        packed = codec.compress(plain)
        if len(packed) < len(plain):
            return bytes([_ONE_FRAME]) + packed
        return bytes([_RAW_PLANES]) + plain
    parts = [bytes([_PLANE_BY_PLANE])]
    for plane in planes:
        plain = plane.tobytes()
        packed = codec.compress(plain)
        if len(packed) < 0.98 * count:
            parts += (_LENGTH.pack(len(packed)), packed)
        else:
            parts += (_LENGTH.pack(count | _IS_RAW), plain)
    return b"".join(parts)


def _unpack_planes(data: memoryview, count: int, width: int, codec: Codec) -> Bits:
    """Numbers of 1, 2, 4 or 8 bytes."""
    if count < 0:
        raise ValueError("fewer than no numbers")
    how, data = data[0], data[1:]
    planes: list[npt.NDArray[np.uint8]]
    if how == _PLANE_BY_PLANE:
        planes = []
        place = 0
        for _ in range(width):
            (length,) = _LENGTH.unpack_from(data, place)
            place += _LENGTH.size
            size = length & ~_IS_RAW
            plane = data[place : place + size]
            place += size
            plain = plane if length & _IS_RAW else codec.decompress(plane, count)
            planes.append(np.frombuffer(plain, np.uint8, count))
    elif how in (_RAW_PLANES, _ONE_FRAME):
        whole = data if how == _RAW_PLANES else codec.decompress(data, count * width)
        planes = list(np.frombuffer(whole, np.uint8, count * width).reshape(width, count))
    else:
        raise ValueError("planes of an unknown sort")
    if width == 1:
        return planes[0]
    # Shifting the planes together is four times as fast as transposing them.
    found = planes[-1].astype("<u2" if width == 2 else "<u4" if width <= 4 else "<u8")
    for lower in reversed(planes[:-1]):
        found <<= 8
        found |= lower
    return found


# -- version 1 --------------------------------------------------------------------------------------------------------

_FIRST_HEAD = struct.Struct("<BI")
_FIRST_SHUFFLED, _FIRST_DIFFERENCES = 2, 3


def _unpack_first(data: bytes) -> Columns:
    version, count = _FIRST_HEAD.unpack_from(data)
    if version != 1:
        raise ValueError(f"chunk of version {version}")
    place = _FIRST_HEAD.size
    found = []
    for _ in range(3):
        coding, length = _COLUMN_HEAD.unpack_from(data, place)
        place += _COLUMN_HEAD.size
        found.append(_unpack_first_column(coding, memoryview(data)[place : place + length], count))
        place += length
    return found[0], found[1].view(np.float64), found[2].view(np.float64)


def _unpack_first_column(coding: int, data: memoryview, count: int) -> Steps:
    if coding == _PLAIN:
        return np.frombuffer(data, "<i8", count)
    if coding == _EVEN:
        first, difference = _EVEN_BODY.unpack(data)
        return np.arange(count, dtype=np.int64) * np.int64(difference) + np.int64(first)
    if coding not in (_FIRST_SHUFFLED, _FIRST_DIFFERENCES):
        raise ValueError(f"column coding {coding}")
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(8, count)
    patterns = np.ascontiguousarray(planes.T).view("<i8").reshape(-1)
    if coding == _FIRST_DIFFERENCES:
        return np.cumsum(patterns, dtype=np.int64)
    return patterns
