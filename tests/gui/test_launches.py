"""Launches under way, as the window sees them: told once a tick, with steps, phases and the reason of a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from pytestqt.qtbot import QtBot

from mlstudio.gui.launches import Launches, LaunchView, was_cancelled
from mlstudio.model.errors import Cancelled, WorldError
from mlstudio.model.image import BuildEvent, BuildOutput, BuildStep, StepState
from mlstudio.model.run import RunSpec

SPEC = RunSpec(command=("python", "train.py"), name="digits")


class PacedLauncher:
    """A launcher that builds one step and then waits for the test."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go_on = threading.Event()
        self.error = error

    def submit(self, spec: RunSpec) -> SimpleNamespace:
        return SimpleNamespace(id="run-1", name=spec.name)

    def carry_out(
        self,
        run_id: str,
        spec: RunSpec,
        *,
        on_event: Callable[[BuildEvent], None],
        cancelled: Callable[[], bool],
        on_phase: Callable[[str], None],
    ) -> None:
        on_phase("building image")
        on_event(BuildStep(id="1", name="RUN pip install", state=StepState.RUNNING, started=1.0))
        for number in range(1000):
            on_event(BuildOutput(step_id="1", text=f"line {number}\n"))
        while not self.go_on.wait(0.01):
            if cancelled():
                raise Cancelled("Cancelled.")
        if self.error is not None:
            raise self.error
        on_event(BuildStep(id="1", name="RUN pip install", state=StepState.DONE, started=1.0, ended=3.0))


def launches_with(launcher: PacedLauncher) -> tuple[Launches, list[LaunchView], list[LaunchView], list[str]]:
    made = Launches(cast(Any, SimpleNamespace(launcher=launcher)))
    progressed: list[LaunchView] = []
    finished: list[LaunchView] = []
    submitted: list[str] = []
    made.progressed.connect(progressed.append)
    made.finished.connect(finished.append)
    made.submitted.connect(lambda _, run_id: submitted.append(run_id))
    return made, progressed, finished, submitted


def test_a_launch_tells_its_run_its_steps_and_its_end(qtbot: QtBot) -> None:
    launcher = PacedLauncher()
    launches, progressed, finished, submitted = launches_with(launcher)
    launches.launch(SPEC)
    qtbot.waitUntil(lambda: bool(progressed) and bool(progressed[-1].steps))
    assert submitted == ["run-1"]
    view = progressed[-1]
    assert (view.title, view.phase, view.steps_done) == ("digits", "building image", 0)
    assert view.steps[0].last_lines[-1] == "line 999"
    assert len(progressed) < 10
    launcher.go_on.set()
    qtbot.waitUntil(lambda: bool(finished))
    assert (finished[0].error, finished[0].share) == (None, 1.0)
    assert launches.in_flight() == ()


def test_a_failure_is_kept_and_told(qtbot: QtBot) -> None:
    launcher = PacedLauncher(WorldError("The disk is full."))
    launches, _, finished, _ = launches_with(launcher)
    launches.launch(SPEC)
    launcher.go_on.set()
    qtbot.waitUntil(lambda: bool(finished))
    assert str(finished[0].error) == "The disk is full."
    assert not was_cancelled(finished[0])


def test_a_launch_can_be_cancelled(qtbot: QtBot) -> None:
    launches, _, finished, _ = launches_with(PacedLauncher())
    key = launches.launch(SPEC)
    launches.cancel(key)
    qtbot.waitUntil(lambda: bool(finished))
    assert was_cancelled(finished[0])


def test_closing_cancels_what_is_under_way(qtbot: QtBot) -> None:
    launches, _, _, _ = launches_with(PacedLauncher())
    launches.launch(SPEC)
    launches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("launch-")]
