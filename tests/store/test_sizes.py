"""Sizes of what is kept, and room that is given back."""

from __future__ import annotations

import sqlite3
from array import array
from pathlib import Path

import numpy as np
import pytest

from mlstudio.model.errors import RequestError
from mlstudio.model.record import Batch, Cursor, Medium, Points
from mlstudio.model.run import RunState
from mlstudio.store import History
from tests.recording.streams import add_run

COUNT = 200_000


def fill(history: History) -> str:
    """A run with metrics, readings and an image that do not pack well."""
    run_id = add_run(history)
    noise = np.random.default_rng(1)
    for seq, kind in enumerate(("metric", "system")):
        points = Points(
            name=kind, kind=kind, steps=array("q", range(COUNT)),
            times=array("d", range(COUNT)), values=array("d", noise.normal(size=COUNT).tobytes()),
        )  # fmt: skip
        history.apply(run_id, Batch(cursor=Cursor(seq=seq, position=str(seq)), points=(points,)))
    medium = Medium(
        name="picture", kind="image", logger="mlstudio", step=1, time=1.0, mime="image/png",
        data=noise.bytes(300_000), width=1, height=1, caption="",
    )  # fmt: skip
    history.apply(run_id, Batch(cursor=Cursor(seq=2, position="2"), media=(medium,)))
    history.finish(run_id)
    return run_id


def test_every_kind_is_counted_where_it_belongs(history: History) -> None:
    run_id = fill(history)
    sizes = history.sizes()
    assert sizes.runs == 1
    assert sizes.points == 2 * COUNT
    assert 300_000 <= sizes.media < 310_000
    assert 4 * COUNT < sizes.metrics < 12 * COUNT
    assert 4 * COUNT < sizes.system < 12 * COUNT
    assert sizes.rest < 0.2 * sizes.file
    assert sizes.file <= history.path.stat().st_size + history.path.with_name("history.db-wal").stat().st_size
    (largest,) = sizes.largest
    assert largest.run_id == run_id
    assert largest.total == sizes.metrics + sizes.system + sizes.log + sizes.media


def test_what_is_forgotten_makes_the_file_smaller(history: History, tmp_path: Path) -> None:
    run_id = fill(history)
    with pytest.raises(RequestError):
        history.forget(run_id, ["system"], "Gone.")
    history.observe(run_id, state=RunState.SUCCEEDED, ended=2.0)
    history.give_back()
    before, revision = history.path.stat().st_size, history.revision()
    freed = history.forget(run_id, ["system", "media", "log"], "Gone.")
    assert freed > 4 * COUNT + 300_000
    assert history.revision() > revision
    assert history.summary(run_id).lacks[-1] == "Gone."
    assert history.forget(run_id, ["system", "media", "log"], "Gone again.") == 0
    assert history.give_back() > 0.8 * freed
    assert history.path.stat().st_size < before - 0.8 * freed
    assert history.sizes().free == 0
    assert len(history.series(run_id, "metric").values) == COUNT
    assert history.media(run_id) == []
    with sqlite3.connect(history.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_texts_of_removed_runs_go(history: History) -> None:
    first, second = add_run(history), add_run(history)
    for run_id, text in ((first, "one"), (second, "two")):
        history.set_environment(run_id, f'{{"gone": "{text}"}}')
    history.remove_run(first)
    history.give_back()
    with sqlite3.connect(history.path) as connection:
        assert connection.execute("SELECT count(*) FROM document").fetchone() == (1,)
    assert "two" in history.detail(second).environment_json
