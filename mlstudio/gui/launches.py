"""Launches and builds that this window has under way, as the interface sees them.

The work itself is the launcher's and the image service's, which the command line calls too. Here every one gets a
thread; what it says is collected under a lock and told at most once a tick.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from mlstudio.gui.widgets.steps import StepView
from mlstudio.model.errors import Cancelled
from mlstudio.model.image import BuildEvent, BuildOutput, BuildStep, ImageRecord, StepState

if TYPE_CHECKING:
    from mlstudio.model.run import RunSpec
    from mlstudio.services.images import Plan
    from mlstudio.services.studio import Studio

TICK_MS = 150
LINES_KEPT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchView:
    """A launch or a build as it stands now."""

    key: str
    kind: str
    """``launch`` or ``build``."""
    title: str
    run_id: str = ""
    """Known once the run was written to the history."""
    phase: str = ""
    steps: tuple[StepView, ...] = ()
    started: float = 0.0
    ended: float | None = None
    error: Exception | None = None
    """Why it did not work; `Cancelled` if the user did not want it any more."""
    image: ImageRecord | None = None
    """What a build made."""

    @property
    def steps_done(self) -> int:
        return sum(view.step.state in (StepState.DONE, StepState.CACHED) for view in self.steps)

    @property
    def share(self) -> float:
        return self.steps_done / len(self.steps) if self.steps else 0.0


@dataclass(slots=True)
class _Work:
    key: str
    kind: str
    title: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    run_id: str = ""
    phase: str = ""
    order: list[str] = field(default_factory=list)
    steps: dict[str, BuildStep] = field(default_factory=dict)
    lines: dict[str, deque[str]] = field(default_factory=dict)
    started: float = 0.0
    ended: float | None = None
    error: Exception | None = None
    image: ImageRecord | None = None
    is_cancelled: bool = False
    is_dirty: bool = True
    thread: threading.Thread | None = None

    def on_event(self, event: BuildEvent) -> None:
        with self.lock:
            self.is_dirty = True
            if isinstance(event, BuildStep):
                if event.id not in self.steps:
                    self.order.append(event.id)
                self.steps[event.id] = event
            elif isinstance(event, BuildOutput):
                kept = self.lines.setdefault(event.step_id, deque(maxlen=LINES_KEPT))
                kept.extend(event.text.rstrip("\n").split("\n"))

    def on_phase(self, phase: str) -> None:
        with self.lock:
            self.is_dirty = True
            self.phase = phase

    def view(self) -> LaunchView:
        with self.lock:
            self.is_dirty = False
            return LaunchView(
                key=self.key,
                kind=self.kind,
                title=self.title,
                run_id=self.run_id,
                phase=self.phase,
                steps=tuple(
                    StepView(self.steps[step_id], tuple(self.lines.get(step_id, ())))
                    for step_id in self.order
                ),
                started=self.started,
                ended=self.ended,
                error=self.error,
                image=self.image,
            )


class Launches(QObject):
    """Starts launches and builds and tells how they go. Use it from the interface thread."""

    progressed = Signal(object)
    """A `LaunchView`; at most one a tick for each work under way."""
    submitted = Signal(str, str)
    """(key, run id): the run stands in the history now."""
    finished = Signal(object)
    """The last `LaunchView` of a work."""

    def __init__(self, studio: Studio) -> None:
        super().__init__()
        self._studio = studio
        self._works: dict[str, _Work] = {}
        self._told_run: set[str] = set()
        self._numbers = itertools.count(1)
        self._tick = QTimer(self, interval=TICK_MS)
        self._tick.timeout.connect(self._on_tick)

    def launch(self, spec: RunSpec) -> str:
        """Submit the run, build what must be built and start it. Returns the key of the work."""
        return self._begin(
            "launch", spec.name or " ".join(spec.command[:2]), lambda work: self._launch(work, spec)
        )

    def again(self, run_id: str, title: str) -> str:
        """Launch what an earlier run was asked to do, once more."""
        return self._begin(
            "launch", title, lambda work: self._launch(work, self._studio.launcher.again(run_id))
        )

    def build(self, plan: Plan, *, engine: str = "local", no_cache: bool = False) -> str:
        """Build an image without running anything in it."""
        return self._begin("build", plan.recipe.tag, lambda work: self._build(work, plan, engine, no_cache))

    def cancel(self, key: str) -> None:
        """Ask a work to stop; it ends with the error `Cancelled`."""
        work = self._works.get(key)
        if work is not None:
            work.is_cancelled = True

    def in_flight(self) -> tuple[LaunchView, ...]:
        return tuple(work.view() for work in self._works.values())

    def close(self) -> None:
        """Cancel everything and wait for a moment."""
        self._tick.stop()
        for work in self._works.values():
            work.is_cancelled = True
        deadline = time.monotonic() + 3.0
        for work in self._works.values():
            if work.thread is not None:
                work.thread.join(max(0.0, deadline - time.monotonic()))

    def _begin(self, kind: str, title: str, act: Callable[[_Work], None]) -> str:
        work = _Work(key=f"{kind}-{next(self._numbers)}", kind=kind, title=title, started=time.time())
        self._works[work.key] = work
        work.thread = threading.Thread(target=self._work, args=(work, act), name=work.key, daemon=True)
        work.thread.start()
        self._tick.start()
        return work.key

    # On the work's own thread

    def _work(self, work: _Work, act: Callable[[_Work], None]) -> None:
        error: Exception | None = None
        try:
            act(work)
        except Exception as caught:  # noqa: BLE001 - the edge of a thread: it is shown where the work was started
            error = caught
        with work.lock:
            work.error = error
            work.ended = time.time()
            work.is_dirty = True

    def _launch(self, work: _Work, spec: RunSpec) -> None:
        launcher = self._studio.launcher
        summary = launcher.submit(spec)
        with work.lock:
            work.run_id = summary.id
            work.title = summary.name
            work.is_dirty = True
        launcher.carry_out(
            summary.id,
            spec,
            on_event=work.on_event,
            cancelled=lambda: work.is_cancelled,
            on_phase=work.on_phase,
        )

    def _build(self, work: _Work, plan: Plan, engine: str, no_cache: bool) -> None:
        record = self._studio.images.build(
            plan,
            engine=engine,
            on_event=work.on_event,
            cancelled=lambda: work.is_cancelled,
            no_cache=no_cache,
        )
        with work.lock:
            work.image = record

    # On the interface thread

    def _on_tick(self) -> None:
        for work in list(self._works.values()):
            if not work.is_dirty:
                continue
            view = work.view()
            if view.run_id and view.key not in self._told_run:
                self._told_run.add(view.key)
                self.submitted.emit(view.key, view.run_id)
            if view.ended is None:
                self.progressed.emit(view)
            else:
                del self._works[view.key]
                if work.thread is not None:
                    work.thread.join(1.0)
                self.finished.emit(view)
        if not self._works:
            self._tick.stop()


def was_cancelled(view: LaunchView) -> bool:
    return isinstance(view.error, Cancelled)
