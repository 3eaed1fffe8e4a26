"""Things to type into or pick from: a line field, a drop-down choice, a search field."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QComboBox, QLineEdit, QSizePolicy, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.text import restyle


class Field(QLineEdit):
    """A line to type into. `icon` stands at its left; `set_hint` puts a small word (a type, "changed") at its right."""

    def __init__(
        self,
        theme: Theme,
        *,
        name: str,
        placeholder: str = "",
        text: str = "",
        mono: bool = False,
        icon: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._theme = theme
        self._icon = icon
        self._hint = ""
        self._hint_tone = "text.tertiary"
        self.setFont(theme.mono() if mono else theme.font("body"))
        self.setAccessibleName(name)
        self.setPlaceholderText(placeholder)
        self.textChanged.connect(self._fit_margins)
        self._fit_margins()

    def set_hint(self, text: str, *, changed: bool = False) -> None:
        """A word at the right end, grey, or in the accent if it says that the value was `changed`."""
        self._hint = text
        self._hint_tone = "accent.text" if changed else "text.tertiary"
        self._fit_margins()
        self.update()

    def set_wrong(self, wrong: bool) -> None:
        """Border in the error colour; the sentence itself stands under the field (`FormRow.set_error`)."""
        self.setProperty("wrong", "true" if wrong else "false")
        restyle(self)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        if self._icon:
            side = self._theme.length("icon.field")
            rect = QRectF(9, (self.height() - side) / 2, side, side)
            self._theme.draw_icon(painter, self._icon, rect, "text.tertiary")
        if self._hint and self._hint_fits():
            painter.setFont(self._theme.font("micro"))
            painter.setPen(self._theme.colour(self._hint_tone))
            right = QRectF(self.rect()).adjusted(0, 0, -9, 0)
            painter.drawText(
                right, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), self._hint
            )

    def _fit_margins(self) -> None:
        left = self._icon_room()
        right = self._hint_room() if self._hint_fits() else 0
        self.setTextMargins(left, 0, right, 0)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_margins()

    def _icon_room(self) -> int:
        return self._theme.length("icon.field") + 8 if self._icon else 0

    def _hint_room(self) -> int:
        return QFontMetrics(self._theme.font("micro")).horizontalAdvance(self._hint) + 8 if self._hint else 0

    def _hint_fits(self) -> bool:
        """The word gives way to the text that stands there."""
        text = QFontMetrics(self.font()).horizontalAdvance(self.text())
        return text + self._icon_room() + self._hint_room() + 20 <= self.width()


class SearchField(Field):
    """A field with a magnifying glass; Escape empties it first and then leaves it (`escaped`)."""

    escaped = Signal()

    def __init__(
        self, theme: Theme, *, name: str, placeholder: str, icon: str = "ph.magnifying-glass"
    ) -> None:
        super().__init__(theme, name=name, placeholder=placeholder, icon=icon)

    def keyPressEvent(self, event: object) -> None:
        key = event.key()  # type: ignore[attr-defined]
        if key == Qt.Key.Key_Escape:
            if self.text():
                self.clear()
            else:
                self.escaped.emit()
            return
        super().keyPressEvent(event)  # type: ignore[arg-type]


class Select(QComboBox):
    """A drop-down choice of (value, text) pairs. The mouse wheel does not change it while a page scrolls."""

    value_changed = Signal(str)

    def __init__(
        self,
        theme: Theme,
        *,
        name: str,
        options: Sequence[tuple[str, str]] = (),
        value: str = "",
        mono: bool = False,
        small: bool = False,
        editable: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._theme = theme
        self._detail = ""
        self.setAccessibleName(name)
        self.setEditable(editable)
        if small:
            self.setProperty("small", "true")
        self.setFont(theme.mono() if mono else theme.font("small" if small else "body"))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.set_options(options, value=value)
        self.activated.connect(self._on_activated)

    def set_options(self, options: Sequence[tuple[str, str]], *, value: str = "") -> None:
        self.clear()
        for key, text in options:
            self.addItem(text, key)
        if value:
            self.set_value(value)

    def value(self) -> str:
        """The chosen value, or what was typed if the choice is editable."""
        if self.isEditable():
            index = self.findText(self.currentText())
            return str(self.itemData(index)) if index >= 0 else self.currentText()
        data = self.currentData()
        return "" if data is None else str(data)

    def set_value(self, value: str) -> None:
        """Choose without telling; an unknown value is shown as text if the choice is editable."""
        index = self.findData(value)
        if index >= 0:
            self.setCurrentIndex(index)
        elif self.isEditable():
            self.setEditText(value)

    def set_detail(self, text: str) -> None:
        """Grey words before the arrow, such as a branch and a commit."""
        self._detail = text
        self.update()

    def set_wrong(self, wrong: bool) -> None:
        self.setProperty("wrong", "true" if wrong else "false")
        restyle(self)

    def minimumSizeHint(self) -> QSize:
        return QSize(64, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        tone = "text.secondary" if self.isEnabled() else "text.disabled"
        arrow = QRectF(self.width() - 21, (self.height() - 12) / 2, 12, 12)
        self._theme.draw_icon(painter, "ph.caret-down", arrow, tone)
        if self._detail:
            painter.setFont(self._theme.font("small"))
            painter.setPen(self._theme.colour("text.tertiary"))
            where = QRectF(0, 0, self.width() - 28, self.height())
            painter.drawText(
                where, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), self._detail
            )

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def _on_activated(self) -> None:
        self.value_changed.emit(self.value())
