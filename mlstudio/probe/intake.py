"""Where collectors put what they found: points, events and media, until the probe's main loop takes them for a frame.

A collector works in a thread of its own (a file that grows, an endpoint that is called); the main loop alone writes.
Whoever brings more than can be taken waits, so that a busy logger costs time and not memory.
"""

from __future__ import annotations

import json
import threading
import time as clock
from array import array

from mlstudio.probe.channel import Series
from mlstudio.probe.frames import spool_data

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, Dict, List, Optional, Set, Tuple

    Event = Dict[str, Any]
    PointsByName = Dict[Tuple[str, str], Series]

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""With the largest medium and a frame full of points still less than a frame may hold (`wire.MAX_FRAME_BYTES`)."""
MAX_MEDIUM_BYTES = 4 * 1024 * 1024
MAX_MEDIA_BYTES = 256 * 1024 * 1024
"""Of one run, in all."""
_BYTES_A_POINT = 24
_BYTES_A_SERIES = 150
_BYTES_AN_EVENT = 256
_MEDIA_WARNINGS = 100


class Intake:
    """What waits for the next frame. Thread-safe. All calls wait while too much is there, until `close`."""

    def __init__(self, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._limit = max_waiting_bytes
        self._condition = threading.Condition()
        self._points: PointsByName = {}
        self._events: List[Event] = []
        self._waiting = 0
        self._media_bytes = 0
        self._warned: Set[Tuple[str, str]] = set()
        self._is_closed = False
        self.hide: Optional[Callable[[str], str]] = None
        """Takes secrets out of texts."""

    @property
    def is_full(self) -> bool:
        """Whether somebody would have to wait now: a frame is due."""
        return self._waiting > self._limit

    def points(
        self, logger: str, name: str, steps: array[int], times: array[float], values: array[float]
    ) -> None:
        """New points of one series (``q``, ``d``, ``d``, equally long), in the order in which they were logged."""
        with self._condition:
            size = _BYTES_A_POINT * len(values)
            if (logger, name) not in self._points:
                # As it will stand in the frame, where what is no ASCII takes several signs.
                size += _BYTES_A_SERIES + len(json.dumps(name))
            self._make_room(size)
            series = self._points.get((logger, name))
            if series is None:
                series = self._points[(logger, name)] = Series()
            series.steps.extend(steps)
            series.times.extend(times)
            series.values.extend(values)

    def point(self, logger: str, name: str, step: int, time: float, value: float) -> None:
        """One point; `time` in UTC seconds."""
        self.points(logger, name, array("q", (step,)), array("d", (time,)), array("d", (value,)))

    def event(self, event: Event) -> None:
        """Something that happened, as it will stand in a frame; `time` is added where it is missing."""
        event.setdefault("time", clock.time())
        size = _BYTES_AN_EVENT + len(json.dumps(event))
        with self._condition:
            self._make_room(size)
            self._events.append(event)

    def medium(
        self, logger: str, name: str, kind: str, step: int, time: float, mime: str, data: bytes, **more: Any
    ) -> None:
        """Something that is no number (`model.record.Medium`). What is too large is left out, and that is said."""
        if len(data) > MAX_MEDIUM_BYTES:
            self._warn(
                (kind, name),
                "“%s” at step %d was not kept (%s): %.1f MB are more than %d MB."
                % (name[:200], step, kind, len(data) / 1e6, MAX_MEDIUM_BYTES // 2**20),
            )
            return
        if self.hide is not None and kind in ("text", "table"):
            data = self.hide(data.decode("utf-8", "replace")).encode("utf-8")
        packed = spool_data(data)
        event: Event = {
            "type": "media",
            "time": time,
            "name": name,
            "kind": kind,
            "step": step,
            "mime": mime,
            "data": packed,
            "logger": logger,
        }
        event.update(more)
        with self._condition:
            if self._media_bytes + len(data) > MAX_MEDIA_BYTES:
                is_too_much = True
            else:
                is_too_much = False
                self._media_bytes += len(data)
                self._make_room(len(packed))
                self._events.append(event)
        if is_too_much:
            self._warn(
                ("", ""),
                "Images, histograms and texts of one run are kept up to %d MB; further ones are not."
                % (MAX_MEDIA_BYTES // 2**20),
            )

    def take(self) -> Tuple[PointsByName, List[Event]]:
        """Everything that waits: points by (logger, name), and events."""
        with self._condition:
            points, events = self._points, self._events
            self._points, self._events = {}, []
            self._waiting = 0
            self._condition.notify_all()
        return points, events

    def close(self) -> None:
        """Nobody waits any more: the command has ended, and what comes now is taken as it comes."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _make_room(self, size: int) -> None:
        """Wait until `size` more bytes may wait. What is larger than the limit waits for all else to go."""
        while self._waiting > self._limit and not self._is_closed:
            self._condition.wait()
        self._waiting += size

    def _warn(self, about: Tuple[str, str], message: str) -> None:
        if about in self._warned or len(self._warned) >= _MEDIA_WARNINGS:
            return
        self._warned.add(about)
        self.event({"type": "warning", "message": message})
