"""Curves read from a real history: continued by their tails, on any axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlstudio.gui.plots.source import WHOLE_LIMIT, Axis, CurveRequest, CurveSource, CurveStyle
from mlstudio.model.record import Batch, Cursor
from mlstudio.model.run import RunSpec
from mlstudio.store import History
from tests.gui.seed import points


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "history.db")
    made.add_run(RunSpec(command=("python", "a.py")), run_id="r", name="r", created=0, engine_kind="fake")
    yield made
    made.close()


def add(history: History, seq: int, values: list[float], *, first: int = 0, name: str = "loss") -> None:
    steps = np.arange(first, first + len(values))
    batch = points(name, steps, 100.0 + steps, np.array(values))
    history.apply("r", Batch(cursor=Cursor(seq=seq), points=(batch,)))


def test_a_curve_grows_by_its_tail_only(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CurveSource()
    add(history, 0, [3.0, 2.0, 1.0])
    (first,) = source.prepare(history, [CurveRequest("r", "loss", count=3)], CurveStyle())
    assert first.y.tolist() == [3.0, 2.0, 1.0]
    add(history, 1, [0.5, math.nan], first=3)
    starts: list[int] = []
    read = history.series

    def watched(
        run_id: str, name: str, *, kind: str = "metric", start: int = 0, stop: int | None = None
    ) -> object:
        starts.append(start)
        return read(run_id, name, kind=kind, start=start, stop=stop)

    monkeypatch.setattr(history, "series", watched)
    (second,) = source.prepare(history, [CurveRequest("r", "loss", count=5)], CurveStyle())
    assert starts == [3]
    assert second.x.tolist() == [0, 1, 2, 3, 4]
    assert math.isnan(second.y[-1])
    (again,) = source.prepare(history, [CurveRequest("r", "loss", count=5)], CurveStyle())
    assert again is second
    assert starts == [3]


def test_axes_and_scales(history: History) -> None:
    source = CurveSource()
    add(history, 0, [10.0, 0.0, 1000.0])
    add(history, 1, [0.0, 0.5, 1.0], name="epoch")
    request = CurveRequest("r", "loss", count=3, origin=100.0, factor=10.0)

    def of(style: CurveStyle) -> tuple[list[float], list[float]]:
        (curve,) = source.prepare(history, [request], style)
        return curve.x.tolist(), curve.y.tolist()

    assert of(CurveStyle(axis=Axis.WALL))[0] == [100.0, 101.0, 102.0]
    assert of(CurveStyle(axis=Axis.RELATIVE))[0] == [0.0, 1.0, 2.0]
    assert of(CurveStyle(axis=Axis.EPOCH))[0] == [0.0, 0.5, 1.0]
    logs = of(CurveStyle(log=True))[1]
    assert (logs[0], logs[2]) == (0.0, 2.0)
    assert math.isnan(logs[1])


def test_what_is_not_there_is_left_out(history: History) -> None:
    assert CurveSource().prepare(history, [CurveRequest("r", "nothing")], CurveStyle()) == ()


def test_smoothing_keeps_what_was_logged_behind_it(history: History) -> None:
    values = (np.linspace(5, 1, 2000) + np.random.default_rng(0).normal(0, 0.3, 2000)).tolist()
    add(history, 0, values)
    request = CurveRequest("r", "loss", count=2000)
    (curve,) = CurveSource().prepare(history, [request], CurveStyle(smoothing=0.9, points=4000))
    assert curve.raw_y is not None
    assert curve.raw_y.tolist() == values
    assert np.std(np.diff(curve.y)) < np.std(np.diff(curve.raw_y)) / 5
    assert curve.last == values[-1]


def long_series(history: History) -> int:
    """A long flat series with one peak of a single point; returns how many points it has."""
    count = WHOLE_LIMIT * 3
    values = np.zeros(count)
    values[123_456] = 7.0
    steps = np.arange(count)
    parts = (
        points("loss", steps, 1000.0 + steps / 10, values),
        points("epoch", steps[::1000], 1000.0 + steps[::1000] / 10, steps[::1000] / 10_000),
    )
    history.apply("r", Batch(cursor=Cursor(seq=0), points=parts))
    return count


@pytest.mark.parametrize(
    ("axis", "extent", "peak"),
    [
        (Axis.STEP, (123_400.0, 123_500.0), 123_456.0),
        (Axis.WALL, (13_340.0, 13_350.0), 13_345.6),
        (Axis.RELATIVE, (12_340.0, 12_350.0), 12_345.6),
        (Axis.EPOCH, (12.34, 12.35), 12.3456),
    ],
)
def test_a_long_series_is_read_as_it_is_looked_at(
    history: History, axis: Axis, extent: tuple[float, float], peak: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = CurveSource()
    request = CurveRequest("r", "loss", count=long_series(history), origin=1000.0)
    (whole,) = source.prepare(history, [request], CurveStyle(axis=axis))
    assert whole.y.max() == 7.0
    assert whole.x.size < 6000
    style = CurveStyle(axis=axis, extent=extent)
    (seen,) = source.prepare(history, [request], style)
    # Every point that was logged there, and a few beside them.
    width = extent[1] - extent[0]
    assert 100 <= seen.x.size <= 115
    assert extent[0] - width < seen.x[0] <= extent[0]
    assert extent[1] <= seen.x[-1] < extent[1] + width
    assert seen.x[int(np.argmax(seen.y))] == pytest.approx(peak)
    monkeypatch.setattr(history, "window", None)
    assert source.prepare(history, [request], style) == (seen,)


def test_a_short_series_stays_as_it_is_when_it_is_zoomed(history: History) -> None:
    source = CurveSource()
    add(history, 0, [3.0, 2.0, 1.0])
    request = CurveRequest("r", "loss", count=3)
    (whole,) = source.prepare(history, [request], CurveStyle())
    (zoomed,) = source.prepare(history, [request], CurveStyle(extent=(1.0, 2.0)))
    assert zoomed is whole


def test_moments_have_their_place_on_every_axis(history: History) -> None:
    source = CurveSource()
    add(history, 0, [10.0, 0.0, 1000.0])
    add(history, 1, [0.0, 0.5, 1.0], name="epoch")
    request = CurveRequest("r", "loss", count=3, origin=100.0)
    moments = [100.5, 102.0]
    assert source.places(history, request, moments, Axis.WALL) == moments
    assert source.places(history, request, moments, Axis.RELATIVE) == [0.5, 2.0]
    assert source.places(history, request, moments, Axis.STEP) == [0.5, 2.0]
    assert source.places(history, request, moments, Axis.EPOCH) == [0.25, 1.0]
    assert source.places(history, CurveRequest("r", "nothing"), moments, Axis.STEP) == []
