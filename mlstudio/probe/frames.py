"""Writing frames: the half of `mlstudio.probe.wire` that the container needs, which imports little."""

from __future__ import annotations

import binascii
import json
import zlib
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict

    Body = Dict[str, Any]

MAGIC = b"\x1eMLS1 "
OWN_LOGGER = "mlstudio"
"""The logger of what came by `mlstudio.log`."""
FRAMES_PER_SEGMENT = 1024
"""Frames in one file of the spool."""
MUST_SWAP = array("H", [1]).tobytes() == b"\x00\x01"
"""Whether this machine is big-endian: numbers travel as little-endian ones."""
_PACK_FROM = 200


def encode_frame(seq: int, body: Body) -> bytes:
    """The frame's whole line, newline included. `body` is JSON; NaN is not allowed in it (points go as columns)."""
    payload = json.dumps(body, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    if len(payload) >= _PACK_FROM:
        packed = b"z" + _base64(zlib.compress(payload, 1))
        if len(packed) < len(payload):
            payload = packed
    return b"%s%d %08x %s\n" % (MAGIC, seq, zlib.crc32(payload), payload)


def spool_data(log: bytes) -> str:
    """Output as it stands in the spool: ``r`` or ``z`` and base64."""
    packed = zlib.compress(log, 1) if len(log) >= _PACK_FROM else log
    if len(packed) < len(log):
        return "z" + _base64(packed).decode("ascii")
    return "r" + _base64(log).decode("ascii")


def encode_points(
    name: str,
    kind: str,
    steps: "array[int]",
    times: "array[float]",
    values: "array[float]",
    unit: str = "",
    logger: str = "",
) -> Body:
    """One series' new points as they stand in a frame's ``series``. `logger` is said where it is not mlstudio.log."""
    entry: Body = {
        "name": name,
        "kind": kind,
        "n": len(steps),
        "step": _base64(_little(steps)).decode("ascii"),
        "time": _base64(_little(times)).decode("ascii"),
        "value": _base64(_little(values)).decode("ascii"),
    }
    if unit:
        entry["unit"] = unit
    if logger and logger != OWN_LOGGER:
        entry["logger"] = logger
    return entry


def _little(values: "array[Any]") -> bytes:
    if MUST_SWAP:
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)
