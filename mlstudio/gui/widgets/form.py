"""Forms: a label column of 112 px, fields at its right, an error under its field, sections split by a line."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLayout, QSizePolicy, QVBoxLayout, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.text import Label

LABEL_WIDTH = 112


class Line(QFrame):
    """A one-pixel line between things."""

    def __init__(self, *, vertical: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("edge", "left" if vertical else "top")
        if vertical:
            self.setFixedWidth(1)
        else:
            self.setFixedHeight(1)


class SectionHeader(QWidget):
    """A section's title (12 semibold) with one grey phrase; a line above it unless it is the `first`.

    `add_right` puts a widget (a ghost button, a count) at its right end.
    """

    def __init__(
        self,
        title: str,
        theme: Theme,
        *,
        phrase: str = "",
        first: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        if not first:
            outer.addWidget(Line())
        self._row = QHBoxLayout()
        self._row.setContentsMargins(0, 6, 0, 6)
        self._row.setSpacing(8)
        self.title = Label(title, theme, size="small", weight="semibold")
        self.phrase = Label(phrase, theme, size="small", tone="tertiary")
        self._row.addWidget(self.title)
        self._row.addWidget(self.phrase)
        self._row.addStretch(1)
        outer.addLayout(self._row)

    def set_phrase(self, text: str) -> None:
        self.phrase.setText(text)

    def add_right(self, widget: QWidget) -> None:
        self._row.addWidget(widget)


class FormRow(QWidget):
    """One row of a form: a label, a field (or several in a layout), and room for an error or a hint under it."""

    def __init__(self, label: str, field: QWidget | QLayout, theme: Theme, *, hint: str = "") -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._theme = theme
        self._field = field if isinstance(field, QWidget) else None
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        self.label = Label(label, theme, tone="secondary")
        self.label.setFixedWidth(LABEL_WIDTH)
        self.label.setMinimumHeight(28)
        self.label.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        outer.addWidget(self.label, 0, Qt.AlignmentFlag.AlignTop)
        right = QVBoxLayout()
        right.setContentsMargins(0, 0, 0, 0)
        right.setSpacing(4)
        if isinstance(field, QWidget):
            keeps_size = field.sizePolicy().horizontalPolicy() == QSizePolicy.Policy.Fixed
            right.addWidget(field, 0, Qt.AlignmentFlag.AlignLeft if keeps_size else Qt.AlignmentFlag(0))
            self.label.setBuddy(field)
        else:
            right.addLayout(field)
        self.hint = Label(hint, theme, tone="tertiary", size="small", wrap=True)
        self.hint.setVisible(bool(hint))
        right.addWidget(self.hint)
        outer.addLayout(right, 1)
        self._plain_hint = hint

    def set_hint(self, text: str) -> None:
        """A grey sentence under the field; empty takes it away."""
        self._plain_hint = text
        self._show_words(text, "tertiary")

    def set_error(self, text: str) -> None:
        """What is wrong with the field, in the error colour under it; empty takes it away."""
        set_wrong = getattr(self._field, "set_wrong", None)
        if set_wrong is not None:
            set_wrong(bool(text))
        self._show_words(text or self._plain_hint, "error" if text else "tertiary")

    def _show_words(self, text: str, tone: str) -> None:
        self.hint.setText(text)
        self.hint.set_tone(tone)
        self.hint.setVisible(bool(text))


class Form(QWidget):
    """A column of rows and sections, 8 px apart. `field` names rows by the request's dotted path, for errors."""

    def __init__(self, theme: Theme, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._rows: dict[str, FormRow] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(16, 8, 16, 16)
        self._layout.setSpacing(8)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)

    def add_section(self, title: str, *, phrase: str = "") -> SectionHeader:
        header = SectionHeader(title, self._theme, phrase=phrase, first=self._layout.count() == 0)
        self._layout.addWidget(header)
        return header

    def add_row(self, label: str, field: QWidget | QLayout, *, name: str = "", hint: str = "") -> FormRow:
        """`name` is a dotted path of `RequestError.field`, such as ``code.folder``."""
        row = FormRow(label, field, self._theme, hint=hint)
        if name:
            self._rows[name] = row
        self._layout.addWidget(row)
        return row

    def add_widget(self, widget: QWidget) -> None:
        self._layout.addWidget(widget)

    def add_stretch(self) -> None:
        self._layout.addStretch(1)

    def row(self, name: str) -> FormRow | None:
        """The row for a field path, or the one of its nearest parent (``limits.memory_bytes`` → ``limits``)."""
        while name:
            if name in self._rows:
                return self._rows[name]
            name = name.rpartition(".")[0]
        return None

    def clear_errors(self) -> None:
        for row in self._rows.values():
            row.set_error("")
