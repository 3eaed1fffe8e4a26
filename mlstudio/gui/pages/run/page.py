"""The page of one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge, ChangeSet
from mlstudio.gui.figures import count_text, duration_text, moment_text, when_text
from mlstudio.gui.launches import LaunchView
from mlstudio.gui.pages.run.curves import CurvesTab
from mlstudio.gui.pages.run.facts import CodeTab, EnvironmentTab
from mlstudio.gui.pages.run.log import LogPane
from mlstudio.gui.pages.run.media import MediaTab
from mlstudio.gui.pages.runs.columns import AGAIN, NOT_AGAIN, host_words, state_key
from mlstudio.gui.plots.source import Axis
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, Chip
from mlstudio.gui.widgets.dot import RunDot
from mlstudio.gui.widgets.fields import Select
from mlstudio.gui.widgets.notice import Trouble
from mlstudio.gui.widgets.panes import Bar, Pane, Scroll, Splitter
from mlstudio.gui.widgets.progress import ThinBar
from mlstudio.gui.widgets.state import Mark
from mlstudio.gui.widgets.steps import StepList
from mlstudio.gui.widgets.tabs import TabLine
from mlstudio.gui.widgets.text import CutLabel, Label
from mlstudio.model.image import ImageRecord
from mlstudio.model.run import MediaSize, MetricSummary, RunDetail, RunState, RunSummary
from mlstudio.services.studio import Studio

if TYPE_CHECKING:
    from mlstudio.store import History

_AXES = (
    (Axis.WALL, "Wall time"),
    (Axis.RELATIVE, "Relative time"),
    (Axis.STEP, "Step"),
    (Axis.EPOCH, "Epoch"),
)

MEDIA_EVERY_MS = 1500
"""A live run is asked for new media no more often."""


class RunPage(QWidget):
    """Everything about one run, live. `show_run` says which."""

    left = Signal()
    run_opened = Signal(str)

    def __init__(self, studio: Studio, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._studio = studio
        self._bridge = bridge
        self._theme = theme
        self._run_id = ""
        self._run: RunSummary | None = None
        self._again_key = ""
        self._is_shown = False
        self._steps_known = False
        self._loggers: frozenset[str] = frozenset()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._head())
        column.addWidget(self._tab_bar())
        self.trouble = Trouble(theme, bar=True)
        column.addWidget(self.trouble)
        self._body = QStackedWidget()
        column.addWidget(self._body, 1)
        self.curves = CurvesTab(bridge, theme)
        self.small_log = LogPane(bridge, theme)
        self._split = Splitter(vertical=True)
        self._split.addWidget(self.curves)
        self._split.addWidget(self.small_log)
        self._split.setStretchFactor(0, 1)
        self._split.setSizes([560, 200])
        self.media = MediaTab(bridge, theme)
        self.log = LogPane(bridge, theme)
        self.environment = EnvironmentTab(theme)
        self.code = CodeTab(theme)
        self.steps = StepList(theme)
        self._build = self._build_pane()
        self._tabs_shown = {
            "curves": self._split,
            "media": self.media,
            "log": self.log,
            "environment": self.environment,
            "code": self.code,
        }
        for page in (*self._tabs_shown.values(), self._build):
            self._body.addWidget(page)
        self._refresh_timer = QTimer(
            self, singleShot=True, interval=theme.length("motion.live_refresh_plots")
        )
        self._refresh_timer.timeout.connect(self._refresh)
        self._media_timer = QTimer(self, singleShot=True, interval=MEDIA_EVERY_MS)
        self._media_timer.timeout.connect(self._on_media_due)
        self._is_media_due = False
        self._clock = QTimer(self, interval=1000)
        self._clock.timeout.connect(self._on_second)
        self.curves.time_chosen.connect(self.small_log.show_time)
        bridge.changed.connect(self._on_changed)
        bridge.launches.progressed.connect(self._on_launch)
        bridge.launches.finished.connect(self._on_launch)
        bridge.launches.submitted.connect(self._on_submitted)

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def run(self) -> RunSummary | None:
        return self._run

    def show_run(self, run_id: str) -> None:
        """Show this run; its tab stays the one that was chosen last."""
        if run_id != self._run_id:
            self._run_id = run_id
            self._run = None
            self._media_timer.stop()
            self._steps_known = False
            self.steps.set_steps([])
            self.trouble.clear()
            self.log.set_run(run_id)
            self.small_log.set_run(run_id)
            for view in self._bridge.launches.in_flight():
                self._on_launch(view)
        self._refresh()
        self._read_detail()

    def page_shown(self) -> None:
        self._is_shown = True
        self.setFocus()
        self._clock.start()
        self._refresh()

    def page_hidden(self) -> None:
        self._is_shown = False
        self._clock.stop()

    def go_back(self) -> bool:
        for pane in (self.log, self.small_log):
            if pane.isVisible() and pane.search.text():
                pane.search.clear()
                return True
        self.left.emit()
        return True

    # Building

    def _head(self) -> Pane:
        theme = self._theme
        pane = Pane(ground="window")
        first = QHBoxLayout()
        first.setContentsMargins(13, 10, 12, 2)
        first.setSpacing(8)
        back = Button("Runs", theme, kind="ghost", size="small")
        back.setFont(theme.font("body"))
        back.setToolTip("All runs (Esc)")
        back.clicked.connect(self.left)
        first.addWidget(back)
        first.addWidget(Label("›", theme, tone="tertiary"))
        self._dot = RunDot(theme, size=12)
        first.addWidget(self._dot)
        self._name = CutLabel("", theme, size="run_title", weight="semibold")
        first.addWidget(self._name)
        self._state = Mark(theme)
        first.addSpacing(4)
        first.addWidget(self._state)
        self._bar = ThinBar(theme, width=150, name="Progress")
        first.addWidget(self._bar)
        self._progress = CutLabel("", theme, tone="secondary", size="small")
        first.addWidget(self._progress, 1)
        self.stop_button = Button("Stop", theme, icon="ph.stop-fill")
        self.stop_button.clicked.connect(self._on_stop_clicked)
        self.again_button = Button("Again", theme, icon="ph.arrow-clockwise")
        self.again_button.setToolTip(AGAIN)
        self.again_button.clicked.connect(self._on_again_clicked)
        first.addWidget(self.stop_button)
        first.addWidget(self.again_button)
        pane.column.addLayout(first)
        second = QHBoxLayout()
        second.setContentsMargins(16, 2, 12, 4)
        second.setSpacing(20)
        self._command = CutLabel("", theme, mono=True)
        second.addWidget(self._command, 0)
        self._facts = CutLabel("", theme, tone="secondary", size="small")
        second.addWidget(self._facts, 1)
        pane.column.addLayout(second)
        return pane

    def _tab_bar(self) -> Bar:
        theme = self._theme
        bar = Bar(height=40, edge="bottom", margins=(8, 12))
        self.tabs = TabLine(theme, name="Parts of the run")
        self.tabs.add("curves", "Curves + System")
        self.tabs.add("media", "Media")
        self.tabs.set_shown("media", False)
        self.tabs.add("log", "Log")
        self.tabs.add("environment", "Environment")
        self.tabs.add("code", "Code")
        self.tabs.chosen.connect(self._on_tab_chosen)
        bar.row.addWidget(self.tabs)
        bar.row.addStretch(1)
        self._log_chip = Chip("Log y", theme)
        self._log_chip.toggled.connect(lambda on: self.curves.set_log(on))
        self._axis = Select(
            theme, name="Horizontal axis", options=[(axis.value, words) for axis, words in _AXES], small=True
        )
        self._axis.setFixedWidth(124)
        self._axis.value_changed.connect(lambda value: self.curves.set_axis(Axis(value)))
        bar.row.addWidget(self._log_chip)
        bar.row.addWidget(self._axis)
        return bar

    def _build_pane(self) -> Pane:
        pane = Pane(ground="base")
        bar = Bar(height=32, edge="bottom")
        bar.row.addWidget(Label("Build", self._theme, size="small", weight="semibold"))
        self._build_words = Label("", self._theme, tone="secondary", size="small")
        bar.row.addWidget(self._build_words)
        bar.row.addStretch(1)
        self._cancel = Button("Cancel", self._theme, kind="ghost", size="small")
        self._cancel.clicked.connect(self._on_stop_clicked)
        bar.row.addWidget(self._cancel)
        pane.column.addWidget(bar)
        pane.column.addWidget(Scroll(self.steps), 1)
        return pane

    # Reading

    def _refresh(self) -> None:
        run_id = self._run_id
        if not run_id:
            return

        def read(history: History) -> tuple[RunSummary, list[MetricSummary]]:
            return history.summary(run_id), list(history.metrics(run_id))

        self._bridge.read(read, self._on_run, owner=self, failed=self._on_failed, key="run")
        self._ask_media()
        (self.log if self.tabs.current == "log" else self.small_log).refresh()

    def _read_detail(self) -> None:
        run_id = self._run_id

        def read(history: History) -> tuple[RunDetail, ImageRecord | None]:
            detail = history.detail(run_id)
            return detail, history.image(detail.summary.image_id) if detail.summary.image_id else None

        self._bridge.read(read, self._on_detail, owner=self, failed=self._on_failed, key="run-detail")

    def _on_changed(self, changes: ChangeSet) -> None:
        if self._run_id in changes.removed:
            self.left.emit()
            return
        concerns_us = any(run.id == self._run_id for run in changes.runs)
        if self._is_shown and concerns_us and not self._refresh_timer.isActive():
            self._refresh_timer.start()

    def _on_run(self, found: tuple[RunSummary, list[MetricSummary]]) -> None:
        run, metrics = found
        if run.id != self._run_id:
            return
        before = self._run
        self._run = run
        if before is None or before.state is not run.state or before.image_id != run.image_id:
            self._read_detail()
        loggers = frozenset(metric.logger for metric in metrics if metric.kind == "metric")
        if before is not None and loggers != self._loggers:
            self._read_detail()
        self._loggers = loggers
        self._show_head(run)
        self.curves.show_run(run, metrics)
        self._show_trouble(run)
        self._show_tab()

    def _ask_media(self) -> None:
        """Ask for new media, at once or when the last time is long enough ago."""
        self._is_media_due = self._media_timer.isActive()
        if self._is_media_due:
            return
        self._media_timer.start()
        run_id = self._run_id
        self._bridge.read(
            lambda history: (run_id, history.media_size(run_id)), self._on_media, owner=self, key="run-media"
        )

    def _on_media_due(self) -> None:
        if self._is_media_due and self._is_shown:
            self._ask_media()

    def _on_media(self, found: tuple[str, MediaSize]) -> None:
        run_id, size = found
        if self._run is None or run_id != self._run_id:
            return
        self.tabs.set_shown("media", size.count > 0)
        self.tabs.set_count("media", f"{size.count:,}" if size.count else "")
        self.media.show_run(self._run, size)

    def _on_detail(self, found: tuple[RunDetail, ImageRecord | None]) -> None:
        detail, image = found
        if detail.summary.id == self._run_id:
            self.environment.show_detail(detail, image)
            self.code.show_detail(detail)
            self.curves.show_events(detail.events)

    def _on_failed(self, error: Exception) -> None:
        self.trouble.show_error(error, act=("Try again", self._refresh))

    # Showing

    def _show_head(self, run: RunSummary) -> None:
        self._dot.set_colour(run.colour)
        self._name.setText(run.name)
        self._state.set_state(state_key(run))
        self._command.setText(" ".join(run.command))
        is_live = not run.state.is_final and run.state is not RunState.LOST
        self.stop_button.setVisible(is_live)
        self.stop_button.setEnabled(run.desired != "stopped")
        if run.is_imported:
            self.again_button.setEnabled(False)
            self.again_button.setToolTip(NOT_AGAIN)
        elif self.again_button.toolTip() == NOT_AGAIN:
            self.again_button.setEnabled(True)
            self.again_button.setToolTip(AGAIN)
        self._bar.setVisible(run.progress is not None and run.state is RunState.RUNNING)
        self._bar.set_share(run.progress.fraction if run.progress is not None else 0.0)
        words = run.phase
        if run.desired == "stopped" and is_live:
            words = run.phase or "stopping"
        elif run.progress is not None and run.state is RunState.RUNNING:
            progress = run.progress
            words = f"{progress.unit} {progress.done:,.0f} of {progress.total:,.0f}"
            if progress.eta_s is not None:
                words += f", {duration_text(progress.eta_s)} left"
        self._progress.setText(words)
        self._on_second()

    def _on_second(self) -> None:
        run = self._run
        if run is None:
            return
        now = time.time()
        host, gpus = host_words(run)
        parts = [", ".join(part for part in (host, gpus) if part)]
        if run.started is not None:
            parts.append(f"started {when_text(run.started, now=now)}")
            parts.append(duration_text(run.duration_s(now)))
        if run.image_tag:
            parts.append(f"image {run.image_tag.removeprefix('mlstudio/')}")
        if run.commit:
            extra = f" + {count_text(run.changed_files, 'file')}" if run.changed_files else ""
            parts.append(f"commit {run.commit[:7]}{extra}")
        self._facts.setText("     ".join(parts))
        self._facts.setToolTip(f"Started {moment_text(run.started)}" if run.started else "")

    def _show_trouble(self, run: RunSummary) -> None:
        how = run.exit
        if run.state is RunState.FAILED and how is not None:
            self.trouble.show_words(
                how.message or f"Exit code {how.code}.",
                try_this=how.try_this,
                act=("Show the log", lambda: self.tabs.choose("log")) if self.tabs.current != "log" else None,
            )
        elif run.state is RunState.LOST and run.is_imported:
            self.trouble.clear()
            if run.lacks:
                self.trouble.show_words(run.lacks[0], why=" ".join(run.lacks[1:]), level="warning")
        elif run.state is RunState.LOST:
            words = how.message if how is not None else "Its container or its engine is gone."
            self.trouble.show_words(words, try_this=how.try_this if how else "", level="warning")
        elif run.lacks or run.gaps:
            parts = list(run.lacks)
            if run.gaps:
                parts.append(
                    f"{count_text(run.gaps, 'batch').replace('batchs', 'batches')} of records are missing."
                )
            self.trouble.show_words(parts[0], why=" ".join(parts[1:]), level="warning")
        else:
            self.trouble.clear()

    def _show_tab(self) -> None:
        key = self.tabs.current
        is_building = (
            key == "curves"
            and self._run is not None
            and self._run.state is RunState.QUEUED
            and self._steps_known
        )
        self._body.setCurrentWidget(self._build if is_building else self._tabs_shown[key])
        for widget in (self._axis, self._log_chip):
            widget.setVisible(key == "curves" and not is_building)

    def _on_tab_chosen(self, key: str) -> None:
        self._show_tab()
        self._refresh()
        if self._run is not None:
            self._show_trouble(self._run)

    # What can be done

    def _on_stop_clicked(self) -> None:
        run = self._run
        if run is None:
            return
        self.stop_button.setEnabled(False)
        for view in self._bridge.launches.in_flight():
            if view.run_id == run.id:
                self._bridge.launches.cancel(view.key)
        self._bridge.call(
            lambda: self._studio.runs.stop(run.id),
            lambda _: self._refresh(),
            owner=self,
            failed=self._on_failed,
        )

    def _on_again_clicked(self) -> None:
        if self._run is not None:
            self.again_button.setEnabled(False)
            self._again_key = self._bridge.launches.again(self._run.id, self._run.name)

    def _on_submitted(self, key: str, run_id: str) -> None:
        if key == self._again_key:
            self._again_key = ""
            self.again_button.setEnabled(True)
            self.run_opened.emit(run_id)

    def _on_launch(self, view: LaunchView) -> None:
        if view.ended is not None and view.key == self._again_key:
            self._again_key = ""
            self.again_button.setEnabled(True)
            if view.error is not None:
                self._on_failed(view.error)
        if not view.run_id or view.run_id != self._run_id:
            return
        self._steps_known = bool(view.steps) and view.ended is None
        self.steps.set_steps(view.steps)
        self._build_words.setText(view.phase)
        self._show_tab()
