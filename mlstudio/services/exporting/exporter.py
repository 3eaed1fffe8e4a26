"""Exports: runs of the history, written for other tools."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.model.run import RunSummary
from mlstudio.services.exporting import mlflow_database, mlflow_files, tensorboard
from mlstudio.services.exporting.content import Content, folder_names, read_content
from mlstudio.services.exporting.document import DocumentWriter
from mlstudio.services.exporting.placing import new_file, new_path, refuse_taken
from mlstudio.services.exporting.tables import (
    CsvWriter,
    parquet_writer,
    pyarrow,
    write_wide_csv,
    write_wide_parquet,
)
from mlstudio.store import History

_DATABASES = (".db", ".sqlite", ".sqlite3")


class ExportFormat(StrEnum):
    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportProgress:
    """How far an export is."""

    name: str
    """Of the run that is being written."""
    place: int
    of: int
    points: int
    """Of all runs so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    format: ExportFormat
    path: str
    runs: tuple[str, ...]
    """Their ids."""
    points: int
    size_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()
    """What the format has no place for, in sentences."""


class Exporter:
    """Writes runs as other tools read them. A file appears when it is whole; nothing is replaced unasked."""

    def __init__(self, history: Callable[[], History]) -> None:
        self._history = history

    def export(
        self,
        run_ids: Sequence[str],
        *,
        to: ExportFormat,
        path: Path | None,
        force: bool = False,
        wide: bool = False,
        with_system: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
        on_progress: Callable[[ExportProgress], None] | None = None,
    ) -> Exported:
        """Write runs to `path`; None is standard output, for CSV and JSON.

        TensorBoard: a folder, with one in it for each run. MLflow: a folder (a file store) or, if `path` ends in ``.db``,
        its SQLite store. Others: a file. `wide` tables have a row a step and a column a metric. `with_system` adds the
        machine's readings (JSON always has them). Raises NotFound, RequestError (something is there and `force` does not
        allow for it), WorldError, Cancelled.
        """
        if not run_ids:
            raise RequestError("There is no run to export.", field="run")
        if wide and to not in (ExportFormat.CSV, ExportFormat.PARQUET):
            raise RequestError("Only tables are wide or long.", field="wide", try_this="Leave --wide out.")
        job = _Job(
            history=self._history(),
            run_ids=tuple(dict.fromkeys(run_ids)),
            to=to,
            path=path,
            force=force,
            wide=wide,
            with_system=with_system or to is ExportFormat.JSON,
            cancelled=cancelled,
            on_progress=on_progress,
        )
        return job.carry_out()


