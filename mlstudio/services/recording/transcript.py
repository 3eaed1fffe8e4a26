"""From a container's output to batches for the history, exactly once. No threads, no clock, no engine: bytes in,
batches out, so that tests can stop it between any two steps.

How exactly-once comes about:

- Frames are numbered. A frame that is in the history is dropped, a hole is filled from the spool.
- The cursor's position lies at or before the end of its frame, and a whole frame that is in the history lies behind it
  (unless nothing was pending at the position itself). So reading again from it begins with bytes that are recognised.
- Output without frames (no probe in the image, or one that says nothing) goes by position alone, and by `log_bytes`:
  if frames come later after all, the first one's output is taken from that byte on.
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mlstudio.model.launch import Chunk
from mlstudio.model.record import MEDIA_KINDS, Batch, Cursor, Gap, LogBlock, Medium, Points
from mlstudio.model.run import Progress, RunEvent
from mlstudio.probe.wire import (
    FRAMES_PER_SEGMENT,
    OWN_LOGGER,
    Columns,
    Decoder,
    Frame,
    WireError,
    decode_points,
    decode_spool,
    unpack_spool_data,
)
from mlstudio.services.recording.printed_series import PrintedSeries
from mlstudio.services.recording.progress import UNKNOWN, ProgressTracker
from mlstudio.services.recording.same_series import SameSeries
from mlstudio.services.recording.series_names import PRINT, names_of
from mlstudio.services.recording.watch import StopRules, Watch

SPOOL = "/mlstudio/run/spool"

_SILENCE_S = 2.0
"""Output without a frame is passed on after so long; with a probe a frame comes a few times a second."""
_HELD_BYTES = 8 * 1024 * 1024
_MOST_SEGMENTS = 2048
_SPOOL_WITHIN_S = 10.0
"""With a full disk the probe keeps in memory what belongs into the spool; it comes soon after there is room again."""
_SPOOL_AGAIN_S = 0.5
_MOST_PARKED_BYTES = 32 * 1024 * 1024
_PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What one run may put into the history: containers are not trusted."""

    series: int = 200_000
    name_chars: int = 1_100
    events: int = 20_000
    event_bytes: int = 64 * 1024
    parameters: int = 5_000
    artifacts: int = 50_000
    media: int = 20_000
    media_bytes: int = 512 * 1024 * 1024
    tags: int = 200
    note_chars: int = 20_000


@dataclass(slots=True)
class Known:
    """What the history says of the run where recording (again) begins."""

    cursor: Cursor
    series: dict[tuple[str, str], str]
    """(kind, name) to the logger."""
    events: int
    printed: PrintedSeries
    progress: ProgressTracker
    has_frames: bool | None
    """Whether the probe runs in the container; None if nobody knows."""
    same: SameSeries = field(default_factory=lambda: SameSeries(first=lambda _: ((), ())))
    watch: Watch = field(default_factory=lambda: Watch(StopRules()))
    media: int = 0
    media_bytes: int = 0


