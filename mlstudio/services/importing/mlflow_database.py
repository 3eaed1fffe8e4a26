"""MLflow's SQLite store (``mlflow.db``), as versions 1 to 3 lay it out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from mlstudio.services.importing import mlflow_facts
from mlstudio.services.importing.databases import Database, open_database
from mlstudio.services.importing.folders import is_inside
from mlstudio.services.importing.mlflow_files import read_artifacts
from mlstudio.services.importing.source import Gatherer, Piece, Source
from mlstudio.services.importing.values import (
    MAX_PARAMETERS,
    clean_name,
    clean_text,
    parse_number,
    parse_step,
)

# SqlAlchemyStore writes NaN as a flag (and infinity as the greatest float, which is left as MLflow itself reads it).
_TABLES = {
    "runs": "run_uuid status start_time end_time experiment_id lifecycle_stage",
    "metrics": "key value timestamp run_uuid",
    "params": "key value run_uuid",
    "tags": "key value run_uuid",
}


def is_mlflow(database: Database) -> bool:
    return database.has(**_TABLES)


def find_runs(database: Database, path: Path, *, root: Path) -> Iterator[MlflowRow]:
    """Every run of the store, deleted ones too, oldest first."""
    experiments: dict[object, str] = {}
    if database.has(experiments="experiment_id name"):
        experiments = {
            row[0]: str(row[1]) for row in database.rows("SELECT experiment_id, name FROM experiments")
        }
    name = "name" if database.has(runs="name") else "NULL"
    artifacts = "artifact_uri" if database.has(runs="artifact_uri") else "NULL"
    for row in database.rows(
        f"SELECT run_uuid, {name}, status, start_time, end_time, lifecycle_stage, {artifacts}, experiment_id "
        "FROM runs ORDER BY start_time, rowid"
    ):
        if isinstance(row[0], str) and row[0]:
            yield MlflowRow(path, tuple(row), experiment=experiments.get(row[7], ""), root=root)


class MlflowRow(Source):
    """One run of a database. Opens it again for reading, so that many of them cost nothing."""

    format = "mlflow"

    def __init__(self, path: Path, row: tuple[object, ...], *, experiment: str, root: Path) -> None:
        self._run = str(row[0])
        super().__init__(path, name=str(row[1] or "") or self._run[:8], identity=("mlflow", self._run))
        self._experiment = experiment
        self._root = root
        self._end = mlflow_facts.milliseconds(row[4])
        self.is_deleted = row[5] == "deleted"
        self._artifacts = str(row[6] or "")
        mlflow_facts.set_start(self.facts, row[3])
        mlflow_facts.set_state(self.facts, row[2])

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {}
        with open_database(self.path) as database:
            name = self.facts.name
            tags = [
                (str(row[0]), str(row[1] or ""))
                for row in database.rows(
                    "SELECT key, value FROM tags WHERE run_uuid = ? ORDER BY key LIMIT ?",
                    (self._run, MAX_PARAMETERS),
                )
            ]
            mlflow_facts.apply_tags(self.facts, tags, experiment=self._experiment)
            if name != self._run[:8]:
                self.facts.name = name
            for row in database.rows(
                "SELECT key, value FROM params WHERE run_uuid = ? ORDER BY rowid LIMIT ?",
                (self._run, MAX_PARAMETERS),
            ):
                self.facts.parameters[clean_name(str(row[0]))] = clean_text(str(row[1] or ""))
            gatherer = Gatherer(self, system_prefix="system/")
            yield from self._points(database, gatherer, done)
        folder = mlflow_facts.local_folder(self._artifacts)
        if folder is not None:
            for candidate in (folder, self.path.parent / folder):
                if candidate.is_dir() and is_inside(candidate, self._root):
                    yield from read_artifacts(gatherer, candidate, done)
                    break
        yield gatherer.take(json.dumps(done))
        if self._end is not None:
            self.facts.ended = self._end

    def _points(self, database: Database, gatherer: Gatherer, done: dict[str, int]) -> Iterator[Piece]:
        # Rows are only ever added, so those that came before are the first ones. A run's points may be many: they are
        # asked for in the order in which they lie.
        step_column = "step" if database.has(metrics="step") else "0"
        nan_column = "is_nan" if database.has(metrics="is_nan") else "0"
        place = done.get("rows", 0)
        for row in database.rows(
            f"SELECT key, value, timestamp, {step_column}, {nan_column} FROM metrics WHERE run_uuid = ? "
            "ORDER BY rowid LIMIT -1 OFFSET ?",
            (self._run, place),
        ):
            place += 1
            done["rows"] = place
            step, value = parse_step(row[3]), parse_number(row[1])
            if (
                isinstance(row[2], int)
                and step is not None
                and 0 <= row[2] < 10**15
                and (row[4] or value is not None)
            ):
                if row[4] or value is None:
                    value = math.nan
                gatherer.point(str(row[0]), step, row[2] / 1000, value)
            else:
                self.problem(f"Points of the metric “{clean_name(str(row[0]))}” could not be read.")
            if gatherer.is_full:
                yield gatherer.take(json.dumps(done))
