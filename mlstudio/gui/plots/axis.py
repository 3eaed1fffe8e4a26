"""The x axis of a column of plots: it stays in view while the plots above it scroll."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.plots.ticks import Scale, place_text, ticks_between
from mlstudio.gui.theme.theme import Theme


class AxisBar(QWidget):
    """Labels of an x range, and the crosshair's x as an inverted chip."""

    def __init__(self, theme: Theme, *, left: int) -> None:
        super().__init__()
        self._theme = theme
        self._left = left
        self._range = (0.0, 1.0)
        self._scale = Scale.NUMBER
        self._crosshair: float | None = None
        self._scroll_bar = 0
        self.setFixedHeight(theme.length("plot.axis_height") + 2)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_range(self, extent: tuple[float, float], scale: Scale, *, right: int) -> None:
        """`right` is what the plots leave free at their right, a scroll bar included."""
        self._range, self._scale, self._scroll_bar = extent, scale, right
        self.update()

    def show_crosshair(self, x: float | None) -> None:
        if x != self._crosshair:
            self._crosshair = x
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.colour("plot.background"))
        low, high = self._range
        width = self.width() - self._left - self._scroll_bar
        if high <= low or width < 40:
            return
        metrics = QFontMetrics(theme.font("micro"))
        painter.setFont(theme.font("micro"))
        painter.setPen(theme.colour("text.tertiary"))
        for tick in ticks_between(low, high, self._scale, most=max(2, width // 110)):
            x = self._left + (tick.place - low) / (high - low) * width
            words = metrics.horizontalAdvance(tick.text)
            left = min(x - words / 2, self.width() - words - 6)
            painter.drawText(QPointF(left, 3 + metrics.ascent()), tick.text)
        if self._crosshair is not None and low <= self._crosshair <= high:
            text = place_text(self._crosshair, self._scale)
            x = self._left + (self._crosshair - low) / (high - low) * width
            words = metrics.horizontalAdvance(text) + 10
            box = QRectF(min(max(x - words / 2, 2), self.width() - words - 2), 2, words, 17)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("text.primary"))
            painter.drawRoundedRect(box, 2, 2)
            painter.setPen(theme.colour("surface.base"))
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)
