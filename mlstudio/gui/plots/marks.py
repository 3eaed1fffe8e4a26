"""What stands in a plot beside its curves: grid, marked bands, crosshair, and the box that zooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPen

if TYPE_CHECKING:
    from mlstudio.gui.plots.plot import CurvePlot

BAND_ALPHA = 0.18
LEAST_BAND = 3
"""Pixels."""


class Grid(pg.GraphicsObject):  # type: ignore[misc]  # pyqtgraph has no type information
    """Lines at the labelled ticks, both ways."""

    def __init__(self, plot: CurvePlot) -> None:
        super().__init__()
        self._plot = plot
        self.setZValue(-10)

    def boundingRect(self) -> QRectF:
        return QRectF(self.viewRect())

    def viewRangeChanged(self) -> None:
        self.prepareGeometryChange()

    def paint(self, painter: QPainter, *_: object) -> None:
        box = self.viewRect()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        pen = QPen(self._plot.theme.colour("plot.grid"), 0)
        pen.setCosmetic(True)
        painter.setPen(pen)
        for tick in self._plot.x_ticks():
            painter.drawLine(QPointF(tick.place, box.top()), QPointF(tick.place, box.bottom()))
        for tick in self._plot.y_ticks():
            painter.drawLine(QPointF(box.left(), tick.place), QPointF(box.right(), tick.place))


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of x that is marked, with the sentence that tells why."""

    low: float
    high: float
    words: str


class Bands(pg.GraphicsObject):  # type: ignore[misc]  # pyqtgraph has no type information
    """Light bands from the top to the bottom; a short one is still seen."""

    def __init__(self, plot: CurvePlot) -> None:
        super().__init__()
        self._plot = plot
        self.setZValue(-9)

    def boundingRect(self) -> QRectF:
        return QRectF(self.viewRect())

    def viewRangeChanged(self) -> None:
        self.prepareGeometryChange()

    def paint(self, painter: QPainter, *_: object) -> None:
        box = self.viewRect()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        colour = QColor(self._plot.theme.colour("text.tertiary"))
        colour.setAlphaF(BAND_ALPHA)
        least = self._plot.pixel_width() * LEAST_BAND
        for band in self._plot.bands():
            width = max(band.high - band.low, least)
            left = (band.low + band.high - width) / 2
            painter.fillRect(QRectF(left, box.top(), width, box.height()), colour)


class Crosshair(pg.InfiniteLine):  # type: ignore[misc]  # pyqtgraph has no type information
    """A vertical line that lies on whole pixels."""

    def paint(self, painter: QPainter, *_: object) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        left, right = self._endPoints
        painter.setPen(self.currentPen)
        painter.drawLine(QPointF(left, 0), QPointF(right, 0))


class Box(pg.ViewBox):  # type: ignore[misc]  # pyqtgraph has no type information
    """Dragging zooms into a box, a double click shows all, the wheel belongs to the page unless Ctrl is held."""

    zoomed = Signal()
    reset = Signal()
    clicked = Signal(float)

    def __init__(self) -> None:
        super().__init__(enableMenu=False, border=None)
        self.setMouseMode(pg.ViewBox.RectMode)
        self.disableAutoRange()
        self.setDefaultPadding(0)

    def mouseDoubleClickEvent(self, event: QEvent) -> None:
        event.accept()
        self.reset.emit()

    def mouseClickEvent(self, event: object) -> None:
        place = self.mapSceneToView(event.scenePos())  # type: ignore[attr-defined]
        self.clicked.emit(place.x())

    def mouseDragEvent(self, event: object, axis: object = None) -> None:
        super().mouseDragEvent(event, axis)
        if event.isFinish():  # type: ignore[attr-defined]
            self.zoomed.emit()

    def wheelEvent(self, event: object, axis: object = None) -> None:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:  # type: ignore[attr-defined]
            super().wheelEvent(event, axis)
            self.zoomed.emit()
        else:
            event.ignore()  # type: ignore[attr-defined]
