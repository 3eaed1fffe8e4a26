"""Curves read from a real history: continued by their tails, on any axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlstudio.gui.plots.source import Axis, CurveRequest, CurveSource, CurveStyle
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
