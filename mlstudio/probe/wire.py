"""The wire: numbered frames between ordinary output lines on one byte stream. See docs/wire.md.

A frame is one line::

    0x1E "MLS1 " <seq> " " <crc32 of the payload, 8 hex digits> " " <payload> "\\n"

with the payload as compact ASCII JSON, or ``z`` and the base64 of its zlib compression where that is shorter. A frame
always begins at the start of a line; where it interrupts a line, its writer put a newline in between and says
``"open": true``, and the reader takes that newline out again.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from array import array
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mlstudio.probe.frames import (
    FRAMES_PER_SEGMENT,
    MAGIC,
    MUST_SWAP,
    OWN_LOGGER,
    encode_frame,
    encode_points,
    spool_data,
)

__all__ = [
    "FRAMES_PER_SEGMENT",
    "MAGIC",
    "MAX_FRAME_BYTES",
    "OWN_LOGGER",
    "Columns",
    "Decoder",
    "Frame",
    "WireError",
    "decode_points",
    "decode_spool",
    "encode_frame",
    "encode_points",
    "parse_frame",
    "spool_data",
    "unpack_spool_data",
]
MAX_FRAME_BYTES = 32 * 1024 * 1024
"""A longer line is no frame; also the most that a frame may hold when unpacked."""
MAX_PENDING_BYTES = 64 * 1024 * 1024

_HEAD = re.compile(rb"\x1eMLS1 ([0-9]{1,15}) ([0-9a-f]{8}) ")

Body = Dict[str, Any]


class WireError(ValueError):
    """The stream cannot be a probe's: too much output without a frame."""


class Frame(NamedTuple):
    """One frame with the output that stood before it.

    `spans` cover `log` as ``(is_error_stream, byte count, time)``; `intact` says whether `log` is exactly what the
    writer wrote: if not, output was lost or came twice (a rotated log) and the spool has it.
    """

    seq: int
    body: Body
    log: bytes
    spans: Tuple[Tuple[bool, int, float], ...]
    intact: bool


class Columns(NamedTuple):
    """New points of one series; the arrays are equally long (``q``, ``d``, ``d``)."""

    name: str
    kind: str
    unit: str
    steps: "array[int]"
    times: "array[float]"
    values: "array[float]"
    logger: str = OWN_LOGGER


