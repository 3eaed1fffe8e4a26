"""trackio's projects: a SQLite file each, with a row of JSON for every step of every run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlstudio.services.importing.databases import Database, open_database
from mlstudio.services.importing.folders import is_inside, read_small
from mlstudio.services.importing.media import add_value
from mlstudio.services.importing.source import MAX_MEDIUM_BYTES, Gatherer, Piece, Source
from mlstudio.services.importing.values import (
    MAX_PARAMETERS,
    clean_name,
    flat,
    parameter_text,
    parse_step,
    parse_time,
)


def is_trackio(database: Database) -> bool:
    return database.has(metrics="id timestamp run_name step metrics")


def find_runs(database: Database, path: Path) -> Iterator[TrackioRun]:
    """Every run of the project, in the order in which they began to log."""
    key = "run_id" if database.has(metrics="run_id") else "run_name"
    for row in database.rows(
        f"SELECT {key}, run_name, min(timestamp), min(id) FROM metrics GROUP BY {key} ORDER BY min(id)"
    ):
        if isinstance(row[0], str) and row[0]:
            yield TrackioRun(path, key, row[0], name=str(row[1]), first=str(row[2]))


class TrackioRun(Source):
    """One run of a project."""

    format = "trackio"

    def __init__(self, path: Path, key: str, run: str, *, name: str, first: str) -> None:
        # Before 0.24 a run had no id but its name: the project and the time of its first row tell it from others.
        identity = ("trackio", run) if key == "run_id" else ("trackio", path.stem, run, first)
        super().__init__(path, name=name, identity=identity)
        self._key = key
        self._run = run
        self._media = path.parent / "media"
        self.facts.created = parse_time(first)
        self.facts.tags.append(clean_name(path.stem))
        self.facts.end_unknown("Imported from trackio, which does not note how a run ends.")

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {}
        with open_database(self.path) as database:
            self._config(database)
            gatherer = Gatherer(self)
            yield from self._rows(database, gatherer, "metrics", done)
            yield gatherer.take(json.dumps(done))
            if database.has(system_metrics=f"id timestamp {self._key} metrics"):
                gatherer = Gatherer(self, is_system=True)
                yield from self._rows(database, gatherer, "system_metrics", done)
                yield gatherer.take(json.dumps(done))

    def _rows(
        self, database: Database, gatherer: Gatherer, table: str, done: dict[str, int]
    ) -> Iterator[Piece]:
        step_column = "step" if table == "metrics" else "NULL"
        count = done.get(f"{table} rows", 0)
        for row in database.rows(
            f"SELECT id, timestamp, {step_column}, metrics FROM {table} WHERE {self._key} = ? AND id > ? ORDER BY id",
            (self._run, done.get(table, 0)),
        ):
            if not isinstance(row[0], int):
                continue
            done[table] = row[0]
            time = parse_time(row[1]) or 0.0
            step = count if table != "metrics" else parse_step(row[2])
            found = _object(row[3])
            if step is None or found is None:
                self.problem("Rows that trackio did not write were left out.")
                continue
            count += 1
            done[f"{table} rows"] = count
            for name, value in found.items():
                add_value(gatherer, name, step, time, value, open_file=self._file)
            if gatherer.is_full:
                yield gatherer.take(json.dumps(done))

    def _config(self, database: Database) -> None:
        if not database.has(configs=f"{self._key} config"):
            return
        row = database.one(f"SELECT config FROM configs WHERE {self._key} = ?", (self._run,))
        found = _object(row[0]) if row is not None else None
        for name, value in flat(found or {}):
            # Names with an underscore are trackio's own.
            if not name.startswith("_") and len(self.facts.parameters) < MAX_PARAMETERS:
                self.facts.parameters[clean_name(name)] = parameter_text(value)
        created = parse_time((found or {}).get("_Created"))
        if created is not None:
            self.facts.created = self.facts.started = created

    def _file(self, name: str) -> bytes:
        path = self._media / name
        return read_small(path, most=MAX_MEDIUM_BYTES + 1) if is_inside(path, self._media) else b""


def _object(data: object) -> Mapping[str, object] | None:
    """The JSON object in a cell."""
    if not isinstance(data, str | bytes):
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