class _Job:
    def __init__(
        self,
        *,
        history: History,
        run_ids: tuple[str, ...],
        to: ExportFormat,
        path: Path | None,
        force: bool,
        wide: bool,
        with_system: bool,
        cancelled: Callable[[], bool],
        on_progress: Callable[[ExportProgress], None] | None,
    ) -> None:
        self._history = history
        self._run_ids = run_ids
        self._to = to
        self._path = None if path is None else path.expanduser().absolute()
        self._force = force
        self._wide = wide
        self._with_system = with_system
        self._cancelled = cancelled
        self._on_progress = on_progress
        self._points = 0
        self._notes: list[str] = []

    def carry_out(self) -> Exported:
        began = time.monotonic()
        runs = [self._history.summary(run_id) for run_id in self._run_ids]
        path = self._path
        match self._to:
            case ExportFormat.CSV:
                self._csv()
            case ExportFormat.JSON:
                self._json()
            case _ if path is None:
                raise RequestError(
                    f"{self._to} cannot be written to standard output.", field="path", try_this="Name a path."
                )
            case ExportFormat.PARQUET:
                self._parquet(path)
            case ExportFormat.TENSORBOARD:
                self._tensorboard(path, runs)
            case ExportFormat.MLFLOW if path.suffix.lower() in _DATABASES:
                self._mlflow_database(path)
            case ExportFormat.MLFLOW:
                self._mlflow_files(path)
        return Exported(
            format=self._to,
            path="-" if path is None else str(path),
            runs=self._run_ids,
            points=self._points,
            size_bytes=0 if path is None else _size(path),
            seconds=time.monotonic() - began,
            notes=tuple(self._notes),
        )

    # -- files ----------------------------------------------------------------------------------------------------

    def _csv(self) -> None:
        with self._file() as file:
            if self._wide:
                write_wide_csv(file, self._contents(), self._names())
                return
            writer = CsvWriter(file, with_kind=self._with_system)
            for content in self._contents():
                writer.add(content)

    def _json(self) -> None:
        with self._file() as file:
            writer = DocumentWriter(file)
            for content in self._contents():
                writer.add(content)
            writer.end()

    def _parquet(self, path: Path) -> None:
        pyarrow()
        with new_path(path, force=self._force) as made:
            if self._wide:
                write_wide_parquet(made, self._contents(), self._names())
                return
            with parquet_writer(made) as writer:
                for content in self._contents():
                    writer.add(content)

    def _file(self) -> AbstractContextManager[IO[bytes]]:
        if self._path is not None:
            return new_file(self._path, force=self._force)
        sys.stdout.flush()
        return nullcontext(sys.stdout.buffer)

    def _names(self) -> list[str]:
        """The names of all series of all runs, as columns."""
        found: dict[str, None] = {}
        for run_id in self._run_ids:
            for metric in self._history.metrics(run_id, kind=None if self._with_system else "metric"):
                if not metric.same_as:
                    found[metric.name] = None
        return list(found)

    # -- folders --------------------------------------------------------------------------------------------------

    def _tensorboard(self, path: Path, runs: Sequence[RunSummary]) -> None:
        if path.exists() and not path.is_dir():
            raise RequestError(f"{path} is a file.", field="path", try_this="Name a folder.")
        places = {run_id: path / name for run_id, name in folder_names(runs).items()}
        for place in places.values():
            refuse_taken(place, force=self._force, is_folder=True)
        for content in self._contents():
            with new_path(places[content.run.id], force=self._force, is_folder=True) as made:
                self._notes += tensorboard.write_run(content, made)

    def _mlflow_files(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise RequestError(
                f"{path} is a file.", field="path", try_this="Name a folder, or a file ending in .db."
            )
        for run_id in self._run_ids:
            refuse_taken(path / mlflow_files.EXPERIMENT_ID / run_id, force=self._force, is_folder=True)
        mlflow_files.prepare_store(path, now=time.time())
        for content in self._contents():
            final = mlflow_files.run_folder(path, content)
            with new_path(final, force=self._force, is_folder=True) as made:
                mlflow_files.write_run(content, made, final=final)
        self._notes.append("MLflow 3.7 and newer open a folder only with MLFLOW_ALLOW_FILE_STORE=true.")

    def _mlflow_database(self, path: Path) -> None:
        artifacts = path.with_name(path.stem + "-artifacts")
        with new_path(path, force=self._force) as made:
            media = made.parent / "media"
            with mlflow_database.new_store(made, artifacts=artifacts, now=time.time()) as writer:
                for content in self._contents():
                    writer.add(content)
                    mlflow_files.write_media(content, media / content.run.id)
            for folder in sorted(media.iterdir()) if media.is_dir() else ():
                place = mlflow_database.artifact_folder(artifacts, folder.name)
                shutil.rmtree(place, ignore_errors=True)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder, place)

    # -------------------------------------------------------------------------------------------------------------

    def _contents(self) -> Iterator[Content]:
        for place, run_id in enumerate(self._run_ids, start=1):
            name = self._history.summary(run_id).name

            def tell(points: int, place: int = place, name: str = name) -> None:
                if self._cancelled():
                    raise Cancelled("The export was cancelled; nothing is half written.")
                self._points += points
                if self._on_progress is not None:
                    self._on_progress(
                        ExportProgress(name=name, place=place, of=len(self._run_ids), points=self._points)
                    )

            tell(0)
            yield read_content(self._history, run_id, with_system=self._with_system, tell=tell)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
