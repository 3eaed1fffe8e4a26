"""The plots beside the run table: one per metric, grouped by prefix, of the drawn runs only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QGridLayout, QSlider, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import count_text
from mlstudio.gui.pages.runs.columns import metric_names, metric_of
from mlstudio.gui.plots.plot import Curve, CurvePlot
from mlstudio.gui.plots.readout import Readout, ReadoutRow
from mlstudio.gui.plots.source import WHOLE_LIMIT, Axis, CurveData, CurveRequest, CurveSource, CurveStyle
from mlstudio.gui.plots.ticks import Scale, place_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.buttons import Button, Chip
from mlstudio.gui.widgets.empty import EmptyState
from mlstudio.gui.widgets.fields import Select
from mlstudio.gui.widgets.panes import Bar, Pane, Scroll, Splitter
from mlstudio.gui.widgets.text import Label
from mlstudio.model.run import RunState, RunSummary

if TYPE_CHECKING:
    from mlstudio.store import History

PLOT_HEIGHT = 196
MOST_PLOTS = 60

_AXES = (
    (Axis.STEP, "Step"),
    (Axis.EPOCH, "Epoch"),
    (Axis.WALL, "Wall time"),
    (Axis.RELATIVE, "Relative time"),
)
_SCALES = {Axis.WALL: Scale.CLOCK, Axis.RELATIVE: Scale.SPAN}


class PlotGroup(QWidget):
    """Plots whose metrics share a prefix, under a title that folds them away."""

    folded = Signal()

    def __init__(self, prefix: str, theme: Theme) -> None:
        super().__init__()
        self.prefix = prefix
        self.plots: list[CurvePlot] = []
        self._theme = theme
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 4, 12, 4)
        column.setSpacing(2)
        title = prefix + "/" if prefix else "metrics"
        self._title = Button(title, theme, kind="fold", icon="ph.caret-down", checkable=True)
        self._title.setAccessibleName(f"Fold the plots of {title}")
        self._title.clicked.connect(self._on_folded)
        bar = Bar(height=28, edge="", margins=(0, 0), spacing=6)
        bar.row.addWidget(self._title)
        self._count = Label("", theme, tone="tertiary", size="small")
        bar.row.addWidget(self._count)
        bar.row.addStretch(1)
        column.addWidget(bar)
        self._ground = QWidget()
        self._grid = QGridLayout(self._ground)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(8)
        column.addWidget(self._ground)

    def set_plots(self, plots: list[CurvePlot]) -> None:
        self.plots = plots
        self._count.setText(count_text(len(plots), "plot"))

    def lay_out(self, columns: int) -> None:
        while self._grid.count():
            self._grid.takeAt(0)
        for place, plot in enumerate(self.plots):
            plot.setFixedHeight(PLOT_HEIGHT)
            self._grid.addWidget(plot, place // columns, place % columns)
        for column in range(4):
            self._grid.setColumnStretch(column, 1 if column < columns else 0)

    @property
    def is_folded(self) -> bool:
        return self._title.isChecked()

    def _on_folded(self) -> None:
        self._ground.setVisible(not self.is_folded)
        self._title.set_icon("ph.caret-right" if self.is_folded else "ph.caret-down")
        self.folded.emit()


class PlotsPane(Pane):
    """Toolbar, plots, readout. `set_runs` says which runs are drawn; only plots in view are read and painted."""

    row_hovered = Signal(object)

    def __init__(self, bridge: Bridge, theme: Theme) -> None:
        super().__init__(ground="window")
        self._bridge = bridge
        self._theme = theme
        self._source = CurveSource()
        self._runs: tuple[RunSummary, ...] = ()
        self._plots: dict[str, CurvePlot] = {}
        self._groups: list[PlotGroup] = []
        self._stale: set[str] = set()
        self._counts: dict[str, tuple[tuple[str, int, RunState], ...]] = {}
        self._is_reading = False
        self._axis = Axis.STEP
        self._columns = 0
        self._zoom: tuple[float, float] | None = None
        self._hovered_x: float | None = None
        self._hovered_plot = ""
        self._log: set[str] = set()
        self.setMinimumWidth(420)
        self._tool_bar()
        self._split = Splitter(vertical=True)
        self.column.addWidget(self._split, 1)
        content = QWidget()
        self._stack = QVBoxLayout(content)
        self._stack.setContentsMargins(0, 0, 0, 8)
        self._stack.setSpacing(0)
        self._empty = EmptyState(
            "Nothing to draw yet.", "Curves appear with the first number that a run logs or prints.", theme
        )
        self._empty.setContentsMargins(16, 16, 16, 16)
        self._stack.addWidget(self._empty)
        self._stack.addStretch(1)
        self._scroll = Scroll(content, ground="window")
        self._scroll.verticalScrollBar().valueChanged.connect(self._schedule)
        self._split.addWidget(self._scroll)
        self.readout = Readout(theme)
        self.readout.row_hovered.connect(self._on_readout_hovered)
        self._split.addWidget(self.readout)
        self._split.setStretchFactor(0, 1)
        self._split.setStretchFactor(1, 0)
        self._split.setSizes([600, 28 + 6 * theme.length("height.readout_row")])
        self._timer = QTimer(self, singleShot=True, interval=theme.length("motion.live_refresh_plots"))
        self._timer.timeout.connect(self._read)

    # What is drawn

    def set_runs(self, runs: Sequence[RunSummary]) -> None:
        """Draw these runs (the first is drawn last, on top) and bring their curves up to date."""
        self._runs = tuple(runs)
        names = metric_names(runs)[:MOST_PLOTS]
        if names != list(self._plots):
            self._arrange(names)
        for name in names:
            counts = tuple(
                (run.id, metric.count, run.state)
                for run in self._runs
                if (metric := metric_of(run, name)) is not None
            )
            if counts != self._counts.get(name):
                self._counts[name] = counts
                self._stale.add(name)
        self._schedule()
        if self._hovered_x is None:
            self._show_readout()

    def set_emphasis(self, run_id: str | None) -> None:
        for name, plot in self._plots.items():
            plot.set_emphasis(None if run_id is None else CurveRequest(run_id, name).key)

    def plot(self, name: str) -> CurvePlot | None:
        return self._plots.get(name)

    def plot_names(self) -> list[str]:
        return list(self._plots)

    @property
    def is_idle(self) -> bool:
        """Nothing is being read and nothing waits to be."""
        return not self._is_reading and not self._timer.isActive()

    # Qt

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def showEvent(self, event: QShowEvent) -> None:
        self._schedule()

    # Inside

    def _tool_bar(self) -> None:
        theme = self._theme
        bar = Bar(height=40, edge="", margins=(12, 12), spacing=6)
        self._axis_select = Select(
            theme, name="Horizontal axis", options=[(axis.value, words) for axis, words in _AXES], small=True
        )
        self._axis_select.setFixedWidth(100)
        self._axis_select.value_changed.connect(self._on_axis_changed)
        bar.row.addWidget(self._axis_select)
        bar.row.addWidget(Label("Smooth", theme, tone="secondary", size="small"))
        self._smooth = QSlider(Qt.Orientation.Horizontal)
        self._smooth.setRange(0, 99)
        self._smooth.setValue(80)
        self._smooth.setFixedWidth(56)
        self._smooth.setAccessibleName("Smoothing")
        self._smooth.setToolTip(
            "Debiased moving average over the same share of the width whatever the number of points; "
            "what was logged stays faint behind it"
        )
        self._smooth.valueChanged.connect(self._on_smoothing_changed)
        bar.row.addWidget(self._smooth)
        self._smooth_text = Label("0.80", theme, size="small")
        self._smooth_text.setFixedWidth(30)
        bar.row.addWidget(self._smooth_text)
        bar.row.addStretch(1)
        self._log_chip = Chip("Log y", theme)
        self._log_chip.toggled.connect(self._on_style_changed)
        bar.row.addWidget(self._log_chip)
        self._cut_chip = Chip("Cut outliers", theme)
        self._cut_chip.setChecked(True)
        self._cut_chip.setToolTip("Choose the range of y without a few points that lie far outside")
        self._cut_chip.toggled.connect(self._on_cut_toggled)
        bar.row.addWidget(self._cut_chip)
        self.column.addWidget(bar)

    def _arrange(self, names: list[str]) -> None:
        for name in [name for name in self._plots if name not in names]:
            plot = self._plots.pop(name)
            plot.setParent(None)
            plot.deleteLater()
        for name in names:
            if name not in self._plots:
                plot = CurvePlot(self._theme, title=name.rpartition("/")[2])
                plot.set_cut_outliers(self._cut_chip.isChecked())
                plot.setToolTip("")
                plot.hovered.connect(lambda x, name=name: self._on_hovered(name, x))
                plot.zoomed.connect(self._on_zoomed)
                self._plots[name] = plot
                self._stale.add(name)
        self._plots = {name: self._plots[name] for name in names}
        prefixes: dict[str, list[CurvePlot]] = {}
        for name in names:
            prefixes.setdefault(name.rpartition("/")[0], []).append(self._plots[name])
        old = {group.prefix: group for group in self._groups}
        self._groups = []
        for place, (prefix, plots) in enumerate(prefixes.items()):
            group = old.pop(prefix, None)
            if group is None:
                group = PlotGroup(prefix, self._theme)
                group.folded.connect(self._schedule)
            group.set_plots(plots)
            self._stack.insertWidget(place, group)
            self._groups.append(group)
        for group in old.values():
            self._stack.removeWidget(group)
            group.deleteLater()
        self._empty.setVisible(not names)
        self._columns = 0
        self._lay_out()

    def _lay_out(self) -> None:
        columns = max(1, min(4, (self.width() - 24) // 228))
        if columns != self._columns:
            self._columns = columns
            for group in self._groups:
                group.lay_out(columns)
        self._schedule()

    def _style(self, plot: CurvePlot) -> CurveStyle:
        return CurveStyle(
            axis=self._axis,
            smoothing=self._smooth.value() / 100,
            log=self._log_chip.isChecked(),
            points=max(200, 2 * plot.width()),
            extent=self._zoom,
        )

    def _schedule(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _visible(self) -> list[str]:
        """Plots that are in view now."""
        if not self.isVisible():
            return []
        port = self._scroll.viewport()
        return [
            name
            for name, plot in self._plots.items()
            if plot.isVisible() and not plot.visibleRegion().isEmpty() and port.isVisible()
        ]

    def _read(self) -> None:
        if self._is_reading:
            return
        wanted = [name for name in self._visible() if name in self._stale]
        if not wanted:
            return
        self._is_reading = True
        self._stale.difference_update(wanted)
        work: list[tuple[str, list[CurveRequest], CurveStyle]] = []
        for name in wanted:
            requests = [
                CurveRequest(run.id, name, count=metric.count, origin=run.started or 0.0)
                for run in reversed(self._runs)
                if (metric := metric_of(run, name)) is not None and metric.count
            ]
            work.append((name, requests, self._style(self._plots[name])))

        def read(history: History) -> list[tuple[str, tuple[CurveData, ...], CurveStyle]]:
            return [(name, self._source.prepare(history, asked, style), style) for name, asked, style in work]

        self._bridge.read(read, self._on_read, owner=self, failed=self._on_read_failed)

    def _on_read(self, found: list[tuple[str, tuple[CurveData, ...], CurveStyle]]) -> None:
        self._is_reading = False
        runs = {run.id: run for run in self._runs}
        for name, curves, style in found:
            plot = self._plots.get(name)
            if plot is None:
                continue
            shown = []
            for data in curves:
                run = runs.get(data.key.partition("/")[0])
                if run is not None:
                    shown.append(Curve(data, run.colour, is_live=run.state is RunState.RUNNING))
            plot.set_scales(_SCALES.get(style.axis, Scale.NUMBER), Scale.LOG if style.log else Scale.NUMBER)
            plot.set_title(
                name.rpartition("/")[2],
                detail="log" if style.log else "",
                right=count_text(len(shown), "run"),
            )
            plot.set_curves(shown)
        self._show_readout()
        if self._stale:
            self._schedule()

    def _on_read_failed(self, error: Exception) -> None:
        self._is_reading = False
        self._bridge.failed.emit(error)

    # What the user does

    def _on_axis_changed(self, value: str) -> None:
        self._axis = Axis(value)
        self._zoom = None
        for plot in self._plots.values():
            plot.set_x_range(None)
        self._on_style_changed()

    def _on_smoothing_changed(self, value: int) -> None:
        self._smooth_text.setText(f"{value / 100:.2f}")
        self._on_style_changed()

    def _on_style_changed(self) -> None:
        self._stale = set(self._plots)
        for plot in self._plots.values():
            plot.show_crosshair(None)
        self._hovered_x = None
        self._schedule()

    def _on_cut_toggled(self, cut: bool) -> None:
        for plot in self._plots.values():
            plot.set_cut_outliers(cut)

    def _on_zoomed(self, extent: object) -> None:
        sender = self.sender()
        self._zoom = extent  # type: ignore[assignment]
        for plot in self._plots.values():
            if plot is not sender:
                plot.set_x_range(self._zoom)
        for name, counts in self._counts.items():
            if any(count > WHOLE_LIMIT for _, count, _ in counts):
                # Of long series only what is seen is read, in as much detail as can be drawn.
                self._stale.add(name)
        self._schedule()

    def _on_hovered(self, name: str, x: float | None) -> None:
        if x is None and self._hovered_x is None:
            return
        self._hovered_x = x
        self._hovered_plot = name if x is not None else ""
        lowest = self._lowest_in_view()
        for other, plot in self._plots.items():
            plot.show_crosshair(x, chip=other in (name, lowest))
        self._show_readout()

    def _lowest_in_view(self) -> str:
        names = self._visible()
        return names[-1] if names else ""

    def _on_readout_hovered(self, run_id: str | None) -> None:
        self.set_emphasis(run_id)
        self.row_hovered.emit(run_id)

    def _show_readout(self) -> None:
        names = list(self._plots)
        x = self._hovered_x
        rows: list[ReadoutRow] = []
        at: dict[str, dict[str, float]] = {}
        if x is not None:
            at = {name: plot.values_at(x) for name, plot in self._plots.items()}
        for run in self._runs:
            if x is not None:
                values = tuple(at[name].get(CurveRequest(run.id, name).key) for name in names)
            else:
                values = tuple(
                    metric.last if (metric := metric_of(run, name)) is not None else None for name in names
                )
            if any(value is not None for value in values):
                rows.append(ReadoutRow(run.id, run.name, run.colour, values))
        sorted_by = names.index(self._hovered_plot) if self._hovered_plot in names else -1
        if sorted_by >= 0:
            rows.sort(key=lambda row: _sort_key(row.values[sorted_by]), reverse=True)
        detail = count_text(len(rows), "run")
        if x is None:
            self.readout.show_rows("Last values", detail, names, rows)
        else:
            words = dict(_AXES)[self._axis].lower() if self._axis in (Axis.STEP, Axis.EPOCH) else ""
            scale = _SCALES.get(self._axis, Scale.NUMBER)
            title = f"At {words} {place_text(x, scale)}".replace("  ", " ")
            self.readout.show_rows(title, detail, names, rows, sorted_by=sorted_by)


def _sort_key(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value
