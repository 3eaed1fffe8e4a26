"""A damaged history: what the window shows instead of runs, and recovery from there."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from mlstudio.gui.application import open_window
from mlstudio.gui.pages.damaged.page import DamagedPage
from mlstudio.gui.pages.runs.page import RunsPage
from mlstudio.gui.shell import Shell
from mlstudio.gui.widgets.buttons import Button
from mlstudio.services.studio import Studio
from mlstudio.store import History
from tests.gui.conftest import DEADLINE_MS, IdleEngine
from tests.gui.seed import seed

PAGE_BYTES = 4096


@pytest.fixture
def path(home: Path) -> Path:
    """A history of twelve runs, closed."""
    found = home / "history.db"
    with closing(History(found)) as history:
        seed(history, now=time.time(), log_lines=300)
    return found


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // PAGE_BYTES * PAGE_BYTES)


def open_over(home: Path, qapp: QApplication, qtbot: QtBot) -> Iterator[Shell]:
    with (
        Studio(home, engines={"local": IdleEngine()}) as studio,
        open_window(qapp, studio, keep_recorder=False) as window,
    ):
        window.show()
        qtbot.waitExposed(window)
        yield window


@pytest.fixture
def over_a_cut_file(path: Path, home: Path, qapp: QApplication, qtbot: QtBot) -> Iterator[Shell]:
    cut_short(path)
    yield from open_over(home, qapp, qtbot)


def damaged_page(shell: Shell) -> DamagedPage:
    page = shell.page("Damaged")
    assert isinstance(page, DamagedPage)
    return page


def test_a_history_that_cannot_be_opened_is_explained_instead_of_shown(
    over_a_cut_file: Shell, path: Path, qtbot: QtBot
) -> None:
    shell = over_a_cut_file
    qtbot.waitUntil(lambda: shell.current == "Damaged", timeout=DEADLINE_MS)
    page = damaged_page(shell)
    assert "The history is damaged." in page.words
    assert "It is cut short" in page.words
    assert "nothing is lost by trying" in page.words
    assert page.button.isEnabled()
    # Said once, where it belongs: no notice besides.
    assert not shell.notices.isVisible()
    before = path.read_bytes()
    qtbot.wait(300)
    assert path.read_bytes() == before


def test_recovery_brings_the_runs_back_and_keeps_the_damaged_file(
    over_a_cut_file: Shell, path: Path, qtbot: QtBot
) -> None:
    shell = over_a_cut_file
    qtbot.waitUntil(lambda: shell.current == "Damaged", timeout=DEADLINE_MS)
    page = damaged_page(shell)
    broken = path.read_bytes()
    page.button.setFocus()
    QTest.keyClick(page.button, Qt.Key.Key_Space)
    assert not page.button.isEnabled()
    qtbot.waitUntil(lambda: "Recovered" in page.words, timeout=4 * DEADLINE_MS)
    aside = [other for other in path.parent.glob("history*.db") if other != path]
    assert [other.read_bytes() for other in aside] == [broken]
    assert str(aside[0]) in page.words
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (runs,) = connection.execute("SELECT count(*) FROM run").fetchone()
    assert f"Recovered {runs} runs." in page.words
    QTest.mouseClick(page.button, Qt.MouseButton.LeftButton)
    assert shell.current == "Runs"
    found = shell.page("Runs")
    assert isinstance(found, RunsPage)
    qtbot.waitUntil(lambda: found.table.rowCount() == runs, timeout=DEADLINE_MS)
    # The window lives on: what comes now is seen.
    run_id = found.table.loaded()[0].id
    shell._studio.history.rename(run_id, "brought-back")
    qtbot.waitUntil(lambda: "brought-back" in [run.name for run in found.table.loaded()], timeout=DEADLINE_MS)


def test_a_file_that_is_open_elsewhere_is_left_alone_and_can_be_tried_again(
    over_a_cut_file: Shell, path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlstudio.services import recovery

    shell = over_a_cut_file
    qtbot.waitUntil(lambda: shell.current == "Damaged", timeout=DEADLINE_MS)
    page = damaged_page(shell)
    broken = path.read_bytes()
    monkeypatch.setattr(recovery, "_who_has_open", lambda _: ["python (process 4711)"])
    QTest.mouseClick(page.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(page.trouble.isVisible, timeout=DEADLINE_MS)
    assert "process 4711" in page.trouble.text
    assert path.read_bytes() == broken
    monkeypatch.setattr(recovery, "_who_has_open", lambda _: [])
    again = next(each for each in page.trouble.findChildren(Button) if each.text() == "Try again")
    QTest.mouseClick(again, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "Recovered" in page.words, timeout=4 * DEADLINE_MS)
    assert not page.trouble.isVisible()


@pytest.fixture
def over_a_sound_file(path: Path, home: Path, qapp: QApplication, qtbot: QtBot) -> Iterator[Shell]:
    yield from open_over(home, qapp, qtbot)


def test_damage_that_appears_later_is_a_notice_that_leads_to_recovery(
    over_a_sound_file: Shell, path: Path, qtbot: QtBot
) -> None:
    shell = over_a_sound_file
    runs = shell.page("Runs")
    assert isinstance(runs, RunsPage)
    qtbot.waitUntil(lambda: runs.table.rowCount() == 12, timeout=DEADLINE_MS)
    choose = random.Random(7)
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // PAGE_BYTES):
            file.seek(page * PAGE_BYTES)
            file.write(choose.randbytes(PAGE_BYTES))

    def read_all(history: History) -> None:
        # What SQLite still has in memory hides the damage for a while.
        for number in range(12):
            history.log(f"seeded-run-{number}", count=10_000)
            for metric in history.metrics(f"seeded-run-{number}"):
                history.series(f"seeded-run-{number}", metric.name, kind=metric.kind)

    shell._bridge.read(read_all, lambda _: None, failed=lambda _: None)
    qtbot.waitUntil(shell.notices.isVisible, timeout=DEADLINE_MS)
    assert "damaged" in shell.notices.text
    assert shell.current == "Runs"
    recover = next(each for each in shell.notices.findChildren(Button) if each.text() == "Recover…")
    QTest.mouseClick(recover, Qt.MouseButton.LeftButton)
    assert shell.current == "Damaged"
    assert damaged_page(shell).button.isEnabled()
