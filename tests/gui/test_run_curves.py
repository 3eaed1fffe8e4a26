"""Curves of one run: series of several loggers that are one, and long series that are zoomed into."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint
from PySide6.QtGui import QHelpEvent
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.run.page import RunPage
from mlstudio.gui.pages.runs.columns import metric_names
from mlstudio.gui.plots.source import WHOLE_LIMIT, Axis
from mlstudio.gui.shell import Shell
from mlstudio.model.record import Batch, Cursor
from mlstudio.model.run import RunState
from mlstudio.services.studio import Studio
from tests.gui.conftest import DEADLINE_MS
from tests.gui.seed import add_run, points


def opened(shell: Shell, run_id: str, qtbot: QtBot) -> RunPage:
    page = shell.page("Run")
    assert isinstance(page, RunPage)
    page.show_run(run_id)
    shell.show_page("Run")
    qtbot.waitUntil(lambda: page.run is not None and page.run.id == run_id, timeout=DEADLINE_MS)
    return page


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_the_better_series_says_who_else_reported_it(
    shell: Shell, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    at = np.array([time.time()])
    copies = [
        replace(points("train_loss", [5], at, np.array([0.5])), logger="tensorboard"),
        replace(points("loss (print)", [5], at, np.array([0.5])), logger="print"),
    ]
    studio.history.apply(run_ids[11], Batch(cursor=Cursor(seq=1, position="2"), points=tuple(copies)))
    studio.history.mark_same(run_ids[11], {"train_loss": "train/loss", "loss (print)": "train/loss"})
    page = opened(shell, run_ids[11], qtbot)

    def detail() -> str:
        plot = page.curves.plot("loss")
        return plot._detail if plot is not None else ""

    qtbot.waitUntil(
        lambda: detail().endswith("also reported by TensorBoard, Printed lines"), timeout=DEADLINE_MS
    )
    rows = page.curves.side.values
    names = [row.name for row in rows.rows()]
    assert "train_loss" not in names
    place = QPoint(20, names.index("train/loss") * 22 + 5)
    QApplication.sendEvent(rows, QHelpEvent(QEvent.Type.ToolTip, place, rows.mapToGlobal(place)))
    assert QToolTip.text() == "Also reported by TensorBoard, Printed lines."
    QToolTip.hideText()
    assert "train_loss" not in metric_names(studio.history.runs())


def test_a_zoom_into_a_long_series_shows_what_lies_there(shell: Shell, studio: Studio, qtbot: QtBot) -> None:
    began = time.time() - 9000
    count = 2 * WHOLE_LIMIT
    steps = np.arange(count)
    values = np.sin(steps / 3.0)
    add_run(studio.history, "long", "long", created=began)
    batch = Batch(
        cursor=Cursor(seq=0, position="1"), points=(points("loss", steps, began + steps / 20, values),)
    )
    studio.history.apply("long", batch)
    studio.history.observe("long", state=RunState.RUNNING, started=began)
    page = opened(shell, "long", qtbot)
    page.curves.set_axis(Axis.STEP)
    plot = None

    def drawn(low: float, high: float, most: int) -> bool:
        nonlocal plot
        plot = page.curves.plot("loss")
        if plot is None or not plot.curves() or not page.curves.is_idle:
            return False
        (curve,) = plot.curves().values()
        x = curve.data.raw_x if curve.data.raw_x is not None else curve.data.x
        return bool(x[0] <= low and x[-1] >= high and np.count_nonzero((x >= low) & (x <= high)) >= most)

    qtbot.waitUntil(lambda: drawn(0, count - 1, 1000), timeout=DEADLINE_MS)
    assert not drawn(50_000, 50_200, 100)
    assert plot is not None
    plot.zoomed.emit((50_000.0, 50_200.0))
    # Every step of the stretch is there now.
    qtbot.waitUntil(lambda: drawn(50_000, 50_200, 201), timeout=DEADLINE_MS)
    assert plot.view_range()[0] == pytest.approx((50_000, 50_200))
    plot.zoomed.emit(None)
    qtbot.waitUntil(lambda: drawn(0, count - 1, 1000), timeout=DEADLINE_MS)
    assert plot.view_range()[0] == pytest.approx((0, count - 1))
