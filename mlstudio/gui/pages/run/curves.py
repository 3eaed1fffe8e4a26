"""Curves and system readings of one run: plots under each other on one x axis, values then and now beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from mlstudio.gui.bridge import Bridge
from mlstudio.gui.figures import number_text
from mlstudio.gui.pages.run.gaps import Hole, holes_of
from mlstudio.gui.pages.run.origins import also_reported, origins_of
from mlstudio.gui.pages.run.side import Reading, SideColumn
from mlstudio.gui.pages.run.strips import Strip, reading_title, reading_words, shown_readings, strips_of
from mlstudio.gui.plots.axis import AxisBar
from mlstudio.gui.plots.marks import Band
from mlstudio.gui.plots.plot import Curve, CurvePlot
from mlstudio.gui.plots.source import WHOLE_LIMIT, Axis, CurveData, CurveRequest, CurveSource, CurveStyle
from mlstudio.gui.plots.ticks import Scale, place_text
from mlstudio.gui.theme.theme import Theme
from mlstudio.gui.widgets.empty import EmptyState
from mlstudio.gui.widgets.form import Line
from mlstudio.gui.widgets.panes import Pane, Scroll
from mlstudio.model.run import MetricSummary, RunEvent, RunState, RunSummary

if TYPE_CHECKING:
    from mlstudio.store import History

LEFT = 52
SMOOTHING = 0.9
_SCALES = {Axis.WALL: Scale.CLOCK, Axis.RELATIVE: Scale.SPAN}


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read for the plots of a run that had so many `gaps` then."""

    run_id: str
    gaps: int
    holes: tuple[Hole, ...]
    strips: list[tuple[Strip, tuple[CurveData, ...], CurveStyle, tuple[Band, ...]]]


