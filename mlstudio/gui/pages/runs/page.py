"""The page of all runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QSettings, Qt, QTimer, Signal
from PySide6.QtWidgets import QMenu, QMessageBox, QStackedWidget, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge, ChangeSet
from mlstudio.gui.figures import count_text
from mlstudio.gui.launches import LaunchView
from mlstudio.gui.pages.runs.columns import (
    AGAIN,
    FIRST,
    LAST,
    NOT_AGAIN,
    TAGS,
    Column,
    metric_column,
    metric_names,
    parameter_column,
    parameter_names,
)
from mlstudio.gui.pages.runs.table import Answer, Query, RunTable
from mlstudio.gui.pages.runs.view import RunView
from mlstudio.gui.pages.runs.welcome import Welcome
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.empty import EmptyState
from mlstudio.gui.widgets.filter_line import FilterLine
from mlstudio.gui.widgets.header import PageHeader
from mlstudio.gui.widgets.notice import Trouble
from mlstudio.gui.widgets.panes import Bar, Pane, Splitter
from mlstudio.gui.widgets.progress import BusyLine
from mlstudio.gui.widgets.tabs import TabLine
from mlstudio.gui.widgets.text import Label
from mlstudio.model.code import CodeSource
from mlstudio.model.errors import QueryError
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import RunSpec, RunState, RunSummary
from mlstudio.services.examples import Example
from mlstudio.services.query import Completion
from mlstudio.services.studio import Studio

if TYPE_CHECKING:
    from mlstudio.gui.pages.runs.plots import PlotsPane

DRAWN_MOST = 40
"""How many of the first runs are drawn."""
AUTOMATIC_METRICS = 2
AUTOMATIC_PARAMETERS = 1
MOST_STOPS = 200


class RunsPage(QWidget):
    """A table of runs, live, and plots of those whose eye is open."""

    run_opened = Signal(str)
    new_asked = Signal()

    def __init__(self, studio: Studio, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._studio = studio
        self._bridge = bridge
        self._theme = theme
        self._kept = QSettings(str(Path(studio.home) / "window.ini"), QSettings.Format.IniFormat)
        self._hidden: set[str] = set(_strings(self._kept.value("runs/hidden")))
        self._chosen_columns: list[str] | None = _columns_kept(self._kept.value("runs/columns"))
        self._answer: Answer | None = None
        self._pending: dict[str, RunSummary] = {}
        self._removed: list[str] = []
        self._launching: str = ""
        self._count_words = ""
        self.plots: PlotsPane | None = None
        self.table = RunTable(bridge, self)
        self.view = RunView(theme, self.table, self.is_hidden)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._header())
        self.trouble = Trouble(theme, bar=True)
        column.addWidget(self.trouble)
        self._busy = BusyLine(theme)
        self._body = QStackedWidget()
        column.addWidget(self._body, 1)
        self._split = Splitter()
        self._split.addWidget(self._left())
        self._body.addWidget(self._split)
        self.welcome = Welcome(studio, bridge, theme)
        self.welcome.own_code_asked.connect(self.new_asked)
        self.welcome.example_asked.connect(self._on_example_asked)
        self._body.addWidget(self.welcome)
        self._table_timer = QTimer(self, singleShot=True, interval=theme.length("motion.live_refresh_table"))
        self._table_timer.timeout.connect(self._apply_changes)
        self._clock = QTimer(self, interval=1000)
        self._clock.timeout.connect(self._on_second)
        self._connect()
        self.table.refresh()
        self._busy.start()
        # pyqtgraph takes as long to import as everything else: it comes once there are rows to be seen (or none).
        self.table.answered.connect(self._make_plots_once, Qt.ConnectionType.SingleShotConnection)

    def page_shown(self) -> None:
        self._clock.start()
        self.table.refresh()
        self.view.setFocus(Qt.FocusReason.OtherFocusReason)

    def page_hidden(self) -> None:
        self._clock.stop()

    def go_back(self) -> bool:
        """Escape empties the filter first, then the selection."""
        if self.search.text():
            self.search.clear()
            return True
        if self.view.chosen_ids():
            self.view.clearSelection()
            return True
        return False

    def is_hidden(self, run_id: str) -> bool:
        return run_id in self._hidden

    @property
    def shows_welcome(self) -> bool:
        return self._body.currentWidget() is self.welcome

    def drawn(self) -> list[RunSummary]:
        """Runs that are drawn: the first of the table whose eye is open."""
        runs = [run for run in self.table.loaded() if run.id not in self._hidden]
        return runs[:DRAWN_MOST]

    # Building

    def _header(self) -> PageHeader:
        theme = self._theme
        header = PageHeader("Runs", theme)
        self.tabs = TabLine(theme, name="Views")
        self.tabs.add("all", "All runs")
        self.tabs.add("running", "Running")
        self.tabs.add("failed", "Failed")
        header.add_left(self.tabs)
        self.new_button = Button("New run", theme, kind="primary", icon="ph.plus")
        self.new_button.setToolTip("New run (Ctrl+N)")
        self.new_button.clicked.connect(self.new_asked)
        header.add_right(self.new_button)
        return header

    def _left(self) -> Pane:
        theme = self._theme
        pane = Pane(ground="window")
        pane.setMinimumWidth(420)
        bar = Bar(height=48, edge="", margins=(12, 12))
        self.search = FilterLine(
            theme,
            name="Filter runs",
            placeholder="Words, or a filter such as lr < 1e-3",
            ask=self._ask_completions,
        )
        bar.row.addWidget(self.search, 1)
        self.columns_button = Button("Columns", theme, kind="ghost", icon="ph.columns")
        bar.row.addWidget(self.columns_button)
        pane.column.addWidget(bar)
        self.search.sentence.setContentsMargins(12, 0, 12, 9)
        pane.column.addWidget(self.search.sentence)
        pane.column.addWidget(self._busy)
        self._rows = QStackedWidget()
        self._rows.addWidget(self.view)
        nothing = Pane(ground="base")
        nothing.column.setContentsMargins(24, 24, 24, 24)
        self._nothing = EmptyState("No run matches.", "", theme)
        show_all = Button("Show all runs", theme)
        show_all.clicked.connect(self._on_show_all)
        self._nothing.add_button(show_all)
        nothing.column.addWidget(self._nothing)
        nothing.column.addStretch(1)
        self._rows.addWidget(nothing)
        pane.column.addWidget(self._rows, 1)
        foot = Bar(height=40, edge="top", margins=(14, 8), spacing=4)
        self._selected = Label("", theme)
        self._counts = Label("", theme, tone="tertiary", size="small")
        foot.row.addWidget(self._selected)
        foot.row.addSpacing(8)
        foot.row.addWidget(self._counts)
        foot.row.addStretch(1)
        self.open_button = Button("Open", theme, kind="ghost", icon="ph.arrow-right")
        self.stop_button = Button("Stop", theme, kind="ghost", icon="ph.stop-fill")
        self.again_button = Button("Again", theme, kind="ghost", icon="ph.arrow-clockwise")
        self.delete_button = Button("Delete…", theme, kind="ghost", icon="ph.trash")
        for button in (self.open_button, self.stop_button, self.again_button, self.delete_button):
            foot.row.addWidget(button)
        pane.column.addWidget(foot)
        return pane

    def _connect(self) -> None:
        self.search.filter_changed.connect(self._ask)
        self.search.left.connect(lambda: self.view.setFocus(Qt.FocusReason.OtherFocusReason))
        self.tabs.chosen.connect(lambda _: self._on_view_chosen())
        self.columns_button.clicked.connect(self._on_columns_clicked)
        self.table.answered.connect(self._on_answered)
        self.table.rows_changed.connect(self._on_rows_changed)
        self.table.refused.connect(self._on_refused)
        self.table.failed.connect(self._on_failed)
        self.view.run_opened.connect(self.run_opened)
        self.view.eye_toggled.connect(self._on_eye_toggled)
        self.view.chosen_changed.connect(self._show_selection)
        self.view.sort_asked.connect(self._on_sort_asked)
        self.view.row_hovered.connect(self._on_row_hovered)
        self.open_button.clicked.connect(self._on_open_clicked)
        self.stop_button.clicked.connect(self._on_stop_clicked)
        self.again_button.clicked.connect(self._on_again_clicked)
        self.delete_button.clicked.connect(self._on_delete_clicked)
        self._bridge.changed.connect(self._on_changed)
        self._bridge.launches.submitted.connect(self._on_submitted)
        self._bridge.launches.finished.connect(self._on_launch_finished)
        self._theme.changed.connect(self._on_theme_changed)

    def _make_plots_once(self) -> None:
        QTimer.singleShot(0, self, self._make_plots)

    def _make_plots(self) -> None:
        from mlstudio.gui.pages.runs.plots import PlotsPane

        self.plots = PlotsPane(self._bridge, self._theme)
        self.plots.row_hovered.connect(self._on_readout_hovered)
        self._split.addWidget(self.plots)
        width = max(900, self.width())
        self._split.setSizes([round(width * 0.65), round(width * 0.35)])
        self._split.setStretchFactor(0, 3)
        self._split.setStretchFactor(1, 2)
        self.plots.set_runs(self.drawn())

    # The query

    def _ask(self) -> None:
        self._ask_for(self.search.text())

    def _on_view_chosen(self) -> None:
        # A filter that is not understood keeps nobody from another view: the last good one holds there.
        self._ask_for(self.table.query.where if self.search.is_wrong else self.search.text())

    def _ask_for(self, where: str) -> None:
        states: tuple[RunState, ...] = {
            "running": (RunState.RUNNING, RunState.QUEUED),
            "failed": (RunState.FAILED, RunState.LOST),
        }.get(self.tabs.current, ())
        query = Query(
            where=where,
            states=states,
            order_by=self.table.wanted.order_by,
            descending=self.table.wanted.descending,
        )
        self._busy.start()
        self.table.set_query(query)

    def _ask_completions(self, text: str, position: int, then: Callable[[Completion], None]) -> None:
        self._bridge.read(
            lambda history: history.complete(text, position),
            then,
            owner=self.search,
            key=f"runs-complete-{id(self)}",
        )

    def _on_answered(self, answer: Answer) -> None:
        self._busy.stop()
        self.trouble.clear()
        self.search.clear_error(answer.query.where)
        self.view.horizontalHeader().viewport().update()
        self._answer = answer
        is_empty = answer.all_count == 0
        self._body.setCurrentWidget(self.welcome if is_empty else self._split)
        # One primary button a page: on the empty one it is the example.
        self.new_button.set_kind("secondary" if is_empty else "primary")
        if is_empty:
            self.welcome.look()
            return
        self.tabs.set_count("running", str(answer.running) if answer.running else "")
        self.tabs.set_count("failed", str(answer.failed) if answer.failed else "")
        where = answer.query.where.strip()
        if where or answer.query.states:
            words = f"{answer.count:,} of {count_text(answer.all_count, 'run')}"
        else:
            words = count_text(answer.all_count, "run")
        self._count_words = words
        self.search.set_hint(f"still {words}" if self.search.is_wrong else words)
        if answer.count == 0:
            culprit = f"the filter “{where}”" if where else "the view"
            self._nothing.sentence.setText(
                f"{count_text(answer.all_count, 'run')} are there; {culprit} leaves none of them."
            )
        self._rows.setCurrentIndex(0 if answer.count else 1)

    def _on_refused(self, query: Query, error: QueryError) -> None:
        """The filter is not understood: it says so itself, and the runs stay as they were."""
        self._busy.stop()
        self.search.show_error(query.where, error)
        if self.search.is_wrong:
            self.search.set_hint(f"still {self._count_words}")

    def _on_failed(self, error: Exception) -> None:
        self._busy.stop()
        self.trouble.show_error(error, act=("Try again", self.table.refresh))

    def _on_show_all(self) -> None:
        self.search.clear()
        self.tabs.choose("all")
        self._ask()

    def _on_sort_asked(self, column: Column) -> None:
        if not column.order:
            return
        query = self.table.wanted
        descending = not query.descending if query.order_by == column.order else column.descends_first
        self.table.set_query(
            Query(where=query.where, states=query.states, order_by=column.order, descending=descending)
        )
        self.view.horizontalHeader().viewport().update()

    # Live

    def _on_changed(self, changes: ChangeSet) -> None:
        for run in changes.runs:
            self._pending[run.id] = run
        self._removed += changes.removed
        if not self._table_timer.isActive():
            self._table_timer.start()

    def _apply_changes(self) -> None:
        changes = ChangeSet(runs=tuple(self._pending.values()), removed=tuple(self._removed))
        self._pending = {}
        self._removed = []
        if self.table.apply(changes) or self.shows_welcome:
            self.table.refresh()

    def _on_rows_changed(self) -> None:
        self._choose_columns()
        drawn = self.drawn()
        if self.plots is not None:
            self.plots.set_runs(drawn)
        loaded = self.table.loaded()
        hidden = sum(run.id in self._hidden for run in loaded)
        waiting = sum(run.state is RunState.QUEUED for run in loaded)
        parts = [f"{len(drawn)} drawn"]
        if hidden:
            parts.append(f"{hidden} hidden")
        if waiting:
            parts.append(f"{waiting} not started")
        self._counts.setText(", ".join(parts))
        self._show_selection()

    def _on_second(self) -> None:
        self.table.tick()

    # Columns

    def _choose_columns(self) -> None:
        loaded = self.table.loaded()
        metrics, parameters = metric_names(loaded), parameter_names(loaded)
        if self._chosen_columns is None:
            middle = [metric_column(name) for name in metrics[:AUTOMATIC_METRICS]]
            middle += [parameter_column(name) for name in parameters[:AUTOMATIC_PARAMETERS]]
            self.table.set_columns((*FIRST, *middle, *LAST))
            return
        known: dict[str, Column] = {TAGS.key: TAGS}
        for name in metrics:
            for column in (metric_column(name), metric_column(name, best=True)):
                known[column.key] = column
        for name in parameters:
            known[parameter_column(name).key] = parameter_column(name)
        chosen = [known[key] for key in self._chosen_columns if key in known]
        self.table.set_columns((*FIRST, *chosen, *LAST))

    def _on_columns_clicked(self) -> None:
        loaded = self.table.loaded()
        menu = QMenu(self)
        shown = [column.key for column in self.table.columns]
        groups: list[tuple[str, Sequence[Column]]] = [
            ("Last value", [metric_column(name) for name in metric_names(loaded)]),
            ("Best value", [metric_column(name, best=True) for name in metric_names(loaded)]),
            ("Parameters", [parameter_column(name) for name in parameter_names(loaded)]),
            ("", [TAGS]),
        ]
        for title, columns in groups:
            place = menu.addMenu(title) if title and columns else menu
            for column in columns:
                action = place.addAction(column.title)
                action.setCheckable(True)
                action.setChecked(column.key in shown)
                action.toggled.connect(partial(self._on_column_toggled, column.key))
        menu.addSeparator()
        menu.addAction("Choose by itself", self._on_columns_automatic)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.columns_button.mapToGlobal(QPoint(0, self.columns_button.height())))

    def _on_column_toggled(self, key: str, on: bool) -> None:
        fixed = {column.key for column in (*FIRST, *LAST)}
        shown = [column.key for column in self.table.columns if column.key not in fixed]
        self._chosen_columns = [*shown, key] if on else [other for other in shown if other != key]
        self._kept.setValue("runs/columns", json.dumps(self._chosen_columns))
        self._choose_columns()

    def _on_columns_automatic(self) -> None:
        self._chosen_columns = None
        self._kept.remove("runs/columns")
        self._choose_columns()

    # The eye, the pointer

    def _on_eye_toggled(self, run_id: str) -> None:
        self._hidden.symmetric_difference_update({run_id})
        self._kept.setValue("runs/hidden", sorted(self._hidden))
        self.view.viewport().update()
        self._on_rows_changed()

    def _on_row_hovered(self, run_id: str | None) -> None:
        if self.plots is not None:
            self.plots.set_emphasis(None if run_id in self._hidden else run_id)

    def _on_readout_hovered(self, run_id: str | None) -> None:
        row = self.table.row_of(run_id) if run_id else None
        self.view.hovered_row = -1 if row is None else row
        self.view.viewport().update()

    def _on_theme_changed(self) -> None:
        self.view.viewport().update()
        if self.plots is not None:
            self.plots.set_runs(self.drawn())

    # What can be done

    def _chosen(self) -> list[RunSummary]:
        return [run for run_id in self.view.chosen_ids() if (run := self.table.run(run_id)) is not None]

    def _show_selection(self) -> None:
        chosen = self._chosen()
        self._selected.setText(f"{len(chosen)} selected" if chosen else "None selected")
        self._selected.set_tone("primary" if chosen else "tertiary")
        live = [run for run in chosen if not run.is_over and run.desired != "stopped"]
        self.open_button.setEnabled(len(chosen) == 1)
        self.stop_button.setEnabled(bool(live))
        is_imported = any(run.is_imported for run in chosen)
        self.again_button.setEnabled(len(chosen) == 1 and not is_imported)
        self.again_button.setToolTip(NOT_AGAIN if is_imported else AGAIN)
        self.delete_button.setEnabled(bool(chosen))

    def _on_open_clicked(self) -> None:
        self.run_opened.emit(self.view.chosen_ids()[0])

    def _on_stop_clicked(self) -> None:
        live = [run for run in self._chosen() if not run.is_over][:MOST_STOPS]
        for run in live:
            self._bridge.call(partial(self._studio.runs.stop, run.id), owner=self)
        self._bridge.notice(f"Asked {_names(live)} to stop.")

    def _on_again_clicked(self) -> None:
        run = self._chosen()[0]
        self._launching = self._bridge.launches.again(run.id, run.name)

    def _on_delete_clicked(self) -> None:
        chosen = self._chosen()
        live = [run for run in chosen if not run.is_over]
        points = sum(metric.count for run in chosen for metric in run.metrics)
        box = QMessageBox(self)
        box.setWindowTitle("Delete runs")
        box.setText(f"Delete {_names(chosen)}?")
        words = f"Its record goes for good: {points:,} points, the log and the container."
        if len(chosen) > 1:
            words = f"Their records go for good: {points:,} points, the logs and the containers."
        if live:
            words += f" Not over yet, and killed then: {_names(live)}."
        box.setInformativeText(words)
        delete = box.addButton("Delete", QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        box.exec()
        if box.clickedButton() is delete:
            self.delete(chosen)

    def delete(self, runs: Sequence[RunSummary]) -> None:
        """Remove runs for good, off the interface thread, and say so."""

        def remove() -> int:
            for run in runs:
                self._studio.runs.remove(run.id, force=True)
            return len(runs)

        self._bridge.call(
            remove, lambda count: self._bridge.notice(f"Deleted {count_text(count, 'run')}."), owner=self
        )

    def _on_example_asked(self, example: Example) -> None:
        self.welcome.run_button.setEnabled(False)
        engine = self._studio.settings.text("engine") or "local"
        self._launching = self._bridge.launches.launch(
            RunSpec(
                command=example.command,
                code=CodeSource(folder=str(example.path)),
                image=ImageSpec(framework=example.framework),
                engine=engine,
            )
        )

    def _on_submitted(self, key: str, run_id: str) -> None:
        if key == self._launching:
            self._launching = ""
            self.run_opened.emit(run_id)

    def _on_launch_finished(self, view: LaunchView) -> None:
        if view.key == self._launching:
            self._launching = ""
            if view.run_id:
                self.run_opened.emit(view.run_id)
        self.welcome.run_button.setEnabled(True)


def _names(runs: Sequence[RunSummary]) -> str:
    return runs[0].name if len(runs) == 1 else count_text(len(runs), "run")


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _columns_kept(value: object) -> list[str] | None:
    if not isinstance(value, str):
        return None
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return [str(key) for key in found] if isinstance(found, list) else None
