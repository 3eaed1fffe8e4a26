"""A run's mark, everywhere the same."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme


def draw_run_dot(
    painter: QPainter, theme: Theme, colour: int, centre: QPoint, *, hidden: bool = False, size: int = 8
) -> None:
    """A dot in the run's colour (square, triangle, diamond on later laps), a hollow grey ring when hidden."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if hidden:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(theme.colour("border.field"), 1.2))
    else:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.run_colour(colour))
    half = size / 2
    x, y = centre.x() + 0.5, centre.y() + 0.5
    box = QRectF(x - half, y - half, size, size)
    symbol = theme.run_lap(colour).symbol
    if symbol == "s":
        painter.drawRect(box)
    elif symbol == "t1":
        painter.drawPolygon(QPolygonF([box.bottomLeft(), box.bottomRight(), QPointF(x, y - half)]))
    elif symbol == "d":
        painter.drawPolygon(
            QPolygonF(
                [QPointF(x, y - half), QPointF(x + half, y), QPointF(x, y + half), QPointF(x - half, y)]
            )
        )
    else:
        painter.drawEllipse(box)
    painter.restore()


class RunDot(QWidget):
    """The mark as a widget, for headers."""

    def __init__(self, theme: Theme, *, size: int = 10) -> None:
        super().__init__()
        self._theme = theme
        self._size = size
        self._colour = 0
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def set_colour(self, index: int) -> None:
        self._colour = index
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(self._size + 4, self._size + 4)

    def paintEvent(self, event: QPaintEvent) -> None:
        draw_run_dot(QPainter(self), self._theme, self._colour, self.rect().center(), size=self._size)
