"""What MLflow allows: its names, states and times, and our runs in them. The same for its files and its database."""

from __future__ import annotations

import re
import shlex

from mlstudio.model.run import RunState, RunSummary
from mlstudio.services.exporting.content import Content

EXPERIMENT = "ML Studio"
# mlflow/utils/validation.py: names of metrics, parameters and tags, and how long things may be.
_FORBIDDEN = re.compile(r"[^\w.\- /]", re.ASCII)
_MAX_NAME = 250
_MAX_PARAMETER = 6000
_MAX_TAG = 5000
STATUS = {
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.STOPPED: "KILLED",
    # The only word of MLflow's that claims no end.
    RunState.LOST: "RUNNING",
    RunState.RUNNING: "RUNNING",
    RunState.QUEUED: "SCHEDULED",
}
STATUS_NUMBER = {"RUNNING": 1, "SCHEDULED": 2, "FINISHED": 3, "FAILED": 4, "KILLED": 5}


class Names:
    """Gives each name one that MLflow takes, and no two the same one.

    `as_paths`: names become paths, so none may be the folder of another, and capitals may not tell them apart.
    """

    def __init__(self, *, as_paths: bool = False) -> None:
        self.as_paths = as_paths
        self._taken: set[str] = set()
        self._folders: set[str] = set()

    def make(self, name: str) -> str:
        parts = [part for part in _FORBIDDEN.sub("_", name).split("/") if part]
        clean = (
            "/".join(part.strip() if part.strip(". ") else "_" for part in parts)[:_MAX_NAME].strip("/ ")
            or "_"
        )
        found, place = clean, 1
        while not self._is_free(found):
            place += 1
            found = (
                f"{clean[: _MAX_NAME - 8]} {place}"
                if not self.as_paths
                else f"{clean[: _MAX_NAME - 8]}_{place}"
            )
        key = self._key(found)
        self._taken.add(key)
        parts = key.split("/")
        self._folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
        return found

    def _key(self, name: str) -> str:
        return name.lower() if self.as_paths else name

    def _is_free(self, name: str) -> bool:
        key = self._key(name)
        if key in self._taken:
            return False
        if not self.as_paths:
            return True
        parts = key.split("/")
        return key not in self._folders and not any(
            "/".join(parts[:count]) in self._taken for count in range(1, len(parts))
        )


def parameters_of(run: RunSummary, names: Names) -> list[tuple[str, str]]:
    return [(names.make(name), value[:_MAX_PARAMETER]) for name, value in run.parameters]


def tags_of(content: Content, names: Names) -> list[tuple[str, str]]:
    """Our tags (``name=value`` as such), and MLflow's own."""
    run = content.run
    own = {
        "mlflow.runName": run.name,
        "mlflow.note.content": run.note,
        "mlflow.source.name": run.command[1]
        if len(run.command) == 2 and run.command[0] == "python"
        else shlex.join(run.command),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": run.commit,
        "mlstudio.run": run.id,
        "mlstudio.engine": run.engine,
        "mlstudio.image": run.image_tag,
    }
    found = [(names.make(name), value[:_MAX_TAG]) for name, value in own.items() if value]
    for tag in run.tags:
        name, _, value = tag.partition("=")
        found.append((names.make(name), value[:_MAX_TAG]))
    return found


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def media_path(name: str, kind: str, step: int, time: float, mime: str, place: int) -> str:
    """Where a medium lies among a run's artifacts; images where `mlflow.log_image` puts them, for MLflow to show."""
    clean = _FORBIDDEN.sub("_", name).replace("/", "~").strip(". ")[:150] or "_"
    ending = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "text/plain": "txt"}.get(mime)
    if kind == "image" and ending is not None:
        return f"images/{clean}+step+{step}+timestamp+{round(time * 1000)}+{place:08x}.{ending}"
    ending = ending or {"histogram": "json", "table": "json", "text": "txt", "audio": "wav"}.get(kind, "bin")
    return f"{kind}/{clean}/{step:09d}-{place:08x}.{ending}"
