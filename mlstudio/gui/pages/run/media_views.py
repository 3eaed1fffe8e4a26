"""Views of one medium each: pictures, a histogram, text, a table, sounds, or a sentence why nothing is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QFontMetrics, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QPlainTextEdit,
    QSizePolicy,
    QStackedWidget,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from mlstudio.gui.figures import count_text, number_text
from mlstudio.gui.pages.run.media_content import (
    Content,
    Histogram,
    Picture,
    Rows,
    Sound,
    Unshown,
    Words,
    size_words,
)
from mlstudio.gui.plots.plot import Curve, CurvePlot
from mlstudio.gui.plots.source import CurveData
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.form import Line
from mlstudio.gui.widgets.panes import Pane, Scroll
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.run import MediaItem

LARGEST_FACTOR = 12
"""Small images are enlarged, pixel by pixel, at most so many times."""
MOST_PICTURES = 48
_CENTRE = int(Qt.AlignmentFlag.AlignCenter)
_AnyIndex = QModelIndex | QPersistentModelIndex
Shown = tuple[MediaItem, Content]


class PictureView(QWidget):
    """An image as large as its place allows, its caption below; or the sentence that stands for it."""

    def __init__(self, theme: Theme, item: MediaItem, content: Content) -> None:
        super().__init__()
        self._theme = theme
        self._image: QImage | None = content.image if isinstance(content, Picture) else None
        self._why = content.why if isinstance(content, Unshown) else ""
        size = f"{content.full.width()} × {content.full.height()}" if isinstance(content, Picture) else ""
        if isinstance(content, Picture) and content.frames > 1:
            size += ", the first picture of an animation"
        self.caption = "   ".join(part for part in (item.caption, size) if part)
        self.setAccessibleName(self._why or f"Image {item.name}, step {item.step}. {self.caption}")
        self.setToolTip(self.caption)
        self.setMinimumSize(96, 96)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @property
    def why(self) -> str:
        return self._why

    def sizeHint(self) -> QSize:
        return QSize(320, 240)

    def picture_rect(self) -> QRect:
        """Where the image is painted."""
        room = self.rect().adjusted(0, 0, 0, -20)
        if self._image is None:
            return QRect()
        ratio = min(room.width() / self._image.width(), room.height() / self._image.height())
        ratio = min(ratio, LARGEST_FACTOR)
        if ratio > 1:
            ratio = math.floor(ratio) if ratio >= 2 else 1
        width, height = (
            max(1, round(self._image.width() * ratio)),
            max(1, round(self._image.height() * ratio)),
        )
        return QRect(
            room.left() + (room.width() - width) // 2,
            room.top() + (room.height() - height) // 2,
            width,
            height,
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        if self._image is None:
            painter.setFont(theme.font("small"))
            painter.setPen(theme.colour("text.secondary"))
            room = self.rect().adjusted(8, 8, -8, -8)
            painter.drawText(room, _CENTRE | int(Qt.TextFlag.TextWordWrap), self._why)
            return
        where = self.picture_rect()
        is_smaller = where.width() < self._image.width()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, is_smaller)
        if self._image.hasAlphaChannel():
            painter.fillRect(where, theme.colour("surface.base"))
        painter.drawImage(where, self._image)
        painter.setPen(theme.colour("border.default"))
        painter.drawRect(where.adjusted(-1, -1, 0, 0))
        painter.setFont(theme.font("micro"))
        painter.setPen(theme.colour("text.tertiary"))
        below = QRect(0, where.bottom() + 4, self.width(), 16)
        words = QFontMetrics(painter.font()).elidedText(
            self.caption, Qt.TextElideMode.ElideRight, self.width()
        )
        painter.drawText(below, _CENTRE, words)


class PictureGrid(QWidget):
    """The images of one step, side by side."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(16, 16, 16, 12)
        self._grid.setSpacing(12)
        self._views: list[PictureView] = []

    def views(self) -> list[PictureView]:
        return list(self._views)

    def show_all(self, shown: Sequence[Shown]) -> None:
        for view in self._views:
            self._grid.removeWidget(view)
            view.deleteLater()
        columns = max(1, math.ceil(math.sqrt(len(shown))))
        self._views = [PictureView(self._theme, item, content) for item, content in shown]
        for place, view in enumerate(self._views):
            self._grid.addWidget(view, place // columns, place % columns)


class HistogramView(QWidget):
    """Counts over values, drawn as one filled outline; the bin under the pointer is told below."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._content: Histogram | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.setSpacing(6)
        self.plot = CurvePlot(theme, title="Count by value")
        self.plot.set_y_limits(0.0, None)
        self.plot.hovered.connect(self._on_hovered)
        column.addWidget(self.plot, 1)
        self.words = Label("", theme, tone="secondary", size="small")
        column.addWidget(self.words)

    def show_histogram(self, item: MediaItem, content: Histogram, *, colour: int) -> None:
        self._content = content
        x, y = outline(content)
        data = CurveData(f"{item.id}", x, y, None, None, y.size, None)
        self.plot.set_title(f"Step {item.step:,}", detail=count_text(content.counts.size, "bin"))
        self.plot.set_x_range(None)
        self.plot.set_curves([Curve(data, colour, is_area=True)])
        self.plot.show_crosshair(None)
        self._say_all()

    def _say_all(self) -> None:
        found = self._content
        if found is None:
            return
        total = found.more.get("num", float(found.counts.sum()))
        low, high = (
            found.more.get("min", float(found.edges[0])),
            found.more.get("max", float(found.edges[-1])),
        )
        parts = [f"{number_text(total)} values", f"from {number_text(low)} to {number_text(high)}"]
        if total and "sum" in found.more:
            parts.append(f"mean {number_text(found.more['sum'] / total)}")
        self.words.setText(", ".join(parts))

    def _on_hovered(self, x: float | None) -> None:
        self.plot.show_crosshair(x, chip=True)
        found = self._content
        if x is None or found is None or not found.edges[0] <= x <= found.edges[-1]:
            self._say_all()
            return
        place = min(int(np.searchsorted(found.edges, x, side="right")) - 1, found.counts.size - 1)
        low, high = number_text(float(found.edges[place])), number_text(float(found.edges[place + 1]))
        self.words.setText(f"{number_text(float(found.counts[place]))} values from {low} to {high}")


def outline(content: Histogram) -> tuple[Any, Any]:
    """The line around the bars, from the ground and back to it."""
    edges, counts = content.edges, content.counts
    x = np.repeat(edges, 2)
    y = np.concatenate(([0.0], np.repeat(counts, 2), [0.0]))
    return x, y


class WordsView(QPlainTextEdit):
    """Text that can be selected and copied, never interpreted."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("code", "true")
        self.setReadOnly(True)
        self.setFont(theme.mono())
        self.setAccessibleName("Logged text")
        self.setUndoRedoEnabled(False)
        self.document().setDocumentMargin(16)

    def show_all(self, shown: Sequence[Shown]) -> None:
        parts = []
        for item, content in shown:
            if isinstance(content, Words):
                text = content.text + ("\n… (cut; it can be saved whole)" if content.is_cut else "")
                parts.append(f"{item.caption}\n{text}" if item.caption else text)
            elif isinstance(content, Unshown):
                parts.append(content.why)
        self.setPlainText("\n\n".join(parts))


class _RowsModel(QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self._rows = Rows((), (), 0)

    def set_rows(self, rows: Rows) -> None:
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def rowCount(self, parent: _AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows.rows)

    def columnCount(self, parent: _AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows.columns)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return self._rows.columns[section] if orientation is Qt.Orientation.Horizontal else section + 1

    def data(self, index: _AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        text = self._rows.rows[index.row()][index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return text
        if role == Qt.ItemDataRole.ToolTipRole and len(text) > 30:
            return text
        if role == Qt.ItemDataRole.TextAlignmentRole and _is_number(text):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


class RowsView(QWidget):
    """A table as it was logged."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.model = _RowsModel()
        self.table = QTableView()
        self.table.setAccessibleName("Logged table")
        self.table.setModel(self.model)
        self.table.setFont(theme.font("body"))
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setTabKeyNavigation(False)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows = self.table.verticalHeader()
        rows.setDefaultSectionSize(theme.length("height.row_compact"))
        rows.setFont(theme.font("micro"))
        titles = self.table.horizontalHeader()
        titles.setFont(theme.font("small"))
        titles.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        titles.setHighlightSections(False)
        titles.setMaximumSectionSize(420)
        column.addWidget(self.table, 1)
        self.words = Label("", theme, tone="secondary", size="small")
        self.words.setContentsMargins(16, 6, 16, 6)
        column.addWidget(self.words)

    def show_rows(self, rows: Rows) -> None:
        self.model.set_rows(rows)
        self.table.resizeColumnsToContents()
        words = f"{count_text(rows.total, 'row')}, {count_text(len(rows.columns), 'column')}"
        if rows.total > len(rows.rows):
            words += f"; the first {len(rows.rows):,} are shown"
        self.words.setText(words)


class SoundList(QWidget):
    """A row for each sound of a step: what it is, and buttons to play it outside or to save it."""

    def __init__(self, theme: Theme, *, play: Callable[[MediaItem], None]) -> None:
        super().__init__()
        self._theme = theme
        self._play = play
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(24, 20, 24, 24)
        self._column.setSpacing(8)

    def show_all(self, shown: Sequence[Shown]) -> None:
        while self._column.count():
            found = self._column.takeAt(0)
            widget = found.widget() if found is not None else None
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        for item, content in shown:
            self._column.addWidget(self._row(item, content))
            self._column.addWidget(Line())
        self._column.addStretch(1)

    def _row(self, item: MediaItem, content: Content) -> QWidget:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(12)
        ending = content.ending if isinstance(content, Sound) else ""
        kind = ending.upper() if ending else "not a known kind of sound"
        words = CutLabel(item.caption or item.name, self._theme)
        line.addWidget(words)
        line.addWidget(Label(f"{kind}, {size_words(item)}", self._theme, tone="tertiary", size="small"))
        line.addStretch(1)
        play = Button("Play", self._theme, icon="ph.play")
        play.setAccessibleName(f"Play {item.caption or item.name}")
        play.setEnabled(bool(ending))
        play.setToolTip(
            "Opens it in the program that plays such files"
            if ending
            else "It does not begin like a sound, so no other program is given it; it can be saved"
        )
        play.clicked.connect(lambda: self._play(item))
        line.addWidget(play)
        return row


class MediaView(QStackedWidget):
    """The media of one step, in the view that fits their kind."""

    def __init__(self, theme: Theme, *, play: Callable[[MediaItem], None]) -> None:
        super().__init__()
        self.pictures = PictureGrid(theme)
        self.histogram = HistogramView(theme)
        self.text = WordsView(theme)
        self.rows = RowsView(theme)
        self.sounds = SoundList(theme, play=play)
        self.nothing = Label("", theme, tone="secondary", wrap=True, selectable=True)
        self.nothing.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.nothing.setContentsMargins(24, 24, 24, 24)
        for view in (self.pictures, self.histogram, self.text, self.rows, self.nothing):
            ground = Pane(ground="base")
            ground.column.addWidget(view, 1)
            self.addWidget(ground)
        self.addWidget(Scroll(self.sounds))

    @property
    def current(self) -> QWidget:
        """The view that is seen."""
        views = (self.pictures, self.histogram, self.text, self.rows, self.nothing, self.sounds)
        return views[self.currentIndex()]

    def show_all(self, shown: Sequence[Shown], *, colour: int) -> None:
        """Show what was logged at one step under one name; all are of one kind. `colour` is the run's."""
        item, content = shown[-1]
        if item.kind == "image":
            self.pictures.show_all(shown[:MOST_PICTURES])
            self.setCurrentIndex(0)
        elif item.kind == "audio":
            self.sounds.show_all(shown)
            self.setCurrentIndex(5)
        elif item.kind == "text":
            self.text.show_all(shown)
            self.setCurrentIndex(2)
        elif isinstance(content, Histogram):
            self.histogram.show_histogram(item, content, colour=colour)
            self.setCurrentIndex(1)
        elif isinstance(content, Rows):
            self.rows.show_rows(content)
            self.setCurrentIndex(3)
        else:
            self.say(content.why if isinstance(content, Unshown) else "")

    def say(self, words: str) -> None:
        self.nothing.setText(words)
        self.setCurrentIndex(4)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
