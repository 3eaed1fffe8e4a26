"""One live run: found, followed from where the history stands, seen to its end."""

from __future__ import annotations

import json
import logging
import platform
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mlstudio.engines.engine import Engine
from mlstudio.model.errors import DefectError, EngineAway, NotFound, StudioError, WorldError
from mlstudio.model.host import EngineKind
from mlstudio.model.launch import Observation, Phase
from mlstudio.model.run import Exit, ExitReason, RunEvent, RunState, RunSummary
from mlstudio.services.engine_table import Engines
from mlstudio.services.printed_rules import parse_rules
from mlstudio.services.recording.committer import Committer, Slot
from mlstudio.services.recording.owner import is_alive
from mlstudio.services.recording.printed_series import PrintedSeries
from mlstudio.services.recording.progress import ProgressTracker
from mlstudio.services.recording.same_series import FIRST_POINTS, Reals, SameSeries, Steps, proven_copies
from mlstudio.services.recording.series_names import PRINT, plain
from mlstudio.services.recording.transcript import SPOOL, Known, Transcript
from mlstudio.services.recording.verdict import Wish, exit_event, judge
from mlstudio.services.recording.watch import Watch, parse_stop_rules
from mlstudio.store import History, LiveRun

_log = logging.getLogger(__name__)

NO_PROBE = (
    "There is no Python 3.8 or newer in the image: metrics logged by the script and system readings are missing; "
    "output, exit code and printed numbers are there."
)
CUT_OFF = "The end of its record is missing: what watched over the command ended before it could pass on the last of it."
SILENT_PROBE = (
    "The probe did not start in the container: metrics logged by the script and system readings are missing; "
    "output, exit code and printed numbers are there."
)

_AGAIN_AFTER_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_CREATED_LOOK_S = 0.2
_ABANDONED_AFTER_S = 10.0
_ERROR_LINES = 60
_WATCHED = 5000
"""So many of a metric's last points are looked at again where recording goes on."""
_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Iteration|Warning)\b(?::.*)?$"
)


