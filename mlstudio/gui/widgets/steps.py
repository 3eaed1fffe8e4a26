"""Steps of a build as a live list: state, name, amount, time; under the running or failed one its last lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from mlstudio.gui.figures import bytes_text, clock_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.state import Mark
from mlstudio.gui.widgets.text import CutLabel, Label, restyle
from mlstudio.model.image import BuildStep, StepState

_LEVELS = {
    StepState.WAITING: "waiting",
    StepState.RUNNING: "running",
    StepState.DONE: "ok",
    StepState.CACHED: "ok",
    StepState.FAILED: "error",
    StepState.CANCELLED: "info",
}


@dataclass(frozen=True, slots=True)
class StepView:
    """A step as it is shown: the newest `BuildStep` of its id and the last lines that it printed."""

    step: BuildStep
    last_lines: tuple[str, ...] = ()


class StepRow(QWidget):
    """One step, 26 px high; `show_step` brings it up to date in place."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        row = QHBoxLayout()
        row.setContentsMargins(12, 3, 12, 3)
        row.setSpacing(8)
        self._mark = Mark(theme)
        self._name = CutLabel("", theme, mono=True)
        self._name.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._amount = Label("", theme, tone="tertiary", size="small")
        self._time = Label("", theme, size="small")
        self._time.setFixedWidth(52)
        self._time.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._mark)
        row.addWidget(self._name, 1)
        row.addWidget(self._amount)
        row.addWidget(self._time)
        outer.addLayout(row)
        self._lines = Label("", theme, tone="secondary", mono=True, selectable=True)
        self._lines.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._lines.setContentsMargins(34, 2, 12, 6)
        self._lines.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._lines.hide()
        outer.addWidget(self._lines)

    def show_step(self, view: StepView, *, now: float) -> None:
        step = view.step
        self._mark.set_level(_LEVELS[step.state])
        self._name.setText(step.title or step.name.replace("\n", " "))
        amount = ""
        if step.state is StepState.CACHED:
            amount = "cached"
        elif step.state is StepState.CANCELLED:
            amount = "cancelled"
        elif step.done_bytes and step.total_bytes and step.state is StepState.RUNNING:
            amount = f"{bytes_text(step.done_bytes)} of {bytes_text(step.total_bytes)}"
        elif step.total_bytes or step.done_bytes:
            amount = bytes_text(step.total_bytes or step.done_bytes or 0)
        self._amount.setText(amount)
        seconds: float | None = None
        if step.started is not None and step.state is not StepState.WAITING:
            end = step.ended if step.ended is not None else now
            seconds = max(0.0, end - step.started)
        self._time.setText("" if seconds is None else clock_text(seconds))
        wants_lines = step.state in (StepState.RUNNING, StepState.FAILED) and bool(view.last_lines)
        count = 8 if step.state is StepState.FAILED else 3
        self._lines.setText("\n".join(view.last_lines[-count:]) if wants_lines else "")
        self._lines.setVisible(wants_lines)
        ground = "running" if step.state is StepState.RUNNING else ""
        if self.property("step") != ground:
            self.setProperty("step", ground)
            restyle(self)
        self.setAccessibleName(f"{step.title or step.name}: {step.state.value} {amount}".strip())


class StepList(QWidget):
    """A list of steps. `set_steps` updates rows in place: nothing jumps while a build runs."""

    def __init__(self, theme: Theme, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._rows: list[StepRow] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._layout.addStretch(1)
        self.setAccessibleName("Build steps")

    def set_steps(self, steps: Sequence[StepView], *, now: float | None = None) -> None:
        """`now` is the time that running steps are measured against (seconds since the epoch)."""
        moment = time.time() if now is None else now
        while len(self._rows) < len(steps):
            row = StepRow(self._theme)
            self._rows.append(row)
            self._layout.insertWidget(self._layout.count() - 1, row)
        for index, row in enumerate(self._rows):
            row.setVisible(index < len(steps))
            if index < len(steps):
                row.show_step(steps[index], now=moment)

    def sizeHint(self) -> QSize:
        return QSize(320, super().sizeHint().height())
