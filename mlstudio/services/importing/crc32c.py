"""CRC32C as TensorFlow's records hold it, of many short rows at once."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt


def _table() -> npt.NDArray[np.uint32]:
    """CRC32C (Castagnoli, RFC 3720 appendix B.4), reflected."""
    found = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        found.append(value)
    return np.array(found, np.uint32)


_CRC = _table()


_LIST: tuple[int, ...] = tuple(_CRC.tolist())
_CHUNK = 4096


def masked_crcs(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """TensorFlow's masked CRC32C of each row of bytes."""
    crc = ~_run(np.full(len(rows), 0xFFFFFFFF, np.uint32), rows)
    # tensorflow/core/lib/hash/crc32c.h: rotated right by 15 bits, plus a constant.
    return (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).astype(np.uint32)


def masked_crc(data: bytes) -> int:
    """The same of one piece of data, however long."""
    if len(data) > 2 * _CHUNK:
        crc = _folded(data)
    else:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = _LIST[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _run(crc: npt.NDArray[np.uint32], rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    for column in np.ascontiguousarray(rows.T):
        crc = _CRC[(crc ^ column) & 0xFF] ^ (crc >> 8)
    return crc


def _folded(data: bytes) -> int:
    """Chunks at once, then put together: a CRC that begins at 0 is linear, and zeros before the data do not change it;
    beginning at all ones is the same as the first four bytes inverted."""
    padding = -len(data) % _CHUNK
    flat = np.zeros(padding + len(data), np.uint8)
    flat[padding:] = np.frombuffer(data, np.uint8)
    flat[padding : padding + 4] ^= 0xFF
    rows = flat.reshape(-1, _CHUNK)
    crc = 0
    tables = _past_a_chunk()
    for part in _run(np.zeros(len(rows), np.uint32), rows).tolist():
        crc = (
            tables[0][crc & 0xFF]
            ^ tables[1][crc >> 8 & 0xFF]
            ^ tables[2][crc >> 16 & 0xFF]
            ^ tables[3][crc >> 24]
        ) ^ part
    return crc


@functools.cache
def _past_a_chunk() -> tuple[tuple[int, ...], ...]:
    """What a chunk of zeros makes of each byte of a CRC."""
    found = []
    zeros = np.zeros((256, _CHUNK), np.uint8)
    for shift in (0, 8, 16, 24):
        found.append(tuple(_run((np.arange(256) << shift).astype(np.uint32), zeros).tolist()))
    return tuple(found)