class Follower:
    """A thread that records one run. It ends when the run is over, was removed, or `stop` is set.

    `live` is kept up to date by the recorder. An engine that is away, or anything else that may pass, is tried again
    with growing pauses; the run stays as it is meanwhile, and its phase says so.
    """

    def __init__(
        self,
        live: LiveRun,
        *,
        history: History,
        engines: Engines,
        committer: Committer,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.live = live
        self.container_started: float | None = None
        self.last_away: float | None = None
        """When the engine last did not answer."""
        self.asked_itself = False
        """Whether a stop was asked for here, and so by nobody who would carry it out."""
        self._history = history
        self._engines = engines
        self._committer = committer
        self._stop = stop
        self._clock = clock
        self._slot = Slot(live.id)
        self._phase = live.phase
        self._was_lost = live.state is RunState.LOST
        self._thread = threading.Thread(target=self._run, name=f"run-{live.id[:8]}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set() and self._committer.failure is None:
            pause = _AGAIN_AFTER_S[min(tries, len(_AGAIN_AFTER_S) - 1)]
            tries += 1
            began = time.monotonic()
            try:
                if self._attempt():
                    return
            except NotFound as error:
                if self._is_removed():
                    return
                # Its engine is not known here (any more).
                if self._was_lost:
                    return
                _log.warning("The run %s cannot be followed: %s", self.live.id, error)
                self._say(f"cannot be followed ({error.what.rstrip('.')}), next try in {pause:g} s")
            except EngineAway as error:
                self.last_away = self._clock()
                if self._was_lost:
                    return
                _log.info("Engine away for run %s: %s", self.live.id, error)
                self._say(f"engine away, next try in {pause:g} s")
            except WorldError as error:
                if self._was_lost:
                    return
                _log.warning("The run %s cannot be followed now: %s", self.live.id, error)
                self._say(f"cannot be followed ({error.what.rstrip('.')}), next try in {pause:g} s")
            except Exception:  # noqa: BLE001 — a thread's edge; a defect in one run is tried again, and logged
                _log.exception("Following the run %s failed.", self.live.id)
            if time.monotonic() - began > 10.0:
                tries = 1  # it worked for a while
            self._stop.wait(pause)

    # -- one attempt ----------------------------------------------------------------------------------------------

    def _attempt(self) -> bool:
        """Follow the run from where the history stands; True if nothing is left to be done."""
        engine = self._engines.get(self.live.engine)
        handle = self._handle(engine)
        if handle is None:
            return True
        seen = self._started(engine, handle)
        if seen is None:
            return True
        if seen.phase is Phase.GONE:
            if self._was_lost:
                return True
            self._conclude(seen, has_frames=True)
            return True
        if self._was_lost or self.live.state is RunState.QUEUED:
            self._history.observe(
                self.live.id, state=RunState.RUNNING, started=seen.started, host=_host(self.live)
            )
            self._was_lost = False
        self.container_started = seen.started
        self._say("stopping" if self.live.desired == "stopped" else "")
        if seen.has_probe is False:
            self._history.add_lacks(self.live.id, [NO_PROBE])
        transcript = self._begin(engine, handle, seen)
        try:
            self._follow(engine, handle, transcript)
            if self._slot.is_removed:
                return True
            if self._stop.is_set():
                self._committer.flush(self._slot)
                return False
            seen = engine.inspect(handle)
            if seen.phase is Phase.RUNNING:
                return False
            if seen.phase is not Phase.GONE:
                with self._slot.lock:
                    transcript.end(now=self._clock())
            self._committer.flush(self._slot)
            self._raise_if_broken()
            if self._committer.failure is not None or self._slot.is_removed:
                return True
        finally:
            with self._slot.lock:
                self._slot.transcript = None
        self._conclude(seen, has_frames=transcript.has_frames, is_whole=transcript.is_final)
        return True

    def _handle(self, engine: Engine) -> str | None:
        """The container's handle; None if there is no container and will be none, which is written then."""
        if self.live.handle:
            return self.live.handle
        found = engine.find(self.live.id)
        if found is not None:
            self._history.set_handle(self.live.id, found)
            return found
        self._give_up()
        return None

    def _give_up(self) -> None:
        """Nobody is there any more who would start it."""
        if self.live.desired == "stopped":
            state = RunState.STOPPED
            how = Exit(reason=ExitReason.STOPPED, message="Cancelled before it started.")
        else:
            state = RunState.FAILED
            how = Exit(
                reason=ExitReason.NOT_STARTED,
                message="The program that was launching it ended before the run started.",
                try_this="Launch it again.",
            )
        self._history.observe(self.live.id, state=state, ended=self._clock(), exit=how, phase="")

    def _started(self, engine: Engine, handle: str) -> Observation | None:
        """The container as it is once it was started; None if that will not happen any more, which is written then."""
        orphaned_at: float | None = None
        while True:
            seen = engine.inspect(handle)
            if seen.phase is not Phase.CREATED or self._stop.is_set():
                return seen
            if is_alive(self.live.owner):
                orphaned_at = None
            elif orphaned_at is None:
                orphaned_at = time.monotonic()
            elif time.monotonic() - orphaned_at > _ABANDONED_AFTER_S:
                engine.remove(handle)
                self._give_up()
                return None
            self._stop.wait(_CREATED_LOOK_S)

    def _begin(self, engine: Engine, handle: str, seen: Observation) -> Transcript:
        def read_spool(segment: int) -> bytes | None:
            try:
                return engine.read_file(handle, f"{SPOOL}/{segment}.mls")
            except NotFound:
                return None
            except EngineAway:
                raise
            except WorldError as error:
                _log.warning("The spool of run %s cannot be read: %s", self.live.id, error)
                return None

        known = read_known(self._history, self.live.id, has_probe=seen.has_probe)
        transcript = Transcript(known, read_spool=read_spool)
        with self._slot.lock:
            self._slot.transcript = transcript
            self._slot.error = None
        return transcript

    def _follow(self, engine: Engine, handle: str, transcript: Transcript) -> None:
        position = self._history.cursor(self.live.id).position
        for chunk in engine.follow(handle, position, should_stop=self._should_stop):
            with self._slot.lock:
                transcript.feed(chunk, now=self._clock())
            self._committer.notify(self._slot)
            self._committer.make_room(self._slot)
            if transcript.stop_reasons:
                self._end_for(transcript.stop_reasons)
            self._raise_if_broken()
            if self._should_stop():
                return

    def _end_for(self, reasons: list[str]) -> None:
        """Have the run ended, as its owner asked for: once, by the same way as a person's stop."""
        why = reasons[0]
        reasons.clear()
        if self.live.desired == "stopped":
            return
        event = RunEvent(time=self._clock(), type="stop-requested", data_json=json.dumps({"why": why}))
        self.asked_itself = True
        self._history.add_events(self.live.id, [event])
        self._history.set_desired(self.live.id, "stopped")

    def _should_stop(self) -> bool:
        return self._stop.is_set() or self._slot.is_removed or self._committer.failure is not None

    def _raise_if_broken(self) -> None:
        if self._slot.error is not None:
            raise DefectError("What was recorded could not be written.") from self._slot.error

    # -- the end --------------------------------------------------------------------------------------------------

    def _conclude(self, seen: Observation, *, has_frames: bool, is_whole: bool = True) -> None:
        """Write how it ended. Everything that it said is in the history by now."""
        run_id = self.live.id
        events = self._history.events(run_id)
        said = exit_event(events)
        detail = self._history.detail(run_id)
        if not has_frames and seen.has_probe is not False:
            self._history.add_lacks(run_id, [SILENT_PROBE])
        if has_frames and not is_whole and said is None:
            self._history.add_lacks(run_id, [CUT_OFF])
        self._history.finish(run_id)
        self._settle_copies()
        current = next((live for live in self._history.live() if live.id == run_id), self.live)
        wish = Wish(stopped=current.desired == "stopped", since=current.desired_at)
        state, how = judge(seen, said, wish, detail.spec.limits, last_error=self._last_error())
        ended = seen.ended if seen.ended is not None else _end_time(events, detail.summary)
        progress = detail.summary.progress
        if progress is not None:
            progress = replace(
                progress, eta_s=None, done=progress.total if state is RunState.SUCCEEDED else progress.done
            )
        self._history.observe(
            run_id,
            state=state,
            started=seen.started if detail.summary.started is None else None,
            ended=ended if ended is not None else self._clock(),
            exit=how,
            phase="",
            progress=progress,
        )
        _log.info("Run %s ended: %s (%s)", run_id, state.value, how.message or how.reason.value)

    def _settle_copies(self) -> None:
        """Drop the points of what two loggers said, where every one of them was found to be there twice."""
        run_id = self.live.id
        marked = [
            (metric.name, metric.same_as)
            for metric in self._history.metrics(run_id, kind="metric")
            if metric.same_as
        ]
        if not marked:
            return

        def read(name: str) -> tuple[Steps, Reals]:
            found = self._history.series(run_id, name)
            return found.steps, found.values

        proven, refuted = proven_copies(marked, read)
        if refuted:
            self._history.mark_same(run_id, dict.fromkeys(refuted, ""))
        if proven:
            self._history.drop_copies(run_id, proven)

    def _last_error(self) -> str:
        """The last line of the last traceback at the end of the log."""
        count = self._history.log_count(self.live.id)
        lines = self._history.log(self.live.id, start=max(0, count - _ERROR_LINES), count=_ERROR_LINES)
        if not any(line.text.startswith("Traceback ") for line in lines):
            return ""
        for line in reversed(lines):
            if _ERROR.match(line.text[:500]):
                return line.text[:300]
        return ""

    def _say(self, phase: str) -> None:
        """What is going on, for viewers; written when it changes."""
        if phase == self._phase:
            return
        try:
            self._history.observe(self.live.id, phase=phase)
            self._phase = phase
        except StudioError as error:
            _log.warning("The phase of run %s was not written: %s", self.live.id, error)

    def _is_removed(self) -> bool:
        try:
            self._history.cursor(self.live.id)
        except NotFound:
            return True
        return False


def read_known(history: History, run_id: str, *, has_probe: bool | None) -> Known:
    """What the history says of a run whose recording begins or goes on."""
    summary = history.summary(run_id)
    progress = ProgressTracker(summary.parameters, started=summary.started)
    events = history.events(run_id)
    printed: dict[str, int] = {}
    logged: list[str] = []
    series: dict[tuple[str, str], str] = {}
    same = SameSeries(first=lambda name: _first_points(history, run_id, name))
    for metric in history.metrics(run_id):
        series[metric.kind, metric.name] = metric.logger
        if metric.kind != "metric" or metric.last_step is None:
            continue
        same.know(metric.name, metric.logger)
        if metric.same_as:
            same.same_as[metric.name] = metric.same_as
        if metric.logger != PRINT:
            logged.append(plain(metric.name, metric.logger))
        elif plain(metric.name, PRINT) == metric.name:
            printed[metric.name] = metric.last_step
    spec = history.detail(run_id).spec
    told = [_finding_in(event) for event in events if event.type == "finding"]
    watch = Watch(
        parse_stop_rules(spec.stop_when),
        told=told,
        earlier=lambda name: _last_values(history, run_id, name),
    )
    media = history.media_size(run_id)
    open_lines = history.open_lines(run_id)
    finder = PrintedSeries(
        progress=progress,
        rules=parse_rules(spec.print_rules),
        last_steps=printed,
        output=open_lines.output,
        error=open_lines.error,
        epoch=summary.progress.done
        if summary.progress is not None and summary.progress.unit == "epoch"
        else None,
    )
    finder.logs(logged)
    return Known(
        cursor=history.cursor(run_id),
        series=series,
        events=len(events),
        printed=finder,
        progress=progress,
        same=same,
        watch=watch,
        media=media.count,
        media_bytes=media.size_bytes,
        has_frames=False if has_probe is False else None,
    )


def _finding_in(event: RunEvent) -> tuple[str, str]:
    found = json.loads(event.data_json)
    return (str(found.get("kind", "")), str(found.get("name", ""))) if isinstance(found, dict) else ("", "")


def _first_points(history: History, run_id: str, name: str) -> tuple[Sequence[int], Sequence[float]]:
    try:
        found = history.series(run_id, name, stop=FIRST_POINTS)
    except NotFound:
        return (), ()
    return found.steps.tolist(), found.values.tolist()


def _last_values(history: History, run_id: str, name: str) -> Sequence[float]:
    known = next((metric for metric in history.metrics(run_id, kind="metric") if metric.name == name), None)
    if known is None:
        return ()
    values: list[float] = history.series(run_id, name, start=max(0, known.count - _WATCHED)).values.tolist()
    return values


def _end_time(events: list[RunEvent], summary: RunSummary) -> float | None:
    """When it was last heard of."""
    times = [event.time for event in events[-1:]]
    times.extend(metric.last_time for metric in summary.metrics if metric.last_time is not None)
    return max(times, default=None)


def _host(live: LiveRun) -> str | None:
    return platform.node() if live.engine_kind == EngineKind.PROCESS else None
