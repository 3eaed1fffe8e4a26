"""The script's own parameters as fields, with their types and defaults, and a mark on what was changed."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.pages.new.flow import Columns
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.services.script_arguments import Argument

LABEL_PX = (64, 160)
"""The least and the greatest width of the names; a longer one is cut and told in full by its tooltip."""
VALUE_PX = 100


class ParameterCell(QWidget):
    """One parameter: its name, a field or choice, and what is wrong with it."""

    edited = Signal(object, str)
    """(argument, value)"""

    def __init__(self, argument: Argument, value: str, theme: Theme, *, label_width: int) -> None:
        super().__init__()
        self.argument = argument
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        row = QHBoxLayout()
        row.setSpacing(8)
        label = CutLabel(argument.flag or argument.name, theme, tone="secondary", mono=True)
        label.setFixedWidth(label_width)
        row.addWidget(label)
        self._field: Field | None = None
        self._choice: Select | None = None
        name = f"Parameter {argument.name}"
        if argument.kind in ("choice", "flag", "subcommand"):
            options = ("on", "off") if argument.kind == "flag" else argument.choices
            given = [(option, option) for option in options]
            if argument.kind == "choice" and not argument.default:
                given.insert(0, ("", "not given"))
            self._choice = Select(theme, name=name, options=given, value=value, mono=True)
            self._choice.value_changed.connect(lambda text: self.edited.emit(argument, text))
            row.addWidget(self._choice, 1)
        else:
            self._field = Field(theme, name=name, text=value, mono=True, placeholder=argument.help[:60])
            self._field.textEdited.connect(lambda text: self.edited.emit(argument, text))
            row.addWidget(self._field, 1)
        column.addLayout(row)
        self._wrong = Label("", theme, tone="error", size="small", wrap=True)
        self._wrong.hide()
        column.addWidget(self._wrong)
        column.addStretch(1)
        if argument.help:
            self.setToolTip(argument.help)
        self.show_value(value, "")

    def value_field(self) -> Field | Select:
        """The widget that holds the value."""
        field = self._field or self._choice
        assert field is not None
        return field

    def show_value(self, value: str, wrong: str) -> None:
        """Mark the value as changed or wrong; the text itself is the user's."""
        changed = value != self.argument.default
        if self._field is not None:
            kind = {"text": "", "list": "list"}.get(self.argument.kind, self.argument.kind)
            self._field.set_hint("changed" if changed else kind, changed=changed)
            self._field.set_wrong(bool(wrong))
        elif self._choice is not None:
            self._choice.set_detail("changed" if changed else "")
        self._wrong.setText(wrong)
        self._wrong.setVisible(bool(wrong))


class Parameters(Columns):
    """All parameters of the chosen script."""

    edited = Signal(object, str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._shown: tuple[Argument, ...] = ()

    def show_arguments(self, arguments: tuple[Argument, ...], values: dict[str, str]) -> None:
        """Make fields for these arguments; does nothing if they are shown already."""
        if arguments == self._shown:
            return
        self._shown = arguments
        metrics = QFontMetrics(self._theme.mono())
        longest = max((metrics.horizontalAdvance(entry.flag or entry.name) for entry in arguments), default=0)
        label_width = min(max(longest + 4, LABEL_PX[0]), LABEL_PX[1])
        self.set_narrowest(label_width + VALUE_PX)
        cells: list[QWidget] = []
        for argument in arguments:
            cell = ParameterCell(
                argument, values.get(argument.key, argument.default), self._theme, label_width=label_width
            )
            cell.edited.connect(self.edited)
            cells.append(cell)
        self.set_cells(cells)

    def cell(self, name: str) -> ParameterCell | None:
        """The cell of the parameter of that name."""
        for cell in self.cells():
            if isinstance(cell, ParameterCell) and cell.argument.name == name:
                return cell
        return None

    def value_fields(self) -> list[QWidget]:
        """What holds the values, in the order in which they are seen."""
        return [cell.value_field() for cell in self.cells() if isinstance(cell, ParameterCell)]

    def mark(self, values: dict[str, str], wrong: dict[str, str]) -> None:
        """Bring the marks up to date."""
        for cell in self.cells():
            if isinstance(cell, ParameterCell):
                key = cell.argument.key
                cell.show_value(values.get(key, cell.argument.default), wrong.get(key, ""))
        self.refresh()