class CurvesTab(QWidget):
    """`time_chosen` tells the wall time of a click, for the log."""

    time_chosen = Signal(float)

    def __init__(self, bridge: Bridge, theme: Theme) -> None:
        super().__init__()
        self._bridge = bridge
        self._theme = theme
        self._source = CurveSource()
        self._run: RunSummary | None = None
        self._system: dict[str, MetricSummary] = {}
        self._events: tuple[RunEvent, ...] = ()
        self._strips: list[Strip] = []
        self._plots: dict[str, CurvePlot] = {}
        self._axis = Axis.WALL
        self._log = False
        self._is_reading = False
        self._is_stale = True
        self._zoom: tuple[float, float] | None = None
        self._whole: tuple[float, float] | None = None
        """What there is of the axis, without a zoom."""
        self._crosshair: float | None = None
        self._also: dict[str, str] = {}
        self._holes: tuple[Hole, ...] = ()
        self._holes_of: int | None = None
        """For how many gaps the holes were looked for."""
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self._body = QStackedWidget()
        row.addWidget(self._body, 1)
        row.addWidget(Line(vertical=True))
        self.side = SideColumn(theme)
        row.addWidget(self.side)
        plots = Pane(ground="base")
        content = QWidget()
        self._column = QVBoxLayout(content)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addStretch(1)
        self._scroll = Scroll(content)
        plots.column.addWidget(self._scroll, 1)
        plots.column.addWidget(Line())
        self._axis_bar = AxisBar(theme, left=LEFT)
        plots.column.addWidget(self._axis_bar)
        self._body.addWidget(plots)
        nothing = Pane(ground="base")
        nothing.column.setContentsMargins(24, 24, 24, 24)
        self._empty = EmptyState("", "", theme)
        nothing.column.addWidget(self._empty)
        nothing.column.addStretch(1)
        self._body.addWidget(nothing)
        self._timer = QTimer(self, singleShot=True, interval=theme.length("motion.live_refresh_plots"))
        self._timer.timeout.connect(self._read)

    @property
    def axis(self) -> Axis:
        return self._axis

    @property
    def is_idle(self) -> bool:
        return not self._is_reading and not self._timer.isActive()

    def strips(self) -> list[Strip]:
        return list(self._strips)

    def plot(self, key: str) -> CurvePlot | None:
        return self._plots.get(key)

    def set_axis(self, axis: Axis) -> None:
        self._axis = axis
        self._zoom = None
        self._set_crosshair(None)
        self._touch()

    def set_log(self, log: bool) -> None:
        self._log = log
        self._touch()

    def show_run(self, run: RunSummary, metrics: Sequence[MetricSummary]) -> None:
        """Show a run, or bring the one that is shown up to date. `metrics` are its own and its system series."""
        is_other = self._run is None or self._run.id != run.id
        self._run = run
        self._system = {metric.name: metric for metric in metrics if metric.kind == "system"}
        self._metrics = [metric for metric in metrics if metric.kind == "metric"]
        if is_other:
            self._events = ()
        self.side.show_origins(origins_of(metrics, self._events))
        self._also = also_reported(metrics)
        self._counts = {(metric.kind, metric.name): metric.count for metric in metrics}
        if is_other:
            self._zoom = None
            self._whole = None
            self._crosshair = None
            self._holes = ()
            self._holes_of = None
        strips = strips_of(metrics)
        if is_other or [strip.key for strip in strips] != [strip.key for strip in self._strips]:
            self._arrange(strips)
        self._strips = strips
        self._say_nothing(run)
        self._body.setCurrentIndex(0 if strips else 1)
        self.side.show_parameters(run.parameters)
        self._show_values()
        self._touch()

    def show_events(self, events: Sequence[RunEvent]) -> None:
        """What happened to the run that is shown: loggers that were recognised stand at the side."""
        self._events = tuple(event for event in events if event.type == "logger")
        self.side.show_origins(origins_of(self._metrics, self._events))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._touch()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._touch()

    def _say_nothing(self, run: RunSummary) -> None:
        match run.state:
            case RunState.QUEUED:
                self._empty.statement.setText("Not started yet.")
                self._empty.sentence.setText(
                    run.phase or "The image is built first, then the container starts."
                )
            case RunState.RUNNING:
                self._empty.statement.setText("Nothing to draw yet.")
                self._empty.sentence.setText(
                    "Curves appear with the first number that the run logs or prints."
                )
            case _:
                self._empty.statement.setText("This run logged no numbers.")
                self._empty.sentence.setText("Its log may say more.")

    def _arrange(self, strips: list[Strip]) -> None:
        while self._column.count() > 1:
            item = self._column.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        self._plots = {}
        for strip in strips:
            if self._plots:
                self._column.insertWidget(self._column.count() - 1, Line())
            plot = CurvePlot(self._theme, title=strip.title, framed=False, show_x=False, left=LEFT)
            plot.setFixedHeight(strip.height)
            plot.set_y_limits(strip.floor, strip.top)
            plot.hovered.connect(self._set_crosshair)
            plot.zoomed.connect(self._on_zoomed)
            plot.clicked.connect(self._on_clicked)
            self._column.insertWidget(self._column.count() - 1, plot)
            self._plots[strip.key] = plot

    def _touch(self) -> None:
        self._is_stale = True
        if not self._timer.isActive():
            self._timer.start()

    def _read(self) -> None:
        run = self._run
        if run is None or self._is_reading or not self._is_stale or not self.isVisible():
            return
        self._is_stale = False
        self._is_reading = True
        points = max(400, 2 * self._scroll.width())
        work: list[tuple[Strip, list[CurveRequest], CurveStyle]] = []
        for strip in self._strips:
            requests = [
                CurveRequest(
                    run.id,
                    line.name,
                    kind=strip.kind,
                    count=self._counts.get((strip.kind, line.name), 0),
                    origin=run.started or 0.0,
                    factor=strip.factor,
                )
                for line in strip.lines
            ]
            style = CurveStyle(
                axis=self._axis if strip.kind == "metric" or self._axis in _SCALES else Axis.WALL,
                smoothing=SMOOTHING if strip.kind == "metric" else 0.0,
                log=self._log and strip.kind == "metric",
                points=points,
                extent=self._zoom,
            )
            work.append((strip, requests, style))
        known = self._holes if self._holes_of == run.gaps else None

        def read(history: History) -> _Read:
            holes = holes_of(history, run.id) if known is None and run.gaps else known or ()
            moments = [moment for hole in holes for moment in (hole.begin, hole.end)]
            found = []
            for strip, asked, style in work:
                curves = self._source.prepare(history, asked, style)
                places = self._source.places(history, asked[0], moments, style.axis) if moments else []
                pairs = zip(places[::2], places[1::2], holes, strict=False)
                bands = tuple(Band(low, high, hole.words) for low, high, hole in pairs)
                found.append((strip, curves, style, bands))
            return _Read(run.id, run.gaps, holes, found)

        self._bridge.read(read, self._on_read, owner=self, failed=self._on_read_failed)

    def _on_read(self, found: _Read) -> None:
        self._is_reading = False
        run = self._run
        if run is None or run.id != found.run_id:
            self._touch()
            return
        self._holes, self._holes_of = found.holes, found.gaps
        is_timed = self._axis in _SCALES
        extents: list[tuple[float, float]] = []
        for strip, curves, style, bands in found.strips:
            plot = self._plots.get(strip.key)
            if plot is None:
                continue
            # Without a time axis, system readings have no place on it: they are shown on time axes only.
            plot.setVisible(strip.kind == "metric" or is_timed)
            by_name = {data.key.partition("/")[2].partition("/")[2]: data for data in curves}
            plot.set_scales(_SCALES.get(style.axis, Scale.NUMBER), Scale.LOG if style.log else Scale.NUMBER)
            parts = [strip.detail]
            if any(data.raw_y is not None for data in curves):
                parts.append(f"EMA {style.smoothing:.2f} over raw")
            if style.log:
                parts.append("log")
            also = {self._also[line.name]: None for line in strip.lines if line.name in self._also}
            if also:
                parts.append(f"also reported by {', '.join(also)}")
            plot.set_bands(bands)
            plot.set_title(strip.title, detail=", ".join(part for part in parts if part))
            plot.set_curves(
                [
                    Curve(
                        by_name[line.name],
                        run.colour if strip.kind == "metric" else None,
                        dash=line.dash,
                        is_live=run.state is RunState.RUNNING and strip.kind == "metric",
                        is_area=line.is_area,
                    )
                    for line in strip.lines
                    if line.name in by_name
                ]
            )
            extent = plot.x_extent()
            if extent is not None and not plot.isHidden():
                extents.append(extent)
        if extents:
            if self._zoom is None:
                self._whole = (min(low for low, _ in extents), max(high for _, high in extents))
            shown = self._zoom or self._whole
            if shown is not None:
                self._show_extent(shown)
        self._show_values()
        if self._is_stale:
            self._touch()

    def _on_read_failed(self, error: Exception) -> None:
        self._is_reading = False
        self._bridge.failed.emit(error)

    def _show_extent(self, extent: tuple[float, float]) -> None:
        for plot in self._plots.values():
            plot.set_x_range(extent)
        bar = self._scroll.verticalScrollBar()
        right = self._theme.length("plot.margin_right") + (bar.width() if bar.isVisible() else 0)
        self._axis_bar.show_range(extent, _SCALES.get(self._axis, Scale.NUMBER), right=right)

    def _on_zoomed(self, extent: object) -> None:
        self._zoom = extent if isinstance(extent, tuple) else None
        shown = self._zoom or self._whole
        if shown is not None:
            self._show_extent(shown)
        if any(count > WHOLE_LIMIT for count in self._counts.values()):
            # Of long series only what is seen is read, in as much detail as can be drawn.
            self._touch()

    def _on_clicked(self, x: float) -> None:
        if self._axis is Axis.WALL:
            self.time_chosen.emit(x)
        elif self._axis is Axis.RELATIVE and self._run is not None and self._run.started is not None:
            self.time_chosen.emit(self._run.started + x)

    def _set_crosshair(self, x: float | None) -> None:
        if x == self._crosshair:
            return
        self._crosshair = x
        for plot in self._plots.values():
            plot.show_crosshair(x)
        self._axis_bar.show_crosshair(x)
        self._show_values()

    def _show_values(self) -> None:
        run, x = self._run, self._crosshair
        if run is None:
            return
        then: dict[tuple[str, str], float] = {}
        if x is not None:
            for strip in self._strips:
                plot = self._plots.get(strip.key)
                if plot is None:
                    continue
                for key, value in plot.values_at(x).items():
                    name = key.partition("/")[2].partition("/")[2]
                    then[strip.kind, name] = value * strip.factor
        metrics = [
            Reading(
                metric.name,
                number_text(then.get(("metric", metric.name))),
                number_text(metric.last),
                f"Also reported by {self._also[metric.name]}." if metric.name in self._also else "",
            )
            for strip in self._strips
            if strip.kind == "metric"
            for line in strip.lines
            for metric in self._metrics
            if metric.name == line.name
        ]
        system = [
            Reading(
                reading_title(name),
                reading_words(name, then.get(("system", name)), self._system),
                reading_words(name, self._system[name].last, self._system),
            )
            for name in shown_readings(self._system)
        ]
        words = "" if x is None else place_text(x, _SCALES.get(self._axis, Scale.NUMBER))
        if words and self._axis in (Axis.STEP, Axis.EPOCH):
            words = f"{self._axis.value} {words}"
        self.side.show_values(words, metrics, system)
