"""The page of one run: curves, system, log, environment, code."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLineEdit
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.run.page import RunPage
from mlstudio.gui.plots.source import Axis
from mlstudio.gui.shell import Shell
from mlstudio.model.record import Batch, Cursor
from mlstudio.model.run import Exit, ExitReason, RunEvent, RunState
from mlstudio.services.studio import Studio
from tests.gui.conftest import DEADLINE_MS
from tests.gui.seed import log_block, points


@pytest.fixture
def page(run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> RunPage:
    return opened(shell, run_ids[11], qtbot)


def opened(shell: Shell, run_id: str, qtbot: QtBot) -> RunPage:
    shell.page("Runs").run_opened.emit(run_id)  # type: ignore[attr-defined]
    page = shell.page("Run")
    assert isinstance(page, RunPage)
    qtbot.waitUntil(lambda: page.run is not None and page.run.id == run_id, timeout=DEADLINE_MS)
    return page


def choose_tab(page: RunPage, key: str) -> None:
    QTest.mouseClick(page.tabs, Qt.MouseButton.LeftButton, pos=page.tabs.tab_rect(key).center())


def test_curves_and_system_share_one_axis(page: RunPage, qtbot: QtBot) -> None:
    def both_drawn() -> bool:
        found = [page.curves.plot(key) for key in ("loss", "gpu.0.utilisation")]
        return all(plot is not None and bool(plot.curves()) for plot in found)

    qtbot.waitUntil(both_drawn, timeout=DEADLINE_MS)
    loss, gpu = page.curves.plot("loss"), page.curves.plot("gpu.0.utilisation")
    assert loss is not None
    assert gpu is not None
    assert loss.view_range()[0] == gpu.view_range()[0]
    assert len(loss.curves()) == 2
    assert gpu.view_range()[1][1] >= 100
    middle = sum(loss.view_range()[0]) / 2
    loss.hovered.emit(middle)
    then = {row.name: row for row in page.curves.side.values.rows()}
    assert then["val/top1"].then != then["val/top1"].now
    system = {row.name: row.then for row in page.curves.side.system.rows()}
    assert system["GPU 0 utilisation"].endswith("%")
    assert system["Memory"].endswith("GB")


def test_other_axes_leave_the_system_out(page: RunPage, qtbot: QtBot) -> None:
    page.curves.set_axis(Axis.STEP)

    def stepped() -> bool:
        plot = page.curves.plot("loss")
        gpu = page.curves.plot("gpu.0.utilisation")
        return plot is not None and plot.view_range()[0][1] < 5000 and gpu is not None and gpu.isHidden()

    qtbot.waitUntil(stepped, timeout=DEADLINE_MS)


def test_a_live_run_draws_on(page: RunPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot) -> None:
    def last_x() -> float:
        plot = page.curves.plot("loss")
        extent = plot.x_extent() if plot is not None else None
        return extent[1] if extent else 0.0

    qtbot.waitUntil(lambda: last_x() > 0, timeout=DEADLINE_MS)
    before = last_x()
    at = before + 60.0
    new = points("train/loss", [5000], np.array([at]), np.array([0.25]))
    studio.history.apply(run_ids[11], Batch(cursor=Cursor(seq=1, position="2"), points=(new,)))
    qtbot.waitUntil(lambda: last_x() == at, timeout=DEADLINE_MS)
    rows = {row.name: row.now for row in page.curves.side.values.rows()}
    assert rows["train/loss"] == "0.2500"


def test_the_log_reads_only_what_is_seen(
    page: RunPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    start = time.time()
    more = log_block(start, 20_000, first=1500)
    studio.history.apply(run_ids[11], Batch(cursor=Cursor(seq=1, position="2"), log=(more,)))
    choose_tab(page, "log")
    view = page.log.view
    qtbot.waitUntil(lambda: view.count == 21_500, timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: any("step 21,49" in line for line in view.visible_text()), timeout=DEADLINE_MS)
    assert page.log.follow_chip.isChecked()
    assert len(view._pages) < 12
    QTest.keyClick(view, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: any("step 0 " in line for line in view.visible_text()), timeout=DEADLINE_MS)
    assert not page.log.follow_chip.isChecked()
    assert len(view._pages) < 20
    QTest.keyClick(view, Qt.Key.Key_End)
    assert view.is_following


def test_the_log_is_searched(page: RunPage, qtbot: QtBot) -> None:
    choose_tab(page, "log")
    qtbot.waitUntil(lambda: page.log.view.count == 1500, timeout=DEADLINE_MS)
    page.log.search.setFocus()
    QTest.keyClicks(page.log.search, "step 1,234 ")
    QTest.keyClick(page.log.search, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: page.log.view.marked_lines() == (1234, 1234), timeout=DEADLINE_MS)
    qtbot.waitUntil(
        lambda: any("step 1,234 " in line for line in page.log.view.visible_text()), timeout=DEADLINE_MS
    )


def test_a_click_in_a_plot_finds_its_line(page: RunPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: page.small_log.view.count == 1500, timeout=DEADLINE_MS)
    assert page.run is not None
    assert page.run.started is not None
    page.curves.time_chosen.emit(page.run.started + 0.8 * 700 + 0.1)
    qtbot.waitUntil(lambda: page.small_log.view.marked_lines() == (700, 700), timeout=DEADLINE_MS)


def test_the_environment_is_told(page: RunPage, run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> None:
    opened(shell, run_ids[0], qtbot)
    choose_tab(page, "environment")
    tab = page.environment
    qtbot.waitUntil(lambda: tab.packages.total == 5, timeout=DEADLINE_MS)
    facts = {what: words for what, words, _ in tab.facts.facts()}
    assert facts["CUDA"] == "12.6"
    assert facts["GPU"] == "NVIDIA GeForce RTX 4090, 24 GB"
    assert facts["Size"] == "1.24 GB"
    assert tab.dockerfile.toPlainText().startswith("FROM python:3.11-slim-bookworm")
    tab.packages.set_filter("tor")
    assert tab.packages.rowCount() == 1


def test_a_failed_run_says_why_and_what_to_try(run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> None:
    page = opened(shell, run_ids[8], qtbot)
    assert page.trouble.isVisible()
    assert "memory limit of 64 GB" in page.trouble.text
    assert "Raise the limit" in page.trouble.text
    assert not page.stop_button.isVisible()
    page = opened(shell, run_ids[0], qtbot)
    assert not page.trouble.isVisible()


def test_a_run_that_ends_says_so(page: RunPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot) -> None:
    assert page.stop_button.isVisible()
    studio.history.observe(
        run_ids[11],
        state=RunState.FAILED,
        ended=time.time(),
        exit=Exit(reason=ExitReason.SIGNAL, code=139, signal=11, message="Killed by signal 11 (SIGSEGV)."),
    )
    qtbot.waitUntil(lambda: page.trouble.isVisible(), timeout=DEADLINE_MS)
    assert "SIGSEGV" in page.trouble.text
    assert not page.stop_button.isVisible()


def test_a_removed_run_closes_its_page(
    page: RunPage, shell: Shell, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    studio.history.remove_run(run_ids[11])
    qtbot.waitUntil(lambda: shell.current == "Runs", timeout=DEADLINE_MS)


def test_what_two_loggers_said_is_one_curve_and_both_are_told(
    page: RunPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    at = np.array([time.time()])
    copy = replace(points("train_loss", [5], at, np.array([0.5])), logger="tensorboard")
    other = replace(points("gradient", [5], at, np.array([0.5])), logger="tensorboard")
    said = {"logger": "tensorboard", "what": "/work/runs/events.1", "how": "event file"}
    events = tuple(
        RunEvent(time=1.0, type="logger", data_json=text)
        for text in (json.dumps(said), "[]", "{", '{"logger": 3}')
    )
    batch = Batch(cursor=Cursor(seq=1, position="2"), points=(copy, other), events=events)
    studio.history.apply(run_ids[11], batch)
    studio.history.mark_same(run_ids[11], {"train_loss": "train/loss"})

    def told() -> list[tuple[str, str, str]]:
        return [(found.title, found.words, found.how) for found in page.curves.side.origins.origins()]

    expected = [
        ("mlstudio.log", "7", ""),
        ("TensorBoard", "1, 1 copy", "event file: /work/runs/events.1"),
    ]
    qtbot.waitUntil(lambda: told() == expected, timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: page.curves.plot("gradient") is not None, timeout=DEADLINE_MS)
    assert page.curves.side.origins.isVisible()
    rows = [row.name for row in page.curves.side.values.rows()]
    assert "train/loss" in rows
    assert "train_loss" not in rows


def test_everything_can_be_named_by_a_screen_reader(page: RunPage, shell: Shell) -> None:
    nameless = [
        widget
        for kind in (QAbstractButton, QLineEdit, QComboBox)
        for widget in shell.findChildren(kind)
        if widget.isVisible() and not (widget.accessibleName() or getattr(widget, "text", str)())
    ]
    assert nameless == []