class Transcript:
    """One run's output on its way into the history.

    `feed` takes chunks as the engine delivers them, `end` says that no more will come, `take` gives what may be
    written now. `read_spool(k)` reads a segment of the spool: None if there is none; what it raises ends the feeding,
    and recording begins again from the history. Not thread-safe.
    """

    def __init__(
        self, known: Known, *, read_spool: Callable[[int], bytes | None], caps: Caps | None = None
    ) -> None:
        self._caps = caps or Caps()
        self._read_spool = read_spool
        self._names = names_of(known.series, cap=self._caps.series)
        self._told_full = False
        self._same = known.same
        self._watch = known.watch
        self._media = known.media
        self._media_bytes = known.media_bytes
        self.stop_reasons: list[str] = []
        """Why the run shall be ended, by the rules that it was given."""
        self._printed = known.printed
        self._progress = known.progress
        self._progress_sent = 0.0
        self._last_progress: Progress | None = None
        self._has_frames = known.has_frames
        self._start = known.cursor
        self._seq = known.cursor.seq
        self._log_bytes = known.cursor.log_bytes
        self._position = known.cursor.position
        self._taken = known.cursor
        self._events = known.events
        self._decoder = Decoder()
        self._saw_frame = known.cursor.seq >= 0
        self._is_final = False
        self._last_read = -1
        """Number of the frame before what is pending."""
        self._parked = _Parked()
        # Where chunks ended: (bytes fed, number, position), oldest first.
        self._ends: deque[tuple[int, int, str]] = deque()
        self._fed = 0
        self._chunks = 0
        self._reached = 0  # number of the last chunk that `position` stands for
        self._safe = 0  # bytes fed up to the end of an earlier frame
        self._last_time = 0.0
        self._held: list[Chunk] = []
        self._held_bytes = 0
        self._held_since: float | None = None
        self._strays: deque[tuple[int, Chunk]] = deque()
        self._replayed: list[Chunk] | None = [] if known.cursor.position else None
        self._replayed_since = 0.0
        self._draft = _Draft()

    @property
    def is_final(self) -> bool:
        """Whether the probe's last frame has come."""
        return self._is_final

    @property
    def has_frames(self) -> bool:
        """Whether a frame was ever seen."""
        return self._seq >= 0

    @property
    def waits(self) -> bool:
        """Whether there is output that time alone will set free."""
        return bool(self._held) or bool(self._replayed)

    @property
    def size(self) -> int:
        """About how many bytes wait to be taken."""
        return self._draft.size

    # -- in -------------------------------------------------------------------------------------------------------

    def feed(self, chunk: Chunk, *, now: float) -> None:
        """The next bytes. `now`: UTC seconds. Raises what `read_spool` raises."""
        self._last_time = chunk.time
        if chunk.position and chunk.position == self._start.position:
            # What came until here was delivered a second time.
            self._begin_again()
            return
        if self._has_frames is False:
            self._feed_plain(chunk, now)
            return
        self._chunks += 1
        if chunk.is_error_stream:
            # The probe passes both of the script's streams on over its own standard output; this is the probe itself.
            self._strays.append((self._chunks, chunk))
            self._ends.append((self._fed, self._chunks, chunk.position))
            if self._saw_frame and not self._decoder.pending:
                self._reach(self._fed)
            return
        try:
            frames = self._decoder.feed(chunk.data)
        except WireError:
            self._give_up_frames()
            return
        self._fed += len(chunk.data)
        self._ends.append((self._fed, self._chunks, chunk.position))
        if not self._saw_frame and not frames:
            self._held.append(chunk)
            self._held_bytes += len(chunk.data)
            if self._held_since is None:
                self._held_since = now
            if self._held_bytes > _HELD_BYTES:
                self._release_held()
            return
        if not frames:
            return
        self._held.clear()
        self._held_bytes = 0
        self._held_since = None
        self._saw_frame = True
        self._last_read = frames[-1].seq
        if not self._take_frames(frames, now):
            return
        pending = len(self._decoder.pending)
        # Without anything pending the end of this chunk is as good a place as any. Otherwise a chunk's end before the
        # end of an earlier frame: from there on at least one whole frame that is known comes again.
        self._reach(self._fed if not pending else self._safe)
        self._safe = self._fed - pending

    def end(self, *, now: float) -> None:
        """The container has ended and all its output was fed: take what is left, here and in the spool."""
        if self._replayed:
            self._accept_replayed()
        if self._has_frames is False:
            return
        self._take_parked()
        was_in_spool = False
        if not self._is_final:
            for frame in self._spooled(self._seq + 1, None):
                if frame.seq > self._seq + 1:
                    self._draft.gaps.append(Gap(first=self._seq + 1, last=frame.seq - 1))
                was_in_spool = True
                self._handle(frame, frame.log)
        rest = self._decoder.pending
        broken = _last_line_start(rest)
        if rest[broken : broken + 1] == b"\x1e":
            rest = rest[:broken]  # a frame that was never finished
        if was_in_spool or self._is_final or self._last_read < self._seq:
            # What is pending is the output of frames that are known: these from the spool, or older ones, of which the
            # engine repeated some. After its last frame the probe says nothing.
            rest = b""
        if rest:
            self._add_log(rest, ((False, len(rest), self._last_time),))
        for _, chunk in self._strays:
            self._add_stray(chunk)
        self._strays.clear()
        if self._ends:
            self._position = self._ends[-1][2]
            self._ends.clear()
        self._held.clear()
        self._decoder = Decoder()

    # -- out ------------------------------------------------------------------------------------------------------

    def take(self, *, now: float) -> Batch | None:
        """What may be written now, with the cursor after it; None if there is nothing new."""
        if self._held and self._held_since is not None and now - self._held_since >= _SILENCE_S:
            self._release_held()
        if self._replayed and now - self._replayed_since >= _SILENCE_S:
            self._accept_replayed()
        draft = self._draft
        draft.same_as = self._same.take()
        cursor = Cursor(seq=self._seq, position=self._position, log_bytes=self._log_bytes)
        if draft.is_empty and (cursor.seq, cursor.log_bytes) == (self._taken.seq, self._taken.log_bytes):
            return None
        self._taken = cursor
        self._draft = _Draft()
        return draft.batch(cursor, self._new_progress(now))

    def _new_progress(self, now: float) -> Progress | None:
        if now - self._progress_sent < _PROGRESS_EVERY_S:
            return None
        found = self._progress.progress(now)
        if found is None:
            if self._last_progress is None:
                return None
            self._last_progress = None
            return UNKNOWN
        if found == self._last_progress:
            return None
        self._last_progress = found
        self._progress_sent = now
        return found

    @property
    def last_progress(self) -> Progress | None:
        """The progress that was taken last."""
        return self._last_progress

    # -- frames ---------------------------------------------------------------------------------------------------

    def _take_frames(self, frames: Iterable[Frame], now: float) -> bool:
        """Whether all could be taken. Else they wait with those that come later, for what is missing before them."""
        parked = self._parked
        for frame in frames:
            if parked.frames or not self._take_frame(frame, may_wait=parked.is_worth_it):
                parked.add(frame, now)
        if not parked.frames:
            return True
        if self._fed - self._safe > _MOST_PARKED_BYTES or abs(now - parked.since) >= _SPOOL_WITHIN_S:
            parked.is_worth_it = False
            self._take_parked()
            return True
        if abs(now - parked.tried) >= _SPOOL_AGAIN_S:
            parked.tried = now
            while parked.frames and self._take_frame(parked.frames[0], may_wait=True):
                parked.frames.popleft()
        return not parked.frames

    def _take_parked(self) -> None:
        """Take what waits for the spool as it is."""
        frames = self._parked.frames
        while frames:
            self._take_frame(frames.popleft(), may_wait=False)

    def _take_frame(self, frame: Frame, *, may_wait: bool) -> bool:
        """Take a frame, with what is missing before it. False if the spool does not have that yet."""
        if frame.seq <= self._seq:
            return True
        skipped = self._skipped()
        size = _log_size(frame.body) - skipped
        # Engines that rotate their logs lose and repeat lines: as many bytes need not be the same ones.
        is_whole = len(frame.log) >= size and (bool(skipped) or _is_same_log(frame.body, frame.log, size))
        if frame.seq == self._seq + 1 and is_whole:
            self._handle(frame, frame.log[len(frame.log) - max(0, size) :])
            return True
        if may_wait and not any(found.seq == frame.seq for found in self._spooled(frame.seq, frame.seq)):
            return False
        first = self._seq + 1
        in_spool: Frame | None = None
        recovered = []
        for found in self._spooled(first, frame.seq):
            if found.seq == frame.seq:
                in_spool = found
                continue
            recovered.append(found.seq)
            self._handle(found, found.log)
        self._draft.gaps.extend(_gaps(first, frame.seq - 1, recovered))
        if in_spool is not None:
            self._parked.is_worth_it = True
            self._handle(in_spool, in_spool.log)
            return True
        if not is_whole:
            # Its points are here, some of its output is not.
            self._draft.gaps.append(Gap(first=frame.seq, last=frame.seq))
        size = _log_size(frame.body)
        self._handle(frame, frame.log[max(0, len(frame.log) - size) :])
        return True

    def _skipped(self) -> int:
        """How much of the first frame's output was taken before there were frames."""
        return self._log_bytes if self._seq < 0 else 0

    def _handle(self, frame: Frame, log: bytes) -> None:
        """Put one frame with its output into the draft."""
        skip = self._skipped()
        size = _log_size(frame.body)
        if skip and len(log) > max(0, size - skip):
            log = log[min(skip, len(log)) :]
        self._seq = frame.seq
        body = frame.body
        time = _real(body.get("t"), self._last_time)
        points = [part for part in decode_points(body) if len(part.values)]
        for part in points:
            self._add_points(part)
        if log:
            spans = (
                frame.spans if sum(span[1] for span in frame.spans) == len(log) else _spans(body, log, time)
            )
            self._add_log(log, spans)
        events = body.get("events")
        for event in events if isinstance(events, list) else ():
            if isinstance(event, dict) and isinstance(event.get("type"), str):
                self._add_event(event, time)
        if body.get("final") is True:
            self._is_final = True

    def _spooled(self, first: int, last: int | None) -> Iterator[Frame]:
        """Frames `first`..`last` (None: all that there are) from the spool, in order, each once."""
        segment = first // FRAMES_PER_SEGMENT
        if last is not None:
            # The oldest segments are the ones that may be gone; a forged number shall not keep us busy for hours.
            segment = max(segment, last // FRAMES_PER_SEGMENT - _MOST_SEGMENTS)
        at = first
        missing = 0
        while last is None or segment <= last // FRAMES_PER_SEGMENT:
            data = self._read_spool(segment)
            segment += 1
            if data is None:
                missing += 1
                if last is None and missing > 1:
                    return
                continue
            missing = 0
            for frame in decode_spool(data):
                if frame.seq >= at and (last is None or frame.seq <= last):
                    yield frame
                    at = frame.seq + 1

    def _reach(self, size: int) -> None:
        """Let the position be the end of the last chunk that ends at or before `size` bytes."""
        while self._ends and self._ends[0][0] <= size:
            _, self._reached, self._position = self._ends.popleft()
        while self._strays and self._strays[0][0] <= self._reached:
            self._add_stray(self._strays.popleft()[1])

    # -- output without frames --------------------------------------------------------------------------------------

    def _feed_plain(self, chunk: Chunk, now: float) -> None:
        if self._replayed is not None:
            if not self._replayed:
                self._replayed_since = now
            self._replayed.append(chunk)
            return
        self._add_plain(chunk)

    def _accept_replayed(self) -> None:
        """What came after resuming was new after all."""
        chunks, self._replayed = self._replayed or [], None
        for chunk in chunks:
            self._add_plain(chunk)

    def _add_plain(self, chunk: Chunk) -> None:
        self._add_log(chunk.data, ((chunk.is_error_stream, len(chunk.data), chunk.time),))
        self._position = chunk.position

    def _begin_again(self) -> None:
        self._replayed = None
        self._decoder = Decoder()
        self._held.clear()
        self._held_bytes = 0
        self._held_since = None
        self._strays.clear()
        self._ends.clear()
        self._parked = _Parked()
        self._last_read = -1
        self._fed = self._safe = 0

    def _release_held(self) -> None:
        """Pass on output for which no frame has come; one may come all the same."""
        pending = self._decoder.pending
        if pending[_last_line_start(pending) :].startswith(b"\x1e"):
            return
        for chunk in self._held:
            self._add_log(chunk.data, ((False, len(chunk.data), chunk.time),))
        self._held.clear()
        self._held_bytes = 0
        self._held_since = None
        self._decoder = Decoder()
        self._safe = self._fed
        self._reach(self._fed)

    def _give_up_frames(self) -> None:
        """64 MB without a frame, although there were some: whatever writes there, it is not the probe any more."""
        self._take_parked()
        rest = self._decoder.pending
        self._decoder = Decoder()
        self._add_log(rest, ((False, len(rest), self._last_time),))
        self._fed += len(rest)
        self._safe = self._fed

    def _add_stray(self, chunk: Chunk) -> None:
        self._draft.add_log(chunk.data, ((True, len(chunk.data), chunk.time),))

    # -- the draft --------------------------------------------------------------------------------------------------

    def _add_log(self, data: bytes, spans: tuple[tuple[bool, int, float], ...]) -> None:
        self._log_bytes += len(data)
        self._draft.add_log(data, spans)
        for point in self._printed.feed(data, spans):
            name = self._shown("metric", point.name, PRINT, point.time)
            if name is None:
                continue
            steps, values = array("q", (point.step,)), array("d", (point.value,))
            self._say(name, PRINT, steps, values, point.time)
            self._draft.add_points("metric", name, "", steps, array("d", (point.time,)), values, PRINT)
            if point.is_first:
                self._note("printed", point.time, {"name": point.name, "line": point.line[:500]})

    def _add_points(self, part: Columns) -> None:
        kind, steps, times, values = part.kind, part.steps, part.times, part.values
        logger = _clean(part.logger[:64]) if kind == "metric" else OWN_LOGGER
        name = _clean(part.name[: self._caps.name_chars])
        shown = self._shown(kind, name, logger, times[-1])
        if shown is None:
            return
        if kind == "metric":
            for ended in self._printed.logs((name,)):
                self._note("printed-ended", times[-1], {"name": ended})
            if name == "epoch":
                for value, time in zip(values[-1000:], times[-1000:], strict=True):
                    if math.isfinite(value):
                        self._progress.saw_epoch(value, time)
            else:
                self._progress.saw_points(name, steps, times[-1])
            self._say(shown, logger, steps, values, times[-1])
        self._draft.add_points(kind, shown, _clean(part.unit[:64]), steps, times, values, logger)

    def _say(self, name: str, logger: str, steps: array[int], values: array[float], time: float) -> None:
        """Let those see a metric's new points who judge them."""
        self._same.feed(name, logger, steps, values)
        if name in self._same.same_as:
            return
        for finding in self._watch.feed(name, steps, values):
            words = {"kind": finding.kind, "name": name, "step": finding.step, "message": finding.message}
            self._note("finding", time, words)
            if finding.stops:
                self.stop_reasons.append(finding.message)

    def _shown(self, kind: str, name: str, logger: str, time: float) -> str | None:
        """What the series is called; None for one too many."""
        found = self._names.find(kind, name, logger)
        if found is not None:
            return found
        if self._names.is_full:
            if not self._told_full:
                self._told_full = True
                words = (
                    f"A run may have {self._caps.series:,} series; points of further ones are not recorded."
                )
                self._note("warning", time, {"message": words})
            return None
        found = self._names.give(kind, name, logger)
        for old, new in self._names.take_renames():
            self._same.rename(old, new)
            self._draft.rename(old, new)
        return found

    def _add_event(self, event: dict[str, Any], frame_time: float) -> None:
        kind = _clean(event["type"][:64])
        time = _real(event.get("time"), frame_time)
        data = {name: value for name, value in event.items() if name not in ("type", "time")}
        if kind == "environment":
            self._draft.environment = _json(data)
            gpus = data.get("gpus")
            if isinstance(gpus, list):
                names = [gpu.get("name") for gpu in gpus if isinstance(gpu, dict)]
                self._draft.gpus = tuple(_clean(name[:200]) for name in names[:64] if isinstance(name, str))
            return
        if kind == "lacks":
            why = data.get("why") or data.get("what")
            if isinstance(why, str):
                self._draft.lacks.append(_clean(why[:1000]))
        elif kind == "param":
            self._add_parameter(data)
        elif kind == "artifact":
            self._add_artifact(data)
        elif kind == "tag":
            self._add_tag(data)
        elif kind == "note":
            text = data.get("text")
            if isinstance(text, str):
                self._draft.note = _clean(text[: self._caps.note_chars])
        elif kind == "media":
            self._add_medium(data, time)
            return
        elif kind == "text":
            self._add_text(data, time)
            return
        self._note(kind, time, data)

    def _add_tag(self, data: dict[str, Any]) -> None:
        tag = data.get("tag")
        if isinstance(tag, str) and tag.strip() and len(self._draft.tags) < self._caps.tags:
            self._draft.tags[_clean(" ".join(tag.split())[:200])] = None

    def _add_text(self, data: dict[str, Any], time: float) -> None:
        """A string that was logged with `mlstudio.log`."""
        value = data.get("value")
        if isinstance(value, str):
            text = _clean(value).encode("utf-8")
            self._keep_medium({**data, "kind": "text", "mime": "text/plain"}, text, time)

    def _add_medium(self, data: dict[str, Any], time: float) -> None:
        packed = data.get("data")
        content = unpack_spool_data(packed) if isinstance(packed, str) else None
        if content is not None and data.get("kind") in MEDIA_KINDS:
            self._keep_medium(data, content, time)

    def _keep_medium(self, data: dict[str, Any], content: bytes, time: float) -> None:
        name = data.get("name")
        if not isinstance(name, str):
            return
        if self._media >= self._caps.media or self._media_bytes + len(content) > self._caps.media_bytes:
            if self._media < self._caps.media:
                self._media = self._caps.media
                words = "Images, histograms and texts of this run became too many; further ones are not kept."
                self._note("warning", time, {"message": words})
            return
        self._media += 1
        self._media_bytes += len(content)
        self._draft.media.append(
            Medium(
                name=_clean(name[: self._caps.name_chars]),
                kind=str(data["kind"]),
                logger=_clean(_text(data.get("logger"), 64) or OWN_LOGGER),
                step=_whole(data.get("step"), 2**63 - 1),
                time=time,
                mime=_clean(_text(data.get("mime"), 100)),
                data=content,
                width=_whole(data.get("width"), 2**31),
                height=_whole(data.get("height"), 2**31),
                caption=_clean(_text(data.get("caption"), 2000)),
            )
        )
        self._draft.size += len(content)

    def _add_parameter(self, data: dict[str, Any]) -> None:
        name, value = data.get("name"), data.get("value")
        if not isinstance(name, str) or len(self._draft.parameters) >= self._caps.parameters:
            return
        text = _clean(value) if isinstance(value, str) else _json(value)
        self._draft.parameters[_clean(name[: self._caps.name_chars])] = text[: self._caps.event_bytes]
        self._progress.learn(name, text)

    def _add_artifact(self, data: dict[str, Any]) -> None:
        path, size = data.get("path"), data.get("size_bytes")
        if isinstance(path, str) and len(self._draft.artifacts) < self._caps.artifacts:
            self._draft.artifacts[_clean(path[:4096])] = (
                size if isinstance(size, int) and 0 <= size < 2**62 else 0
            )

    def _note(self, kind: str, time: float, data: dict[str, Any]) -> None:
        # The end of the run is told even if everything else was too much.
        if self._events >= self._caps.events and kind != "exit":
            return
        self._events += 1
        if self._events == self._caps.events:
            kind, data = (
                "warning",
                {"message": f"A run may note {self._caps.events:,} events; further ones are not."},
            )
        text = _json(data)
        if len(text) > self._caps.event_bytes:
            text = _json({"cut": True, "text": text[: self._caps.event_bytes // 2]})
        self._draft.events.append(RunEvent(time=time, type=kind, data_json=text))


class _Parked:
    """Frames that wait for the spool to have what is missing before them."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.since = 0.0
        self.tried = 0.0
        self.is_worth_it = True
        """Whether the spool can be expected to come: it did the last time."""

    def add(self, frame: Frame, now: float) -> None:
        if not self.frames:
            self.since = self.tried = now
        self.frames.append(frame)


class _Draft:
    """What the next batch will hold."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, str], Points] = {}
        self.log: list[LogBlock] = []
        self.events: list[RunEvent] = []
        self.parameters: dict[str, str] = {}
        self.artifacts: dict[str, int] = {}
        self.gaps: list[Gap] = []
        self.lacks: list[str] = []
        self.environment = ""
        self.gpus: tuple[str, ...] = ()
        self.media: list[Medium] = []
        self.tags: dict[str, None] = {}
        self.note = ""
        self.renames: list[tuple[str, str]] = []
        self.same_as: tuple[tuple[str, str], ...] = ()
        self.size = 0

    @property
    def is_empty(self) -> bool:
        return not (
            self.points
            or self.log
            or self.events
            or self.gaps
            or self.lacks
            or self.environment
            or self.media
            or self.same_as
        )

    def add_log(self, data: bytes, spans: tuple[tuple[bool, int, float], ...]) -> None:
        self.log.append(LogBlock(data=data, spans=spans))
        self.size += len(data) + 24 * len(spans)

    def rename(self, old: str, new: str) -> None:
        """A metric is called `new` from here on, in the history and here."""
        self.renames.append((old, new))
        known = self.points.pop(("metric", old), None)
        if known is not None:
            self.points["metric", new] = replace(known, name=new)

    def add_points(
        self,
        kind: str,
        name: str,
        unit: str,
        steps: array[int],
        times: array[float],
        values: array[float],
        logger: str,
    ) -> None:
        known = self.points.get((kind, name))
        if known is None:
            self.points[kind, name] = Points(
                name=name, kind=kind, unit=unit, steps=steps, times=times, values=values, logger=logger
            )
        else:
            known.steps.extend(steps)
            known.times.extend(times)
            known.values.extend(values)
        self.size += 24 * len(values) + 64

    def batch(self, cursor: Cursor, progress: Progress | None) -> Batch:
        return Batch(
            cursor=cursor,
            points=tuple(self.points.values()),
            log=tuple(self.log),
            events=tuple(self.events),
            parameters=tuple(self.parameters.items()),
            artifacts=tuple(self.artifacts.items()),
            gaps=tuple(self.gaps),
            environment_json=self.environment,
            gpus=self.gpus,
            lacks=tuple(self.lacks),
            progress=progress,
            media=tuple(self.media),
            tags=tuple(self.tags),
            note=self.note,
            renames=tuple(self.renames),
            same_as=self.same_as,
        )


def _gaps(first: int, last: int, recovered: Iterable[int]) -> list[Gap]:
    """What was missing between `first` and `last`, as stretches that were recovered or were not."""
    found: list[Gap] = []
    at = first
    for seq in recovered:
        if seq > at:
            found.append(Gap(first=at, last=seq - 1))
        if found and found[-1].recovered and found[-1].last == seq - 1:
            found[-1] = replace(found[-1], last=seq)
        else:
            found.append(Gap(first=seq, last=seq, recovered=True))
        at = seq + 1
    if at <= last:
        found.append(Gap(first=at, last=last))
    return found


def _is_same_log(body: dict[str, Any], log: bytes, size: int) -> bool:
    """Whether the last `size` bytes are those that the probe wrote, as far as it said."""
    part = body.get("log")
    said = part.get("crc") if isinstance(part, dict) else None
    return not isinstance(said, int) or size <= 0 or zlib.crc32(log[len(log) - size :]) == said


def _log_size(body: dict[str, Any]) -> int:
    part = body.get("log")
    size = part.get("n", 0) if isinstance(part, dict) else 0
    return size if isinstance(size, int) and size >= 0 else 0


def _spans(body: dict[str, Any], log: bytes, time: float) -> tuple[tuple[bool, int, float], ...]:
    """The writer's spans for the end of its output that is `log`; one span if they make no sense."""
    part = body.get("log")
    raw = part.get("spans") if isinstance(part, dict) else None
    found: list[tuple[bool, int, float]] = []
    left = len(log)
    for entry in reversed(raw) if isinstance(raw, list) else ():
        try:
            kind, count, when = bool(entry[0]), int(entry[1]), float(entry[2])
        except (TypeError, ValueError, IndexError, OverflowError):
            return ((False, len(log), time),)
        if count <= 0:
            return ((False, len(log), time),)
        found.append((kind, min(count, left), when))
        left -= min(count, left)
        if not left:
            return tuple(reversed(found))
    return ((False, len(log), time),)


def _last_line_start(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _real(value: object, otherwise: float) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return otherwise


def _whole(value: object, most: int) -> int:
    """A whole number between -`most` and `most`; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= most:
        return 0
    return int(value)


def _text(value: object, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def _json(value: object) -> str:
    return _clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
