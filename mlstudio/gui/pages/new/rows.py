"""Lists of short entries that grow by a button: folders to mount, environment variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.pages.new.draft import MountDraft
from mlstudio.gui.pages.new.flow import tab_before
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, IconButton
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.gui.widgets.text import Label


class EntryRow(QWidget):
    """One entry: its fields side by side, and a cross that takes it away."""

    edited = Signal()
    removed = Signal()

    def __init__(self, theme: Theme, *, remove_name: str) -> None:
        super().__init__()
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(8)
        self._controls: list[QWidget] = []
        self._remove = IconButton("ph.x", remove_name, theme)
        self._remove.clicked.connect(self.removed)

    def _add(self, widget: QWidget, *, stretch: int = 0) -> None:
        self._layout.addWidget(widget, stretch)
        if not isinstance(widget, Label):
            self._controls.append(widget)
        if isinstance(widget, Field):
            widget.textEdited.connect(self.edited)

    def controls(self) -> list[QWidget]:
        """What can be typed into or clicked, from left to right."""
        return [*self._controls, self._remove]

    def _end(self) -> None:
        self._layout.addWidget(self._remove)


class MountRow(EntryRow):
    """A folder here, where it appears, and whether the run may write into it."""

    def __init__(self, theme: Theme, mount: MountDraft) -> None:
        super().__init__(theme, remove_name="Remove this folder")
        self.source = Field(
            theme, name="Folder here", placeholder="~/data/mnist", text=mount.source, mono=True
        )
        browse = IconButton("ph.folder", "Browse for the folder", theme)
        browse.clicked.connect(self._on_browse)
        self.target = Field(theme, name="Where it appears", placeholder="/data", text=mount.target, mono=True)
        self.access = Select(
            theme,
            name="Access",
            options=[("ro", "read only"), ("rw", "read and write")],
            value="ro" if mount.read_only else "rw",
        )
        self.access.value_changed.connect(lambda _: self.edited.emit())
        self._add(self.source, stretch=3)
        self._add(browse)
        self._add(Label("at", theme, tone="tertiary", size="small"))
        self._add(self.target, stretch=2)
        self._add(self.access)
        self._end()

    def value(self) -> MountDraft:
        return MountDraft(
            source=self.source.text(), target=self.target.text(), read_only=self.access.value() != "rw"
        )

    def _on_browse(self) -> None:
        start = self.source.text() or str(Path.home())
        folder = QFileDialog.getExistingDirectory(self, "Choose a folder to mount", start)
        if folder:
            self.source.setText(folder)
            if not self.target.text():
                self.target.setText("/data")
            self.edited.emit()


class PairRow(EntryRow):
    """A name and its value."""

    def __init__(self, theme: Theme, pair: tuple[str, str]) -> None:
        super().__init__(theme, remove_name="Remove this variable")
        self.key = Field(theme, name="Name of the variable", placeholder="NAME", text=pair[0], mono=True)
        self.given = Field(theme, name="Value of the variable", placeholder="value", text=pair[1], mono=True)
        self._add(self.key, stretch=2)
        self._add(Label("=", theme, tone="tertiary", mono=True))
        self._add(self.given, stretch=3)
        self._end()

    def value(self) -> tuple[str, str]:
        return self.key.text(), self.given.text()


class EntryRows(QWidget):
    """Rows, and a button that adds one. `edited` after every change."""

    edited = Signal()

    def __init__(self, theme: Theme, *, add_words: str, make: Callable[[], EntryRow]) -> None:
        super().__init__()
        self._make = make
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        line = QHBoxLayout()
        self.add_button = Button(add_words, theme, icon="ph.plus", size="small")
        self.add_button.clicked.connect(self._on_add)
        line.addWidget(self.add_button)
        line.addStretch(1)
        self._column.addLayout(line)

    def _all(self) -> list[EntryRow]:
        items = [self._column.itemAt(place) for place in range(self._column.count())]
        widgets = [item.widget() for item in items if item is not None]
        return [widget for widget in widgets if isinstance(widget, EntryRow)]

    def _append(self, row: EntryRow) -> None:
        row.edited.connect(self.edited)
        row.removed.connect(lambda: self._take(row))
        self._column.insertWidget(self._column.count() - 1, row)
        tab_before(self.add_button, row.controls())

    def _take(self, row: EntryRow) -> None:
        self._column.removeWidget(row)
        row.hide()
        row.deleteLater()
        self.edited.emit()

    def _on_add(self) -> None:
        row = self._make()
        self._append(row)
        row.findChildren(Field)[0].setFocus()


class MountRows(EntryRows):
    """Folders to mount."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme, add_words="Add a folder", make=lambda: MountRow(theme, MountDraft()))

    def rows(self) -> list[MountRow]:
        return [row for row in self._all() if isinstance(row, MountRow)]

    def mounts(self) -> tuple[MountDraft, ...]:
        return tuple(row.value() for row in self.rows())


class PairRows(EntryRows):
    """Environment variables."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme, add_words="Add a variable", make=lambda: PairRow(theme, ("", "")))

    def rows(self) -> list[PairRow]:
        return [row for row in self._all() if isinstance(row, PairRow)]

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(row.value() for row in self.rows())
