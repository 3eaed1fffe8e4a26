"""Progress: a thin bar with a known share, and a thin line that only says that something works."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, QTimer
from PySide6.QtGui import QHideEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme


class ThinBar(QWidget):
    """A bar 4 px high that shows a share of 0 to 1."""

    def __init__(self, theme: Theme, *, width: int = 0, name: str = "Progress") -> None:
        super().__init__()
        self._theme = theme
        self._share = 0.0
        self._name = name
        if width:
            self.setFixedWidth(width)
        self.setFixedHeight(4)
        self.setSizePolicy(
            QSizePolicy.Policy.Fixed if width else QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        self.setAccessibleName(name)

    def set_share(self, share: float) -> None:
        share = min(1.0, max(0.0, share))
        if share != self._share:
            self._share = share
            self.setAccessibleName(f"{self._name} {share:.0%}")
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(120, 4)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._theme.colour("gauge.track"))
        filled = QRectF(0, 0, self.width() * self._share, self.height())
        painter.fillRect(filled, self._theme.colour("accent.text"))


class BusyLine(QWidget):
    """A line 2 px high that shows that something works: nothing for 300 ms, then a part that walks along.

    The walking stops by itself when the line is hidden or `stop`ped: no timer outlives the work.
    """

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._place = 0.0
        self.setFixedHeight(2)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._delay = QTimer(self, singleShot=True, interval=theme.length("motion.spinner_delay"))
        self._delay.timeout.connect(self._on_delay_over)
        self._walk = QTimer(self, interval=60)
        self._walk.timeout.connect(self._on_step)

    def start(self) -> None:
        if not self._walk.isActive() and not self._delay.isActive():
            self._delay.start()

    def stop(self) -> None:
        self._delay.stop()
        self._walk.stop()
        self.update()

    @property
    def is_shown(self) -> bool:
        return self._walk.isActive()

    def hideEvent(self, event: QHideEvent) -> None:
        self.stop()
        super().hideEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._walk.isActive():
            return
        painter = QPainter(self)
        part = max(40.0, self.width() * 0.2)
        left = (self.width() + part) * self._place - part
        painter.fillRect(QRectF(left, 0, part, self.height()), self._theme.colour("accent.text"))

    def _on_delay_over(self) -> None:
        self._place = 0.0
        self._walk.start()
        self.update()

    def _on_step(self) -> None:
        self._place = (self._place + 0.02) % 1.0
        self.update()
