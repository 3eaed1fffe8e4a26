"""The run table's model: how many runs there are, and those that were looked at. Rows are read page by page."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal

from mlstudio.gui.bridge import Bridge, ChangeSet
from mlstudio.gui.figures import duration_text, when_text
from mlstudio.gui.pages.runs.columns import (
    FIRST,
    LAST,
    Column,
    Kind,
    aligned_text,
    best_value,
    decimals_of,
    host_words,
    parameter_of,
    progress_words,
    state_key,
    tooltip_of,
    value_of,
)
from mlstudio.model.errors import QueryError
from mlstudio.model.run import RunState, RunSummary

if TYPE_CHECKING:
    from mlstudio.store import History

PAGE = 100
AnyIndex = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class Query:
    """Which runs, in which order."""

    where: str = ""
    """A filter as in docs/query.md."""
    states: tuple[RunState, ...] = ()
    order_by: str = "created"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the history said to a query: rows `offset`… of `count`, and how many there are in each state."""

    query: Query
    count: int
    all_count: int
    running: int
    failed: int
    offset: int
    rows: tuple[RunSummary, ...]
    seconds: float


def ask(history: History, query: Query, *, offset: int = 0, limit: int = PAGE) -> Answer:
    """Read a page of a query. Runs on the reader's thread. Raises QueryError."""
    began = time.perf_counter()
    states = query.states or None
    rows = history.runs(
        states=states,
        where=query.where,
        order_by=query.order_by,
        descending=query.descending,
        limit=limit,
        offset=offset,
    )
    count = history.count(states=states, where=query.where)
    seconds = time.perf_counter() - began
    return Answer(
        query=query,
        count=count,
        all_count=history.count(),
        running=history.count(states=(RunState.RUNNING,)),
        failed=history.count(states=(RunState.FAILED,)),
        offset=offset,
        rows=tuple(rows),
        seconds=seconds,
    )


