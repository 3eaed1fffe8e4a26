"""The filter line over the runs: keys that are typed, what it offers, what it marks, and which runs are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit, QListWidget, QWidget
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.runs.page import RunsPage
from mlstudio.gui.shell import Shell
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.filter_line import DEBOUNCE_MS, FilterLine
from mlstudio.gui.widgets.suggestions import Suggestions
from mlstudio.model.errors import QueryError
from mlstudio.services.query import Completion, CompletionItem
from tests.gui.conftest import DEADLINE_MS

Key = Qt.Key


@pytest.fixture
def page(run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> RunsPage:
    found = shell.page("Runs")
    assert isinstance(found, RunsPage)
    qtbot.waitUntil(lambda: found.table.rowCount() == len(run_ids), timeout=DEADLINE_MS)
    found.search.setFocus()
    qtbot.waitUntil(found.search.hasFocus, timeout=DEADLINE_MS)
    return found


def offered(page: RunsPage) -> list[str]:
    return [item.text for item in page.search.suggestions()]


def names(page: RunsPage) -> list[str]:
    return [run.name for run in page.table.loaded()]


def wait(qtbot: QtBot, holds: Callable[[], bool]) -> None:
    qtbot.waitUntil(holds, timeout=DEADLINE_MS)


def test_a_filter_is_applied_as_it_is_typed(page: RunsPage, run_ids: Sequence[str], qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "lr = 1e-3")
    wait(qtbot, lambda: names(page) == ["vit-s16-cutmix-lr1e3"])
    assert page.search.error is None
    QTest.keyClicks(page.search, " or augment = randaug and state = succeeded")
    wait(qtbot, lambda: sorted(names(page)) == ["vit-s16-cutmix-lr1e3", "vit-s16-randaug-s0"])
    page.search.selectAll()
    QTest.keyClick(page.search, Key.Key_Delete)
    wait(qtbot, lambda: page.table.rowCount() == len(run_ids))


def test_words_alone_are_searched_for(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "CUTMIX s0")
    wait(qtbot, lambda: names(page) == ["vit-s16-cutmix-s0"])
    assert page.search.error is None


def test_completions_come_with_their_sentences_and_tab_takes_them(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "sta")
    wait(qtbot, lambda: offered(page)[:2] == ["state", "started"])
    assert all(item.what for item in page.search.suggestions())
    QTest.keyClick(page.search, Key.Key_Tab)
    assert page.search.text() == "state "
    assert page.search.hasFocus()
    wait(qtbot, lambda: offered(page)[:2] == ["=", "!="])
    QTest.keyClick(page.search, Key.Key_Tab)
    wait(qtbot, lambda: "failed" in offered(page))
    QTest.keyClicks(page.search, "fa")
    wait(qtbot, lambda: offered(page) == ["failed"])
    QTest.keyClick(page.search, Key.Key_Tab)
    assert page.search.text() == "state = failed "
    wait(qtbot, lambda: page.table.rowCount() == 2)
    assert {run.state.value for run in page.table.loaded()} == {"failed"}


def test_arrows_choose_and_enter_takes(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "state = s")
    wait(qtbot, lambda: offered(page)[:2] == ["succeeded", "stopped"])
    QTest.keyClick(page.search, Key.Key_Down)
    QTest.keyClick(page.search, Key.Key_Down)
    QTest.keyClick(page.search, Key.Key_Return)
    assert page.search.text() == "state = stopped "
    assert page.search.hasFocus()
    wait(qtbot, lambda: names(page) == ["vit-s16-mixup-s3"])


def test_enter_takes_nothing_that_was_not_chosen(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "aug")
    wait(qtbot, lambda: "augment" in offered(page))
    QTest.keyClick(page.search, Key.Key_Return)
    assert page.search.text() == "aug"
    assert offered(page) == []
    wait(qtbot, page.view.hasFocus)


def test_up_from_the_line_chooses_the_last_and_goes_round(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "state = s")
    wait(qtbot, lambda: len(offered(page)) > 1)
    found = offered(page)
    QTest.keyClick(page.search, Key.Key_Up)
    QTest.keyClick(page.search, Key.Key_Tab)
    assert page.search.text() == f"state = {found[-1]} "


def test_escape_closes_the_list_first_and_empties_the_line_then(
    page: RunsPage, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    QTest.keyClicks(page.search, "sta")
    wait(qtbot, lambda: bool(offered(page)))
    QTest.keyClick(page.search, Key.Key_Escape)
    assert offered(page) == []
    assert page.search.text() == "sta"
    QTest.keyClick(page.search, Key.Key_Escape)
    assert page.search.text() == ""
    wait(qtbot, lambda: page.table.rowCount() == len(run_ids))


def test_down_and_control_space_ask_in_an_empty_line(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClick(page.search, Key.Key_Down)
    wait(qtbot, lambda: "name" in offered(page))
    QTest.keyClick(page.search, Key.Key_Escape)
    QTest.keyClick(page.search, Key.Key_Space, Qt.KeyboardModifier.ControlModifier)
    wait(qtbot, lambda: "val/top1" in offered(page))
    assert page.search.text() == ""


def test_a_click_takes_and_leaves_the_focus_in_the_line(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "state = s")
    wait(qtbot, lambda: len(offered(page)) > 1)
    shown = page.window().findChild(Suggestions)
    assert shown is not None
    rows = shown.findChild(QListWidget)
    assert rows is not None
    where = rows.visualItemRect(rows.item(1)).center()
    QTest.mouseClick(rows.viewport(), Qt.MouseButton.LeftButton, pos=where)
    assert page.search.text() == "state = stopped "
    assert page.search.hasFocus()


def test_what_is_taken_in_the_middle_replaces_the_whole_word(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "stxx = failed")
    page.search.setCursorPosition(2)
    QTest.keyClick(page.search, Key.Key_Space, Qt.KeyboardModifier.ControlModifier)
    wait(qtbot, lambda: offered(page)[:1] == ["state"])
    QTest.keyClick(page.search, Key.Key_Tab)
    assert page.search.text() == "state = failed"
    wait(qtbot, lambda: page.table.rowCount() == 2)


def test_a_metric_that_was_taken_goes_on_with_a_dot(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "val/to")
    wait(qtbot, lambda: offered(page) == ["val/top1"])
    QTest.keyClick(page.search, Key.Key_Tab)
    assert page.search.text() == "val/top1 "
    QTest.keyClicks(page.search, ".ma")
    wait(qtbot, lambda: offered(page)[:1] == ["val/top1.max"])
    QTest.keyClick(page.search, Key.Key_Tab)
    QTest.keyClicks(page.search, "> 0.99")
    assert page.search.text() == "val/top1.max > 0.99"
    wait(qtbot, lambda: page.table.rowCount() == 0)
    assert "val/top1.max > 0.99" in page._nothing.sentence.text()


def test_what_is_wrong_is_marked_and_the_runs_stay(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "cutmix")
    wait(qtbot, lambda: page.table.rowCount() == 3)
    before = names(page)
    QTest.keyClicks(page.search, " and val.top2 > 0.5")
    wait(qtbot, lambda: page.search.error is not None)
    error = page.search.error
    assert error is not None
    assert page.search.text()[error.start : error.end] == "val.top2"
    assert page.search.sentence.isVisible()
    assert "val.top2" in page.search.sentence.text()
    assert names(page) == before
    assert not page.trouble.isVisible()
    assert has_error_colour_under(page.search, error)
    QTest.keyClicks(page.search, " or")
    assert page.search.sentence.isVisible()
    for _ in range(len(" or") + len("2 > 0.5")):
        QTest.keyClick(page.search, Key.Key_Backspace)
    QTest.keyClicks(page.search, "1 > 0.5")
    wait(qtbot, lambda: not page.search.sentence.isVisible())
    assert page.search.error is None
    assert page.search.property("wrong") == "false"
    wait(qtbot, lambda: 0 < page.table.rowCount() <= 3)


def test_a_view_can_be_chosen_while_the_filter_is_wrong(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "nothing.of.it > 3")
    wait(qtbot, lambda: page.search.error is not None)
    QTest.mouseClick(page.tabs, Qt.MouseButton.LeftButton, pos=page.tabs.tab_rect("failed").center())
    wait(qtbot, lambda: page.table.rowCount() == 3)
    assert page.search.error is not None


def test_enter_tells_what_is_unfinished(page: RunsPage, qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "lr <")
    wait(qtbot, lambda: page.search.is_wrong)
    assert page.search.error is None
    QTest.keyClick(page.search, Key.Key_Escape)
    QTest.keyClick(page.search, Key.Key_Return)
    wait(qtbot, lambda: page.search.error is not None)
    assert page.search.hasFocus()


def test_a_run_that_comes_to_fit_appears(page: RunsPage, run_ids: Sequence[str], qtbot: QtBot) -> None:
    QTest.keyClicks(page.search, "tags contains fresh")
    wait(qtbot, lambda: page.table.rowCount() == 0)
    page._studio.runs.tag(run_ids[2], ["fresh"])
    wait(qtbot, lambda: [run.id for run in page.table.loaded()] == [run_ids[2]])


def has_error_colour_under(line: FilterLine, error: QueryError) -> bool:
    """Whether the wavy line is painted under the wrong characters and not under the right ones before them."""
    line.setCursorPosition(0)
    picture = line.grab().toImage()
    line.end(False)
    red = line._theme.colour("status.error")
    columns = {
        round(x / picture.devicePixelRatio())
        for x in range(6, picture.width() - 6)
        for y in range(round(picture.height() * 0.6), picture.height() - 3)
        if abs(picture.pixelColor(x, y).red() - red.red()) < 40
        and abs(picture.pixelColor(x, y).green() - red.green()) < 40
    }
    return (
        bool(columns)
        and min(columns) >= line._x_of(error.start) - 3
        and max(columns) <= line._x_of(error.end) + 3
    )


class _Line:
    """A filter line alone, whose questions are answered by hand."""

    def __init__(self, theme: Theme, qtbot: QtBot) -> None:
        self.asked: list[tuple[str, int, Callable[[Completion], None]]] = []
        self.window = QWidget()
        self.window.resize(600, 400)
        qtbot.addWidget(self.window)
        self.line = FilterLine(theme, name="Filter", placeholder="", ask=self._ask)
        self.line.setParent(self.window)
        self.line.resize(400, 28)
        self.other = QLineEdit(self.window)
        self.other.move(QPoint(0, 60))
        self.window.show()
        qtbot.waitExposed(self.window)
        self.window.activateWindow()
        self.line.setFocus()
        qtbot.waitUntil(self.line.hasFocus, timeout=DEADLINE_MS)

    def _ask(self, text: str, position: int, then: Callable[[Completion], None]) -> None:
        self.asked.append((text, position, then))


@pytest.fixture
def alone(theme: Theme, qtbot: QtBot) -> _Line:
    return _Line(theme, qtbot)


def some(*texts: str, start: int = 0, end: int = 1) -> Completion:
    return Completion(start, end, tuple(CompletionItem(text, "attribute", "what it is") for text in texts))


def test_a_comparison_that_begins_is_not_searched_for_as_a_word(alone: _Line, qtbot: QtBot) -> None:
    told: list[str] = []
    alone.line.filter_changed.connect(told.append)
    QTest.keyClicks(alone.line, "lr < 1 and va")
    alone.asked[-1][2](some("val/loss", start=11, end=13))
    QTest.qWait(2 * DEBOUNCE_MS)
    assert told == []
    QTest.keyClick(alone.line, Key.Key_Escape)
    QTest.keyClick(alone.line, Key.Key_Return)
    assert told == ["lr < 1 and va"]
    QTest.keyClicks(alone.line, "l")
    qtbot.waitUntil(lambda: told[1:] == ["lr < 1 and val"], timeout=DEADLINE_MS)


def test_an_answer_for_an_older_text_is_dropped(alone: _Line) -> None:
    QTest.keyClicks(alone.line, "a")
    QTest.keyClicks(alone.line, "b")
    (_, _, first), (text, position, second) = alone.asked
    assert (text, position) == ("ab", 2)
    first(some("abacus"))
    assert alone.line.suggestions() == ()
    second(some("above", end=2))
    assert [item.text for item in alone.line.suggestions()] == ["above"]


def test_an_error_of_an_older_text_is_dropped(alone: _Line) -> None:
    QTest.keyClicks(alone.line, "x > 1 and b")
    alone.line.show_error("x > 1", QueryError("There is no x.", start=0, end=1))
    assert not alone.line.is_wrong
    alone.line.show_error("x > 1 and b", QueryError("There is no x.", start=0, end=1))
    assert alone.line.sentence.text() == "There is no x."
    alone.line.clear_error("x > 1")
    assert alone.line.sentence.text() == "There is no x."
    alone.line.clear_error("x > 1 and b")
    assert alone.line.sentence.text() == ""
    assert alone.line.error is None


def test_the_list_closes_with_the_focus(alone: _Line) -> None:
    QTest.keyClicks(alone.line, "a")
    alone.asked[-1][2](some("above"))
    assert alone.line.suggestions()
    alone.other.setFocus()
    assert not alone.line.suggestions()


def test_the_list_closes_when_the_caret_goes_elsewhere(alone: _Line) -> None:
    QTest.keyClicks(alone.line, "ab")
    alone.asked[-1][2](some("above", end=2))
    assert alone.line.suggestions()
    QTest.keyClick(alone.line, Key.Key_Home)
    assert not alone.line.suggestions()


def test_many_completions_stay_within_the_window(alone: _Line, qtbot: QtBot) -> None:
    QTest.keyClicks(alone.line, "a")
    alone.asked[-1][2](some(*(f"a{number}" + "long" * 60 for number in range(50))))
    shown = alone.window.findChild(Suggestions)
    assert shown is not None
    assert alone.window.rect().contains(shown.geometry())
    rows = []
    for _ in range(51):
        QTest.keyClick(alone.line, Key.Key_Down)
        rows.append(shown.current_row)
    assert rows == [*range(50), -1]
