"""What is read for plots: series kept in memory and continued by their tails, turned into arrays ready to draw.

Everything here runs on the bridge's one reader thread (`CurveSource` is not locked). What leaves it is immutable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlstudio.gui.plots.smoothing import Floats, smooth, thin
from mlstudio.model.errors import NotFound

if TYPE_CHECKING:
    from mlstudio.store import History

WHOLE_LIMIT = 60_000
"""Of series with more points only what is seen is read, thinned; shorter ones are kept whole."""
BESIDE = 0.05
"""So much of what is looked at is read beyond its ends, so that lines go on to the edges."""
THINNED_POINTS = 4800
KEPT_POINTS = 6_000_000
VIEW_POINTS = 1000
"""A smoothing weight is that of a curve with this many points."""
LEAST_WEIGHT = 0.02
"""Below it smoothing cannot be seen: then there is no raw layer either."""


class Axis(StrEnum):
    """What x is."""

    STEP = "step"
    EPOCH = "epoch"
    """The run's own ``epoch`` series at that step; the step itself where it has none."""
    WALL = "wall"
    RELATIVE = "relative"


@dataclass(frozen=True, slots=True)
class CurveRequest:
    """One curve to draw."""

    run_id: str
    name: str
    kind: str = "metric"
    count: int = 0
    """Points there are, as the run table knows it."""
    origin: float = 0.0
    """Zero of the relative axis (UTC seconds)."""
    factor: float = 1.0
    """What values are divided by, to be shown in another unit."""

    @property
    def key(self) -> str:
        return f"{self.run_id}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class CurveStyle:
    """How every curve of a plot is prepared."""

    axis: Axis = Axis.STEP
    smoothing: float = 0.0
    log: bool = False
    points: int = 2400
    """About how many points are worth drawing: twice the pixels."""
    extent: tuple[float, float] | None = None
    """What of the axis is looked at; None: all. Of series that are too long to be kept only that is read."""


@dataclass(frozen=True, slots=True)
class CurveData:
    """A curve ready to draw. On a log axis the y's are log10; the raw ones are None where nothing was smoothed."""

    key: str
    x: Floats
    y: Floats
    raw_x: Floats | None
    raw_y: Floats | None
    count: int
    last: float | None
    """The newest value as it was logged (not smoothed, not log10)."""


@dataclass(slots=True)
class _Kept:
    steps: NDArray[np.int64]
    times: Floats
    values: Floats
    count: int
    is_whole: bool


