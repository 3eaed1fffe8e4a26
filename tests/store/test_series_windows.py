"""What is drawn of a series: few points, exact extremes, whatever the numbers, the order and the way they came."""

from __future__ import annotations

from array import array
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.store import History, points_rows
from mlstudio.store.columns import CHUNK_POINTS
from mlstudio.store.points_rows import Series, WindowAxis
from mlstudio.store.tails import unpack_tail
from mlstudio.store.thinning import remarkable, thin
from tests.store.conftest import add

Reals = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]

NUMBERS = st.floats(width=64)
HOLES = (np.isnan, np.isposinf, np.isneginf)


def holds_what_is_remarkable(kept: Reals, every: Reals) -> None:
    finite, kept_finite = every[np.isfinite(every)], kept[np.isfinite(kept)]
    if len(finite):
        assert kept_finite.max() == finite.max()
        assert kept_finite.min() == finite.min()
    for is_hole in HOLES:
        assert is_hole(kept).any() == is_hole(every).any()


# -- thinning ------------------------------------------------------------------------------------------------------------


@given(st.lists(NUMBERS, max_size=400), st.integers(8, 60))
def test_thinning_keeps_extremes_ends_and_holes(values: list[float], most: int) -> None:
    numbers = np.array(values, np.float64)
    kept = thin(numbers, most)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    if len(values):
        assert kept[0] == 0
        assert kept[-1] == len(values) - 1
        holds_what_is_remarkable(numbers[kept], numbers)


@given(st.lists(NUMBERS, min_size=9, max_size=400), st.integers(8, 60), st.data())
def test_thinning_of_what_has_gaps_keeps_the_same(
    values: list[float], most: int, data: st.DataObject
) -> None:
    numbers = np.array(values, np.float64)
    gaps = data.draw(
        st.lists(st.sampled_from([1, 1, 1, 2, 50, 10**9]), min_size=len(values), max_size=len(values))
    )
    places = np.cumsum(np.array(gaps, np.int64))
    kept = thin(numbers, most, places=places)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(values) - 1) or len(values) <= most
    holds_what_is_remarkable(numbers[kept], numbers)


@given(arrays.arrays(np.float64, st.integers(1, 300), elements=NUMBERS), st.integers(1, 70))
def test_what_is_remarkable_of_a_whole_is_among_what_is_remarkable_of_its_parts(
    values: Reals, width: int
) -> None:
    kept = remarkable(values, width)
    for low in range(0, len(values), width):
        part = values[low : low + width]
        inside = kept[(kept >= low) & (kept < low + width)]
        holds_what_is_remarkable(values[inside], part)
    twice = kept[remarkable(values[kept], 1_000_000)]
    holds_what_is_remarkable(values[twice], values)


# -- windows -------------------------------------------------------------------------------------------------------------


class Truth:
    """Points as they were logged, and how they were given to the history."""

    def __init__(self, steps: Steps, times: Reals, values: Reals) -> None:
        self.steps, self.times, self.values = steps, times, values

    def record(self, history: History, run_id: str, sizes: list[int], *, finish: bool) -> None:
        at = 0
        for seq, size in enumerate(sizes):
            part = slice(at, at + size)
            points = Points(
                name="loss",
                kind="metric",
                steps=array("q", self.steps[part].tobytes()),
                times=array("d", self.times[part].tobytes()),
                values=array("d", self.values[part].tobytes()),
            )
            history.apply(run_id, Batch(cursor=Cursor(seq=seq, position=str(seq)), points=(points,)))
            at += size
        if finish:
            history.finish(run_id)

    def check(
        self, found: Series, axis: WindowAxis, low: float | None, high: float | None, most: int
    ) -> None:
        """`found` must be a true and sufficient part of the window."""
        total = len(self.values)
        places = {"step": self.steps, "time": self.times, "index": np.arange(total)}[axis]
        wanted = np.ones(total, np.bool_)
        if low is not None:
            wanted &= places >= low
        if high is not None:
            wanted &= places <= high
        every = np.flatnonzero(wanted)
        assert found.total == total
        assert found.indices is not None
        kept = found.indices
        assert len(found) == len(kept) <= max(8, most)
        assert (np.diff(kept) > 0).all()
        assert wanted[kept].all()
        assert found.values.tobytes() == self.values[kept].tobytes()
        assert found.times.tobytes() == self.times[kept].tobytes()
        assert found.steps.tolist() == self.steps[kept].tolist()
        if len(every) <= max(8, most):
            assert kept.tolist() == every.tolist()
            return
        assert (kept[0], kept[-1]) == (every[0], every[-1])
        holds_what_is_remarkable(found.values, self.values[every])


def numbers(random: np.random.Generator, count: int, holes: list[float]) -> Reals:
    values = np.cumsum(random.standard_normal(count))
    if random.random() < 0.5:
        values = values.astype(np.float32).astype(np.float64)
    for hole in holes:
        values[random.integers(0, count, size=random.integers(1, 4))] = hole
        begin = int(random.integers(0, count))
        values[begin : begin + int(random.integers(0, 200))] = hole
    return values


