"""Empty places that teach: a statement, one sentence, one button, one example."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.text import Label


class EmptyState(QWidget):
    """Left-aligned words for a place without content. `large` (22 px) is for a whole page, else 13 px for a pane."""

    def __init__(self, statement: str, sentence: str, theme: Theme, *, large: bool = False) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self.statement = Label(
            statement, theme, size="empty_title" if large else "body", weight="semibold", wrap=True
        )
        self.sentence = Label(sentence, theme, size="lead" if large else "body", tone="secondary", wrap=True)
        self._column.addWidget(self.statement)
        self._column.addWidget(self.sentence)
        self._buttons = QHBoxLayout()
        self._buttons.setContentsMargins(0, 12 if large else 4, 0, 4)
        self._buttons.setSpacing(8)
        self._buttons.setAlignment(Qt.AlignmentFlag.AlignLeft)
        self._column.addLayout(self._buttons)
        self.cost = Label("", theme, size="small", tone="tertiary", wrap=True)
        self.cost.hide()
        self._column.addWidget(self.cost)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)

    def add_button(self, button: Button) -> None:
        self._buttons.addWidget(button)

    def set_cost(self, text: str) -> None:
        """What the example costs, in true figures."""
        self.cost.setText(text)
        self.cost.setVisible(bool(text))
