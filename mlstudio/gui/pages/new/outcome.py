"""The right half of the page: the Dockerfile as it will be, checks, and the build as it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QVBoxLayout, QWidget

from mlstudio.gui.figures import bytes_text, count_text, duration_text
from mlstudio.gui.launches import LaunchView
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.code import CodeView
from mlstudio.gui.widgets.notice import Trouble
from mlstudio.gui.widgets.panes import Bar, Pane, Scroll
from mlstudio.gui.widgets.progress import BusyLine, ThinBar
from mlstudio.gui.widgets.state import Mark
from mlstudio.gui.widgets.steps import StepList, StepView
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.errors import BuildFailed, Cancelled
from mlstudio.model.image import Cached, Diagnosis, StepState
from mlstudio.services.checks import Check, Level
from mlstudio.services.images import Plan

_SUBJECTS = {
    "engine": "Engine",
    "driver": "Driver and CUDA",
    "gpu": "GPUs",
    "base": "Base image",
    "dependencies": "Dependencies",
    "lock": "Versions",
    "changes": "Uncommitted changes",
    "code": "Code",
    "size": "Code size",
    "secrets": "Secrets in files",
    "disk": "Disk",
    "image": "Image",
    "travel": "Code in the container",
    "python": "Python",
}
_ERRANDS = ("[internal]", "copy /context", "FROM docker.io/mlstudio-mount/")


class Outcome(QWidget):
    """What will happen, and what happens. `cancel_asked` while a build or launch is under way."""

    cancel_asked = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._dockerfile_bar())
        self.busy = BusyLine(theme)
        column.addWidget(self.busy)
        content = Pane(ground="base")
        self._code = CodeView(theme, name="Dockerfile", language="dockerfile")
        self._code.setFixedHeight(120)
        content.column.addWidget(self._code)
        self._nothing = Label("", theme, tone="tertiary", wrap=True)
        self._nothing_box = QWidget()
        nothing = QVBoxLayout(self._nothing_box)
        nothing.setContentsMargins(16, 12, 16, 12)
        nothing.addWidget(self._nothing)
        content.column.addWidget(self._nothing_box)
        self._checks_bar = _section("Checks", theme)
        content.column.addWidget(self._checks_bar[0])
        self._checks = QVBoxLayout()
        self._checks.setContentsMargins(0, 0, 0, 0)
        self._checks.setSpacing(0)
        content.column.addLayout(self._checks)
        self._build_bar = self._make_build_bar()
        content.column.addWidget(self._build_bar)
        self.trouble = Trouble(theme)
        wrapper = QVBoxLayout()
        wrapper.setContentsMargins(16, 8, 16, 8)
        wrapper.addWidget(self.trouble)
        content.column.addLayout(wrapper)
        # What went wrong stands above the steps: they may be longer than the pane.
        self._steps = StepList(theme)
        content.column.addWidget(self._steps)
        content.column.addStretch(1)
        self._build_bar.hide()
        self._steps.hide()
        self._scroll = Scroll(content)
        column.addWidget(self._scroll, 1)
        self.show_nothing("Choose the code to run, and the Dockerfile for it appears here.")

    # -- what will happen ---------------------------------------------------------------------------------------

    def show_nothing(self, words: str) -> None:
        """There is no plan: say why in one sentence."""
        self._code.hide()
        self._copy.setEnabled(False)
        self._nothing.setText(words)
        self._nothing_box.show()
        self._checks_bar[0].hide()
        self._show_checks(())

    def show_plan(self, plan: Plan) -> None:
        """Show the Dockerfile with what is cached, and the checks."""
        self._nothing_box.setVisible(not plan.builds)
        self._nothing.setText("" if plan.builds else f"The image {plan.recipe.tag} is used as it is.")
        self._code.setVisible(plan.builds)
        self._copy.setEnabled(plan.builds)
        self._phrase.setText(_forecast_words(plan))
        if plan.builds:
            self._code.set_code(plan.recipe.dockerfile)
            notes, reasons = _line_notes(plan)
            self._code.set_notes(notes)
            self._code.set_explanations(reasons)
            self._code.setFixedHeight(self._code.content_height() + 14)
        self._checks_bar[0].show()
        self._checks_bar[1].setText(_check_count(plan.checks))
        self._show_checks(plan.checks)

    def dockerfile(self) -> str:
        """The Dockerfile that is shown."""
        return self._code.toPlainText() if self._code.isVisibleTo(self) else ""

    def check_words(self) -> list[str]:
        """What the checks say, a line each."""
        return list(self._said)

    def _show_checks(self, checks: Sequence[Check]) -> None:
        self._said = [check.message for check in checks]
        while (item := self._checks.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        order = {Level.ERROR: 0, Level.WARNING: 1, Level.OK: 2, Level.INFO: 3}
        for check in sorted(checks, key=lambda entry: order[entry.level]):
            self._checks.addWidget(_CheckRow(check, self._theme))

    # -- what happens -------------------------------------------------------------------------------------------

    def show_work(self, view: LaunchView) -> None:
        """Show a build or launch as it stands."""
        self._build_bar.show()
        self._steps.show()
        shown = [step for step in view.steps if _is_shown(step)]
        self._steps.set_steps(shown, now=view.ended or time.time())
        self._bar.set_share(view.share)
        spent = duration_text((view.ended or time.time()) - view.started)
        over = view.ended is not None
        self._cancel.setVisible(not over)
        self._bar.setVisible(not over)
        if not over:
            self._build_phrase.setText(f"{view.phase or 'beginning'}, {spent} so far")
            self.trouble.clear()
        elif view.error is None:
            self._build_phrase.setText(f"done in {spent}")
        elif isinstance(view.error, Cancelled):
            self._build_phrase.setText(f"cancelled after {spent}; what was built stays in the cache")
        else:
            self._build_phrase.setText(f"failed after {spent}")
            self.show_error(view.error)
        self._build_title.setText("Launch" if view.kind == "launch" else "Build")
        bar = self._scroll.verticalScrollBar()
        if not over:
            bar.setValue(bar.maximum())

    def show_error(self, error: Exception) -> None:
        """An error beside the build; a failed build with its likely cause and last lines."""
        diagnosis = error.diagnosis if isinstance(error, BuildFailed) else None
        if isinstance(diagnosis, Diagnosis):
            self.trouble.show_words(
                diagnosis.title,
                why=diagnosis.why,
                try_this=diagnosis.try_this,
                details="\n".join(diagnosis.last_lines),
            )
            if diagnosis.dockerfile_line:
                self._code.mark_lines(range(diagnosis.dockerfile_line - 1, diagnosis.dockerfile_line))
        else:
            self.trouble.show_error(error)

    def clear_work(self) -> None:
        """Nothing is under way and nothing went wrong."""
        self._build_bar.hide()
        self._steps.hide()
        self._steps.set_steps(())
        self.trouble.clear()
        self._code.mark_lines(range(0))

    # -- its parts ----------------------------------------------------------------------------------------------

    def _dockerfile_bar(self) -> Bar:
        bar = Bar(height=40, edge="bottom")
        bar.row.addWidget(Label("Dockerfile", self._theme, size="small", weight="semibold"))
        self._phrase = CutLabel("", self._theme, size="small", tone="tertiary")
        bar.row.addWidget(self._phrase, 1)
        self._copy = Button("Copy", self._theme, kind="ghost", size="small", icon="ph.copy")
        self._copy.setAccessibleName("Copy the Dockerfile")
        self._copy.clicked.connect(
            lambda: QGuiApplication.clipboard().setText(self._code.toPlainText() + "\n")
        )
        bar.row.addWidget(self._copy)
        return bar

    def _make_build_bar(self) -> Bar:
        bar = Bar(height=32, edge="bottom")
        bar.setProperty("edge", "both")
        self._build_title = Label("Build", self._theme, size="small", weight="semibold")
        bar.row.addWidget(self._build_title)
        self._build_phrase = CutLabel("", self._theme, size="small", tone="tertiary")
        bar.row.addWidget(self._build_phrase, 1)
        self._bar = ThinBar(self._theme, width=120, name="Progress of the build")
        bar.row.addWidget(self._bar)
        self._cancel = Button("Cancel", self._theme, kind="ghost", size="small")
        self._cancel.clicked.connect(self.cancel_asked)
        bar.row.addWidget(self._cancel)
        return bar


class _CheckRow(Bar):
    """A check: icon, subject, what was found, and what to try under it."""

    def __init__(self, check: Check, theme: Theme) -> None:
        super().__init__(height=32, ground="base", edge="bottom")
        mark = Mark(theme)
        mark.set_level(check.level.value)
        mark.setFixedWidth(20)
        self.row.addWidget(mark)
        subject = Label(
            _SUBJECTS.get(check.name, check.name.replace("-", " ").capitalize()), theme, weight="medium"
        )
        subject.setFixedWidth(136)
        self.row.addWidget(subject)
        words = f"{check.message} {check.try_this}" if check.try_this else check.message
        message = Label(words, theme, tone="secondary", wrap=True, selectable=True)
        self.row.addWidget(message, 1)
        self.setMinimumHeight(32)
        self.setMaximumHeight(16777215)
        self.row.setContentsMargins(16, 6, 12, 6)
        self.setAccessibleName(f"{check.level.value}: {words}")


def _section(title: str, theme: Theme) -> tuple[Bar, Label]:
    bar = Bar(height=32, edge="bottom")
    bar.row.addWidget(Label(title, theme, size="small", weight="semibold"))
    phrase = Label("", theme, size="small", tone="tertiary")
    bar.row.addWidget(phrase)
    bar.row.addStretch(1)
    return bar, phrase


def _is_shown(view: StepView) -> bool:
    return view.step.state is StepState.FAILED or not view.step.name.startswith(_ERRANDS)


def _check_count(checks: Sequence[Check]) -> str:
    errors = sum(check.level is Level.ERROR for check in checks)
    warnings = sum(check.level is Level.WARNING for check in checks)
    parts = [f"{len(checks) - errors - warnings} pass"]
    if warnings:
        parts.append(f"{warnings} to know")
    if errors:
        parts.append(f"{errors} in the way")
    return ", ".join(parts)


def _forecast_words(plan: Plan) -> str:
    if not plan.builds:
        return ""
    if plan.image is not None:
        return f"built already, {bytes_text(plan.image.size_bytes)}"
    todo = len(plan.forecast) - plan.cached_layers
    seconds = plan.seconds
    took = f", about {duration_text(seconds)}" if seconds else ""
    return (
        f"{count_text(todo, 'line')} to build{took}, the rest is cached"
        if plan.cached_layers
        else "not built yet"
    )


def _line_notes(plan: Plan) -> tuple[dict[int, tuple[str, str]], dict[int, str]]:
    """What stands at the right end of each instruction's first line, and the sentence on hover, by lines from 0."""
    notes: dict[int, tuple[str, str]] = {}
    reasons: dict[int, str] = {}
    text = plan.recipe.dockerfile
    position = 0
    for forecast in plan.forecast:
        begin = text.find(forecast.layer.text, position)
        if begin < 0:
            continue
        position = begin + len(forecast.layer.text)
        first = text.count("\n", 0, begin)
        for line in range(first, first + forecast.layer.text.count("\n") + 1):
            reasons[line] = forecast.layer.why
        if forecast.cached is Cached.YES:
            notes[first] = ("cached", "status.ok")
        elif forecast.seconds is not None and forecast.seconds >= 1:
            notes[first] = (f"about {duration_text(forecast.seconds)}", "text.tertiary")
        elif forecast.because and forecast.because != "first build":
            notes[first] = (forecast.because, "text.tertiary")
    return notes, reasons
