"""The probe's outgoing side: output passed through, frames between it, the same frames in the spool."""

from __future__ import annotations

import codecs
import errno
import os
import time
import zlib
from array import array
from collections import deque

from mlstudio.probe.channel import Series
from mlstudio.probe.frames import FRAMES_PER_SEGMENT, OWN_LOGGER, encode_frame, encode_points, spool_data

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

    from mlstudio.probe.redactor import Redactor

    Event = Dict[str, Any]

FLUSH_LOG_BYTES = 1024 * 1024
"""A frame is due once this much output was passed on since the last one, whatever the time."""
POINTS_A_SERIES = 50_000
"""Points of one series that go into one frame at most."""
POINTS_A_FRAME = 400_000
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Frames for the spool that wait in memory while the disk is full."""
_LAST_WAITS_S = 10.0


class Stream:
    """One of the command's two output streams on its way out: secrets hidden, then made valid UTF-8."""

    def __init__(self, is_error: bool, redactor: Redactor) -> None:
        self.is_error = is_error
        self._redactor = redactor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def clean(self, data: bytes, *, final: bool = False) -> bytes:
        """What may be passed on of `data` (and of what was held back)."""
        data = self._redactor.feed(data)
        if final:
            data += self._redactor.flush()
        text = self._decoder.decode(data, final)
        if "\x1e" in text:
            # A line that begins like a frame must come from the probe alone.
            text = text.replace("\x1e", "\u241e")
        return text.encode("utf-8")


