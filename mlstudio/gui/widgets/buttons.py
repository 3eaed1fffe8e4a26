"""Things to press: buttons, chips, segmented controls, check boxes."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QButtonGroup, QCheckBox, QHBoxLayout, QPushButton, QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.text import restyle

_ICON_COLOURS = {
    "primary": "accent.on_fill",
    "ghost": "text.secondary",
    "fold": "text.secondary",
    "link": "accent.text",
}


class Button(QPushButton):
    """A button 28 px high. `kind`: ``primary`` (one a page), ``secondary``, ``ghost`` (in bars) or ``link``.

    `size` is ``small`` (24), ``normal`` or ``large`` (32, on empty pages). `shortcut` is shown in the tooltip and works
    wherever the button is visible.
    """

    def __init__(
        self,
        text: str,
        theme: Theme,
        *,
        kind: str = "secondary",
        icon: str = "",
        size: str = "normal",
        tooltip: str = "",
        shortcut: str = "",
        checkable: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._theme = theme
        self._kind = kind
        self.setProperty("kind", kind)
        if size != "normal":
            self.setProperty(size, "true")
        self.setFont(theme.font("small" if size == "small" else "body", weight="medium"))
        self.setCheckable(checkable)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor if kind == "link" else Qt.CursorShape.ArrowCursor)
        self.setAutoDefault(False)
        self._icon_name = icon
        if icon:
            self.set_icon(icon)
        self._tell(tooltip, shortcut)

    def set_kind(self, kind: str) -> None:
        if kind != self._kind:
            self._kind = kind
            self.setProperty("kind", kind)
            restyle(self)
            if self._icon_name:
                self.set_icon(self._icon_name)

    def set_icon(self, icon: str) -> None:
        self._icon_name = icon
        colour = _ICON_COLOURS.get(self._kind, "text.primary")
        self.setIcon(self._theme.icon(icon, colour, checked="accent.text"))
        side = self._theme.length("icon.button")
        self.setIconSize(QSize(side + 3 if self.text() else side, side))

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._kind == "primary" and self.hasFocus():
            # The fill has the ring's colour: the ring stands a pixel inside, in the colour of the text.
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(self._theme.colour("accent.on_fill"), 2))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(3, 3, -3, -3), 2, 2)

    def _tell(self, tooltip: str, shortcut: str) -> None:
        if shortcut:
            keys = QKeySequence(shortcut)
            self.setShortcut(keys)
            native = keys.toString(QKeySequence.SequenceFormat.NativeText)
            tooltip = f"{tooltip or self.text()} ({native})"
        if tooltip:
            self.setToolTip(tooltip)


class IconButton(Button):
    """A ghost button that shows only an icon; `name` is its accessible name and its tooltip."""

    def __init__(
        self,
        icon: str,
        name: str,
        theme: Theme,
        *,
        size: str = "normal",
        shortcut: str = "",
        checkable: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(
            "",
            theme,
            kind="ghost",
            icon=icon,
            size=size,
            tooltip=name,
            shortcut=shortcut,
            checkable=checkable,
            parent=parent,
        )
        self.setProperty("bare", "true")
        self.setAccessibleName(name)


class Chip(QPushButton):
    """A small choice that is on or off: a filter, a framework, a secret's name. `tall` is 28 px, else 24."""

    def __init__(
        self,
        text: str,
        theme: Theme,
        *,
        icon: str = "",
        icon_colour: str = "text.secondary",
        checkable: bool = True,
        tall: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self.setProperty("kind", "chip")
        if tall:
            self.setProperty("tall", "true")
        self.setFont(theme.font("body" if tall else "small"))
        self.setCheckable(checkable)
        self.setAutoDefault(False)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        if icon:
            self.setIcon(theme.icon(icon, icon_colour))
            self.setIconSize(QSize(14 if text else 12, 12))


class Segmented(QWidget):
    """One of a few choices, side by side. `options` are (value, text); arrow keys move between them."""

    value_changed = Signal(str)

    def __init__(
        self,
        options: Sequence[tuple[str, str]],
        theme: Theme,
        *,
        name: str,
        value: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QPushButton] = {}
        for index, (key, text) in enumerate(options):
            button = QPushButton(text)
            button.setProperty("kind", "segment")
            place = "first" if index == 0 else "last" if index == len(options) - 1 else "middle"
            button.setProperty("place", "only" if len(options) == 1 else place)
            button.setCheckable(True)
            button.setAutoDefault(False)
            button.setFont(theme.font("body"))
            button.setAccessibleName(f"{name}: {text}")
            self._group.addButton(button)
            self._buttons[key] = button
            layout.addWidget(button)
        self.set_value(value or options[0][0])
        self._group.buttonClicked.connect(self._on_clicked)

    def value(self) -> str:
        return next(key for key, button in self._buttons.items() if button.isChecked())

    def set_value(self, value: str) -> None:
        """Choose without telling (`value_changed` is only for what the user does)."""
        self._buttons[value].setChecked(True)

    def set_option_enabled(self, value: str, enabled: bool, *, why: str = "") -> None:
        self._buttons[value].setEnabled(enabled)
        self._buttons[value].setToolTip(why)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
            return
        keys = [key for key, button in self._buttons.items() if button.isEnabled()]
        target = keys[(keys.index(self.value()) + step) % len(keys)]
        self._buttons[target].setFocus(Qt.FocusReason.TabFocusReason)
        self._buttons[target].setChecked(True)
        self.value_changed.emit(target)

    def _on_clicked(self) -> None:
        self.value_changed.emit(self.value())


class CheckBox(QCheckBox):
    """A check box 16 px square, painted from the tokens."""

    def __init__(self, text: str, theme: Theme, *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self._theme = theme
        self.setFont(theme.font("body"))
        self.setMinimumHeight(24)
        if name:
            self.setAccessibleName(name)

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        return QSize(16 + (8 + metrics.horizontalAdvance(self.text()) if self.text() else 0) + 4, 24)

    def hitButton(self, pos: object) -> bool:
        return True

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(2, (self.height() - 16) / 2, 16, 16)
        enabled = self.isEnabled()
        if self.isChecked():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("accent.fill" if enabled else "text.disabled"))
            painter.drawRoundedRect(box, 2, 2)
            theme.draw_icon(painter, "ph.check-bold", box.adjusted(2, 2, -2, -2), "accent.on_fill")
        else:
            painter.setBrush(theme.colour("surface.base"))
            painter.setPen(QPen(theme.colour("border.field" if enabled else "border.default"), 1))
            painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 2, 2)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(theme.colour("focus.ring"), 2))
            painter.drawRoundedRect(box.adjusted(-1, -1, 1, 1), 3, 3)
        if self.text():
            painter.setPen(theme.colour("text.primary" if enabled else "text.disabled"))
            painter.setFont(self.font())
            where = QRectF(box.right() + 8, 0, self.width() - box.right() - 8, self.height())
            painter.drawText(where, int(Qt.AlignmentFlag.AlignVCenter), self.text())
