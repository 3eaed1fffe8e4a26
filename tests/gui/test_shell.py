"""The window itself: keys, notices, the strip, its place on the screen, and its end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from mlstudio.gui.application import open_window
from mlstudio.gui.launches import LaunchView
from mlstudio.gui.shell import Shell
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, Segmented
from mlstudio.gui.widgets.code import CodeView
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.gui.widgets.form import Form
from mlstudio.gui.widgets.notice import Trouble
from mlstudio.gui.widgets.steps import StepList, StepView
from mlstudio.model.errors import WorldError
from mlstudio.model.image import BuildStep, StepState
from mlstudio.model.run import RunSpec
from mlstudio.services.studio import Studio
from tests.gui.conftest import DEADLINE_MS


def test_the_strip_tells_engines_and_history(run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: shell.strip.engine_words() == {"local": "local"}, timeout=DEADLINE_MS)
    assert "MB" in shell.strip._history.text()


def test_a_notice_goes_after_its_time_and_stays_in_the_list(shell: Shell, qtbot: QtBot) -> None:
    done: list[bool] = []
    shell.notices._timer.setInterval(50)
    shell._bridge.notice("Deleted 2 runs.", acts=[("Undo", lambda: done.append(True))])
    assert shell.notices.isVisible()
    button = next(each for each in shell.notices.findChildren(Button) if each.text() == "Undo")
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert done == [True]
    shell._bridge.failed.emit(WorldError("The disk is full.", try_this="Free some space."))
    assert "Free some space." in shell.notices.text
    qtbot.waitUntil(lambda: not shell.notices.isVisible(), timeout=DEADLINE_MS)
    assert shell.strip._bell.text() == "2 notices"


def test_builds_in_flight_stand_in_the_strip(shell: Shell) -> None:
    step = BuildStep(id="1", name="FROM python", state=StepState.DONE)
    other = BuildStep(id="2", name="RUN pip install", state=StepState.RUNNING)
    view = LaunchView(key="launch-1", kind="launch", title="digits", steps=(StepView(step), StepView(other)))
    shell._bridge.launches.progressed.emit(view)
    assert shell.strip._work.text() == "Build digits"
    assert shell.strip._detail.text().startswith("1 of 2")
    shell._bridge.launches.finished.emit(view)
    assert not shell.strip._work.isVisible()


def test_the_window_keeps_its_size(qapp: QApplication, studio: Studio, qtbot: QtBot) -> None:
    with open_window(qapp, studio, keep_recorder=False) as first:
        first.resize(960, 640)
        first.show()
        qtbot.waitExposed(first)
        first.close()
    with open_window(qapp, studio, keep_recorder=False) as second:
        assert (second.width(), second.height()) == (960, 640)
    assert (Path(studio.home) / "window.ini").is_file()


def test_a_form_shows_an_error_beside_its_field(theme: Theme, qtbot: QtBot) -> None:
    form = Form(theme)
    qtbot.addWidget(form)
    field = Field(theme, name="Memory")
    row = form.add_row("Memory", field, name="limits")
    form.show()
    found = form.row("limits.memory_bytes")
    assert found is row
    row.set_error("Memory must be at least 6 MB.")
    assert row.hint.isVisible()
    assert row.hint.property("tone") == "error"
    assert field.property("wrong") == "true"
    form.clear_errors()
    assert not row.hint.isVisible()
    assert form.row("command") is None


def test_choices_tell_only_what_the_user_does(theme: Theme, qtbot: QtBot) -> None:
    segments = Segmented([("baked", "Baked in"), ("mounted", "Mounted")], theme, name="How it travels")
    select = Select(theme, name="Version", options=[("1", "One"), ("2", "Two")])
    qtbot.addWidget(segments)
    qtbot.addWidget(select)
    told: list[str] = []
    segments.value_changed.connect(told.append)
    select.value_changed.connect(told.append)
    segments.set_value("mounted")
    select.set_value("2")
    assert (segments.value(), select.value(), told) == ("mounted", "2", [])
    QTest.keyClick(segments, Qt.Key.Key_Left)
    assert (segments.value(), told) == ("baked", ["baked"])


def test_a_build_is_a_list_that_changes_in_place(theme: Theme, qtbot: QtBot) -> None:
    steps = StepList(theme)
    qtbot.addWidget(steps)
    waiting = BuildStep(id="1", name="RUN pip install torch", state=StepState.WAITING)
    steps.set_steps([StepView(waiting)], now=100.0)
    (row,) = steps._rows
    running = BuildStep(id="1", name="RUN pip install torch", state=StepState.RUNNING, started=52.0)
    steps.set_steps([StepView(running, ("one", "two", "three", "four"))], now=100.0)
    assert steps._rows == [row]
    assert row._time.text() == "0:48"
    assert row._lines.text() == "two\nthree\nfour"


def test_trouble_copies_its_details(theme: Theme, qtbot: QtBot, qapp: QApplication) -> None:
    trouble = Trouble(theme)
    qtbot.addWidget(trouble)
    trouble.show_error(WorldError("Docker does not answer.", why="The socket refused.", details="errno 111"))
    QTest.mouseClick(trouble._copy, Qt.MouseButton.LeftButton)
    assert qapp.clipboard().text() == "Docker does not answer.\nThe socket refused.\nerrno 111"


def test_code_keeps_its_lines_twenty_pixels_apart(theme: Theme, qtbot: QtBot) -> None:
    view = CodeView(theme, name="Dockerfile", language="dockerfile")
    qtbot.addWidget(view)
    view.set_code("FROM python\nRUN true\nCOPY . .\n")
    view.resize(400, view.content_height())
    view.show()
    tops = [top for _, top, _ in view._visible_lines()]
    assert [second - first for first, second in itertools.pairwise(tops)] == [20, 20]
    assert not view.verticalScrollBar().isVisible()


def test_a_bridge_that_cannot_read_says_so(home: Path, qapp: QApplication, qtbot: QtBot) -> None:
    (home / "history.db").write_bytes(b"this is no database at all" * 100)
    with Studio(home, engines={}) as broken, open_window(qapp, broken, keep_recorder=False) as shell:
        shell.show()
        page = shell.page("Runs")
        qtbot.waitUntil(lambda: shell.current == "Damaged", timeout=DEADLINE_MS)
        assert shell.isVisible()
        shell.show_page("Runs")
        qtbot.waitUntil(page.trouble.isVisible, timeout=DEADLINE_MS)  # type: ignore[attr-defined]


def test_a_first_run_that_was_started_beside_the_window_is_shown(
    qapp: QApplication, studio: Studio, qtbot: QtBot
) -> None:
    with open_window(qapp, studio, keep_recorder=False, shows_first_run=True) as window:
        window.show()
        qtbot.waitUntil(lambda: window._bridge._revision is not None, timeout=DEADLINE_MS)
        assert window.current == "Runs"
        studio.history.add_run(
            RunSpec(command=("python", "train.py")),
            run_id="first",
            name="first-1",
            created=time.time(),
            engine_kind="fake",
        )
        qtbot.waitUntil(lambda: window.current == "Run", timeout=DEADLINE_MS)
        window.show_page("Runs")
        with qtbot.waitSignal(window._bridge.changed, timeout=DEADLINE_MS):
            studio.history.rename("first", "renamed")
        assert window.current == "Runs"
