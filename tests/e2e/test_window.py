"""The main job through the window, with pointer and keyboard alone, on a real screen and a real engine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import Screen, wait_until
from tests.e2e.conftest import Program
from tests.e2e.person import Person, person_at_window

# A first build installs a framework.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

EPOCHS, LONG, BATCHES = 3, 80, 43
PICTURES = "MLSTUDIO_TESTS_PICTURES"
"""Folder for pictures of the screen, for whoever wants to look at them."""


def _picture(screen: Screen, name: str) -> None:
    folder = os.environ.get(PICTURES)
    if folder:
        screen.save(Path(folder) / f"{name}.png")


def _launch_the_example(person: Person, *, epochs: int) -> None:
    person.clicks("New")
    person.clicks("Use the example Handwritten digits")
    person.waits_for("parameters of the script")
    person.clicks("Parameter epochs")
    person.types(str(epochs), instead=True)
    _picture(person.screen, "new")
    person.clicks("Launch")


def test_from_an_example_to_its_curves_by_clicks_alone(program: Program, screen: Screen) -> None:
    with person_at_window(program, screen) as person:
        _launch_the_example(person, epochs=EPOCHS)
        person.waits_for("Succeeded", deadline_s=900)
        assert person.sees(f"python train.py --epochs {EPOCHS}")
        before = screen.pixels()
        _picture(screen, "run")
        person.clicks("Log")
        assert wait_until(lambda: bool((screen.pixels() != before).any()))
        _picture(screen, "log")

    run = program.run()
    assert run["name"] == "digits-cnn-1"
    assert run["state"] == "succeeded"
    assert run["exit"]["code"] == 0
    assert dict(run["parameters"])["epochs"] == str(EPOCHS)
    points = program.points()
    assert points["train/loss"][0] == list(range(1, EPOCHS * BATCHES + 1))
    assert len(points["val/loss"][0]) == len(points["val/accuracy"][0]) == EPOCHS
    assert np.mean(points["train/loss"][1][-20:]) < np.mean(points["train/loss"][1][:20])


def test_the_window_is_killed_while_curves_are_drawn_and_opened_again(
    program: Program, screen: Screen
) -> None:
    with person_at_window(program, screen) as person:
        _launch_the_example(person, epochs=LONG)
        person.waits_for("Search the log", deadline_s=900)
        person.waits_for("val/accuracy", deadline_s=120)
        early = screen.pixels()
        assert wait_until(lambda: _changed(screen, early, CURVES) > 100, deadline_s=60)
        assert wait_until(lambda: _changed(screen, early, SYSTEM) > 100, deadline_s=60)
        _picture(screen, "running")
        assert program.run()["state"] == "running"
        person.process.kill()

    with person_at_window(program, screen) as person:
        person.clicks("digits-cnn-1", times=2)
        person.waits_for("Search the log")
        person.waits_for("Succeeded", deadline_s=400)
        _picture(screen, "again")

    points = program.points()
    assert points["train/loss"][0] == list(range(1, LONG * BATCHES + 1))
    assert len(points["val/loss"][0]) == LONG


CURVES, SYSTEM = slice(100, 480), slice(480, 640)
"""Lines of the screen on which the metrics and the system's readings are drawn."""


def _changed(screen: Screen, before: npt.NDArray[np.uint8], lines: slice) -> int:
    """How many pixels of the plots in these lines are not what they were."""
    plots = (lines, slice(120, 1130))
    return int((screen.pixels()[plots] != before[plots]).any(axis=2).sum())
