"""Imports of stores that the tools themselves wrote: point for point what their own readers find, and once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlstudio.model.errors import Cancelled, StudioError
from mlstudio.model.run import RunState, RunSummary
from mlstudio.services.importing.importer import Importer
from mlstudio.store import History
from tests.recorded.stores import expected, number, same, unpack

STORES = ("mlflow2", "mlflow3", "tensorboard", "trackio", "wandb")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "home" / "history.db")) as made:
        yield made


@pytest.fixture
def importer(history: History, tmp_path: Path) -> Importer:
    return Importer(tmp_path / "home", lambda: history)


def _itself(history: History) -> History:
    return history


def contents(history: History) -> dict[str, Any]:
    """All that an import brings, by name and source, to compare two histories."""
    found: dict[str, Any] = {}
    for run in history.runs(limit=1000):
        series = {}
        for metric in history.metrics(run.id):
            got = history.series(run.id, metric.name)
            series[metric.name] = (got.steps.tobytes(), got.times.tobytes(), got.values.tobytes())
        media = [
            (item.name, item.kind, item.step, history.media_data(run.id, item.id))
            for item in history.media(run.id)
        ]
        assert run.id not in found
        found[run.id] = (
            run.name, run.state, sorted(run.parameters), sorted(run.tags), run.note, series, media,
            run.started, run.ended,
        )  # fmt: skip
    return found


def check_series(
    history: History,
    run: RunSummary,
    series: dict[str, list[list[Any]]],
    *,
    times: bool = True,
    more: tuple[str, ...] = (),
) -> None:
    """The run has exactly these series (and `more`), with exactly these points."""
    assert {metric.name for metric in history.metrics(run.id)} == {*series, *more}
    for name, rows in series.items():
        got = history.series(run.id, name)
        assert got.steps.tolist() == [row[0] for row in rows], name
        assert all(
            same(value, number(row[-1])) for value, row in zip(got.values.tolist(), rows, strict=True)
        ), name
        if times:
            wanted = [
                datetime.fromisoformat(row[1]).timestamp() if isinstance(row[1], str) else row[1]
                for row in rows
            ]
            assert np.allclose(got.times, wanted, rtol=0, atol=1e-6), name


def run_named(history: History, name: str) -> RunSummary:
    (found,) = [run for run in history.runs(limit=1000) if run.name == name]
    return found


@pytest.mark.parametrize("store", ["mlflow2", "mlflow3"])
@pytest.mark.parametrize("kind", ["files", "database"])
def test_mlflow(history: History, importer: Importer, tmp_path: Path, store: str, kind: str) -> None:
    folder = unpack(store, tmp_path)
    path = folder / ("mlruns" if kind == "files" else "mlflow.db")
    report = importer.carry_out([path])
    wanted = expected(store)[kind]
    assert not any(run.error for run in report.runs)
    assert len(history.runs(limit=100)) == len(wanted)
    states = {"FINISHED": RunState.SUCCEEDED, "FAILED": RunState.FAILED, "KILLED": RunState.STOPPED}
    for one in wanted.values():
        run = run_named(history, one["name"])
        check_series(history, run, one["series"])
        assert run.state is states.get(one["status"], RunState.LOST)
        assert run.started == pytest.approx(one["start"])
        if one["end"] is not None:
            assert run.ended == pytest.approx(one["end"])
        assert one["params"].items() <= dict(run.parameters).items()


def test_tensorboard(history: History, importer: Importer, tmp_path: Path) -> None:
    folder = unpack("tensorboard", tmp_path)
    importer.carry_out([folder])
    wanted = expected("tensorboard")["runs"]
    by_name = {run.name: run for run in history.runs(limit=100)}
    found = {name for run in by_name.values() for name in [m.name for m in history.metrics(run.id)]}
    for name, series in wanted.items():
        for tag, rows in series.items():
            assert any(tag in one for one in found), (name, tag)
            matches = [
                (run, metric.name)
                for run in by_name.values()
                for metric in history.metrics(run.id)
                if metric.name.endswith(tag)
            ]
            assert any(
                history.series(run.id, metric).steps.tolist() == [row[0] for row in rows]
                and all(
                    same(value, number(row[-1]))
                    for value, row in zip(history.series(run.id, metric).values.tolist(), rows, strict=True)
                )
                for run, metric in matches
            ), (name, tag)
    kinds = {item.kind for run in by_name.values() for item in history.media(run.id)}
    assert {"histogram", "image", "text"} <= kinds


def test_wandb(history: History, importer: Importer, tmp_path: Path) -> None:
    importer.carry_out([unpack("wandb", tmp_path)])
    wanted = expected("wandb")["runs"]
    runs = history.runs(limit=100)
    assert len(runs) == len(wanted)
    for one in wanted.values():
        matches = [
            run
            for run in runs
            if history.series(run.id, "train/loss").values.tolist()
            == [row[-1] for row in one["series"]["train/loss"]]
        ]
        (run,) = matches
        series = one["series"]
        assert set(series) <= {metric.name for metric in history.metrics(run.id)}
        for name, rows in series.items():
            got = history.series(run.id, name)
            assert got.steps.tolist() == [row[0] for row in rows]
            assert all(same(v, number(row[-1])) for v, row in zip(got.values.tolist(), rows, strict=True))
        assert (run.state is RunState.SUCCEEDED) == (one["exit_code"] == 0)
        assert {"image", "table"} <= {item.kind for item in history.media(run.id)}


def test_trackio(history: History, importer: Importer, tmp_path: Path) -> None:
    importer.carry_out([unpack("trackio", tmp_path) / "digits.db"])
    wanted = expected("trackio")["runs"]
    assert {run.name for run in history.runs(limit=100)} == set(wanted)
    for name, one in wanted.items():
        check_series(history, run_named(history, name), one["series"], more=("val.acc",))
        assert dict(run_named(history, name).parameters)["lr"] == str(one["config"]["lr"])


@pytest.mark.parametrize("store", STORES)
def test_importing_again_adds_nothing(
    history: History, importer: Importer, tmp_path: Path, store: str
) -> None:
    folder = unpack(store, tmp_path)
    preview = importer.preview([folder])
    assert history.count() == 0
    first = importer.carry_out([folder])
    assert preview.points == first.points > 0
    before, revision = contents(history), history.revision()
    again = importer.carry_out([folder])
    assert again.points == 0
    assert all(run.is_same for run in again.runs)
    assert contents(history) == before
    assert history.revision() == revision


@pytest.mark.parametrize("store", STORES)
def test_an_import_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, store: str) -> None:
    folder = unpack(store, tmp_path)
    with closing(History(tmp_path / "whole" / "history.db")) as history:
        Importer(tmp_path / "whole", lambda: history).carry_out([folder])
        wanted = contents(history)
    with closing(History(tmp_path / "cut" / "history.db")) as history:
        cut = Importer(tmp_path / "cut", lambda: history)
        for allowed in range(1, 60):
            asked = 0

            def cancelled(allowed: int = allowed) -> bool:
                nonlocal asked
                asked += 1
                return asked > allowed

            try:
                cut.carry_out([folder], cancelled=cancelled)
                break
            except Cancelled:
                continue
        else:
            cut.carry_out([folder])
        assert contents(history) == wanted


def test_an_event_file_that_grew_brings_the_new_points(
    history: History, importer: Importer, tmp_path: Path
) -> None:
    folder = unpack("tensorboard", tmp_path)
    (path,) = (folder / "exp" / "tf2").iterdir()
    whole = path.read_bytes()
    counts = []
    for share in (0.3, 0.55, 0.8, 1.0):
        path.write_bytes(whole[: int(len(whole) * share)])
        importer.carry_out([folder / "exp" / "tf2"])
        (run,) = history.runs(limit=10)
        counts.append(sum(metric.count for metric in history.metrics(run.id)))
    assert counts == sorted(set(counts)), counts
    wanted = expected("tensorboard")["runs"]["exp/tf2"]
    check_series(history, run, wanted)


@pytest.mark.parametrize("store", STORES)
def test_damaged_stores_never_end_an_import_in_a_crash(tmp_path: Path, store: str) -> None:
    """Bytes turned, files cut, at random: what comes is told or imported; nothing else but our own errors."""
    choose = random.Random(store)
    for attempt in range(12):
        place = tmp_path / f"attempt-{attempt}"
        place.mkdir()
        folder = unpack(store, place)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = bytearray(path.read_bytes())
            if not data or choose.random() < 0.3:
                continue
            if choose.random() < 0.3:
                data = data[: choose.randrange(len(data))]
            for _ in range(choose.randrange(12)):
                if data:
                    data[choose.randrange(len(data))] = choose.randrange(256)
            path.write_bytes(data)
        with closing(History(place / "history.db")) as history:
            with suppress(StudioError):
                Importer(place, partial(_itself, history)).carry_out([folder])
            for run in history.runs(limit=100):
                for metric in history.metrics(run.id):
                    assert len(history.series(run.id, metric.name)) == metric.count


def test_secrets_in_what_is_imported_are_not_written(
    history: History, importer: Importer, tmp_path: Path
) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n2,1\n")
    importer.carry_out([tmp_path / "metrics.csv"], tags=["mine"])
    (run,) = history.runs()
    assert run.tags == ("mine",)
    check_series(history, run, {"loss": [[1, 2.0], [2, 1.0]]}, times=False)


def test_what_holds_nothing_to_import_is_said(importer: Importer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(StudioError) as error:
            importer.carry_out([path])
        assert str(path) in str(error.value)
    assert importer.carry_out([tmp_path / "empty"]).runs == ()
