"""The channel from user processes to the probe: append-only files that survive the writer's sudden death.

Each process writes its own segment files, mapped into memory, in the folder ``$MLSTUDIO_CHANNEL``. A record is complete
before the offset in the file's header moves over it, so that a reader never sees half of one, and what was written is in
the page cache, which a SIGKILL of the writer does not touch.

Segment: ``MLSCHAN1`` | uint64 offset behind the last complete record | records.
Record: uint32 type, uint32 payload bytes, payload, padded to 8 bytes. All little-endian, types:

1  names: uint32 id, then a JSON list of series names that the following points refer to, or an object with that list as
   ``names`` and the ``logger`` that they belong to where it is not `mlstudio.log`
2  points: uint32 id, uint32 zero, int64 step, float64 time, one float64 for each name
3  event: a JSON object as it stands in a frame's ``events``
"""

from __future__ import annotations

import json
import os
import struct
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, List, Tuple

    PointsByName = Dict[Tuple[str, str], "Series"]

MAGIC = b"MLSCHAN1"
HEADER_BYTES = 16
SEGMENT_BYTES = 256 * 1024
NAMES, POINTS, EVENT = 1, 2, 3
RECORD = struct.Struct("<II")
OFFSET = struct.Struct("<Q")
POINT_HEAD = struct.Struct("<IIqd")
MAX_EVENTS_A_READ = 10_000
MAX_LOGGER = 64
"""Characters of a logger's name."""


class Series:
    """Points of one series, gathered for a frame."""

    __slots__ = ("steps", "times", "values")

    def __init__(self) -> None:
        self.steps = array("q")
        self.times = array("d")
        self.values = array("d")


class ChannelReader:
    """Reads what processes have written and removes what it has read. One per probe, one thread."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._segments: Dict[str, _Segment] = {}

    def read(self, *, last: bool = False) -> Tuple[PointsByName, List[Dict[str, Any]]]:
        """New points by (logger, name), and new events. With `last`, no writer is left: every segment is removed."""
        points: PointsByName = {}
        events: List[Dict[str, Any]] = []
        try:
            names = sorted(name for name in os.listdir(self._folder) if name.endswith(".seg"))
        except OSError:
            return points, events
        newest: Dict[str, str] = {}
        for name in names:
            newest[name.rpartition("-")[0]] = name
        for name in names:
            segment = self._segments.get(name)
            if segment is None:
                segment = self._segments[name] = _Segment(os.path.join(self._folder, name))
            # Whether the writer is done with it is asked before the last read, not after it.
            writer = name.rpartition("-")[0]
            done = last or newest[writer] != name or not _is_alive(name)
            segment.read(points, events)
            if done:
                segment.remove()
                del self._segments[name]
        return points, events


class _Segment:
    def __init__(self, path: str) -> None:
        self._path = path
        self._offset = HEADER_BYTES
        self._names: Dict[int, List[Tuple[str, str]]] = {}

    def read(self, points: PointsByName, events: List[Dict[str, Any]]) -> None:
        try:
            with open(self._path, "rb") as file:
                head = file.read(HEADER_BYTES)
                if len(head) < HEADER_BYTES or head[:8] != MAGIC:
                    return
                end = OFFSET.unpack_from(head, 8)[0]
                if end <= self._offset or end > SEGMENT_BYTES:
                    return
                file.seek(self._offset)
                data = file.read(end - self._offset)
        except OSError:
            return
        position = 0
        while position + RECORD.size <= len(data):
            kind, size = RECORD.unpack_from(data, position)
            begin = position + RECORD.size
            if begin + size > len(data):
                break
            self._record(kind, data, begin, size, points, events)
            position = begin + size + (-size % 8)
        self._offset = end

    def _record(
        self,
        kind: int,
        data: bytes,
        begin: int,
        size: int,
        points: PointsByName,
        events: List[Dict[str, Any]],
    ) -> None:
        if kind == POINTS and size >= POINT_HEAD.size:
            names_id, _, step, time = POINT_HEAD.unpack_from(data, begin)
            names = self._names.get(names_id, ())
            if size != POINT_HEAD.size + 8 * len(names):
                return
            values = struct.unpack_from("<%dd" % len(names), data, begin + POINT_HEAD.size)
            for name, value in zip(names, values):
                series = points.get(name)
                if series is None:
                    series = points[name] = Series()
                series.steps.append(step)
                series.times.append(time)
                series.values.append(value)
            return
        try:
            if kind == NAMES and size > 4:
                self._names[struct.unpack_from("<I", data, begin)[0]] = _names(
                    json.loads(data[begin + 4 : begin + size])
                )
            elif kind == EVENT and len(events) < MAX_EVENTS_A_READ:
                event = json.loads(data[begin : begin + size])
                if isinstance(event, dict):
                    events.append(event)
        except (ValueError, RecursionError):
            return

    def remove(self) -> None:
        try:
            os.unlink(self._path)
        except OSError:
            return


def _names(said: Any) -> List[Tuple[str, str]]:
    """(logger, name) of each name in a record of them. Raises ValueError."""
    from mlstudio.probe.frames import OWN_LOGGER  # The writers, who import this module too, need none of it.

    logger: Any = OWN_LOGGER
    if isinstance(said, dict):
        logger, said = said.get("logger"), said.get("names")
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        raise ValueError("no list of names")
    if not isinstance(logger, str) or not 0 < len(logger) <= MAX_LOGGER:
        raise ValueError("no logger's name")
    return [(logger, name) for name in said]


def _is_alive(name: str) -> bool:
    try:
        os.kill(int(name.partition("-")[0]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        return True
    return True
