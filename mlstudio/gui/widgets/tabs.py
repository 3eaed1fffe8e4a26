"""Tabs: words in a row, the chosen one underlined in the accent; a grey count may follow a word."""

from __future__ import annotations

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme


class TabLine(QWidget):
    """A row of tabs, 40 px high. Left and right move the choice; the tab stop is the whole row."""

    chosen = Signal(str)

    def __init__(self, theme: Theme, *, name: str = "Views", height: int = 40) -> None:
        super().__init__()
        self._theme = theme
        self._tabs: list[tuple[str, str, str]] = []
        self._hidden: set[str] = set()
        self._current = ""
        self._hovered = ""
        self.setAccessibleName(name)
        self.setFixedHeight(height)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def add(self, key: str, text: str, *, count: str = "") -> None:
        self._tabs.append((key, text, count))
        self._current = self._current or key
        self.updateGeometry()

    def set_count(self, key: str, count: str) -> None:
        self._tabs = [(k, text, count if k == key else old) for k, text, old in self._tabs]
        self.updateGeometry()
        self.update()

    def set_shown(self, key: str, shown: bool) -> None:
        """Show or hide a tab; if the chosen one is hidden, the first is chosen."""
        if shown == (key not in self._hidden):
            return
        self._hidden.symmetric_difference_update({key})
        self.updateGeometry()
        self.update()
        if key == self._current and not shown:
            self.choose(self.keys()[0])

    @property
    def current(self) -> str:
        return self._current

    def keys(self) -> list[str]:
        """Of the tabs that are shown."""
        return [key for key, _, _ in self._shown()]

    def _shown(self) -> list[tuple[str, str, str]]:
        return [tab for tab in self._tabs if tab[0] not in self._hidden]

    def choose(self, key: str) -> None:
        if key != self._current:
            self._current = key
            self.setAccessibleDescription(next(text for k, text, _ in self._tabs if k == key))
            self.update()
            self.chosen.emit(key)

    def sizeHint(self) -> QSize:
        rects = self._rects()
        return QSize(rects[-1].right() + 9 if rects else 0, self.height())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def tab_rect(self, key: str) -> QRect:
        return self._rects()[self.keys().index(key)]

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None or not self._tabs:
            super().keyPressEvent(event)
            return
        keys = self.keys()
        self.choose(keys[(keys.index(self._current) + step) % len(keys)])

    def mousePressEvent(self, event: QMouseEvent) -> None:
        for (key, _, _), rect in zip(self._shown(), self._rects(), strict=True):
            if rect.adjusted(-8, 0, 8, 0).contains(event.position().toPoint()):
                self.choose(key)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        hovered = ""
        for (key, _, _), rect in zip(self._shown(), self._rects(), strict=True):
            if rect.adjusted(-8, 0, 8, 0).contains(event.position().toPoint()):
                hovered = key
        if hovered != self._hovered:
            self._hovered = hovered
            self.update()

    def leaveEvent(self, event: object) -> None:
        self._hovered = ""
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        for (key, text, count), rect in zip(self._shown(), self._rects(), strict=True):
            on = key == self._current
            painter.setFont(self._font(on))
            painter.setPen(theme.colour("text.primary" if on or key == self._hovered else "text.secondary"))
            painter.drawText(rect, int(Qt.AlignmentFlag.AlignVCenter), text)
            if count:
                painter.setFont(theme.font("body"))
                painter.setPen(theme.colour("text.tertiary"))
                painter.drawText(
                    rect, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), count
                )
            if on:
                painter.fillRect(
                    QRect(rect.left(), self.height() - 2, rect.width(), 2), theme.colour("accent.text")
                )
                if self.hasFocus():
                    painter.setPen(theme.focus_pen())
                    painter.drawRect(rect.adjusted(-6, 7, 6, -8))

    def _font(self, on: bool) -> QFont:
        return self._theme.font("body", weight="medium" if on else "regular")

    def _rects(self) -> list[QRect]:
        medium = QFontMetrics(self._theme.font("body", weight="medium"))
        plain = QFontMetrics(self._theme.font("body"))
        rects: list[QRect] = []
        x = 8
        for _, text, count in self._shown():
            width = medium.horizontalAdvance(text) + (6 + plain.horizontalAdvance(count) if count else 0)
            rects.append(QRect(x, 0, width, self.height()))
            x += width + 24
        return rects
