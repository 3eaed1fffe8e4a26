"""The log of a run with its bar: how many lines, search, copy, follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text
from mlstudio.gui.pages.run.log_view import LogView
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, Chip, IconButton
from mlstudio.gui.widgets.fields import SearchField
from mlstudio.gui.widgets.panes import Bar, Pane
from mlstudio.gui.widgets.text import Label
from mlstudio.model.run import LogLine, RunSummary

if TYPE_CHECKING:
    from mlstudio.gui.pages.run.line_rule import LineRuleDialog

FOUND_MOST = 1000


class LogPane(Pane):
    """The log with its bar: how many lines, search with next and previous, follow."""

    def __init__(self, bridge: Bridge, theme: Theme) -> None:
        super().__init__(ground="sunken")
        self._bridge = bridge
        self._theme = theme
        self._run_id = ""
        self._found: Sequence[int] = ()
        self._at = -1
        bar = Bar(height=40, edge="bottom", margins=(16, 12))
        bar.row.addWidget(Label("Log", theme, size="small", weight="semibold"))
        self._words = Label("", theme, tone="secondary", size="small")
        bar.row.addWidget(self._words)
        bar.row.addStretch(1)
        self.search = SearchField(theme, name="Search the log", placeholder="Search")
        self.search.setFixedWidth(220)
        self.search.returnPressed.connect(self._on_next)
        self.search.textChanged.connect(self._on_text_changed)
        bar.row.addWidget(self.search)
        self._previous = IconButton("ph.caret-up", "Previous match", theme)
        self._previous.clicked.connect(lambda: self._go(-1))
        self._next = IconButton("ph.caret-down", "Next match", theme)
        self._next.clicked.connect(self._on_next)
        bar.row.addWidget(self._previous)
        bar.row.addWidget(self._next)
        self._copy = Button("Copy lines", theme, kind="ghost", icon="ph.copy")
        self._copy.clicked.connect(self._on_copy_clicked)
        bar.row.addWidget(self._copy)
        self.follow_chip = Chip("Follow", theme, icon="ph.arrow-line-down")
        self.follow_chip.setChecked(True)
        self.follow_chip.clicked.connect(self._on_follow_clicked)
        bar.row.addWidget(self.follow_chip)
        self.column.addWidget(bar)
        self.view = LogView(bridge, theme)
        self.view.follow_changed.connect(self.follow_chip.setChecked)
        self.view.rule_asked.connect(self._on_rule_asked)
        self.column.addWidget(self.view, 1)
        self._show_found()

    def set_run(self, run_id: str) -> None:
        self._run_id = run_id
        self._found, self._at = (), -1
        self.search.clear()
        self.view.set_run(run_id)
        self._show_found()

    def refresh(self) -> None:
        """Look how many lines there are now."""
        run_id = self._run_id
        if run_id:
            self._bridge.read(
                lambda history: (run_id, history.log_count(run_id), history.open_line(run_id)),
                self._on_count,
                owner=self,
                key=f"log-count-{id(self)}",
            )

    def show_time(self, moment: float) -> None:
        """Mark the line that was printed at that time (UTC seconds)."""
        run_id = self._run_id
        self._bridge.read(
            lambda history: history.log_line_at(run_id, moment),
            self.view.show_line,
            owner=self,
            key="log-line",
        )

    def _on_rule_asked(self, line: str) -> None:
        run_id = self._run_id

        def ask(run: RunSummary) -> None:
            self.open_rule(run, line)

        self._bridge.read(lambda history: history.summary(run_id), ask, owner=self)

    def open_rule(self, run: RunSummary, line: str) -> LineRuleDialog:
        """Ask for names of the numbers in `line`."""
        from mlstudio.gui.pages.run.line_rule import LineRuleDialog

        dialog = LineRuleDialog(self._bridge, self._theme, run, line, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()
        return dialog

    def _on_count(self, found: tuple[str, int, LogLine | None]) -> None:
        run_id, count, open_line = found
        if run_id == self._run_id:
            self.view.set_count(count, open_line)
            self._show_found()

    def _on_text_changed(self, text: str) -> None:
        self._found, self._at = (), -1
        self.view.set_needle(text)
        self._show_found()

    def _on_next(self) -> None:
        if self._found:
            self._go(1)
            return
        text, run_id = self.search.text(), self._run_id
        if text:
            self._bridge.read(
                lambda history: (text, list(history.search_log(run_id, text, limit=FOUND_MOST))),
                self._on_found,
                owner=self,
                key="log-search",
            )

    def _on_found(self, found: tuple[str, list[int]]) -> None:
        text, numbers = found
        if text != self.search.text():
            return
        self._found = numbers
        first = self.view.verticalScrollBar().value()
        later = next((place for place, number in enumerate(numbers) if number >= first), 0)
        self._at = later - 1
        if numbers:
            self._go(1)
        else:
            self._words.setText(f"“{text}” is in none of {count_text(self.view.count, 'line')}")

    def _go(self, step: int) -> None:
        if self._found:
            self._at = (self._at + step) % len(self._found)
            self.view.show_line(self._found[self._at])
            self._show_found()

    def _show_found(self) -> None:
        words = count_text(self.view.count, "line")
        if self._found:
            more = "+" if len(self._found) >= FOUND_MOST else ""
            words = f"match {self._at + 1:,} of {len(self._found):,}{more} in {words}"
        self._words.setText(words)
        for button in (self._previous, self._next):
            button.setEnabled(bool(self.search.text()))

    def _on_copy_clicked(self) -> None:
        self.view.copy()

    def _on_follow_clicked(self) -> None:
        if self.follow_chip.isChecked():
            self.view.follow()
        else:
            self.follow_chip.setChecked(self.view.is_following)
