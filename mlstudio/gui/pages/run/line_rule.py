"""A rule for numbers in printed lines, made from one line of the log: names for its numbers, and what it would catch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text
from mlstudio.gui.pages.run.ansi import plain
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, CheckBox
from mlstudio.gui.widgets.fields import Field, Select
from mlstudio.gui.widgets.form import Line
from mlstudio.gui.widgets.notice import Trouble
from mlstudio.gui.widgets.panes import Pane, Scroll
from mlstudio.gui.widgets.progress import BusyLine
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.errors import RequestError
from mlstudio.model.run import RunSummary
from mlstudio.services.printed import Printed, parse_line
from mlstudio.services.printed_rules import parse_rule, suggest_rule
from mlstudio.services.rule_book import RulePreview

PREVIEW_MS = 250
EXAMPLES = 4
MOST_ROWS = 6
"""With more numbers their list scrolls."""
_ROW = 34
CURVE, STEP, EPOCH, NOTHING = "curve", "step", "epoch", "nothing"
_ROLES = ((CURVE, "Curve"), (STEP, "Step"), (EPOCH, "Epoch"), (NOTHING, "Not taken"))


@dataclass(slots=True)
class Slot:
    """A number of the line: what it is there, what it is taken as, and under which name."""

    value: str
    role: str
    name: str

    @property
    def braced(self) -> str:
        return {CURVE: f"{{{self.name}}}", STEP: "{step}", EPOCH: "{epoch}"}.get(self.role, "{*}")


class LineRuleDialog(QDialog):
    """`saved` tells the rule and, where it was applied to the run at once, how many points each new series has."""

    saved = Signal(str, object)

    def __init__(
        self, bridge: Bridge, theme: Theme, run: RunSummary, line: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._theme = theme
        self._run = run
        self._line = plain(line)
        self._slots: list[Slot] = []
        self._parts: list[str | int] = []
        self._previewed = ""
        self.setWindowTitle("Take numbers from lines like this")
        self.setMinimumWidth(560)
        self.resize(680, 520)
        self._timer = QTimer(self, singleShot=True, interval=PREVIEW_MS)
        self._timer.timeout.connect(self._ask)
        self._build()
        try:
            self.rule.setText(suggest_rule(self._line))
        except RequestError as error:
            self._say_wrong(error)
        self.rule.textChanged.connect(lambda _: self._on_rule_changed())
        self._on_rule_changed()

    @property
    def slots(self) -> list[Slot]:
        """The line's numbers, in their order."""
        return list(self._slots)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.save_button.isEnabled():
            self._on_save_clicked()
        else:
            super().keyPressEvent(event)

    # Building

    def _build(self) -> None:
        theme = self._theme
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        top = QVBoxLayout()
        top.setContentsMargins(20, 16, 20, 12)
        top.setSpacing(8)
        column.addLayout(top)
        top.addWidget(Label("The line", theme, size="small", weight="semibold"))
        frame = Pane(ground="sunken", edge="frame")
        frame.column.setContentsMargins(10, 6, 10, 6)
        frame.column.addWidget(CutLabel(self._line.strip(), theme, mono=True))
        top.addWidget(frame)
        self._already = Label("", theme, tone="tertiary", size="small", wrap=True)
        self._already.setVisible(self._say_already())
        top.addWidget(self._already)
        top.addSpacing(4)
        top.addWidget(Label("Its numbers", theme, size="small", weight="semibold"))
        numbers = QWidget()
        self._grid = QGridLayout(numbers)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnMinimumWidth(0, 90)
        self._grid.setColumnStretch(2, 1)
        self._numbers = Scroll(numbers)
        top.addWidget(self._numbers)
        top.addSpacing(4)
        top.addWidget(Label("The rule", theme, size="small", weight="semibold"))
        self.rule = Field(theme, name="The rule", mono=True)
        self.rule.setToolTip(
            "{name} is a number, {step} and {epoch} say where it belongs, {*} may be anything"
        )
        top.addWidget(self.rule)
        self.wrong = Label("", theme, tone="error", size="small", wrap=True)
        self.wrong.hide()
        top.addWidget(self.wrong)
        self._busy = BusyLine(theme)
        column.addWidget(self._busy)
        column.addWidget(Line())
        column.addWidget(self._preview_pane(), 1)
        column.addWidget(Line())
        column.addLayout(self._foot())

    def _preview_pane(self) -> Pane:
        theme = self._theme
        pane = Pane(ground="window")
        pane.column.setContentsMargins(20, 10, 20, 10)
        pane.column.setSpacing(2)
        self.words = Label("", theme, weight="medium")
        pane.column.addWidget(self.words)
        pane.column.addSpacing(4)
        self._examples: list[tuple[CutLabel, CutLabel]] = []
        for _ in range(EXAMPLES):
            line = CutLabel("", theme, mono=True, tone="secondary")
            found = CutLabel("", theme, size="small")
            self._examples.append((line, found))
            pane.column.addWidget(line)
            pane.column.addWidget(found)
            pane.column.addSpacing(4)
        pane.column.addStretch(1)
        return pane

    def _foot(self) -> QVBoxLayout:
        theme = self._theme
        foot = QVBoxLayout()
        foot.setContentsMargins(20, 10, 20, 14)
        foot.setSpacing(8)
        self.trouble = Trouble(theme)
        foot.addWidget(self.trouble)
        row = QHBoxLayout()
        row.setSpacing(8)
        self.apply_box = CheckBox("Take them from this run, too", theme)
        self.apply_box.setChecked(self._run.is_over)
        self.apply_box.setEnabled(self._run.is_over)
        row.addWidget(self.apply_box)
        words = "" if self._run.is_over else "It still prints: that can be done when it is over."
        row.addWidget(CutLabel(words, theme, tone="tertiary", size="small"), 1)
        cancel = Button("Cancel", theme)
        cancel.clicked.connect(self.reject)
        self.save_button = Button("Save", theme, kind="primary")
        self.save_button.setToolTip("From now on such lines of every run become curves")
        self.save_button.clicked.connect(self._on_save_clicked)
        row.addWidget(cancel)
        row.addWidget(self.save_button)
        foot.addLayout(row)
        return foot

    def _say_already(self) -> bool:
        found = parse_line(self._line).values
        if found:
            names = ", ".join(list(found)[:6])
            self._already.setText(
                f"ML Studio finds these in such lines by itself: {names}. A rule comes before that."
            )
        return bool(found)

    # The rule and its numbers

    def _on_rule_changed(self) -> None:
        """Read the rule again: it was typed, or put together from the numbers' choices."""
        self._timer.start()
        text = self.rule.text()
        try:
            parse_rule(text)
        except RequestError as error:
            self._say_wrong(error)
            return
        self.wrong.hide()
        self.words.set_tone("primary")
        self.rule.set_wrong(False)
        self.save_button.setEnabled(True)
        if text != self._written():
            self._read_slots(text)

    def _say_wrong(self, error: RequestError) -> None:
        self.wrong.setText(error.why or str(error))
        self.wrong.show()
        self.words.set_tone("tertiary")
        self.rule.set_wrong(True)
        self.save_button.setEnabled(False)

    def _read_slots(self, text: str) -> None:
        found = parse_rule(text).match(self._line)
        self._parts, self._slots = [], []
        place = 0
        for brace in re.finditer(r"\{([^{}]*)\}", text):
            name = brace.group(1).strip()
            if name == "*":
                continue
            self._parts.append(text[place : brace.start()])
            place = brace.end()
            role = name if name in (STEP, EPOCH) else CURVE
            self._parts.append(len(self._slots))
            self._slots.append(Slot(_value(found, name), role, name))
        self._parts.append(text[place:])
        self._show_slots()

    def _show_slots(self) -> None:
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        self._numbers.setFixedHeight(_ROW * min(MOST_ROWS, len(self._slots)))
        for row, slot in enumerate(self._slots):
            value = Label(slot.value, self._theme, mono=True)
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            role = Select(
                self._theme, name=f"{slot.value} is taken as", options=_ROLES, value=slot.role, small=True
            )
            role.setFixedWidth(110)
            name = Field(self._theme, name=f"Name of {slot.value}", text=slot.name)
            name.setEnabled(slot.role == CURVE)
            role.value_changed.connect(lambda chosen, row=row, name=name: self._on_role(row, chosen, name))
            name.textEdited.connect(lambda text, row=row: self._on_name(row, text))
            self._grid.addWidget(value, row, 0)
            self._grid.addWidget(role, row, 1)
            self._grid.addWidget(name, row, 2)

    def _on_role(self, row: int, role: str, name: Field) -> None:
        self._slots[row].role = role
        name.setEnabled(role == CURVE)
        if role == CURVE and self._slots[row].name in (STEP, EPOCH, ""):
            self._slots[row].name = "value"
            name.setText("value")
        self.rule.setText(self._written())

    def _on_name(self, row: int, text: str) -> None:
        self._slots[row].name = text.strip()
        self.rule.setText(self._written())

    def _written(self) -> str:
        """The rule as the choices make it."""
        return "".join(part if isinstance(part, str) else self._slots[part].braced for part in self._parts)

    # The preview

    def _ask(self) -> None:
        rule, run_id = self.rule.text(), self._run.id
        if not self.save_button.isEnabled() or rule == self._previewed:
            return
        self._busy.start()
        self._bridge.call(
            lambda: self._bridge.studio.rules.preview(rule, run_id, most=EXAMPLES),
            lambda found: self._on_preview(rule, found),
            owner=self,
            failed=lambda error: self._on_preview_failed(rule, error),
            key="rule-preview",
        )

    def _on_preview(self, rule: str, found: RulePreview) -> None:
        if rule != self.rule.text():
            return
        self._busy.stop()
        self._previewed = rule
        self.words.setText(
            f"It catches {found.caught:,} of {count_text(found.lines, 'line')}."
            if found.caught
            else f"It catches none of {count_text(found.lines, 'line')}."
        )
        for place, (line, numbers) in enumerate(self._examples):
            caught = found.examples[place] if place < len(found.examples) else None
            line.setText(plain(caught.line).strip() if caught else "")
            numbers.setText(found_words(caught.found) if caught else "")
            line.setVisible(caught is not None)
            numbers.setVisible(caught is not None)

    def _on_preview_failed(self, rule: str, error: Exception) -> None:
        if rule == self.rule.text():
            self._busy.stop()
            self.words.setText(str(error))

    # Keeping it

    def _on_save_clicked(self) -> None:
        rule, run_id = self.rule.text(), self._run.id
        applies = self.apply_box.isChecked() and self._run.is_over
        self.save_button.setEnabled(False)
        self._busy.start()

        def save() -> tuple[str, dict[str, int]]:
            book = self._bridge.studio.rules
            kept = book.add(rule)
            return kept, book.apply(run_id, rules=[kept]) if applies else {}

        self._bridge.call(save, self._on_saved, owner=self, failed=self._on_save_failed)

    def _on_saved(self, found: tuple[str, dict[str, int]]) -> None:
        rule, series = found
        self._bridge.notice(saved_words(parse_rule(rule).names, series))
        self.saved.emit(rule, series)
        self.accept()

    def _on_save_failed(self, error: Exception) -> None:
        self._busy.stop()
        self.save_button.setEnabled(True)
        self.trouble.show_error(error)


def found_words(found: Printed) -> str:
    """``loss 0.53, acc 91.2, at step 12``."""
    parts = [f"{name} {value:.10g}" for name, value in found.values.items()]
    if found.step is not None:
        parts.append(f"at step {found.step:,}")
    if found.epoch is not None:
        parts.append(f"in epoch {found.epoch:g}")
    return ", ".join(parts)


def saved_words(names: Sequence[str], series: dict[str, int]) -> str:
    """What a saved rule does, and what it found in this run."""
    words = f"From now on {' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)}"
    words += " come from such lines." if len(names) > 1 else " comes from such lines."
    if series:
        parts = [f"{count_text(count, 'point')} of {name}" for name, count in list(series.items())[:4]]
        words += f" This run: {', '.join(parts)}."
    return words


def _value(found: Printed | None, name: str) -> str:
    if found is None:
        return "–"
    if name == STEP:
        return "–" if found.step is None else f"{found.step:,}"
    if name == EPOCH:
        return "–" if found.epoch is None else f"{found.epoch:g}"
    value = found.values.get(name)
    return "–" if value is None else f"{value:.10g}"