class CurveSource:
    """Keeps what was read, up to `KEPT_POINTS` points; the least lately used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._shaped: dict[str, tuple[int, CurveStyle, CurveData]] = {}

    def prepare(
        self, history: History, requests: Iterable[CurveRequest], style: CurveStyle
    ) -> tuple[CurveData, ...]:
        """Curves for `requests` in their order; those without points are left out."""
        found: list[CurveData] = []
        for request in requests:
            is_long = request.count > WHOLE_LIMIT
            wanted = style if is_long or style.extent is None else replace(style, extent=None)
            done = self._shaped.get(request.key)
            if is_long and done is not None and done[:2] == (request.count, wanted):
                found.append(done[2])
                continue
            zoomed = is_long and wanted.extent is not None
            kept = self._window(history, request, wanted) if zoomed else self._read(history, request)
            if kept is not None and kept.values.size:
                if done is None or done[0] != kept.count or done[1] != wanted:
                    done = (kept.count, wanted, self._shape(history, request, kept, wanted))
                    self._shaped[request.key] = done
                found.append(done[2])
        self._forget()
        return tuple(found)

    def places(
        self, history: History, request: CurveRequest, moments: Iterable[float], axis: Axis
    ) -> list[float]:
        """Where moments (UTC seconds) stand on an axis of this curve."""
        if axis is Axis.WALL:
            return list(moments)
        kept = self._read(history, request)
        if kept is None or not kept.values.size:
            return []
        x = self._places(history, request, kept, axis)
        if axis is Axis.RELATIVE:
            return [moment - float(kept.times[0]) + float(x[0]) for moment in moments]
        return [float(place) for place in np.interp(list(moments), kept.times, x)]

    def forget(self, run_id: str) -> None:
        """Drop what was kept of a removed run."""
        for key in [key for key in self._kept if key.startswith(f"{run_id}/")]:
            del self._kept[key]
            self._shaped.pop(key, None)

    def _read(self, history: History, request: CurveRequest) -> _Kept | None:
        kept = self._kept.get(request.key)
        try:
            if kept is not None and kept.count >= request.count > 0:
                pass
            elif request.count > WHOLE_LIMIT:
                series = history.thinned(
                    request.run_id, request.name, kind=request.kind, max_points=THINNED_POINTS
                )
                kept = _Kept(series.steps, series.times, series.values, request.count, is_whole=False)
            elif kept is None or not kept.is_whole:
                series = history.series(request.run_id, request.name, kind=request.kind)
                kept = _Kept(
                    series.steps, series.times, series.values, int(series.values.size), is_whole=True
                )
            else:
                tail = history.series(request.run_id, request.name, kind=request.kind, start=kept.count)
                if tail.values.size:
                    kept = _Kept(
                        np.concatenate((kept.steps, tail.steps)),
                        np.concatenate((kept.times, tail.times)),
                        np.concatenate((kept.values, tail.values)),
                        kept.count + int(tail.values.size),
                        is_whole=True,
                    )
        except NotFound:
            return None
        self._kept[request.key] = kept
        self._kept.move_to_end(request.key)
        return kept

    def _window(self, history: History, request: CurveRequest, style: CurveStyle) -> _Kept | None:
        """The points of what is looked at, as few as look like all of them."""
        if style.extent is None:
            return None
        beside = BESIDE * (style.extent[1] - style.extent[0])
        low, high = style.extent[0] - beside, style.extent[1] + beside
        if style.axis is Axis.RELATIVE and not request.origin:
            whole = self._read(history, request)
            first = float(whole.times[0]) if whole is not None and whole.times.size else 0.0
            low, high = low + first, high + first
        elif style.axis is Axis.RELATIVE:
            low, high = low + request.origin, high + request.origin
        elif style.axis is Axis.EPOCH and request.name != "epoch":
            epochs = self._read(history, CurveRequest(request.run_id, "epoch"))
            if epochs is not None and epochs.values.size:
                low, high = np.interp((low, high), epochs.values, epochs.steps.astype(np.float64))
        try:
            series = history.window(
                request.run_id,
                request.name,
                kind=request.kind,
                axis="time" if style.axis in (Axis.WALL, Axis.RELATIVE) else "step",
                low=float(low),
                high=float(high),
                max_points=THINNED_POINTS,
            )
        except NotFound:
            return None
        return _Kept(series.steps, series.times, series.values, request.count, is_whole=False)

    def _shape(self, history: History, request: CurveRequest, kept: _Kept, style: CurveStyle) -> CurveData:
        x = self._places(history, request, kept, style.axis)
        values = kept.values if request.factor == 1.0 else kept.values / request.factor
        order_matters = x.size > 1 and bool(np.any(np.diff(x) < 0))
        if order_matters:
            order = np.argsort(x, kind="stable")
            x, values = x[order], values[order]
        # The same weight smooths over the same share of the plot's width, however many points there are (also when
        # they were thinned): Weights & Biases scales its moving average to 1000 points a view in the same way.
        weight = style.smoothing ** (VIEW_POINTS / values.size) if style.smoothing > 0 else 0.0
        smoothed = smooth(values, weight)
        raw_x: Floats | None = None
        raw_y: Floats | None = None
        if weight >= LEAST_WEIGHT:
            raw_x, raw_y = thin(x, _scaled(values, style.log), style.points)
        y_x, y = thin(x, _scaled(smoothed, style.log), style.points)
        return CurveData(
            key=request.key,
            x=y_x,
            y=y,
            raw_x=raw_x,
            raw_y=raw_y,
            count=kept.count,
            last=float(kept.values[-1]) if values.size else None,
        )

    def _places(self, history: History, request: CurveRequest, kept: _Kept, axis: Axis) -> Floats:
        if axis is Axis.WALL:
            return kept.times
        if axis is Axis.RELATIVE:
            origin = request.origin or (float(kept.times[0]) if kept.times.size else 0.0)
            return kept.times - origin
        steps = kept.steps.astype(np.float64)
        if axis is Axis.EPOCH and request.name != "epoch":
            epochs = self._read(history, CurveRequest(request.run_id, "epoch"))
            if epochs is not None and epochs.values.size:
                return np.asarray(np.interp(steps, epochs.steps.astype(np.float64), epochs.values))
        return steps

    def _forget(self) -> None:
        total = sum(kept.values.size for kept in self._kept.values())
        while total > KEPT_POINTS and len(self._kept) > 1:
            key, oldest = self._kept.popitem(last=False)
            self._shaped.pop(key, None)
            total -= oldest.values.size


def _scaled(values: Floats, log: bool) -> Floats:
    if not log:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log10(np.where(values > 0, values, 1.0)), np.nan)
