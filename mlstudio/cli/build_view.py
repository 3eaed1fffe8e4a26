"""A build on a terminal: every step with its time when it is done, the running one in a line that is drawn over."""

from __future__ import annotations

import re
import threading
import time

import click

from mlstudio.cli.area import Area
from mlstudio.cli.findings import finding_lines
from mlstudio.cli.safe_text import cut, safe_line
from mlstudio.cli.session import Session
from mlstudio.model.image import BuildEvent, BuildFinished, BuildOutput, BuildStep, Diagnosis, StepState
from mlstudio.services.checks import Level
from mlstudio.services.images import Plan
from mlstudio.services.words import bytes_text, seconds_text

_TICK_S = 0.25
_SPACE = re.compile(r"\s+")
_MOUNT = re.compile(r"--(mount|from|chown|chmod|link)=\S+\s*")


class BuildView:
    """Shows a build's events on standard error. Use as a context manager; events may come from any thread."""

    def __init__(self, session: Session, *, verbose: bool = False) -> None:
        self._session = session
        self._verbose = verbose
        self._area = Area(session)
        self._lock = threading.Lock()
        self._steps: dict[str, BuildStep] = {}
        self._began: dict[str, float] = {}
        self._told: set[str] = set()
        self._last_line = ""
        self._phase = ""
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> BuildView:
        if self._area.is_live:
            self._ticker = threading.Thread(target=self._tick, name="build view", daemon=True)
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        self._area.clear()

    def on_phase(self, words: str) -> None:
        """What the launch is doing; shown while no step runs."""
        with self._lock:
            self._phase = words
            self._draw()

    def on_plan(self, plan: Plan) -> None:
        """Tell what the plan's checks warn of."""
        warnings = [check for check in plan.checks if check.level is Level.WARNING]
        with self._lock:
            for line in finding_lines(warnings, width=self._session.width):
                self._area.write(line)

    def on_event(self, event: BuildEvent) -> None:
        with self._lock:
            if isinstance(event, BuildStep):
                self._on_step(event)
            elif isinstance(event, BuildOutput):
                self._on_output(event)
            elif isinstance(event, BuildFinished):
                self._last_line = ""
            self._draw()

    def _on_step(self, step: BuildStep) -> None:
        self._steps[step.id] = step
        if step.state is StepState.RUNNING:
            self._began.setdefault(step.id, time.monotonic())
        over = (StepState.DONE, StepState.CACHED, StepState.FAILED, StepState.CANCELLED)
        if step.state not in over or step.id in self._told:
            return
        self._told.add(step.id)
        took = self._seconds(step)
        mark, colour, word = {
            StepState.DONE: ("✓", "green", seconds_text(took)),
            StepState.CACHED: ("✓", "green", "cached"),
            StepState.FAILED: ("✗", "red", "failed"),
        }.get(step.state, ("■", "yellow", "cancelled"))
        if not _is_shown(step):
            return
        width = max(30, min(90, self._session.width - 16))
        self._area.write(f"{click.style(mark, fg=colour)} {step_words(step, width):<{width}} {word:>11}")

    def _on_output(self, output: BuildOutput) -> None:
        for line in output.text.splitlines():
            text = safe_line(line)
            if not text.strip():
                continue
            self._last_line = text
            if self._verbose:
                self._area.write(click.style(f"    {text}", dim=True))

    def _draw(self) -> None:
        if not self._area.is_live or self._ended.is_set():
            return
        running = [step for step in self._steps.values() if step.state is StepState.RUNNING]
        width = self._session.width - 1
        if not running:
            self._area.draw([cut(f"◌ {self._phase}", width)] if self._phase else [])
            return
        step = running[-1]
        amount = ""
        if step.done_bytes is not None and step.total_bytes:
            amount = f", {bytes_text(step.done_bytes)} of {bytes_text(step.total_bytes)}"
        lines = [cut(f"◌ {step_words(step, 70)}  {seconds_text(self._seconds(step))}{amount}", width)]
        if self._last_line and not self._verbose:
            lines.append(click.style(cut(f"    {self._last_line}", width), dim=True))
        self._area.draw(lines)

    def _seconds(self, step: BuildStep) -> float | None:
        if step.started is not None and step.ended is not None:
            return step.ended - step.started
        began = self._began.get(step.id)
        return time.monotonic() - began if began is not None else None

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            with self._lock:
                self._draw()


def _is_shown(step: BuildStep) -> bool:
    """Whether a person wants to see that the step is over: BuildKit's own errands only where they fail."""
    errand = step.name.startswith(("[internal]", "copy /context", "FROM docker.io/mlstudio-mount/"))
    return not errand or step.state is StepState.FAILED


def step_words(step: BuildStep, width: int) -> str:
    """A step in a few words, or its name on one line without the flags that only the builder needs."""
    if step.title:
        return cut(safe_line(step.title), width)
    return cut(safe_line(_SPACE.sub(" ", _MOUNT.sub("", step.name.replace("\\\n", " ")))).strip(), width)


def tell_diagnosis(diagnosis: Diagnosis) -> None:
    """The failing step and its last lines; the cause itself is told with the error."""
    if diagnosis.step:
        line = f" (Dockerfile, line {diagnosis.dockerfile_line})" if diagnosis.dockerfile_line else ""
        step = cut(safe_line(_SPACE.sub(" ", _MOUNT.sub("", diagnosis.step))), 100)
        click.echo(f"Failed: {step}{line}", err=True)
    for text in diagnosis.last_lines:
        click.echo(click.style(f"    {safe_line(text)}", dim=True), err=True)
