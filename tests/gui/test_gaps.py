"""Parts of the record that are missing, as the curves show them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from PySide6.QtCore import QPointF
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.run.gaps import frame_words, holes_of
from mlstudio.gui.pages.run.page import RunPage
from mlstudio.gui.plots.source import Axis
from mlstudio.gui.shell import Shell
from mlstudio.model.record import Batch, Cursor, Gap
from mlstudio.model.run import RunState
from mlstudio.services.studio import Studio
from mlstudio.store import History
from tests.gui.conftest import DEADLINE_MS
from tests.gui.seed import add_run, points

LENGTH = 300
HOLES = ((100, 130), (200, 204))
GAPS = (Gap(first=500, last=649), Gap(first=700, last=700, recovered=True), Gap(first=1000, last=1019))


def add_hurt_run(history: History, run_id: str, began: float, gaps: Sequence[Gap]) -> None:
    """A run of which two stretches are missing: a metric each second, a reading each second."""
    add_run(history, run_id, "hurt", created=began)
    seconds = np.array(
        [second for second in range(LENGTH) if not any(low < second < high for low, high in HOLES)]
    )
    times = began + seconds.astype(float)
    found = (
        points("train/loss", seconds * 10, times, 1.0 / (1 + seconds)),
        points("cpu.percent", seconds, times, 50 + seconds % 7, kind="system", unit="%"),
    )
    history.apply(run_id, Batch(cursor=Cursor(seq=1200, position="9"), points=found, gaps=tuple(gaps)))
    history.observe(run_id, state=RunState.RUNNING, started=began)


@pytest.fixture
def began() -> float:
    return time.time() - 2 * LENGTH


@pytest.fixture
def page(studio: Studio, shell: Shell, began: float, qtbot: QtBot) -> RunPage:
    add_hurt_run(studio.history, "hurt-run", began, GAPS)
    found = shell.page("Run")
    assert isinstance(found, RunPage)
    found.show_run("hurt-run")
    shell.show_page("Run")
    qtbot.waitUntil(lambda: bool(bands(found, "loss")), timeout=DEADLINE_MS)
    return found


def bands(page: RunPage, key: str) -> list[tuple[float, float]]:
    plot = page.curves.plot(key) or page.curves.plot(f"train/{key}")
    return [(band.low, band.high) for band in plot.bands()] if plot is not None else []


def test_holes_lie_where_readings_were_left_out(studio: Studio, began: float) -> None:
    add_hurt_run(studio.history, "one", began, GAPS)
    holes = holes_of(studio.history, "one")
    assert [(hole.begin - began, hole.end - began) for hole in holes] == [(100, 130), (200, 204)]
    # As many gaps as holes: each is told at its own.
    assert "frames 500 to 649 of" in holes[0].words
    assert "frames 1,000 to 1,019 of" in holes[1].words
    add_hurt_run(studio.history, "two", began, GAPS[:1])
    assert all("frames 500 to 649 of" in hole.words for hole in holes_of(studio.history, "two"))
    add_hurt_run(studio.history, "three", began, [GAPS[1]])
    assert holes_of(studio.history, "three") == ()


def test_frames_are_named() -> None:
    assert frame_words([Gap(first=7, last=7)]) == "frame 7"
    assert frame_words([Gap(first=7, last=7), Gap(first=12, last=1900)]) == "frames 7, 12 to 1,900"
    many = [Gap(first=10 * n, last=10 * n + 1) for n in range(8)]
    assert frame_words(many).endswith("50 to 51 and 2 more gaps")


def test_gaps_are_bands_on_every_plot_and_axis(page: RunPage, began: float, qtbot: QtBot) -> None:
    assert bands(page, "loss") == bands(page, "cpu") == [(began + low, began + high) for low, high in HOLES]
    page.curves.set_axis(Axis.STEP)
    qtbot.waitUntil(lambda: bands(page, "loss") == [(1000.0, 1300.0), (2000.0, 2040.0)], timeout=DEADLINE_MS)


def test_a_band_says_what_is_missing(page: RunPage, began: float) -> None:
    plot = page.curves.plot("cpu")
    assert plot is not None
    where = QPointF(began + 110, 50)
    plot._on_mouse_moved(plot._box.mapViewToScene(where))
    assert "frames 500 to 649" in plot._view.toolTip()
    assert "frames 500 to 649" in plot.accessibleDescription()
    plot._on_mouse_moved(plot._box.mapViewToScene(QPointF(began + 50, 50)))
    assert plot._view.toolTip() == ""


def test_a_run_whose_record_is_whole_has_no_bands(
    page: RunPage, studio: Studio, began: float, qtbot: QtBot
) -> None:
    add_hurt_run(studio.history, "whole", began, [])
    page.show_run("whole")

    def drawn() -> bool:
        plot = page.curves.plot("cpu")
        return page.curves.is_idle and plot is not None and any("whole" in key for key in plot.curves())

    qtbot.waitUntil(drawn, timeout=DEADLINE_MS)
    assert bands(page, "cpu") == []
