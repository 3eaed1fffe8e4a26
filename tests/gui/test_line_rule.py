"""A rule from a line of the log: the menu, names for numbers, the preview over what the run printed, and saving."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.run.line_rule import LineRuleDialog
from mlstudio.gui.pages.run.page import RunPage
from mlstudio.gui.shell import Shell
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.model.record import Batch, Cursor, LogBlock
from mlstudio.model.run import RunState
from mlstudio.services.studio import Studio
from mlstudio.store import History
from tests.gui.conftest import DEADLINE_MS
from tests.gui.seed import add_run

LINE = "it 7/100 L=0.53 A=91.2% 12ms"
RULE = "it {step}/{*} L={L} A={A}% {*}ms"


def print_lines(history: History, run_id: str, *, is_over: bool) -> None:
    now = time.time()
    add_run(history, run_id, "odd-printer", created=now - 100)
    lines = [f"\x1b[32mit {n}/100 L={1 / (n + 1):.3f} A={n:.1f}% 12ms\x1b[0m\n".encode() for n in range(100)]
    lines.insert(3, b"bar 10%\rbar 60%\rbar 100%\n")
    data = b"".join(lines)
    history.apply(
        run_id,
        Batch(
            cursor=Cursor(seq=0, position="1", log_bytes=len(data)),
            log=(LogBlock(data=data, spans=tuple((False, len(line), now) for line in lines)),),
        ),
    )
    history.observe(run_id, state=RunState.RUNNING, started=now - 90)
    if is_over:
        history.finish(run_id)
        history.observe(run_id, state=RunState.SUCCEEDED, ended=now)


@pytest.fixture(params=[True], ids=["over"])
def page(
    request: pytest.FixtureRequest, studio: Studio, run_ids: Sequence[str], shell: Shell, qtbot: QtBot
) -> RunPage:
    print_lines(studio.history, "printer", is_over=request.param)
    found = shell.page("Run")
    assert isinstance(found, RunPage)
    found.show_run("printer")
    shell.show_page("Run")
    found.tabs.choose("log")
    qtbot.waitUntil(lambda: found.run is not None and found.log.view.count == 101, timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: len(found.log.view.visible_text()) > 3, timeout=DEADLINE_MS)
    return found


@pytest.fixture
def dialog(page: RunPage, qtbot: QtBot) -> LineRuleDialog:
    assert page.run is not None
    made = page.log.open_rule(page.run, LINE)
    qtbot.waitUntil(lambda: "catches" in made.words.text(), timeout=DEADLINE_MS)
    return made


def names(dialog: LineRuleDialog) -> dict[str, Field]:
    return {
        each.accessibleName(): each
        for each in dialog.findChildren(Field)
        if each.accessibleName().startswith("Name of")
    }


def role(dialog: LineRuleDialog, value: str) -> Select:
    return next(
        each for each in dialog.findChildren(Select) if each.accessibleName() == f"{value} is taken as"
    )


def choose(select: Select, key: str) -> None:
    """As if it was picked from the list."""
    select.set_value(key)
    select.activated.emit(select.currentIndex())


def shown_examples(dialog: LineRuleDialog) -> list[tuple[str, str]]:
    return [(line.text(), found.text()) for line, found in dialog._examples if not line.isHidden()]


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_the_menu_of_a_line_leads_to_the_dialog(page: RunPage, qtbot: QtBot) -> None:
    view = page.log.view
    view.show_line(0)
    qtbot.waitUntil(lambda: view.visible_text()[0].startswith("it 0/100"), timeout=DEADLINE_MS)
    where = QPoint(200, 5)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, where, view.viewport().mapToGlobal(where))
    QApplication.sendEvent(view.viewport(), event)
    menu = next(each for each in view.findChildren(QMenu) if each.isVisible())
    assert view.marked_lines() == (0, 0)
    action = next(each for each in menu.actions() if each.text().startswith("Take numbers"))
    assert action.isEnabled()
    action.trigger()
    menu.close()
    qtbot.waitUntil(lambda: bool(page.window().findChildren(LineRuleDialog)), timeout=DEADLINE_MS)
    (dialog,) = page.window().findChildren(LineRuleDialog)
    assert dialog.rule.text() == RULE
    dialog.close()


def test_a_bar_that_was_redrawn_is_one_line(page: RunPage, qtbot: QtBot) -> None:
    page.log.view.show_line(0)
    qtbot.waitUntil(lambda: page.log.view.visible_text()[3:4] == ["bar 100%"], timeout=DEADLINE_MS)


def test_the_numbers_of_the_line_are_found_and_tried_on_the_whole_log(dialog: LineRuleDialog) -> None:
    assert [(slot.value, slot.role, slot.name) for slot in dialog.slots] == [
        ("7", "step", "step"),
        ("0.53", "curve", "L"),
        ("91.2", "curve", "A"),
    ]
    assert dialog.words.text() == "It catches 100 of 101 lines."
    assert shown_examples(dialog)[1] == ("it 1/100 L=0.500 A=1.0% 12ms", "L 0.5, A 1, at step 1")


def test_names_and_roles_make_the_rule(dialog: LineRuleDialog, qtbot: QtBot) -> None:
    field = names(dialog)["Name of 0.53"]
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, "train/loss")
    assert field.hasFocus()
    assert dialog.rule.text() == RULE.replace("{L}", "{train/loss}")
    choose(role(dialog, "91.2"), "nothing")
    assert dialog.rule.text() == "it {step}/{*} L={train/loss} A={*}% {*}ms"
    qtbot.waitUntil(lambda: shown_examples(dialog)[1][1] == "train/loss 0.5, at step 1", timeout=DEADLINE_MS)
    choose(role(dialog, "91.2"), "curve")
    assert "A={A}%" in dialog.rule.text()


def test_a_wrong_rule_is_explained_and_cannot_be_saved(dialog: LineRuleDialog, qtbot: QtBot) -> None:
    field = names(dialog)["Name of 0.53"]
    field.setFocus()
    field.selectAll()
    QTest.keyClick(field, Qt.Key.Key_Delete)
    assert "no name for a number" in dialog.wrong.text()
    assert not dialog.save_button.isEnabled()
    dialog.rule.setText("L={L")
    assert "brace" in dialog.wrong.text()
    dialog.rule.setText("L={loss}")
    assert not dialog.wrong.isVisible()
    assert [slot.name for slot in dialog.slots] == ["loss"]
    qtbot.waitUntil(lambda: shown_examples(dialog)[1][1] == "loss 0.5", timeout=DEADLINE_MS)
    dialog.rule.setText("nothing like it {x}")
    qtbot.waitUntil(lambda: "catches none" in dialog.words.text(), timeout=DEADLINE_MS)


def test_saving_keeps_the_rule_and_takes_the_numbers_from_this_run(
    dialog: LineRuleDialog, shell: Shell, studio: Studio, page: RunPage, qtbot: QtBot
) -> None:
    assert dialog.apply_box.isChecked()
    QTest.mouseClick(dialog.save_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(shell.notices.isVisible, timeout=DEADLINE_MS)
    assert (
        shell.notices.text
        == "From now on L and A come from such lines. This run: 100 points of L, 100 points of A."
    )
    assert studio.rules.rules() == (RULE,)
    found = {metric.name: metric for metric in studio.history.metrics("printer")}
    assert found["A"].last == 99
    assert found["L"].logger == "print"
    page.tabs.choose("curves")
    qtbot.waitUntil(lambda: {strip.key for strip in page.curves.strips()} == {"L", "A"}, timeout=DEADLINE_MS)


@pytest.mark.parametrize("page", [False], indirect=True, ids=["running"])
def test_a_run_that_goes_on_is_left_as_it_is(
    dialog: LineRuleDialog, studio: Studio, shell: Shell, qtbot: QtBot
) -> None:
    assert not dialog.apply_box.isEnabled()
    QTest.keyClick(dialog.rule, Qt.Key.Key_Return)
    qtbot.waitUntil(shell.notices.isVisible, timeout=DEADLINE_MS)
    assert studio.rules.rules() == (RULE,)
    assert not studio.history.metrics("printer")


def test_a_line_without_numbers_says_so(page: RunPage, qtbot: QtBot) -> None:
    assert page.run is not None
    made = page.log.open_rule(page.run, "hello there")
    assert "names no number" in made.wrong.text()
    assert not made.save_button.isEnabled()
    made.close()
