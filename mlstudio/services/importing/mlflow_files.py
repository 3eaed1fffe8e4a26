"""MLflow's file store: a folder of experiments, each with a folder for every run.

Layout as MLflow's ``mlflow/store/tracking/file_store.py`` writes it (1.x to 3.x): ``meta.yaml``; ``metrics/NAME`` with
lines ``milliseconds value [step [data set]]``; ``params/NAME`` and ``tags/NAME`` with the value; ``artifacts/``. A name
with slashes is a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlstudio.services.importing import mlflow_facts
from mlstudio.services.importing.folders import (
    MAX_ARTIFACTS,
    files_below,
    is_inside,
    read_small,
    read_text,
)
from mlstudio.services.importing.source import MAX_MEDIUM_BYTES, MAX_SERIES, Gatherer, Piece, Source
from mlstudio.services.importing.values import MAX_PARAMETERS, clean_name, clean_text

_BLOCK = 4 * 1024 * 1024
_LONGEST_META = 256 * 1024


def read_meta(folder: Path) -> dict[str, Any]:
    """The folder's ``meta.yaml``; empty where there is none that can be read."""
    data = read_small(folder / "meta.yaml", most=_LONGEST_META)
    if not data:
        return {}
    try:
        found = yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        return {}
    return found if isinstance(found, dict) else {}


class _Loader(yaml.SafeLoader):
    """`yaml.safe_load` without dates, and without aliases, which can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("MLflow writes no aliases.")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def is_run(meta: dict[str, Any]) -> bool:
    return isinstance(meta.get("run_id", meta.get("run_uuid")), str) and "experiment_id" in meta


def is_experiment(meta: dict[str, Any]) -> bool:
    return "artifact_location" in meta and "experiment_id" in meta


class MlflowFolder(Source):
    """One run of a file store."""

    format = "mlflow"

    def __init__(self, path: Path, meta: dict[str, Any], *, experiment: str, root: Path) -> None:
        run_id = str(meta.get("run_id", meta.get("run_uuid")))
        super().__init__(
            path, name=str(meta.get("run_name") or "") or run_id[:8], identity=("mlflow", run_id)
        )
        self.is_deleted = meta.get("lifecycle_stage") == "deleted" or meta.get("deleted_time") is not None
        self._meta = meta
        self._root = root
        facts = self.facts
        mlflow_facts.set_start(facts, meta.get("start_time"))
        mlflow_facts.set_state(facts, meta.get("status"))
        mlflow_facts.apply_tags(facts, self._small_files("tags"), experiment=experiment)
        if meta.get("run_name"):
            facts.name = clean_name(str(meta["run_name"]))
        self._metrics = list(files_below(path / "metrics", most=MAX_SERIES + 1))
        self.size_bytes = sum(size for _, _, size in self._metrics)

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {}
        for name, value in self._small_files("params"):
            self.facts.parameters[clean_name(name)] = clean_text(value)
        gatherer = Gatherer(self, system_prefix="system/")
        for name, path, size in self._metrics:
            place = done.get(name, 0)
            self.done_bytes += min(place, size)
            if size <= place:
                continue
            try:
                with path.open("rb") as file:
                    file.seek(place)
                    for lines in _whole_lines(file):
                        self._add(gatherer, name, lines)
                        place += len(lines)
                        self.done_bytes += len(lines)
                        done[name] = place
                        if gatherer.is_full:
                            yield gatherer.take(json.dumps(done))
            except OSError as error:
                self.problem(f"The metric “{clean_name(name)}” could not be read: {error.strerror}.")
        yield from self._artifacts(gatherer, done)
        yield gatherer.take(json.dumps(done))
        self._end()

    def _end(self) -> None:
        end = mlflow_facts.milliseconds(self._meta.get("end_time"))
        if end is not None:
            self.facts.ended = end

    def _add(self, gatherer: Gatherer, name: str, lines: bytes) -> None:
        point = gatherer.point
        for line in lines.split(b"\n"):
            parts = line.split()
            try:
                time, value = int(parts[0]) / 1000, float(parts[1])
                step = int(parts[2]) if len(parts) > 2 else 0
                if -(2**63) <= step < 2**63 and 0 <= time < 1e12:
                    point(name, step, time, value)
                    continue
            except (ValueError, IndexError, OverflowError):
                if not line:
                    continue
            self.problem(f"Lines of the metric “{clean_name(name)}” could not be read.")

    def _small_files(self, kind: str) -> Iterator[tuple[str, str]]:
        for name, path, _ in files_below(self.path / kind, most=MAX_PARAMETERS):
            yield name, read_text(path, most=256 * 1024)

    def _artifacts(self, gatherer: Gatherer, done: dict[str, int]) -> Iterator[Piece]:
        folder = self.path / "artifacts"
        if not folder.is_dir():
            elsewhere = mlflow_facts.local_folder(str(self._meta.get("artifact_uri") or ""))
            if elsewhere is None or not is_inside(elsewhere, self._root):
                return
            folder = elsewhere
        yield from read_artifacts(gatherer, folder, done)


def read_artifacts(gatherer: Gatherer, folder: Path, done: dict[str, int]) -> Iterator[Piece]:
    """The run's artifacts by name and size, and images logged by step as media. `done` notes what came before."""
    found = []
    for name, path, size in files_below(folder, most=MAX_ARTIFACTS):
        key = f"artifacts/{name}"
        if done.get(key) == size:
            continue
        is_new = key not in done
        done[key] = size
        found.append((clean_name(name), size))
        image = mlflow_facts.logged_image(name)
        if image is not None and is_new and size <= MAX_MEDIUM_BYTES:
            title, step, time, mime = image
            gatherer.medium(title, "image", step, time or 0.0, mime, read_small(path, most=MAX_MEDIUM_BYTES))
            if gatherer.is_full:
                yield gatherer.take(json.dumps(done))
    if found:
        yield gatherer.take(json.dumps(done), artifacts=tuple(found))


def _whole_lines(file: Any) -> Iterator[bytes]:
    """Blocks that end with a newline; a line that is still being written is left for the next time."""
    rest = b""
    while True:
        block = file.read(_BLOCK)
        if not block:
            return
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            if len(rest) > 16 * _BLOCK:
                return  # no line of MLflow's
            continue
        yield rest + block[:cut]
        rest = block[cut:]
