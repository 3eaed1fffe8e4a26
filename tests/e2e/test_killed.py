"""`kill -9` of everything that may die, in the midst of a run: no point is lost, none is there twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.conftest import Screen, wait_until
from tests.e2e.conftest import Program

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

STEPS = 600
SCRIPT = f"""
import time
import mlstudio

for step in range({STEPS}):
    mlstudio.log(step=step, loss=1 / (step + 1), half=step / 2)
    if step % 10 == 0:
        print("line", step, flush=True)
    time.sleep(0.02)
print("done", flush=True)
"""


def _count(program: Program) -> int:
    points = program.points()
    return len(points["loss"][0]) if "loss" in points else 0


def _has_more_than(program: Program, points: float) -> bool:
    return _count(program) > points


def _kill_recorders(program: Program) -> int:
    killed = program.recorders()
    for process in killed:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(killed, timeout=10)
    return len(killed)


def _expect_exactly_once(program: Program) -> None:
    assert program.run()["state"] == "succeeded"
    points = program.points()
    assert points["loss"][0] == list(range(STEPS))
    assert points["loss"][1] == [1 / (step + 1) for step in range(STEPS)]
    assert points["half"][0] == list(range(STEPS))
    printed = program("logs", "1").stdout.splitlines()
    assert [line for line in printed if line.startswith("line ")] == [
        f"line {step}" for step in range(0, STEPS, 10)
    ]
    assert printed[-1] == "done"


def test_the_recorder_is_killed_twice(
    program: Program, project: Callable[..., Path], base_image: str
) -> None:
    folder = project(train=SCRIPT)
    program("run", folder, "--image", base_image, "--command", "python3 train.py", "--detach")
    for share in (0.2, 0.5):
        assert wait_until(partial(_has_more_than, program, share * STEPS), deadline_s=60)
        assert _kill_recorders(program) == 1
        program("ls")  # As anything that a person does, this starts a recorder again.
    assert wait_until(lambda: program.run()["state"] == "succeeded", deadline_s=60)
    _expect_exactly_once(program)


def test_the_recorder_is_killed_and_nobody_looks_until_the_run_is_over(
    program: Program, project: Callable[..., Path], base_image: str
) -> None:
    folder = project(train=SCRIPT)
    program("run", folder, "--image", base_image, "--command", "python3 train.py", "--detach")
    assert wait_until(lambda: _count(program) > 50, deadline_s=60)
    assert _kill_recorders(program) == 1
    container = [process for process in psutil.process_iter(["cmdline"]) if _is_training(process)]
    assert container
    psutil.wait_procs(container, timeout=60)
    program("ls")
    assert wait_until(lambda: program.run()["state"] == "succeeded", deadline_s=60)
    _expect_exactly_once(program)


def _is_training(process: psutil.Process) -> bool:
    """Containers' processes are this machine's too, where the engine runs on it."""
    words = process.info["cmdline"] or []
    return words[-1:] == ["train.py"] and "python3" in words[0]


def test_the_window_and_whoever_launched_it_and_the_recorder_are_killed(
    program: Program, project: Callable[..., Path], base_image: str, screen: Screen
) -> None:
    folder = project(train=SCRIPT)
    launching = program.start("run", folder, "--image", base_image, "--command", "python3 train.py")
    window = program.start("gui", **screen.environment)
    try:
        assert wait_until(lambda: bool(program.json("ls")["runs"]), deadline_s=60)
        assert wait_until(lambda: bool(screen.pixels().any()), deadline_s=60), "The window never showed."
        assert wait_until(lambda: _count(program) > 100, deadline_s=60)
        assert launching.poll() is None
        assert window.poll() is None
    finally:
        for process in (window, launching):
            process.kill()
            process.wait()
    assert _kill_recorders(program) == 1

    again = program.start("gui", **screen.environment)
    try:
        # The window alone brings the recorder back and sees the run to its end.
        assert wait_until(lambda: program.run()["state"] == "succeeded", deadline_s=90)
        assert again.poll() is None
    finally:
        again.kill()
        again.wait()
    _expect_exactly_once(program)
