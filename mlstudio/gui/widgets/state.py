"""States and checks: always an icon and a word."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme

LEVELS = {
    "ok": ("ph.check-bold", "status.ok"),
    "info": ("ph.info", "text.tertiary"),
    "warning": ("ph.warning-fill", "status.warning"),
    "error": ("ph.x-circle-fill", "status.error"),
    "running": ("ph.play-fill", "state.running"),
    "waiting": ("ph.circle", "text.tertiary"),
    "away": ("ph.link-break", "status.warning"),
    "busy": ("ph.clock", "text.tertiary"),
}
"""(icon, colour) of the levels of checks, build steps and engines."""


class Mark(QWidget):
    """An icon with a word. `set_state` shows a run's state, `set_level` a check's level with words of your own."""

    def __init__(
        self,
        theme: Theme,
        *,
        size: str = "body",
        side: int = 14,
        tone: str = "secondary",
        weight: str = "regular",
    ) -> None:
        super().__init__()
        self._theme = theme
        self._side = side
        self._tone = tone
        self._icon, self._colour, self._text = "", "text.tertiary", ""
        self.setFont(theme.font(size, weight=weight))
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    @property
    def text(self) -> str:
        return self._text

    def set_state(self, state: str) -> None:
        """`state` is a `RunState` value such as ``running``."""
        icon, word, colour = self._theme.state(state)
        self._show(icon, colour, word)

    def set_level(self, level: str, text: str = "") -> None:
        """`level` is a key of `LEVELS`: ``ok``, ``info``, ``warning``, ``error``, ``running``, ``waiting``, ``away``."""
        icon, colour = LEVELS[level]
        self._show(icon, colour, text)

    def sizeHint(self) -> QSize:
        metrics = QFontMetrics(self.font())
        width = self._side + (6 + metrics.horizontalAdvance(self._text) if self._text else 0)
        return QSize(width + 1, max(self._side, metrics.height()) + 2)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._icon:
            box = QRectF(0, (self.height() - self._side) / 2, self._side, self._side)
            self._theme.draw_icon(painter, self._icon, box, self._colour)
        painter.setFont(self.font())
        painter.setPen(self._theme.colour(f"text.{self._tone}"))
        where = QRectF(self._side + 6, 0, self.width() - self._side - 6, self.height())
        painter.drawText(where, int(Qt.AlignmentFlag.AlignVCenter), self._text)

    def _show(self, icon: str, colour: str, text: str) -> None:
        if (icon, colour, text) == (self._icon, self._colour, self._text):
            return
        self._icon, self._colour, self._text = icon, colour, text
        self.setAccessibleName(text)
        self.updateGeometry()
        self.update()
