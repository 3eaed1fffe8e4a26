"""The header of a page: its title, perhaps tabs, and at the right what one can do here."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.panes import Bar
from mlstudio.gui.widgets.text import Label


class PageHeader(Bar):
    """40 px: the title (15 semibold), widgets after it by `add_left`, actions at the right by `add_right`."""

    def __init__(self, title: str, theme: Theme) -> None:
        super().__init__(height=40, edge="bottom")
        self.title = Label(title, theme, size="page_title", weight="semibold")
        self.row.addWidget(self.title)
        self._left_count = 1
        self.row.addStretch(1)

    def add_left(self, widget: QWidget) -> None:
        self.row.insertWidget(self._left_count, widget)
        self._left_count += 1

    def add_right(self, widget: QWidget) -> None:
        self.row.addWidget(widget)