class RunTable(QAbstractTableModel):
    """Rows are runs of a query. Only pages that were asked for are in memory; a change brings its row up to date.

    `answered` tells each `Answer`; `rows_changed` that rows in memory are different ones or have other values;
    `refused` a `Query` whose filter is not understood, with its `QueryError`. The rows stay as they were then.
    """

    answered = Signal(object)
    rows_changed = Signal()
    refused = Signal(object, object)
    failed = Signal(object)

    def __init__(self, bridge: Bridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._query = Query()
        self._answered = Query()
        self._wanted: Query | None = None
        self._count = 0
        self._rows: dict[int, RunSummary] = {}
        self._place: dict[str, int] = {}
        self._asked: set[int] = set()
        self._columns: tuple[Column, ...] = (*FIRST, *LAST)
        self._decimals: dict[str, int] = {}
        self._best: dict[str, float | None] = {}

    # What there is

    @property
    def query(self) -> Query:
        """What is shown. A query that was just set is not shown before it was answered."""
        return self._query

    @property
    def wanted(self) -> Query:
        """What is to be shown as soon as it is answered."""
        return self._wanted or self._query

    @property
    def columns(self) -> tuple[Column, ...]:
        return self._columns

    def set_columns(self, columns: tuple[Column, ...]) -> None:
        if columns != self._columns:
            self.beginResetModel()
            self._columns = columns
            self._measure()
            self.endResetModel()

    def run_at(self, row: int) -> RunSummary | None:
        """The run of a row, or None while it is being read (it is asked for then)."""
        run = self._rows.get(row)
        if run is None and 0 <= row < self._count:
            self._ask_page(row // PAGE)
        return run

    def row_of(self, run_id: str) -> int | None:
        return self._place.get(run_id)

    def run(self, run_id: str) -> RunSummary | None:
        row = self._place.get(run_id)
        return None if row is None else self._rows.get(row)

    def loaded(self) -> list[RunSummary]:
        """Runs in memory, in the table's order."""
        return [self._rows[row] for row in sorted(self._rows)]

    # Changing it

    def set_query(self, query: Query) -> None:
        """Show other runs. The old ones stay until the new ones are there, and if the filter is not understood."""
        self._wanted = query
        self.refresh()

    def refresh(self) -> None:
        """Read the query again, with as many rows as were in memory from the beginning."""
        query = self.wanted
        limit = max(PAGE, min(5 * PAGE, max(self._rows, default=0) + 1))
        self._bridge.read(
            lambda history: ask(history, query, limit=limit),
            self._on_answer,
            owner=self,
            failed=lambda error: self._on_error(query, error),
            key=f"runs-query-{id(self)}",
        )

    def apply(self, changes: ChangeSet) -> bool:
        """Bring known rows up to date in place; True if the query must be read again (runs came or went)."""
        needs_refresh = any(run_id in self._place for run_id in changes.removed)
        touched: list[int] = []
        for run in changes.runs:
            row = self._place.get(run.id)
            if row is None:
                needs_refresh = True
                continue
            old = self._rows[row]
            self._rows[row] = run
            touched.append(row)
            if old.state is not run.state or old.archived != run.archived:
                needs_refresh = True
        if touched and self._query.where:
            # What the filter asks for may have changed with the values.
            needs_refresh = True
        if touched:
            self._measure()
            last = len(self._columns) - 1
            self.dataChanged.emit(self.index(min(touched), 0), self.index(max(touched), last))
            self.rows_changed.emit()
        return needs_refresh

    def tick(self) -> None:
        """Repaint what depends on the time of day (durations of live runs)."""
        rows = [row for row, run in self._rows.items() if run.state is RunState.RUNNING]
        if rows:
            self.dataChanged.emit(self.index(min(rows), 0), self.index(max(rows), len(self._columns) - 1))

    # What cells say

    def cell_text(self, run: RunSummary, column: Column, now: float) -> str:
        """The words of a cell, as they are painted and as a screen reader hears them."""
        match column.kind:
            case Kind.DOT:
                return ""
            case Kind.NAME:
                return run.name
            case Kind.STATE:
                return "End unknown" if state_key(run) == "imported" else run.state.value.capitalize()
            case Kind.PROGRESS:
                if run.state is RunState.RUNNING and run.progress is not None:
                    return f"{run.progress.fraction:.0%}"
                return progress_words(run, now)[0]
            case Kind.METRIC:
                return aligned_text(value_of(run, column), self._decimals.get(column.key, 4))
            case Kind.PARAMETER:
                return parameter_of(run, column.of)
            case Kind.HOST:
                return " ".join(host_words(run)).strip()
            case Kind.DURATION:
                return duration_text(run.duration_s(now))
            case Kind.STARTED:
                return when_text(run.started, now=now)
            case Kind.TAGS:
                return ", ".join(run.tags)

    def is_best(self, run: RunSummary, column: Column) -> bool:
        best = self._best.get(column.key)
        return best is not None and value_of(run, column) == best

    # Qt

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else self._count

    def columnCount(self, parent: AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation is Qt.Orientation.Horizontal and 0 <= section < len(self._columns):
            column = self._columns[section]
            if role == Qt.ItemDataRole.DisplayRole:
                return column.title
            if role == Qt.ItemDataRole.ToolTipRole:
                return column.title or "Shown in the plots"
        return None

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role not in (
            Qt.ItemDataRole.DisplayRole,
            Qt.ItemDataRole.ToolTipRole,
            Qt.ItemDataRole.AccessibleTextRole,
        ):
            return None
        run = self.run_at(index.row())
        if run is None:
            return None
        column = self._columns[index.column()]
        now = time.time()
        if role == Qt.ItemDataRole.ToolTipRole:
            return tooltip_of(run, column, now) or None
        if role == Qt.ItemDataRole.AccessibleTextRole and column.title:
            return f"{column.title}: {self.cell_text(run, column, now)}"
        return self.cell_text(run, column, now)

    # Inside

    def _ask_page(self, page: int) -> None:
        if page in self._asked:
            return
        self._asked.add(page)
        query = self._query
        self._bridge.read(
            lambda history: ask(history, query, offset=page * PAGE),
            self._on_page,
            owner=self,
            failed=lambda error: self._on_error(query, error),
        )

    def _on_page(self, answer: Answer) -> None:
        page = answer.offset // PAGE
        self._asked.discard(page)
        if answer.query != self._query:
            return
        if answer.count != self._count:
            self.refresh()
            return
        self._keep(answer)
        if answer.rows:
            first, last = answer.offset, answer.offset + len(answer.rows) - 1
            self.dataChanged.emit(self.index(first, 0), self.index(last, len(self._columns) - 1))
            self.rows_changed.emit()

    def _on_error(self, query: Query, error: Exception) -> None:
        if not isinstance(error, QueryError):
            self.failed.emit(error)
        elif query == self.wanted:
            self._wanted = None
            self.refused.emit(query, error)

    def _on_answer(self, answer: Answer) -> None:
        if answer.query != self.wanted:
            return
        self._query = answer.query
        self._wanted = None
        old = [self._rows[row].id for row in range(len(self._rows)) if row in self._rows]
        new = [run.id for run in answer.rows]
        if (
            answer.count == self._count
            and old[: len(new)] == new[: len(old)]
            and len(old) >= min(len(new), 1)
        ):
            self._keep(answer)
            if answer.rows:
                self.dataChanged.emit(
                    self.index(0, 0), self.index(len(answer.rows) - 1, len(self._columns) - 1)
                )
        else:
            self.beginResetModel()
            self._rows = {}
            self._place = {}
            self._asked = set()
            self._count = answer.count
            self._keep(answer)
            self.endResetModel()
        self.answered.emit(answer)
        self.rows_changed.emit()

    def _keep(self, answer: Answer) -> None:
        for row, run in enumerate(answer.rows, start=answer.offset):
            self._rows[row] = run
            self._place[run.id] = row
        self._measure()

    def _measure(self) -> None:
        runs = list(self._rows.values())
        for column in self._columns:
            if column.kind is Kind.METRIC:
                values = [value for run in runs if (value := value_of(run, column)) is not None]
                self._decimals[column.key] = decimals_of(values)
                self._best[column.key] = best_value(runs, column)

    def ids(self, rows: Collection[int]) -> list[str]:
        return [self._rows[row].id for row in sorted(rows) if row in self._rows]