def places(random: np.random.Generator, count: int, order: str) -> Steps:
    if order == "even":
        return np.arange(count, dtype=np.int64) * int(random.integers(1, 50)) - 1000
    if order == "rising":
        return np.cumsum(random.integers(0, 5, count)).astype(np.int64)
    if order == "again":
        return (np.arange(count) % max(1, count // 3)).astype(np.int64)
    return random.integers(-(2**62), 2**62, count)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 7, 500, 3000, 20_000, 70_000]), min_size=1, max_size=9),
    order=st.sampled_from(["even", "rising", "again", "wild"]),
    holes=st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=3),
    finish=st.booleans(),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_window_holds_what_is_remarkable(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    order: str,
    holes: list[float],
    finish: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    random = np.random.default_rng(seed)
    count = sum(sizes)
    steps = places(random, count, order)
    times = 1.7e9 + np.cumsum(random.random(count)) + random.integers(0, 2) * np.where(steps % 97, 0, -50)
    if random.random() < 0.2:
        times[random.integers(0, count)] = np.nan
    truth = Truth(steps, times, numbers(random, count, holes))
    history = History(tmp_path_factory.mktemp("home") / "history.db")
    try:
        run_id = add(history)
        truth.record(history, run_id, sizes, finish=finish)
        truth.check(history.thinned(run_id, "loss", max_points=40), "step", None, None, 40)
        for _ in range(6):
            axis: WindowAxis = data.draw(st.sampled_from(["step", "time", "index"]))
            bounds: list[float] = sorted(
                float(
                    {"step": steps, "time": times, "index": np.arange(count)}[axis][random.integers(0, count)]
                )
                for _ in range(2)
            )
            low, high = (bound if data.draw(st.integers(0, 3)) else None for bound in bounds)
            most = data.draw(st.sampled_from([3, 8, 20, 64, 2400]))
            found = history.window(run_id, "loss", axis=axis, low=low, high=high, max_points=most)
            truth.check(found, axis, low, high, most)
        whole = history.series(run_id, "loss")
        assert whole.values.tobytes() == truth.values.tobytes()
        assert whole.steps.tobytes() == truth.steps.tobytes()
        assert whole.times.tobytes() == truth.times.tobytes()
    finally:
        history.close()


def test_a_window_of_a_long_series_reads_no_points(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = add(history)
    random = np.random.default_rng(0)
    count = 8 * CHUNK_POINTS
    truth = Truth(np.arange(count), np.arange(count) / 7, random.standard_normal(count))
    truth.record(history, run_id, [2 * CHUNK_POINTS] * 4, finish=True)

    def unpack(*_: object) -> None:
        raise AssertionError("points were read")

    with monkeypatch.context() as patch:
        patch.setattr(points_rows, "unpack_values", unpack)
        truth.check(history.thinned(run_id, "loss", max_points=2400), "step", None, None, 2400)
        patch.setattr(points_rows, "unpack_axis", unpack)
        truth.check(history.thinned(run_id, "loss", max_points=200), "step", None, None, 200)
        # Only what lies at the borders of a window is looked at point by point.
        whole = (CHUNK_POINTS, 7 * CHUNK_POINTS - 1)
        found = history.window(run_id, "loss", low=whole[0], high=whole[1], max_points=200)
        truth.check(found, "step", *whole, 200)


def test_many_runs_are_read_in_few_questions(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ids = [add(history, f"run {number}") for number in range(12)]
    random = np.random.default_rng(0)
    truths = {}
    for number, run_id in enumerate(run_ids[:-1]):
        count = 500 * (number + 1) ** 2
        truth = truths[run_id] = Truth(np.arange(count), np.arange(count) / 7, random.standard_normal(count))
        truth.record(history, run_id, [count], finish=bool(number % 2))
    found = history.series_many([*run_ids, "no such run", run_ids[0]], "loss", max_points=100)
    assert list(found) == run_ids[:-1]
    for run_id, series in found.items():
        truths[run_id].check(series, "step", None, None, 100)
    monkeypatch.setattr(points_rows, "_SERIES_AT_ONCE", 3)
    again = history.series_many(run_ids, "loss", low=100, high=2000, max_points=100)
    for run_id, series in again.items():
        truths[run_id].check(series, "step", 100, 2000, 100)
    assert history.series_many(run_ids, "nothing") == {}
    assert history.series_many([], "loss") == {}


def test_what_a_window_cannot_be(history: History) -> None:
    run_id = add(history)
    with pytest.raises(NotFound):
        history.window(run_id, "loss")
    with pytest.raises(RequestError, match="epoch"):
        history.window(run_id, "loss", axis="epoch")  # type: ignore[arg-type]


def test_a_window_that_holds_nothing(history: History) -> None:
    run_id = add(history)
    Truth(np.arange(100), np.arange(100.0), np.arange(100.0)).record(history, run_id, [60, 40], finish=False)
    for low, high in ((200, None), (None, -1), (50, 40), (10.5, 10.6)):
        found = history.window(run_id, "loss", low=low, high=high)
        assert (len(found), found.start, found.total) == (0, 0, 100)


# -- tails ---------------------------------------------------------------------------------------------------------------


def test_the_end_of_a_series_is_read_alone(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = add(history)
    count = 40_000
    truth = Truth(np.arange(count), np.arange(count) / 7, np.arange(count) / 3)
    truth.record(history, run_id, [100] * 400, finish=False)
    unpacked = []

    def count_rows(data: bytes, *, only: int | None = None) -> object:
        unpacked.append(data)
        return unpack_tail(data, only=only)

    monkeypatch.setattr(points_rows, "unpack_tail", count_rows)
    monkeypatch.setattr(points_rows, "unpack_chunk", None)
    monkeypatch.setattr(points_rows, "unpack_values", None)
    assert history.series(run_id, "loss", start=count - 150).values.tolist() == truth.values[-150:].tolist()
    assert len(unpacked) == 2
    assert len(history.series(run_id, "loss", start=count)) == 0
    assert len(unpacked) == 2


# -- what is shared -----------------------------------------------------------------------------------------------------


def logged(history: History, run_id: str, seq: int, first: int, count: int, names: list[str]) -> None:
    """`count` points from step `first` on, of all series at the same times."""
    steps = array("q", range(first, first + count))
    times = array("d", [1000.0 + step / 7 for step in steps])
    history.apply(
        run_id,
        Batch(
            cursor=Cursor(seq=seq, position=str(seq)),
            points=tuple(
                Points(
                    name=name,
                    kind="metric",
                    steps=steps,
                    times=times,
                    values=array("d", [step + place / 8 for step in steps]),
                )
                for place, name in enumerate(names)
            ),
        ),
    )


def rows(history: History, sql: str) -> list[tuple[int, ...]]:
    with history._database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def test_series_that_are_logged_together_share_their_steps_and_times(history: History) -> None:
    run_id = add(history)
    # One of them begins a little later than the others, one ends early, one comes when much is sealed already.
    for seq in range(60):
        names = ["a", "b"]
        if seq:
            names.append("later")
        if seq < 45:
            names.append("ends")
        if seq >= 40:
            names.append("last")
        logged(history, run_id, seq, 5000 * seq, 5000, names)
    history.finish(run_id)
    counts = {"a": 300_000, "b": 300_000, "later": 295_000, "ends": 225_000, "last": 100_000}
    for name, count in counts.items():
        found = history.series(run_id, name)
        assert len(found) == count
        first = {"later": 5000, "last": 200_000}.get(name, 0)
        assert found.steps.tolist() == list(range(first, first + count))
        assert (found.times == 1000.0 + found.steps / 7).all()
        assert ((found.values - found.steps) < 1).all()
    assert (
        rows(history, "SELECT id FROM axis WHERE uses != (SELECT count(*) FROM chunk WHERE axis = axis.id)")
        == []
    )
    assert rows(history, "SELECT id FROM chunk WHERE axis NOT IN (SELECT id FROM axis)") == []
    stored = sum(count for (count,) in rows(history, "SELECT count FROM axis"))
    assert stored < 1.5 * 300_000
    starts = rows(history, "SELECT series, start, count FROM chunk ORDER BY series, start")
    assert all(one[1] + one[2] == other[1] for one, other in pairwise(starts) if one[0] == other[0])


def test_dropped_copies_and_removed_runs_leave_nothing(history: History) -> None:
    run_id, other = add(history), add(history)
    for target in (run_id, other):
        logged(history, target, 0, 0, 5000, ["a", "b"])
        logged(history, target, 1, 5000, 100, ["c"])
        history.finish(target)
    history.mark_same(run_id, {"b": "a", "c": "a"})
    history.drop_copies(run_id, ["b", "c"])
    history.drop_copies(run_id, ["b", "c"])
    assert len(history.series(run_id, "b")) == len(history.window(run_id, "b")) == 0
    assert len(history.series(run_id, "a")) == 5000
    assert sorted(rows(history, "SELECT count, uses FROM axis")) == [(100, 1), (5000, 1), (5000, 2)]
    # A source that has grown brings more.
    logged(history, run_id, 2, 5100, 50, ["a", "c"])
    history.finish(run_id)
    assert history.series(run_id, "a").steps.tolist() == [*range(5000), *range(5100, 5150)]
    assert history.series(run_id, "c", start=100).steps.tolist() == list(range(5100, 5150))
    for target in (run_id, other):
        history.remove_run(target)
    assert rows(history, "SELECT count(*) FROM axis") == rows(history, "SELECT count(*) FROM chunk") == [(0,)]


def test_a_short_history_is_a_small_file(path: Path) -> None:
    history = History(path)
    empty = path.stat().st_size
    run_id = add(history)
    names = [f"metric {number}" for number in range(10)]
    for seq in range(250):
        logged(history, run_id, seq, 2 * seq, 2, names)
    history.finish(run_id)
    history.close()
    assert path.stat().st_size - empty < 80_000
    assert [found.name for found in path.parent.iterdir() if found.stat().st_size] == [path.name]
