"""Exports, read back: by our own importer, and by the formats' own readers where these are at hand."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import stat
import struct
import uuid
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.model.record import Batch, Cursor, LogBlock, Medium, Points
from mlstudio.model.run import RunSpec, RunState
from mlstudio.services.exporting.exporter import Exporter, ExportFormat
from mlstudio.services.importing.importer import Importer
from mlstudio.store import History

# Names that folders, databases and tables must not stumble over.
NAMES = ("loss", "val/acc", "a b", "weird,\"name'; DROP TABLE", "ümlaut/π", "x" * 300)
VALUES = [0.1, -0.0, 1e-300, 1.7e308, 2.0**53, 1 / 3, math.nan, math.inf, -math.inf, 5e-324]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "home" / "history.db")) as made:
        for number in range(2):
            run_id = uuid.uuid4().hex
            made.add_run(
                RunSpec(command=("python", "train.py", "--lr", "0.1")),
                run_id=run_id,
                name=f"run-{number}",
                created=1000.0,
                engine_kind="docker",
                parameters=(("lr", "0.1"), ("model/kind", "résumé of\ntwo lines"), ("empty", "")),
            )
            made.set_tags(run_id, ("a tag", "b"))
            made.set_note(run_id, "A note.\nOf two lines.")
            made.observe(run_id, state=RunState.RUNNING, started=1001.0)
            count = len(VALUES) * 50
            steps = array("q", [3 * place - 10 for place in range(count)])
            times = array("d", [1.7e9 + place / 8 for place in range(count)])
            log = b"epoch 1\n\x1b[1mbold\x1b[0m\n"
            made.apply(
                run_id,
                Batch(
                    cursor=Cursor(seq=0, position="0", log_bytes=len(log)),
                    points=(
                        *(
                            Points(
                                name=name,
                                kind="metric",
                                steps=steps,
                                times=times,
                                values=array(
                                    "d", [VALUES[(place + shift) % len(VALUES)] for place in range(count)]
                                ),
                            )
                            for shift, name in enumerate(NAMES)
                        ),
                        Points(
                            name="cpu.percent",
                            kind="system",
                            steps=array("q", [0, 1]),
                            times=array("d", [1001.0, 1002.0]),
                            values=array("d", [10.0, 20.0]),
                        ),
                    ),
                    log=(LogBlock(data=log, spans=((False, len(log), 1001.0),)),),
                    media=(
                        Medium(
                            name="note",
                            kind="text",
                            step=1,
                            time=1001.0,
                            mime="text/plain",
                            data=b"words",
                            logger="mlstudio",
                        ),
                    ),
                ),
            )
            made.observe(run_id, state=RunState.SUCCEEDED, ended=1100.0)
        yield made


def _bits(values: np.ndarray) -> list[str]:
    return ["nan" if math.isnan(v) else struct.pack("<d", v).hex() for v in values.tolist()]


def _back(tmp_path: Path, path: Path) -> History:
    history = History(tmp_path / f"back-{uuid.uuid4().hex}" / "history.db")
    report = Importer(history.path.parent, lambda: history).carry_out([path])
    assert not [run.error for run in report.runs if run.error]
    return history


def _export(history: History, to: str, path: Path | None, *, wide: bool = False) -> None:
    ids = [run.id for run in history.runs(limit=10)]
    Exporter(lambda: history).export(ids, to=ExportFormat(to), path=path, wide=wide)


# What a format cannot say, value by value: MLflow's database knows no infinity and no −0.0.
CHANGES = {
    "json": lambda values: values,
    "csv": lambda values: values,
    "parquet": lambda values: values,
    "mlflow-files": lambda values: values,
    "mlflow-db": lambda values: np.clip(values, -1.7976931348623157e308, 1.7976931348623157e308) + 0.0,
    "tensorboard": lambda values: values,
}


@pytest.mark.parametrize("form", CHANGES)
def test_what_is_exported_is_read_back_as_it_was(history: History, tmp_path: Path, form: str) -> None:
    endings = {
        "csv": "points.csv",
        "json": "runs.json",
        "parquet": "points.parquet",
        "mlflow-db": "mlflow.db",
    }
    path = tmp_path / endings.get(form, "folder")
    _export(history, form.split("-")[0], path)
    with closing(_back(tmp_path, path)) as back:
        runs = {run.name.rsplit("/", 1)[-1]: run for run in back.runs(limit=10)}
        assert len(runs) == 2, runs.keys()
        for run in history.runs(limit=10):
            (other,) = [found for name, found in runs.items() if run.name in name]
            found = {metric.name: metric for metric in back.metrics(other.id) if metric.kind == "metric"}
            for name in NAMES:
                mine = history.series(run.id, name)
                twin = next((other_name for other_name in found if other_name == name), None)
                if twin is None and form.startswith(("mlflow", "tensorboard")):
                    # These allow no such names: cleaned or cut ones stand for them.
                    continue
                assert twin is not None, (name, list(found))
                theirs = back.series(other.id, twin)
                assert theirs.steps.tolist() == mine.steps.tolist()
                assert _bits(theirs.values) == _bits(CHANGES[form](mine.values)), name
                assert np.allclose(theirs.times, mine.times, rtol=0, atol=1e-3)
            assert len(found) >= len(NAMES) - 1
            if form in ("json", "mlflow-files", "mlflow-db"):
                assert {("lr", "0.1"), ("model/kind", "résumé of\ntwo lines")} <= set(other.parameters)
                assert other.state is RunState.SUCCEEDED
                assert other.note == run.note


def test_a_wide_table_has_a_row_for_each_step(history: History, tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    _export(history, "csv", path, wide=True)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(VALUES) * 50
    assert set(NAMES) <= set(rows[0])
    run = next(run for run in history.runs(limit=10) if run.name == "run-0")
    mine = [row for row in rows if "run-0" in row.values()]
    assert [float(row["loss"]) for row in mine[:5]] == history.series(run.id, "loss").values[:5].tolist()


def test_json_has_everything_and_is_strict(history: History, tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    _export(history, "json", path)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert len(found["runs"]) == 2
    assert "bold" in json.dumps(found)
    assert "cpu.percent" in json.dumps(found)


def test_mlflows_database_is_one_that_mlflow_would_open(history: History, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    _export(history, "mlflow", path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


@pytest.mark.parametrize("form", ["json", "csv", "parquet", "mlflow", "tensorboard"])
def test_nothing_is_replaced_unasked_and_nothing_is_left_half_written(
    history: History, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(RequestError):
        _export(history, form, path)
    assert path.read_text() == "mine"
    path.unlink()
    ids = [run.id for run in history.runs(limit=10)]
    asked = iter([False, *[True] * 1000])
    with pytest.raises(Cancelled):
        Exporter(lambda: history).export(ids, to=ExportFormat(form), path=path, cancelled=lambda: next(asked))
    # Of a store of many runs some may be there already, whole; here it was the first.
    left = [found for found in tmp_path.rglob("*") if found.is_file() and "home" not in found.parts]
    assert {found.name for found in left} <= {"meta.yaml"}
    assert not list(tmp_path.rglob(".mlstudio-export-*"))


def test_exports_are_as_readable_as_other_files(history: History, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    _export(history, "csv", path)
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