class Outlet:
    """Writes output and frames to one descriptor. Not thread-safe.

    `write` passes output on at once and remembers its spans; `flush` closes them with a frame.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        spool: Optional[Spool],
        clock: Callable[[], float],
    ) -> None:
        self._descriptor: Optional[int] = descriptor
        self._spool = spool
        self._clock = clock
        self._seq = 0
        self._log_bytes = 0
        self._log_sum = 0
        self._spans: List[List[Any]] = []
        self._spooled: List[bytes] = []
        self._mid_line = False
        self._last_error = False
        self._events: List[Event] = []
        self._series: Dict[Tuple[str, str, str], Series] = {}

    @property
    def is_full(self) -> bool:
        """Whether a frame is due for the amount of output alone."""
        return self._log_bytes >= FLUSH_LOG_BYTES

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing that a frame would say."""
        return not (self._log_bytes or self._events or self._series)

    @property
    def points_waiting(self) -> int:
        """How many points the next frames would say."""
        return sum(len(series.values) for series in self._series.values())

    def write(self, data: bytes, is_error: bool) -> None:
        """Pass cleaned output on."""
        if not data:
            return
        if self._mid_line and is_error != self._last_error:
            # The streams' lines do not mix: an unfinished one ends where the other stream speaks.
            self._put(b"\n", self._last_error)
        self._put(data, is_error)
        self._mid_line = not data.endswith(b"\n")
        self._last_error = is_error

    def _put(self, data: bytes, is_error: bool) -> None:
        self._emit(data)
        self._log_bytes += len(data)
        self._log_sum = zlib.crc32(data, self._log_sum)
        if self._spool is not None:
            self._spooled.append(data)
        now = self._clock()
        spans = self._spans
        if spans and spans[-1][0] == int(is_error) and now - spans[-1][2] < 0.05:
            spans[-1][1] += len(data)
        else:
            spans.append([int(is_error), len(data), round(now, 3)])

    def event(self, event: Event) -> None:
        """Say something in the next frame; `time` is added where it is missing."""
        event.setdefault("time", self._clock())
        self._events.append(event)

    def points(self, points: Dict[Tuple[str, str], Series]) -> None:
        """The user's points for the next frames, by logger and name."""
        for (logger, name), series in points.items():
            self._join(name, "metric", logger, series)

    def system(self, counter: int, time: float, readings: Dict[str, float]) -> None:
        """A sample for the next frame."""
        for name, value in readings.items():
            one = Series()
            one.steps.append(counter)
            one.times.append(time)
            one.values.append(value)
            self._join(name, "system", OWN_LOGGER, one)

    def _join(self, name: str, kind: str, logger: str, series: Series) -> None:
        known = self._series.get((name, kind, logger))
        if known is None:
            self._series[(name, kind, logger)] = series
        else:
            known.steps.extend(series.steps)
            known.times.extend(series.times)
            known.values.extend(series.values)

    def flush(self, *, final: bool = False) -> None:
        """Write frames until there is nothing left to say."""
        while not self.is_idle or final:
            series, more = self._take_points()
            self._frame(series, final=final and not more)
            if final and not more:
                return

    def _take_points(self) -> Tuple[List[Dict[str, Any]], bool]:
        """Points for one frame, and whether some are left for another."""
        entries: List[Dict[str, Any]] = []
        total = 0
        for key in list(self._series):
            if total >= POINTS_A_FRAME:
                return entries, True
            series = self._series.pop(key)
            count = len(series.steps)
            if count > POINTS_A_SERIES:
                rest = Series()
                rest.steps, rest.times, rest.values = (
                    _after(series.steps),
                    _after(series.times),
                    _after(series.values),
                )
                self._series[key] = rest
                count = POINTS_A_SERIES
            total += count
            entries.append(
                encode_points(
                    key[0],
                    key[1],
                    series.steps[:count],
                    series.times[:count],
                    series.values[:count],
                    logger=key[2],
                )
            )
        return entries, bool(self._series)

    def _frame(self, series: List[Dict[str, Any]], *, final: bool) -> None:
        log: Dict[str, Any] = {"n": self._log_bytes, "spans": self._spans}
        if self._log_bytes:
            log["crc"] = self._log_sum
        body: Dict[str, Any] = {"t": round(self._clock(), 3), "log": log}
        if series:
            body["series"] = series
        if self._events:
            body["events"] = self._events
        if final:
            body["final"] = True
        if self._spool is not None:
            log["data"] = spool_data(b"".join(self._spooled))
            trouble = self._spool.write(self._seq, encode_frame(self._seq, body), is_last=final)
            del log["data"]
            if trouble:
                # Said in the next frame: this one is in the spool already, and both must be the same.
                trouble_event = {"type": "warning", "message": trouble, "time": self._clock()}
            else:
                trouble_event = None
        else:
            trouble_event = None
        log["open"] = self._mid_line
        frame = encode_frame(self._seq, body)
        self._emit(b"\n" + frame if self._mid_line else frame)
        self._mid_line = False
        self._seq += 1
        self._log_bytes = 0
        self._log_sum = 0
        self._spans = []
        self._spooled = []
        self._events = [trouble_event] if trouble_event is not None and not final else []

    def _emit(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._descriptor is not None:
            try:
                view = view[os.write(self._descriptor, view) :]
            except InterruptedError:
                continue
            except OSError:
                # Nobody reads any more: the spool alone goes on.
                self._descriptor = None


class Spool:
    """The frames once more, in files, for what the engine's own log forgets (rotation).

    File ``<k>.mls`` holds the frames ``k * 1024`` to ``k * 1024 + 1023``; the oldest go when there is too much.
    """

    def __init__(self, folder: str, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._file: Optional[int] = None
        self._number = -1
        self._sizes: Dict[int, int] = {}
        self._told = False
        self._is_torn = False
        self._waiting: Deque[Tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        os.makedirs(folder, exist_ok=True)

    def write(self, seq: int, line: bytes, *, is_last: bool = False) -> str:
        """Append a frame; what does not fit on the disk waits in memory, as far as there is room for it. The last one is
        waited for. Returns a sentence for the user the first time that this fails."""
        self._waiting.append((seq, line))
        self._waiting_bytes += len(line)
        trouble = self._write_waiting()
        if is_last and self._waiting:
            deadline = time.monotonic() + _LAST_WAITS_S
            while self._waiting and time.monotonic() < deadline:
                time.sleep(0.1)
                trouble = self._write_waiting() or trouble
        while self._waiting_bytes > MAX_WAITING_BYTES:
            _, gone = self._waiting.popleft()
            self._waiting_bytes -= len(gone)
        return trouble

    def _write_waiting(self) -> str:
        try:
            while self._waiting:
                seq, line = self._waiting[0]
                self._append(seq // FRAMES_PER_SEGMENT, line)
                self._waiting.popleft()
                self._waiting_bytes -= len(line)
            self._told = False
        except OSError as error:
            if not self._told:
                self._told = True
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    return "The disk of the container is full: the second copy of output and metrics waits in memory."
                return "The second copy of output and metrics cannot be written: %s." % (
                    error.strerror or error
                )
        return ""

    def _append(self, number: int, line: bytes) -> None:
        if number != self._number or self._file is None:
            self._open(number)
        assert self._file is not None
        # A cut-off line is passed over by readers; the next one begins on a line of its own.
        data = b"\n" + line if self._is_torn else line
        written = os.write(self._file, data)
        view = memoryview(data)[written:]
        self._is_torn = bool(view) and (written > 0 or self._is_torn)
        # Without its newline alone a frame is whole: once more would be twice. The next one brings the newline.
        while len(view) > 1:
            view = view[os.write(self._file, view) :]
        self._is_torn = bool(view)
        self._sizes[number] = self._sizes.get(number, 0) + len(data)
        self._trim()

    def _open(self, number: int) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        path = os.path.join(self._folder, "%d.mls" % number)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._number = number

    def _trim(self) -> None:
        while sum(self._sizes.values()) > self._limit and len(self._sizes) > 1:
            oldest = min(self._sizes)
            del self._sizes[oldest]
            os.unlink(os.path.join(self._folder, "%d.mls" % oldest))


def _after(values: array[Any]) -> array[Any]:
    return values[POINTS_A_SERIES:]
