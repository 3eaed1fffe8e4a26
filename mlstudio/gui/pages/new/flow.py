"""Widgets in rows that break where the width ends, and a grid of parameters that follows the width."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRect, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget


def tab_before(place: QWidget, widgets: Sequence[QWidget]) -> None:
    """Let the Tab key go through these widgets right before `place`: what is made later would come last."""
    for widget in widgets:
        previous = place.previousInFocusChain()
        # Qt orders only what takes the keyboard at all.
        while previous is not None and previous.focusPolicy() == Qt.FocusPolicy.NoFocus:
            previous = previous.previousInFocusChain()
        if previous is not None and previous is not widget:
            QWidget.setTabOrder(previous, widget)


class Flow(QWidget):
    """Widgets of their own size, side by side, `gap` px apart, in as many rows as they need."""

    def __init__(self, *, gap: int = 8) -> None:
        super().__init__()
        self._gap = gap
        self._items: list[QWidget] = []
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizePolicy(policy)

    def add(self, widget: QWidget) -> None:
        widget.setParent(self)
        self._items.append(widget)
        widget.show()
        self._arrange()

    def sizeHint(self) -> QSize:
        return QSize(200, self._place(max(self.width(), 200), move=False))

    def minimumSizeHint(self) -> QSize:
        return QSize(80, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        height = self._place(max(self.width(), 80), move=True)
        if height != self.height():
            self.setFixedHeight(height)

    def _place(self, width: int, *, move: bool) -> int:
        x = y = row = 0
        for item in self._items:
            size = item.sizeHint()
            if x and x + size.width() > width:
                x, y, row = 0, y + row + self._gap, 0
            if move:
                item.setGeometry(QRect(x, y, size.width(), size.height()))
            x += size.width() + self._gap
            row = max(row, size.height())
        return y + row


class Columns(QWidget):
    """Cells of equal width in one to three columns, as many as fit with `narrowest` px each."""

    def __init__(self, *, narrowest: int = 250, gap: int = 16, row_gap: int = 8) -> None:
        super().__init__()
        self._narrowest, self._gap, self._row_gap = narrowest, gap, row_gap
        self._cells: list[QWidget] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_narrowest(self, width: int) -> None:
        """The width that a cell needs; takes effect with the next cells."""
        self._narrowest = width

    def set_cells(self, cells: list[QWidget]) -> None:
        """Show these cells instead of the ones before, which are deleted."""
        for cell in self._cells:
            cell.hide()
            cell.deleteLater()
        self._cells = cells
        for cell in cells:
            cell.setParent(self)
            cell.show()
        self._arrange()

    def cells(self) -> list[QWidget]:
        return list(self._cells)

    def refresh(self) -> None:
        """Arrange again: a cell's height has changed."""
        self._arrange()

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        width = max(self.width(), 120)
        count = max(1, min(3, (width + self._gap) // (self._narrowest + self._gap)))
        cell_width = (width - (count - 1) * self._gap) // count
        y = 0
        for begin in range(0, len(self._cells), count):
            row = self._cells[begin : begin + count]
            height = max(cell.sizeHint().height() for cell in row)
            for column, cell in enumerate(row):
                cell.setGeometry(QRect(column * (cell_width + self._gap), y, cell_width, height))
            y += height + self._row_gap
        height = max(0, y - self._row_gap)
        if height != self.height():
            self.setFixedHeight(height)
