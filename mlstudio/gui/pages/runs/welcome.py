"""The page of a history without runs: what a run is, an example that trains for real, what this computer can do."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import bytes_text, duration_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.code import CodeView
from mlstudio.gui.widgets.empty import EmptyState
from mlstudio.gui.widgets.form import Line
from mlstudio.gui.widgets.panes import Pane, Scroll
from mlstudio.gui.widgets.progress import BusyLine
from mlstudio.gui.widgets.state import Mark
from mlstudio.gui.widgets.text import Label
from mlstudio.services.checks import Check, Level
from mlstudio.services.examples import Example
from mlstudio.services.studio import Studio

_SCRIPT = """\
import mlstudio as ms

for step, batch in enumerate(loader):
    loss = train_step(batch)
    ms.log(step=step, loss=loss)   # the only line to add
"""
_COMMAND = "mlstudio run -- python train.py --lr 3e-4"
_SUBJECTS = {
    "home": "History",
    "engine": "Engine",
    "gpu": "GPU",
    "packages": "Packages",
    "wheelhouse": "Wheelhouse",
}


FIRST_EXAMPLE = "digits-cnn"
"""It logs training and validation curves and every reading there is; without it the quickest one is offered."""


class Welcome(QWidget):
    """Shown instead of the table while the history is empty."""

    example_asked = Signal(object)
    """The `Example` to run."""
    own_code_asked = Signal()

    def __init__(self, studio: Studio, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._studio = studio
        self._bridge = bridge
        self._theme = theme
        self._example: Example | None = None
        self._asked = False
        content = QWidget()
        page = QHBoxLayout(content)
        page.setContentsMargins(64, 64, 64, 32)
        page.setSpacing(72)
        page.addLayout(self._left(), 1)
        page.addLayout(self._right(), 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(content))

    def look(self) -> None:
        """Ask the doctor and for the example, once."""
        if self._asked:
            return
        self._asked = True
        self._busy.start()
        self._bridge.call(self._studio.examples.list, self._on_examples, owner=self)
        self._bridge.call(
            self._studio.doctor.check, self._on_checks, owner=self, failed=self._on_doctor_failed
        )

    @property
    def run_button(self) -> Button:
        return self._run

    def check_words(self) -> list[str]:
        """What is said of this computer, a line for each finding."""
        return list(self._said)

    def _left(self) -> QVBoxLayout:
        theme = self._theme
        column = QVBoxLayout()
        column.setSpacing(0)
        hello = EmptyState(
            "No runs yet.",
            "A run is one start of your script in a container. Its curves, log, code and packages are kept here.",
            theme,
            large=True,
        )
        self._run = Button("Run the example", theme, kind="primary", icon="ph.play-fill", size="large")
        self._run.setEnabled(False)
        self._run.clicked.connect(self._on_run_clicked)
        own = Button("Use my own code…", theme, icon="ph.folder", size="large")
        own.clicked.connect(self.own_code_asked)
        hello.add_button(self._run)
        hello.add_button(own)
        self._hello = hello
        column.addWidget(hello)
        column.addSpacing(32)
        column.addWidget(Label("This computer", theme, size="small", weight="semibold"))
        column.addSpacing(8)
        column.addWidget(Line())
        self._busy = BusyLine(theme)
        column.addWidget(self._busy)
        self._said: list[str] = []
        self._checks = QVBoxLayout()
        self._checks.setSpacing(0)
        self._looking = Label("Looking …", theme, tone="tertiary")
        self._looking.setMinimumHeight(32)
        self._checks.addWidget(self._looking)
        column.addLayout(self._checks)
        column.addSpacing(28)
        column.addWidget(Label("Other ways in", theme, size="small", weight="semibold"))
        column.addSpacing(8)
        column.addWidget(Line())
        row = QHBoxLayout()
        row.setContentsMargins(4, 2, 4, 2)
        row.setSpacing(8)
        terminal = Label("From a terminal", theme)
        terminal.setFixedWidth(150)
        row.addWidget(terminal)
        row.addWidget(Label(_COMMAND, theme, mono=True, selectable=True), 1)
        copy = Button("Copy", theme, kind="ghost", size="small", icon="ph.copy")
        copy.setAccessibleName("Copy the command")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(_COMMAND))
        row.addWidget(copy)
        column.addLayout(row)
        column.addWidget(Line())
        column.addStretch(1)
        return column

    def _right(self) -> QVBoxLayout:
        theme = self._theme
        column = QVBoxLayout()
        column.setSpacing(8)
        column.addWidget(Label("In your script", theme, size="small", weight="semibold"))
        frame = Pane(ground="sunken", edge="frame")
        code = CodeView(theme, name="Example of logging", language="python")
        code.set_code(_SCRIPT.rstrip("\n"))
        code.setFixedHeight(code.content_height())
        frame.column.setContentsMargins(1, 1, 1, 1)
        frame.column.addWidget(code)
        column.addWidget(frame)
        column.addWidget(
            Label(
                "Numbers that the script prints, such as “loss: 0.31”, become curves without any change.",
                theme,
                tone="tertiary",
                size="small",
                wrap=True,
            )
        )
        column.addSpacing(20)
        column.addWidget(Label("What will be here", theme, size="small", weight="semibold"))
        column.addWidget(Line())
        grid = QGridLayout()
        grid.setContentsMargins(4, 4, 4, 4)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(8)
        for place, (what, words) in enumerate(
            (
                ("Curves", "Faint: what was logged. Line: smoothed. Drag to zoom, double-click to see all."),
                ("System", "Processor, memory, disk, network and every GPU, on the curves' own time axis."),
                ("Log", "Live and searchable, however long."),
                ("Environment", "Packages, driver, image and Dockerfile: enough to run it again exactly."),
            )
        ):
            grid.addWidget(Label(what, theme, weight="medium"), place, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(Label(words, theme, tone="secondary", wrap=True), place, 1)
        grid.setColumnStretch(1, 1)
        column.addLayout(grid)
        column.addStretch(1)
        return column

    def _on_examples(self, examples: Sequence[Example]) -> None:
        if not examples:
            return
        chosen = next((example for example in examples if example.name == FIRST_EXAMPLE), examples[0])
        self._example = chosen
        self._hello.set_cost(
            f"{chosen.name}: {chosen.sentence.rstrip('.')}. "
            f"{duration_text(chosen.seconds)} on two processor cores, packages of {bytes_text(chosen.mb * 1e6)}."
        )
        self._run.setEnabled(True)

    def _on_run_clicked(self) -> None:
        if self._example is not None:
            self.example_asked.emit(self._example)

    def _on_checks(self, checks: Sequence[Check]) -> None:
        self._busy.stop()
        self._looking.hide()
        for check in checks:
            subject, _, rest = check.name.partition(" ")
            known = _SUBJECTS.get(subject)
            if known is None and check.level is Level.OK:
                continue
            title = known or subject.capitalize()
            if rest and subject == "engine":
                title = f"{title} {rest}"
            self._add_check(title, check)

    def _add_check(self, title: str, check: Check) -> None:
        theme = self._theme
        self._said.append(f"{title}: {check.message}")
        row = QHBoxLayout()
        row.setContentsMargins(4, 6, 4, 6)
        row.setSpacing(8)
        mark = Mark(theme)
        mark.set_level(check.level.value)
        row.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        name = Label(title, theme, weight="medium")
        name.setFixedWidth(126)
        row.addWidget(name, 0, Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(Label(check.message, theme, tone="secondary", wrap=True))
        if check.try_this:
            words.addWidget(
                Label(check.try_this, theme, tone="tertiary", size="small", wrap=True, selectable=True)
            )
        row.addLayout(words, 1)
        self._checks.addLayout(row)
        self._checks.addWidget(Line())

    def _on_doctor_failed(self, error: Exception) -> None:
        self._busy.stop()
        self._looking.setText(str(error))
