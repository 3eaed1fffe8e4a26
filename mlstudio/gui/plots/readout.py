"""The docked readout: what every curve says at the crosshair, or now; sorted by the plot under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.figures import NONE, number_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.dot import draw_run_dot

_LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
COLUMN = 74


@dataclass(frozen=True, slots=True)
class ReadoutRow:
    run_id: str
    name: str
    colour: int
    values: tuple[float | None, ...]


class Readout(QWidget):
    """Rows 22 px high: a run's dot and name, then a value for each plot. Rows keep their places while nothing hovers."""

    row_hovered = Signal(object)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._title, self._detail = "Last values", ""
        self._columns: tuple[str, ...] = ()
        self._sorted_by = -1
        self._rows: tuple[ReadoutRow, ...] = ()
        self._hovered = -1
        self.setMouseTracking(True)
        self.setMinimumHeight(28 + 2 * theme.length("height.readout_row"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Readout")
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return QSize(320, 28 + 6 * self._theme.length("height.readout_row"))

    def show_rows(
        self,
        title: str,
        detail: str,
        columns: Sequence[str],
        rows: Sequence[ReadoutRow],
        *,
        sorted_by: int = -1,
    ) -> None:
        self._title, self._detail = title, detail
        self._columns = tuple(columns)
        self._rows = tuple(rows)
        self._sorted_by = sorted_by
        self.update()

    def rows(self) -> tuple[ReadoutRow, ...]:
        return self._rows

    @property
    def title(self) -> str:
        return self._title

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        row = (event.position().toPoint().y() - 28) // self._theme.length("height.readout_row")
        row = row if 0 <= row < len(self._rows) else -1
        if row != self._hovered:
            self._hovered = row
            self.row_hovered.emit(self._rows[row].run_id if row >= 0 else None)
            self.update()

    def leaveEvent(self, event: object) -> None:
        self._hovered = -1
        self.row_hovered.emit(None)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.colour("surface.base"))
        head = QRect(0, 0, self.width(), 28)
        painter.fillRect(head, theme.colour("surface.window"))
        painter.fillRect(QRect(0, 27, self.width(), 1), theme.colour("border.default"))
        shown = max(1, min(len(self._columns), (self.width() - 150) // COLUMN))
        columns = self._columns[:shown]
        if self._sorted_by >= shown:
            columns = (*self._columns[: shown - 1], self._columns[self._sorted_by])
        places = [self._columns.index(name) for name in columns]
        right = self.width() - 12
        lefts = [right - COLUMN * (len(places) - index) for index in range(len(places))]
        bold = theme.font("small", weight="medium")
        short = _short_names(self._columns)
        painter.setFont(bold)
        painter.setPen(theme.colour("text.primary"))
        title_rect = head.adjusted(12, 0, 0, 0)
        painter.drawText(title_rect, _LEFT, self._title)
        used = QFontMetrics(bold).horizontalAdvance(self._title) + 8
        small = theme.font("small")
        painter.setFont(small)
        painter.setPen(theme.colour("text.tertiary"))
        room = (lefts[0] if lefts else right) - 12 - used
        painter.drawText(
            title_rect.adjusted(used, 0, 0, 0),
            _LEFT,
            QFontMetrics(small).elidedText(self._detail, Qt.TextElideMode.ElideRight, max(0, room)),
        )
        for place, left in zip(places, lefts, strict=True):
            on = place == self._sorted_by
            painter.setFont(bold if on else small)
            painter.setPen(theme.colour("text.primary" if on else "text.secondary"))
            name = QFontMetrics(bold).elidedText(short[place], Qt.TextElideMode.ElideMiddle, COLUMN - 8)
            painter.drawText(QRect(left, 0, COLUMN, 28), _RIGHT, name)
        self._paint_rows(painter, places, lefts)

    def _paint_rows(self, painter: QPainter, places: list[int], lefts: list[int]) -> None:
        theme = self._theme
        height = theme.length("height.readout_row")
        body = theme.font("small")
        metrics = QFontMetrics(body)
        painter.setFont(body)
        top = 28
        for number, row in enumerate(self._rows):
            if top > self.height():
                break
            rect = QRect(0, top, self.width(), height)
            if number == self._hovered:
                painter.fillRect(rect, theme.colour("surface.hover"))
            painter.fillRect(QRect(0, rect.bottom(), self.width(), 1), theme.colour("border.subtle"))
            draw_run_dot(painter, theme, row.colour, QPoint(16, rect.center().y()))
            room = (lefts[0] if lefts else self.width()) - 34
            painter.setPen(theme.colour("text.primary"))
            name = metrics.elidedText(row.name, Qt.TextElideMode.ElideMiddle, max(20, room))
            painter.drawText(rect.adjusted(26, 0, 0, 0), _LEFT, name)
            for place, left in zip(places, lefts, strict=True):
                value = row.values[place]
                painter.setPen(theme.colour("text.primary" if value is not None else "text.tertiary"))
                text = NONE if value is None else number_text(value)
                painter.drawText(QRect(left, top, COLUMN, height), _RIGHT, text)
            top += height


def _short_names(names: Sequence[str]) -> list[str]:
    """Names without their prefix where that says enough: ``train/grad_norm`` → ``grad_norm``."""
    last = [name.rpartition("/")[2] for name in names]
    return [
        short if last.count(short) == 1 else name.replace("/", " ")
        for name, short in zip(names, last, strict=True)
    ]
