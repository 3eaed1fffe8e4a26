"""The page of a damaged history: what is wrong, what recovery does, recovery itself, and what came of it."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import bytes_text, clock_text, count_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button
from mlstudio.gui.widgets.form import FormRow
from mlstudio.gui.widgets.header import PageHeader
from mlstudio.gui.widgets.notice import Trouble
from mlstudio.gui.widgets.panes import Scroll
from mlstudio.gui.widgets.progress import BusyLine
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.errors import HistoryDamaged
from mlstudio.services.locations import default_home
from mlstudio.services.recovery import Recovered, recover_history
from mlstudio.services.studio import Studio

WIDTH = 720
_WHAT_IT_DOES = (
    "Recovery makes a new history of every run, curve and log line that can still be read. "
    "The damaged file stays beside it under another name, so nothing is lost by trying."
)
_BACKUP = "Do you have a backup of the file? Then close ML Studio and put it in its place instead."


class DamagedPage(QWidget):
    """`recovered` is told when the user goes on after a recovery."""

    recovered = Signal()

    def __init__(self, studio: Studio, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._home = Path(studio.home)
        self._bridge = bridge
        self._theme = theme
        self._began = 0.0
        self._is_done = False
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(PageHeader("History", theme))
        self._busy = BusyLine(theme)
        column.addWidget(self._busy)
        content = QWidget()
        column.addWidget(Scroll(content, ground="window"), 1)
        page = QVBoxLayout(content)
        page.setContentsMargins(64, 62, 64, 32)
        page.setSpacing(8)
        inner = QWidget()
        inner.setMaximumWidth(WIDTH)
        page.addWidget(inner)
        page.addStretch(1)
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self._fill()
        self._clock = QTimer(self, interval=1000)
        self._clock.timeout.connect(self._show_time)

    @property
    def words(self) -> str:
        """Everything that is said, for screen readers and tests."""
        labels = (self._statement, self._sentence, self._more, self._progress)
        return "\n".join(label.text() for label in labels if label.text())

    def show_error(self, error: HistoryDamaged) -> None:
        """Say what is wrong with the history, if it is not being recovered already."""
        if self._clock.isActive():
            return
        self._is_done = False
        self._statement.setText("The history is damaged.")
        self._sentence.setText(f"{error.why} ML Studio has not changed the file.".strip())
        self._more.setText(_WHAT_IT_DOES)
        self.button.setText("Recover the history")
        self.button.setEnabled(True)
        self._show_file()
        self._backup.show()
        self._typed.show()

    # Inside

    def _fill(self) -> None:
        theme = self._theme
        self._statement = Label("", theme, size="empty_title", weight="semibold", wrap=True)
        self._sentence = Label("", theme, size="lead", tone="secondary", wrap=True)
        self._more = Label(_WHAT_IT_DOES, theme, tone="secondary", wrap=True, selectable=True)
        self.button = Button("Recover the history", theme, kind="primary", size="large")
        self.button.clicked.connect(self._on_clicked)
        self.folder_button = Button("Show the folder", theme, icon="ph.folder", size="large")
        self.folder_button.clicked.connect(
            lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._home)))
        )
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 12, 0, 4)
        buttons.setSpacing(8)
        buttons.addWidget(self.button)
        buttons.addWidget(self.folder_button)
        buttons.addStretch(1)
        self._progress = Label("", theme, tone="secondary", size="small")
        self.trouble = Trouble(theme)
        self._file = CutLabel("", theme, mono=True, middle=True)
        self._size = Label("", theme, tone="tertiary", size="small")
        self._backup = Label(_BACKUP, theme, tone="tertiary", size="small", wrap=True)
        command = "mlstudio recover"
        if self._home != default_home().expanduser().absolute():
            command = f"mlstudio --home {shlex.quote(str(self._home))} recover"
        typed = CutLabel(command, theme, mono=True, middle=True)
        typed.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._typed = FormRow("In a terminal", typed, theme)
        for label in (self._statement, self._sentence, self._more):
            self._column.addWidget(label)
        self._column.addLayout(buttons)
        self._column.addWidget(self._progress)
        self._column.addWidget(self.trouble)
        self._column.addSpacing(16)
        self._column.addWidget(FormRow("File", self._file, theme))
        self._column.addWidget(FormRow("Size", self._size, theme))
        self._column.addWidget(self._typed)
        self._column.addSpacing(8)
        self._column.addWidget(self._backup)
        self._show_file()

    def _show_file(self) -> None:
        path = self._home / "history.db"
        self._file.setText(str(path))
        try:
            self._size.setText(bytes_text(path.stat().st_size))
        except OSError:
            self._size.setText("unknown")

    def _on_clicked(self) -> None:
        if self._is_done:
            self.recovered.emit()
            return
        if self._bridge.launches.in_flight():
            self.trouble.show_words(
                "A build or launch is still under way.",
                try_this="Wait for its end, or cancel it in the strip below.",
                level="warning",
            )
            return
        self.trouble.clear()
        self.button.setEnabled(False)
        self._began = time.monotonic()
        self._busy.start()
        self._clock.start()
        self._show_time()
        home = self._home
        self._bridge.alone(lambda: recover_history(home), self._on_recovered, failed=self._on_failed)

    def _show_time(self) -> None:
        seconds = time.monotonic() - self._began
        self._progress.setText(f"Reading what can be read, {clock_text(seconds)} …")

    def _end(self) -> None:
        self._busy.stop()
        self._clock.stop()
        self._progress.setText("")
        self.button.setEnabled(True)

    def _on_failed(self, error: Exception) -> None:
        self._end()
        self.trouble.show_error(error, act=("Try again", self._on_clicked))

    def _on_recovered(self, found: Recovered) -> None:
        self._end()
        self._is_done = True
        series = dict(found.rows).get("series", 0)
        self._statement.setText(f"Recovered {count_text(found.runs, 'run')}.")
        self._sentence.setText(f"They have {count_text(series, 'curve')} and readings.")
        self._more.setText("\n".join(_told(found)))
        self.button.setText("Show the runs")
        self.button.setFocus()
        self._show_file()
        self._backup.hide()
        self._typed.hide()


def _told(found: Recovered) -> list[str]:
    """What was lost, and where the damaged file is now; a sentence each."""
    told: list[str] = []
    if found.named_again:
        runs = count_text(found.named_again, "run")
        told.append(f"Name and settings of {runs} were lost; what was recorded of them was not.")
    if found.lost_points:
        points = count_text(found.lost_points, "point")
        told.append(f"{points} are known to be lost; the runs they belonged to say so.")
    if not found.had_contents:
        told.append("The file's table of contents was lost: runs that you had removed may be back.")
    if not told:
        told.append("Nothing is known to be lost.")
    told.append(f"The damaged file is now {found.aside}.")
    return told
