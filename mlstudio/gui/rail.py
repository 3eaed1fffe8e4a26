"""The rail: where one can go, at the left edge of the window."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QVBoxLayout

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.panes import Pane


class RailButton(QAbstractButton):
    """An icon with its word under it; a line at the left says that one is here."""

    def __init__(self, page: str, theme: Theme, *, shortcut: str) -> None:
        super().__init__()
        self._theme = theme
        self._page = page
        self._icon = theme.tokens.rail_icon(page)
        self.setCheckable(True)
        self.setText(page)
        self.setAccessibleName(page)
        self.setToolTip(f"{page} ({shortcut})")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setFixedSize(theme.length("width.rail") - 1, 52)

    def sizeHint(self) -> QSize:
        return QSize(self._theme.length("width.rail") - 1, 52)

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        on = self.isChecked()
        tone = "text.primary" if on or self.underMouse() else "text.secondary"
        side = theme.length("icon.rail")
        theme.draw_icon(painter, self._icon, QRectF((self.width() - side) / 2, 7, side, side), tone)
        painter.setFont(theme.font("micro", weight="medium" if on else "regular"))
        painter.setPen(theme.colour(tone))
        painter.drawText(QRectF(0, 29, self.width(), 16), int(Qt.AlignmentFlag.AlignCenter), self._page)
        if on:
            painter.fillRect(QRectF(0, 8, 3, 36), theme.colour("accent.text"))
        if self.hasFocus():
            painter.setPen(theme.focus_pen())
            painter.drawRect(self.rect().adjusted(2, 2, -2, -2))


class Rail(Pane):
    """The pages there are, in the design's order; what belongs at its foot stands there."""

    chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__(ground="window", edge="right")
        self._theme = theme
        self.setFixedWidth(theme.length("width.rail"))
        self.setAccessibleName("Pages")
        self._buttons: dict[str, RailButton] = {}
        self._upper = QVBoxLayout()
        self._lower = QVBoxLayout()
        for part in (self._upper, self._lower):
            part.setContentsMargins(0, 6, 0, 6)
            part.setSpacing(0)
        self.column.addLayout(self._upper)
        self.column.addStretch(1)
        self.column.addLayout(self._lower)

    def add(self, page: str, *, at_foot: bool = False) -> None:
        button = RailButton(page, self._theme, shortcut=f"Ctrl+{len(self._buttons) + 1}")
        button.clicked.connect(lambda: self.chosen.emit(page))
        self._buttons[page] = button
        (self._lower if at_foot else self._upper).addWidget(button)

    def pages(self) -> list[str]:
        return list(self._buttons)

    def show_current(self, page: str) -> None:
        for name, button in self._buttons.items():
            button.setChecked(name == page)
