"""The run table as it is seen: rows painted by hand, a header with the sorted column, keys and the eye toggle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from PySide6.QtCore import (
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QRectF,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import (
    QFontMetrics,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from mlstudio.gui.figures import duration_text
from mlstudio.gui.pages.runs.columns import Column, Kind, host_words, progress_words, state_key, value_of
from mlstudio.gui.pages.runs.table import RunTable
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.dot import draw_run_dot
from mlstudio.model.run import RunState, RunSummary

_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
PAD = 8
_GIVES_WAY = (Kind.TAGS, Kind.STARTED, Kind.HOST)


class RunDelegate(QStyledItemDelegate):
    """Paints cells from the run itself; nothing is asked of the model but the run."""

    def __init__(self, theme: Theme, table: RunTable, view: RunView) -> None:
        super().__init__(view)
        self._theme = theme
        self._table = table
        self._view = view
        self._body = theme.font("body")
        self._small = theme.font("small")
        self._bold = theme.font("body", weight="semibold")
        self._metrics = QFontMetrics(self._body)
        self._small_metrics = QFontMetrics(self._small)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(80, self._theme.length("height.row"))

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        theme = self._theme
        rect: QRect = option.rect
        row = index.row()
        selected = self._view.selectionModel().isRowSelected(row, QModelIndex())
        if selected:
            painter.fillRect(rect, theme.colour("surface.selected"))
        elif row == self._view.hovered_row:
            painter.fillRect(rect, theme.colour("surface.hover"))
        painter.fillRect(QRect(rect.left(), rect.bottom(), rect.width(), 1), theme.colour("border.subtle"))
        run = self._table.run_at(row)
        column = self._table.columns[index.column()]
        if run is not None:
            self._paint_cell(painter, rect, run, column)
        elif column.kind is Kind.NAME:
            painter.setPen(theme.colour("text.tertiary"))
            painter.setFont(self._body)
            painter.drawText(rect.adjusted(PAD, 0, -PAD, 0), _LEFT, "…")
        if self._view.hasFocus() and self._view.currentIndex().row() == row:
            self._paint_ring(painter, rect, index.column())

    def _paint_cell(self, painter: QPainter, rect: QRect, run: RunSummary, column: Column) -> None:
        theme = self._theme
        hidden = self._view.is_hidden(run.id)
        inner = rect.adjusted(PAD, 0, -PAD, -1)
        now = time.time()
        match column.kind:
            case Kind.DOT:
                centre = QPoint(rect.center().x(), rect.center().y())
                draw_run_dot(painter, theme, run.colour, centre, hidden=hidden)
            case Kind.NAME:
                self._text(painter, inner, run.name, "text.tertiary" if hidden else "text.primary")
            case Kind.STATE:
                icon, word, colour = theme.state(state_key(run))
                side = theme.length("icon.state")
                box = QRectF(inner.left(), inner.center().y() - side / 2 + 0.5, side, side)
                theme.draw_icon(painter, icon, box, colour)
                self._text(painter, inner.adjusted(side + 6, 0, 0, 0), word, "text.secondary")
            case Kind.PROGRESS:
                self._paint_progress(painter, inner, run, now)
            case Kind.METRIC:
                value = value_of(run, column)
                text = self._table.cell_text(run, column, now)
                tone = "text.tertiary" if hidden or value is None else "text.primary"
                if value is not None and math.isnan(value):
                    tone = "status.error"
                self._text(
                    painter,
                    inner,
                    text,
                    tone,
                    align=_RIGHT,
                    bold=self._table.is_best(run, column) and not hidden,
                )
            case Kind.PARAMETER:
                text = self._table.cell_text(run, column, now)
                self._text(
                    painter, inner, text, "text.tertiary" if hidden else "text.secondary", align=_RIGHT
                )
            case Kind.HOST:
                host, gpus = host_words(run)
                self._text(painter, inner, host, "text.secondary" if hidden else "text.primary")
                used = self._metrics.horizontalAdvance(host) + 5
                self._text(painter, inner.adjusted(used, 0, 0, 0), gpus, "text.tertiary")
            case Kind.DURATION:
                text = duration_text(run.duration_s(now))
                self._text(painter, inner, text, "text.secondary", align=_RIGHT)
            case Kind.STARTED | Kind.TAGS:
                self._text(painter, inner, self._table.cell_text(run, column, now), "text.secondary")

    def _paint_progress(self, painter: QPainter, inner: QRect, run: RunSummary, now: float) -> None:
        theme = self._theme
        progress = run.progress
        if run.state is RunState.RUNNING and progress is not None and run.desired != "stopped":
            width = max(24, min(58, inner.width() // 2))
            bar = QRect(inner.left(), inner.center().y() - 1, width, theme.length("height.gauge_thin"))
            painter.fillRect(bar, theme.colour("gauge.track"))
            done = QRect(bar.left(), bar.top(), round(bar.width() * progress.fraction), bar.height())
            painter.fillRect(done, theme.colour("accent.text"))
            words = (
                duration_text(progress.eta_s) if progress.eta_s is not None else f"{progress.fraction:.0%}"
            )
            rest = inner.adjusted(width + 8, 0, 0, 0)
            self._text(painter, rest, words, "text.secondary", align=_RIGHT, small=True)
            return
        words, tone = progress_words(run, now)
        self._text(painter, inner, words, tone, small=True)

    def _text(
        self,
        painter: QPainter,
        rect: QRect,
        text: str,
        tone: str,
        *,
        align: int = _LEFT,
        small: bool = False,
        bold: bool = False,
    ) -> None:
        metrics = self._small_metrics if small else self._metrics
        painter.setFont(self._bold if bold else self._small if small else self._body)
        painter.setPen(self._theme.colour(tone))
        if rect.width() > 4:
            painter.drawText(rect, align, metrics.elidedText(text, Qt.TextElideMode.ElideRight, rect.width()))

    def _paint_ring(self, painter: QPainter, rect: QRect, column: int) -> None:
        painter.save()
        ring = self._theme.colour("focus.ring")
        painter.fillRect(QRect(rect.left(), rect.top(), rect.width(), 2), ring)
        painter.fillRect(QRect(rect.left(), rect.bottom() - 1, rect.width(), 2), ring)
        header = self._view.horizontalHeader()
        place = header.visualIndex(column)
        if place == 0:
            painter.fillRect(QRect(rect.left(), rect.top(), 2, rect.height()), ring)
        if place == header.count() - 1:
            painter.fillRect(QRect(rect.right() - 1, rect.top(), 2, rect.height()), ring)
        painter.restore()


class RunHeader(QHeaderView):
    """Column titles: small, grey; the sorted one dark with an arrow; numbers right-aligned."""

    def __init__(self, theme: Theme, view: RunView) -> None:
        super().__init__(Qt.Orientation.Horizontal, view)
        self._theme = theme
        self._view = view
        self.setFixedHeight(theme.length("height.header"))
        self.setSectionsClickable(True)
        self.setSectionsMovable(True)
        self.setHighlightSections(False)
        self.setMinimumSectionSize(28)
        self.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.setAccessibleName("Columns")

    def paintSection(self, painter: QPainter, rect: QRect, logical: int) -> None:
        theme = self._theme
        painter.fillRect(rect, theme.colour("surface.window"))
        painter.fillRect(QRect(rect.left(), rect.bottom(), rect.width(), 1), theme.colour("border.default"))
        columns = self._view.table.columns
        if logical >= len(columns):
            return
        column = columns[logical]
        if column.kind is Kind.DOT:
            box = QRectF(rect.center().x() - 7, rect.center().y() - 7, 14, 14)
            theme.draw_icon(painter, "ph.eye", box, "text.tertiary")
            return
        query = self._view.table.query
        is_sorted = bool(column.order) and query.order_by == column.order
        font = theme.font("small", weight="medium" if is_sorted else "regular")
        metrics = QFontMetrics(font)
        painter.setFont(font)
        painter.setPen(theme.colour("text.primary" if is_sorted else "text.secondary"))
        inner = rect.adjusted(PAD, 0, -PAD, -1)
        room = inner.width() - (14 if is_sorted else 0)
        text = metrics.elidedText(column.title, Qt.TextElideMode.ElideMiddle, max(10, room))
        width = metrics.horizontalAdvance(text)
        if column.is_number:
            right = inner.adjusted(0, 0, -14, 0) if is_sorted else inner
            painter.drawText(right, _RIGHT, text)
            arrow_left = inner.right() - 10
        else:
            painter.drawText(inner, _LEFT, text)
            arrow_left = inner.left() + width + 4
        if is_sorted:
            icon = "ph.caret-down-fill" if query.descending else "ph.caret-up-fill"
            theme.draw_icon(
                painter, icon, QRectF(arrow_left, inner.center().y() - 4.5, 10, 10), "text.primary"
            )


class RunView(QTableView):
    """The table. Enter or a double click opens a run, Space hides it from the plots or shows it again."""

    run_opened = Signal(str)
    eye_toggled = Signal(str)
    row_hovered = Signal(object)
    """A run id, or None."""
    chosen_changed = Signal()
    sort_asked = Signal(object)
    """The `Column` whose title was clicked."""

    def __init__(self, theme: Theme, table: RunTable, is_hidden: Callable[[str], bool]) -> None:
        super().__init__()
        self.table = table
        self.is_hidden = is_hidden
        self.hovered_row = -1
        self._theme = theme
        self._keep: list[str] = []
        self._current_id = ""
        self._pressed_id = ""
        self.setAccessibleName("Runs")
        header = RunHeader(theme, self)
        self.setHorizontalHeader(header)
        self.setModel(table)
        self.setItemDelegate(RunDelegate(theme, table, self))
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(theme.length("height.row"))
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.setShowGrid(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setMouseTracking(True)
        self.setWordWrap(False)
        self.setFrameShape(self.Shape.NoFrame)
        header.sectionClicked.connect(self._on_title_clicked)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen_changed.emit())
        table.modelAboutToBeReset.connect(self._remember)
        table.modelReset.connect(self._recall)
        self.fit_columns()

    def chosen_ids(self) -> list[str]:
        """Ids of the selected runs, in the table's order."""
        return self.table.ids([index.row() for index in self.selectionModel().selectedRows()])

    def current_id(self) -> str:
        run = self.table.run_at(self.currentIndex().row())
        return run.id if run is not None else ""

    def choose(self, run_id: str) -> None:
        row = self.table.row_of(run_id)
        if row is not None:
            self.selectRow(row)

    def fit_columns(self) -> None:
        """Give columns their widths and the name what is left; what least needs to be seen goes where room lacks."""
        columns = self.table.columns
        header = self.horizontalHeader()
        room = self.viewport().width()
        needed = sum(column.width for column in columns)
        gone: set[int] = set()
        for kind in _GIVES_WAY:
            for place in range(len(columns) - 1, -1, -1):
                if needed > room and columns[place].kind is kind:
                    gone.add(place)
                    needed -= columns[place].width
        for place, column in enumerate(columns):
            header.setSectionHidden(place, place in gone)
            spare = max(0, room - needed) if column.kind is Kind.NAME else 0
            header.resizeSection(place, column.width + spare)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_columns()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        run_id = self.current_id()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and run_id:
            self.run_opened.emit(run_id)
        elif event.key() == Qt.Key.Key_Space and run_id:
            self.eye_toggled.emit(run_id)
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = self.indexAt(event.position().toPoint())
        run = self.table.run_at(index.row()) if index.isValid() else None
        self._pressed_id = run.id if run is not None else ""
        if index.isValid() and self.table.columns[index.column()].kind is Kind.DOT:
            if run is not None:
                self.eye_toggled.emit(run.id)
            return
        super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        # Qt's own takes no double click if the model was reset between the two, as it is while runs go on.
        index = self.indexAt(event.position().toPoint())
        run = self.table.run_at(index.row()) if index.isValid() else None
        is_eye = run is None or self.table.columns[index.column()].kind is Kind.DOT
        if run is not None and not is_eye and run.id == self._pressed_id:
            self.run_opened.emit(run.id)
        else:
            self.mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        self._hover(self.rowAt(event.position().toPoint().y()))

    def leaveEvent(self, event: object) -> None:
        super().leaveEvent(event)  # type: ignore[arg-type]
        self._hover(-1)

    def _hover(self, row: int) -> None:
        if row != self.hovered_row:
            self.hovered_row = row
            self.viewport().update()
            run = self.table.run_at(row) if row >= 0 else None
            self.row_hovered.emit(run.id if run is not None else None)

    def _on_title_clicked(self, section: int) -> None:
        self.sort_asked.emit(self.table.columns[section])

    def _remember(self) -> None:
        self._keep = self.chosen_ids()
        run = self.table.run_at(self.currentIndex().row())
        self._current_id = run.id if run is not None else ""

    def _recall(self) -> None:
        model = self.selectionModel()
        flags = QItemSelectionModel.SelectionFlag
        current = self.table.row_of(self._current_id)
        if current is not None:
            model.setCurrentIndex(self.table.index(current, 1), flags.NoUpdate)
        for run_id in self._keep:
            row = self.table.row_of(run_id)
            if row is not None:
                model.select(self.table.index(row, 0), flags.Select | flags.Rows)
        self.fit_columns()
