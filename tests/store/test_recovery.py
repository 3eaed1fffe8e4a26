"""Recovering damaged histories: all that can be read is there again, what is lost is said, and nothing is made up."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mlstudio.model.errors import StudioError, WorldError
from mlstudio.model.run import LogLine, RunState
from mlstudio.store import History
from mlstudio.store.recovery import LOST_IN_RECOVERY, looks_sound, recover
from tests.store.conftest import add, batch, points

RUNS = 6
SERIES = 5
BATCHES = 80
EACH = 400
"""Points of each series in a batch."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of some megabytes, closed: random walks, so that every point can be told from every other."""
    path = tmp_path_factory.mktemp("filled") / "history.db"
    with closing(History(path)) as history:
        for number in range(RUNS):
            run_id = add(history, f"run-{number}")
            history.observe(run_id, state=RunState.RUNNING, started=1001.0)
            before = 0
            for seq in range(BATCHES):
                log = f"line {number} {seq} {'x' * 500}\n".encode()
                parts = [points(f"s{n}", _values(number, n, seq), first=seq * EACH) for n in range(SERIES)]
                history.apply(run_id, batch(seq, *parts, log=log, before=before))
                before += len(log)
            history.observe(run_id, state=RunState.SUCCEEDED, ended=1100.0)
    return path


def _values(run: int, series: int, seq: int) -> list[float]:
    random_of = np.random.default_rng([run, series, seq])
    return [float(value) for value in random_of.normal(size=EACH)]


def _all(run: int, series: int) -> np.ndarray:
    return np.concatenate([_values(run, series, seq) for seq in range(BATCHES)])


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> Path:
    path = tmp_path / "history.db"
    path.write_bytes(filled.read_bytes())
    return path


def _damage(path: Path, *, seed: int, pages: int, spare_first: bool = True) -> None:
    size = path.stat().st_size
    choose = random.Random(seed)
    with path.open("r+b") as file:
        for _ in range(pages):
            page = choose.randrange(1 if spare_first else 0, size // 4096)
            file.seek(page * 4096)
            file.write(choose.randbytes(4096))


def _is_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_sound_history_comes_out_as_it_went_in(copy: Path) -> None:
    assert looks_sound(copy) == ""
    with closing(History(copy)) as history:
        before = history.runs(order_by="created", limit=100)
        metrics = {run.id: history.metrics(run.id) for run in before}
        lines = {run.id: history.log(run.id, count=1000) for run in before}
    found = recover(copy)
    assert (found.runs, found.named_again, found.lost_points) == (RUNS, 0, 0)
    assert found.had_contents
    assert found.aside.exists()
    _is_sound(copy)
    with closing(History(copy)) as history:
        assert history.runs(order_by="created", limit=100) == before
        assert {run.id: history.metrics(run.id) for run in before} == metrics
        assert {run.id: history.log(run.id, count=1000) for run in before} == lines
        for number, run in enumerate(sorted(before, key=lambda run: run.number)):
            for series in range(SERIES):
                got = history.series(run.id, f"s{series}")
                assert np.array_equal(got.values, _all(number, series))
                assert np.array_equal(got.steps, np.arange(BATCHES * EACH))


@pytest.mark.parametrize("seed", range(12))
def test_what_can_be_read_of_a_damaged_history_is_right(copy: Path, seed: int) -> None:
    _damage(copy, seed=seed, pages=1 + seed * 3, spare_first=seed % 4 != 3)
    damaged = copy.read_bytes()
    assert looks_sound(copy) != "" or seed < 3
    found = recover(copy)
    assert found.aside.read_bytes() == damaged
    _is_sound(copy)
    with closing(History(copy)) as history:
        runs = history.runs(limit=100)
        assert len(runs) == found.runs
        missing = 0
        for run in runs:
            for metric in history.metrics(run.id):
                got = history.series(run.id, metric.name)
                assert len(got) == metric.count
                if metric.name.startswith("s"):
                    whole = _all(run.number - 1, int(metric.name[1:]))
                    # Each point stands for itself: at its own step, once, in order.
                    assert np.array_equal(got.values, whole[got.steps])
                    assert (np.diff(got.steps) > 0).all()
                    missing += len(whole) - len(got)
                    assert metric.minimum == got.values.min()
                    assert metric.maximum == got.values.max()
                    assert metric.last == got.values[-1]
                else:
                    assert metric.name.startswith("recovered-")
            for line in history.log(run.id, count=10_000):
                assert isinstance(line, LogLine)
            if found.lost_points == 0 and not found.named_again:
                continue
            if LOST_IN_RECOVERY in run.lacks:
                assert any(LOST_IN_RECOVERY in event.data_json for event in history.detail(run.id).events)
        # What is known to be lost is never more than what is missing.
        assert found.lost_points <= missing
        # Life goes on: new runs are recorded, old ones removed.
        again = add(history, "after")
        history.apply(again, batch(0, points("loss", [1.0, 2.0])))
        assert list(history.series(again, "loss").values) == [1.0, 2.0]
        for run in runs:
            history.remove_run(run.id)
        assert [run.name for run in history.runs(limit=10)] == ["after"]
    _is_sound(copy)


def test_points_lost_in_the_middle_are_counted_and_the_run_says_so(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        key, series, data = connection.execute("SELECT id, series, data FROM chunk LIMIT 1").fetchone()
        connection.execute("UPDATE chunk SET data = ? WHERE id = ?", (data[:-3] + b"xyz", key))
        (count,) = connection.execute("SELECT count FROM chunk WHERE id = ?", (key,)).fetchone()
        connection.commit()
        (number,) = connection.execute("SELECT run FROM series WHERE id = ?", (series,)).fetchone()
    found = recover(copy)
    assert found.lost_points == count
    with closing(History(copy)) as history:
        hurt = [run for run in history.runs(limit=10) if run.lacks]
        assert [run.number for run in hurt] == [number]
        assert hurt[0].lacks == (LOST_IN_RECOVERY,)


def test_a_history_that_was_cut_short_gives_its_beginning(copy: Path) -> None:
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        file.truncate(size * 2 // 3 + 100)
    with pytest.raises(WorldError, match="damaged"):
        History(copy)
    found = recover(copy)
    assert found.runs > 0
    _is_sound(copy)


def test_a_run_whose_row_is_gone_keeps_what_it_recorded(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DELETE FROM run WHERE number = 3")
        connection.commit()
    found = recover(copy)
    assert found.named_again == 1
    with closing(History(copy)) as history:
        run = history.summary(history.resolve("3"))
        assert run.name == "recovered-3"
        assert run.lacks == (LOST_IN_RECOVERY,)
        assert np.array_equal(history.series(run.id, "s0").values, _all(2, 0))


def test_what_is_no_history_is_left_alone(tmp_path: Path) -> None:
    for content in (
        b"",
        b"not a database at all" * 1000,
        bytes(100_000),
        random.Random(1).randbytes(100_000),
    ):
        path = tmp_path / "history.db"
        path.write_bytes(content)
        with pytest.raises(StudioError):
            recover(path)
        assert path.read_bytes() == content
        assert {found.name for found in tmp_path.iterdir()} <= {"history.db", "history.db.lock"}


def test_a_history_of_a_newer_version_is_left_alone(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = copy.read_bytes()
    with pytest.raises(WorldError, match="newer"):
        recover(copy)
    assert copy.read_bytes() == before