def parse_frame(line: bytes) -> Optional[Tuple[int, Body]]:
    """The number and body of a frame's line (without its newline); None for anything else, however close."""
    if len(line) > MAX_FRAME_BYTES:
        return None
    head = _HEAD.match(line)
    if head is None:
        return None
    payload = line[head.end() :]
    if zlib.crc32(payload) != int(head.group(2), 16):
        return None
    try:
        if payload[:1] == b"z":
            payload = _unpacked(base64.b64decode(payload[1:], validate=True))
        body = json.loads(payload)
    except (ValueError, binascii.Error, zlib.error, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    return int(head.group(1)), body


class Decoder:
    """Takes the stream apart, however it is cut into pieces. Hostile bytes never raise anything but WireError."""

    def __init__(self) -> None:
        self._log = bytearray()
        self._line = bytearray()  # an unfinished line that may become a frame

    @property
    def pending(self) -> bytes:
        """Output after the last frame."""
        return bytes(self._log + self._line)

    def feed(self, data: bytes) -> List[Frame]:
        """The frames that `data` completes. Raises WireError when over 64 MiB wait for one."""
        frames: List[Frame] = []
        if self._line:
            if (
                len(self._line) > len(MAGIC)
                and len(self._line) + len(data) <= MAX_FRAME_BYTES
                and b"\n" not in data
            ):
                # A long frame in many pieces is not looked through again for each of them.
                self._line += data
                return frames
            data = bytes(self._line) + data
            self._line.clear()
        position = 0
        while position < len(data):
            begin = data.find(b"\x1e", position)
            if begin < 0:
                self._log += data[position:]
                break
            self._log += data[position:begin]
            if self._log and self._log[-1:] != b"\n":
                self._log += b"\x1e"
                position = begin + 1
                continue
            end = data.find(b"\n", begin)
            if end < 0:
                rest = data[begin:]
                if len(rest) > MAX_FRAME_BYTES or not (MAGIC.startswith(rest[:6]) or rest.startswith(MAGIC)):
                    self._log += rest
                else:
                    self._line += rest
                break
            parsed = parse_frame(data[begin:end])
            if parsed is None:
                self._log += data[begin : end + 1]
            else:
                frames.append(self._frame(*parsed))
            position = end + 1
        if len(self._log) > MAX_PENDING_BYTES:
            raise WireError("64 MiB of output without a frame")
        return frames

    def _frame(self, seq: int, body: Body) -> Frame:
        log = bytes(self._log)
        self._log.clear()
        return _frame(seq, body, log, interrupted=True)


def decode_spool(data: bytes) -> Iterator[Frame]:
    """The frames of a spool file, with their output. A line that is damaged or cut off is passed over."""
    for line in data.split(b"\n"):
        parsed = parse_frame(line)
        if parsed is None:
            continue
        seq, body = parsed
        part = body.get("log")
        log = b""
        if isinstance(part, dict) and isinstance(part.get("data"), str):
            found = unpack_spool_data(part["data"])
            if found is None:
                continue
            log = found
        yield _frame(seq, body, log, interrupted=False)


def unpack_spool_data(text: str) -> Optional[bytes]:
    """The bytes that `spool_data` packed; None for anything else."""
    try:
        data = base64.b64decode(text[1:], validate=True)
        return _unpacked(data) if text[:1] == "z" else data
    except (ValueError, binascii.Error, zlib.error):
        return None


def decode_points(body: Body) -> List[Columns]:
    """The series of a frame. An entry that is malformed is left out."""
    found: List[Columns] = []
    entries = body.get("series")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        kind, unit = entry.get("kind", "metric"), entry.get("unit", "")
        logger = entry.get("logger", OWN_LOGGER)
        if kind not in ("metric", "system") or not isinstance(unit, str) or not isinstance(logger, str):
            continue
        try:
            steps = _column("q", entry.get("step"))
            times = _column("d", entry.get("time"))
            values = _column("d", entry.get("value"))
        except (ValueError, TypeError, binascii.Error):
            continue
        if len(steps) == len(times) == len(values) == entry.get("n"):
            # JSON can write half of a surrogate pair, which no text file and no database takes.
            name, unit, logger = (
                text.encode("utf-8", "replace").decode("utf-8") for text in (entry["name"], unit, logger)
            )
            found.append(Columns(name, kind, unit, steps, times, values, logger))
    return found


def _frame(seq: int, body: Body, log: bytes, *, interrupted: bool) -> Frame:
    part = body.get("log")
    part = part if isinstance(part, dict) else {}
    if interrupted and part.get("open") is True and log.endswith(b"\n"):
        log = log[:-1]
    intact = part.get("n", 0) == len(log) and part.get("crc", 0) in (0, zlib.crc32(log))
    return Frame(seq, body, log, _spans(part.get("spans"), body.get("t"), len(log), intact=intact), intact)


def _spans(raw: Any, time: Any, size: int, *, intact: bool) -> Tuple[Tuple[bool, int, float], ...]:
    """Spans that cover exactly `size` bytes; if the writer's do not, one span for all of it."""
    spans: List[Tuple[bool, int, float]] = []
    if intact and isinstance(raw, list):
        try:
            spans = [(bool(kind), int(count), float(when)) for kind, count, when in raw]
        except (ValueError, TypeError, OverflowError):
            spans = []
        if all(count > 0 for _, count, _ in spans) and sum(count for _, count, _ in spans) == size:
            return tuple(spans)
    when = float(time) if isinstance(time, (int, float)) and abs(time) < 1e15 else 0.0
    return ((False, size, when),) if size else ()


def _unpacked(packed: bytes) -> bytes:
    """zlib undone, with a limit: a small frame cannot unpack into all of the memory."""
    worker = zlib.decompressobj()
    data = worker.decompress(packed, MAX_FRAME_BYTES)
    if worker.unconsumed_tail or not worker.eof:
        raise ValueError("too large or cut off")
    return data


def _column(code: str, text: Any) -> "array[Any]":
    if not isinstance(text, str):
        raise TypeError("not a column")
    values = array(code)
    values.frombytes(base64.b64decode(text, validate=True))
    if MUST_SWAP:
        values.byteswap()
    return values
