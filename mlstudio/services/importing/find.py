"""Finding runs of other tools: by what lies there, not by what it is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlstudio.model.errors import NotFound, RequestError, StudioError
from mlstudio.services.importing import mlflow_database, trackio
from mlstudio.services.importing.databases import is_database, open_database
from mlstudio.services.importing.folders import MAX_DEPTH, entries, is_file, is_folder
from mlstudio.services.importing.mlflow_files import MlflowFolder, is_experiment, is_run, read_meta
from mlstudio.services.importing.source import Source
from mlstudio.services.importing.studio_document import document_runs, is_document
from mlstudio.services.importing.tables import table_runs
from mlstudio.services.importing.tensorboard import is_event_file, tensorboard_run
from mlstudio.services.importing.wandb_folder import WandbFolder, wandb_file

MAX_ENTRIES = 2_000_000
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_DATABASES = (".db", ".sqlite", ".sqlite3", ".db3")
_METRIC_TABLES = ("metrics", "results", "history", "log", "progress", "training_log", "train_log")
"""Stems under which trainings write tables of metrics; other tables in a folder may be data."""
_LEFT_ALONE = (".git", "node_modules", "__pycache__", ".trash", "site-packages")
_STUDIO_ID = b"MLST"


@dataclass(slots=True)
class Found:
    """What lies at the paths that were named."""

    sources: list[Source] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    deleted: int = 0
    """MLflow's deleted runs, which are left out."""
    tables: list[Path] = field(default_factory=list)
    """Tables that may be data; they come in when they are named."""


def find(paths: list[Path], *, cancelled: Callable[[], bool] = lambda: False) -> Found:
    """Every run at or below the paths, each once. Raises NotFound for a path that is not there, RequestError for a file
    that is none of ours to read."""
    found = Found()
    seen: set[tuple[object, ...]] = set()
    for path in paths:
        if not path.exists():
            raise NotFound(f"There is no {path}.", field="path")
        finder = _Finder(path, found, cancelled)
        for source in finder.folder(path) if path.is_dir() else finder.named_file(path):
            if source.identity not in seen:
                seen.add(source.identity)
                found.sources.append(source)
    return found


class _Finder:
    def __init__(self, root: Path, found: Found, cancelled: Callable[[], bool]) -> None:
        self._root = root if root.is_dir() else root.parent
        self._found = found
        self._cancelled = cancelled
        self._left = MAX_ENTRIES

    def named_file(self, path: Path) -> Iterator[Source]:
        """A file that the user named: whatever it may hold is wanted."""
        suffix = path.suffix.lower()
        if is_database(path):
            yield from self._database(path, is_named=True)
        elif is_event_file(path.name):
            run = tensorboard_run(path.parent, name=path.parent.resolve().name, only=path)
            if run is None:
                raise RequestError(f"Nothing has been written to {path} yet.", field="path")
            yield run
        elif suffix == ".wandb":
            yield WandbFolder(path.parent, path)
        elif suffix in _TABLES:
            yield from table_runs(path, name=path.stem)
        elif suffix == ".json" and is_document(path):
            yield from document_runs(path)
        else:
            raise RequestError(
                f"{path} is nothing that can be imported.",
                field="path",
                try_this="Name a TensorBoard or W&B folder, an MLflow store, a trackio database, a table of metrics "
                "(CSV, JSON lines, Parquet), or a file that `mlstudio export --to json` wrote.",
            )

    def folder(self, root: Path) -> Iterator[Source]:
        """Everything below a folder, by name."""
        waiting: list[tuple[Path, int, str]] = [(root, 0, "")]
        while waiting and not self._cancelled():
            here, depth, experiment = waiting.pop()
            listed = entries(here)
            self._left -= len(listed)
            if self._left < 0:
                self._found.problems.append(
                    f"{self._root} holds more than {MAX_ENTRIES:,} files: the rest was not looked at."
                )
                return
            names = {entry.name for entry in listed if is_file(entry)}
            meta = read_meta(here) if "meta.yaml" in names else {}
            if is_run(meta):
                run = MlflowFolder(here, meta, experiment=experiment, root=self._root)
                if run.is_deleted:
                    self._found.deleted += 1
                else:
                    yield run
                continue  # what lies below are its own files
            if is_experiment(meta):
                experiment = str(meta.get("name") or "")
                if meta.get("lifecycle_stage") == "deleted":
                    self._found.deleted += sum(map(is_folder, listed))
                    continue
            file = wandb_file(here, names)
            if file is not None:
                yield WandbFolder(here, file)
                continue
            if any(map(is_event_file, names)):
                board = tensorboard_run(here, name=self._name(here))
                if board is not None:
                    yield board
            yield from self._files(here, sorted(names))
            if depth < MAX_DEPTH:
                below = [entry for entry in listed if is_folder(entry) and entry.name not in _LEFT_ALONE]
                waiting.extend((Path(entry.path), depth + 1, experiment) for entry in reversed(below))

    def _files(self, here: Path, names: list[str]) -> Iterator[Source]:
        stems_of_databases = {name.rpartition(".")[0] for name in names if name.endswith(_DATABASES)}
        for name in names:
            path = here / name
            suffix = path.suffix.lower()
            try:
                if suffix in _DATABASES and is_database(path):
                    yield from self._database(path)
                elif suffix in _TABLES:
                    if path.stem.lower() in _METRIC_TABLES:
                        yield from table_runs(path, name=self._name(path.with_suffix("")))
                    elif not any(path.stem.startswith(stem) for stem in stems_of_databases):
                        self._found.tables.append(path)
                elif suffix == ".json" and is_document(path):
                    yield from document_runs(path)
            except StudioError as error:
                self._found.problems.append(str(error))

    def _database(self, path: Path, *, is_named: bool = False) -> Iterator[Source]:
        with path.open("rb") as file:
            if file.read(72)[68:72] == _STUDIO_ID:
                raise RequestError(
                    f"{path} is the history of an ML Studio.",
                    field="path",
                    try_this="`mlstudio --home FOLDER export RUN --to json FILE` writes runs that can be imported here.",
                )
        with open_database(path) as database:
            database.cancel_with(self._cancelled)
            if mlflow_database.is_mlflow(database):
                for run in mlflow_database.find_runs(database, path, root=self._root):
                    if run.is_deleted:
                        self._found.deleted += 1
                    else:
                        yield run
            elif trackio.is_trackio(database):
                yield from trackio.find_runs(database, path)
            elif is_named:
                raise RequestError(f"{path} is no database of MLflow or trackio.", field="path")

    def _name(self, path: Path) -> str:
        """As TensorBoard names runs: the path below the folder that was named; that folder's own name for itself."""
        inner = os.path.relpath(path, self._root)
        return path.resolve().name if inner == "." else Path(inner).as_posix()
