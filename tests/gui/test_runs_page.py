"""The page of all runs, over a real history: what is clicked and what is seen then."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from mlstudio.gui.pages.runs.columns import Kind, metric_column, metric_of, value_of
from mlstudio.gui.pages.runs.page import RunsPage
from mlstudio.gui.pages.runs.plots import PlotsPane
from mlstudio.gui.shell import Shell
from mlstudio.model.record import Batch, Cursor
from mlstudio.model.run import Exit, ExitReason, RunState
from mlstudio.services.studio import Studio
from tests.gui.conftest import DEADLINE_MS
from tests.gui.seed import add_run, curves


@pytest.fixture
def page(run_ids: Sequence[str], shell: Shell, qtbot: QtBot) -> RunsPage:
    found = shell.page("Runs")
    assert isinstance(found, RunsPage)
    qtbot.waitUntil(lambda: found.table.rowCount() == len(run_ids), timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: found.plots is not None, timeout=DEADLINE_MS)
    return found


def plots_of(page: RunsPage) -> PlotsPane:
    assert page.plots is not None
    return page.plots


def column(page: RunsPage, kind: Kind, of: str = "") -> int:
    return next(
        place for place, each in enumerate(page.table.columns) if each.kind is kind and of in ("", each.of)
    )


def cells(page: RunsPage, kind: Kind, of: str = "") -> list[str]:
    place = column(page, kind, of)
    return [str(page.table.data(page.table.index(row, place))) for row in range(page.table.rowCount())]


def click_title(page: RunsPage, place: int) -> None:
    header = page.view.horizontalHeader()
    x = header.sectionViewportPosition(place) + header.sectionSize(place) // 2
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(x, 10))


def test_every_run_is_told_with_its_state_in_words(page: RunsPage) -> None:
    assert cells(page, Kind.NAME)[:3] == ["vit-s16-randaug-m9", "vit-s16-plain-s0", "vit-s16-randaug-m12"]
    assert set(cells(page, Kind.STATE)) == {"Running", "Queued", "Failed", "Succeeded", "Lost", "Stopped"}
    progress = dict(zip(cells(page, Kind.NAME), cells(page, Kind.PROGRESS), strict=True))
    assert progress["vit-s16-randaug-b1k"] == "Out of memory"
    assert progress["vit-s16-randaug-m12"] == "building image, step 3 of 7"
    assert "NaN" in cells(page, Kind.METRIC, "val/loss")


def test_a_click_on_a_title_sorts(page: RunsPage, qtbot: QtBot) -> None:
    place = column(page, Kind.METRIC, "val/top1")
    click_title(page, place)
    qtbot.waitUntil(lambda: page.table.query.order_by == "metric:val/top1", timeout=DEADLINE_MS)

    def sorted_downwards() -> bool:
        values = [float(text) for text in cells(page, Kind.METRIC, "val/top1") if text != "–"]
        return len(values) == 11 and values == sorted(values, reverse=True)

    qtbot.waitUntil(sorted_downwards, timeout=DEADLINE_MS)
    click_title(page, place)
    qtbot.waitUntil(lambda: not page.table.query.descending, timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: not sorted_downwards(), timeout=DEADLINE_MS)


def test_a_column_sorts_by_what_it_shows(page: RunsPage, qtbot: QtBot) -> None:
    best = metric_column("throughput", best=True)
    page.table.set_columns((*page.table.columns, best))
    page._on_sort_asked(best)

    def shown() -> list[float]:
        return [found for run in page.table.loaded() if (found := value_of(run, best)) is not None]

    qtbot.waitUntil(lambda: shown() == sorted(shown(), reverse=True), timeout=DEADLINE_MS)
    metrics = [metric_of(run, "throughput") for run in page.table.loaded()]
    lasts = [metric.last for metric in metrics if metric is not None and metric.last is not None]
    assert lasts != sorted(lasts, reverse=True)
    click_title(page, column(page, Kind.PROGRESS))
    qtbot.waitUntil(lambda: page.table.query.order_by == "ended", timeout=DEADLINE_MS)
    ends = [run.ended for run in page.table.loaded() if run.ended is not None]
    assert ends == sorted(ends, reverse=True)
    assert page.table.loaded()[-1].ended is None


def test_typing_filters_and_escape_takes_it_back(
    page: RunsPage, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    page.search.setFocus()
    QTest.keyClicks(page.search, "cutmix")
    qtbot.waitUntil(lambda: page.table.rowCount() == 3, timeout=DEADLINE_MS)
    assert all("cutmix" in name for name in cells(page, Kind.NAME))
    QTest.keyClicks(page.search, " nothing-like-it")
    qtbot.waitUntil(lambda: page.table.rowCount() == 0, timeout=DEADLINE_MS)
    assert "cutmix nothing-like-it" in page._nothing.sentence.text()
    QTest.keyClick(page.search, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: page.table.rowCount() == len(run_ids), timeout=DEADLINE_MS)


def test_the_views_show_states(page: RunsPage, qtbot: QtBot) -> None:
    QTest.mouseClick(page.tabs, Qt.MouseButton.LeftButton, pos=page.tabs.tab_rect("failed").center())
    qtbot.waitUntil(lambda: page.table.rowCount() == 3, timeout=DEADLINE_MS)
    assert set(cells(page, Kind.STATE)) == {"Failed", "Lost"}


def test_the_eye_takes_a_run_out_of_the_plots(page: RunsPage, run_ids: Sequence[str], qtbot: QtBot) -> None:
    plots = plots_of(page)

    def drawn() -> set[str]:
        plot = plots.plot("val/top1")
        return {key.partition("/")[0] for key in plot.curves()} if plot is not None else set()

    qtbot.waitUntil(lambda: len(drawn()) == 11, timeout=DEADLINE_MS)
    row = page.table.row_of(run_ids[0])
    assert row is not None
    where = page.view.visualRect(page.table.index(row, 0)).center()
    QTest.mouseClick(page.view.viewport(), Qt.MouseButton.LeftButton, pos=where)
    qtbot.waitUntil(lambda: drawn() == set(run_ids) - {run_ids[0], run_ids[9]}, timeout=DEADLINE_MS)
    assert not page.view.chosen_ids()
    page.view.setCurrentIndex(page.table.index(row, 1))
    QTest.keyClick(page.view, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: run_ids[0] in drawn(), timeout=DEADLINE_MS)


def test_a_run_that_goes_on_moves_in_place(
    page: RunsPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    running = run_ids[11]
    page.view.choose(run_ids[4])
    found, _ = curves(time.time() - 4000, 1.0, seed=99)
    studio.history.apply(running, Batch(cursor=Cursor(seq=1, position="2"), points=found[:1]))

    def counted() -> bool:
        run = page.table.run(running)
        return run is not None and any(
            metric.name == "train/loss" and metric.count > 2000 for metric in run.metrics
        )

    qtbot.waitUntil(counted, timeout=DEADLINE_MS)
    studio.history.observe(
        running, state=RunState.FAILED, ended=time.time(), exit=Exit(reason=ExitReason.ERROR, code=3)
    )
    qtbot.waitUntil(lambda: "Exit code 3" in cells(page, Kind.PROGRESS), timeout=DEADLINE_MS)
    assert page.view.chosen_ids() == [run_ids[4]]


def test_a_new_run_appears_and_a_removed_one_goes(
    page: RunsPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    add_run(studio.history, "fresh", "fresh", created=time.time() + 5)
    qtbot.waitUntil(lambda: cells(page, Kind.NAME)[0] == "vit-s16-fresh", timeout=DEADLINE_MS)
    studio.history.remove_run(run_ids[0])
    qtbot.waitUntil(lambda: page.table.row_of(run_ids[0]) is None, timeout=DEADLINE_MS)
    assert page.table.rowCount() == len(run_ids)


def test_only_rows_that_are_seen_are_read(studio: Studio, shell: Shell, qtbot: QtBot) -> None:
    for number in range(350):
        add_run(studio.history, f"many-{number}", f"m{number}", created=1000.0 + number)
    page = shell.page("Runs")
    assert isinstance(page, RunsPage)
    qtbot.waitUntil(lambda: page.table.rowCount() == 350, timeout=DEADLINE_MS)
    assert len(page.table.loaded()) < 350
    page.view.scrollToBottom()
    qtbot.waitUntil(lambda: page.table.run("many-0") is not None, timeout=DEADLINE_MS)
    assert cells(page, Kind.NAME)[-1] == "vit-s16-m0"


def test_enter_opens_a_run_and_escape_comes_back(
    page: RunsPage, shell: Shell, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    page.view.choose(run_ids[3])
    page.view.setFocus()
    QTest.keyClick(page.view, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: shell.current == "Run", timeout=DEADLINE_MS)
    QTest.keyClick(shell, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: shell.current == "Runs", timeout=DEADLINE_MS)


def test_the_pointer_reads_every_curve(page: RunsPage, run_ids: Sequence[str], qtbot: QtBot) -> None:
    plots = plots_of(page)

    def is_drawn() -> bool:
        plot = plots.plot("val/top1")
        return plot is not None and len(plot.curves()) == 11

    qtbot.waitUntil(is_drawn, timeout=DEADLINE_MS)
    plot = plots.plot("val/top1")
    assert plot is not None
    plot.hovered.emit(400.0)
    assert plots.readout.title == "At step 400"
    place = plots.plot_names().index("val/top1")
    values = [row.values[place] for row in plots.readout.rows()]
    known = [value for value in values if value is not None]
    assert len(known) == 11
    assert known == sorted(known, reverse=True)
    assert 0.5 < known[0] < 0.8
    plot.hovered.emit(None)
    assert plots.readout.title == "Last values"


def test_what_can_be_done_follows_the_selection(
    page: RunsPage, studio: Studio, run_ids: Sequence[str], qtbot: QtBot
) -> None:
    page.view.clearSelection()
    assert not page.delete_button.isEnabled()
    page.view.choose(run_ids[0])
    assert page.delete_button.isEnabled()
    assert page.again_button.isEnabled()
    assert not page.stop_button.isEnabled()
    page.view.choose(run_ids[11])
    assert page.stop_button.isEnabled()


def test_an_empty_history_offers_an_example(shell: Shell, qtbot: QtBot) -> None:
    page = shell.page("Runs")
    assert isinstance(page, RunsPage)
    qtbot.waitUntil(lambda: page.shows_welcome, timeout=DEADLINE_MS)
    qtbot.waitUntil(lambda: page.welcome.run_button.isEnabled(), timeout=DEADLINE_MS)
    assert page.new_button.property("kind") == "secondary"
