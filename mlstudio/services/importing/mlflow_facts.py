"""What MLflow says of a run, in our words: states, tags, source. The same for its files and its database."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlstudio.services.importing.source import Facts
from mlstudio.services.importing.values import clean_name, clean_text, clean_time

_LONGEST_TAG = 200
_IMAGE = re.compile(
    r"images/(?P<name>.+?)(?:%|\+)step(?:%|\+)(?P<step>-?\d{1,18})(?:%|\+)timestamp(?:%|\+)(?P<time>\d{1,18})(?:%|\+)"
    r"[^/%+]*\.(?P<kind>png|jpg|jpeg|gif|webp)$"
)
# RunStatus in mlflow/protos/service.proto
STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


def set_state(facts: Facts, status: object, *, is_deleted: bool = False) -> None:
    """The run's state by MLflow's word (or number) for it."""
    if isinstance(status, int):
        status = STATUS.get(status, "")
    if status == "FINISHED":
        facts.succeeded()
    elif status == "FAILED":
        facts.failed("MLflow says that it failed.")
    elif status == "KILLED":
        facts.stopped("MLflow says that it was killed.")
    else:
        facts.end_unknown("When it was imported, MLflow did not say that it had ended.")


def set_start(facts: Facts, value: object) -> None:
    """When the run began, in milliseconds."""
    facts.created = facts.started = milliseconds(value)
    facts.start_is_told = facts.started is not None


def milliseconds(value: object) -> float | None:
    """MLflow's times are milliseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return clean_time(value / 1000) if abs(value) < 2**63 else None
    return None


def apply_tags(facts: Facts, tags: Iterable[tuple[str, str]], *, experiment: str) -> None:
    """Name, note, source and commit from MLflow's own tags; tags that a person set become tags."""
    if experiment and experiment != "Default":
        facts.tags.append(clean_name(experiment)[:_LONGEST_TAG])
    for name, value in tags:
        match name:
            case "mlflow.runName":
                facts.name = clean_name(value, otherwise=facts.name)
            case "mlflow.note.content":
                facts.note = clean_text(value)
            case "mlflow.source.name":
                facts.command = _command(value)
            case "mlflow.source.git.commit":
                facts.commit = clean_name(value)[:64]
            case "mlflow.source.git.repoURL":
                facts.code_url = clean_name(value)
            case _ if name.startswith("mlflow."):
                pass
            case _:
                text = f"{name}={value}" if value else name
                facts.tags.append(clean_name(text)[:_LONGEST_TAG])


def _command(source: str) -> tuple[str, ...]:
    source = clean_text(source, most=4000).strip()
    if not source:
        return ()
    return ("python", source) if source.endswith(".py") and " " not in source else tuple(_words(source))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [text]


def local_folder(uri: str) -> Path | None:
    """The folder that an artifact URI means on this machine, if it means one."""
    parts = urlsplit(uri)
    if parts.scheme in ("", "file") and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path) if parts.scheme else uri)
    return None


def logged_image(path: str) -> tuple[str, int, float | None, str] | None:
    """(name, step, time, MIME type) of an artifact that `mlflow.log_image(key=…)` wrote."""
    match = _IMAGE.match(path)
    if match is None:
        return None
    kind = "jpeg" if match["kind"] == "jpg" else match["kind"]
    # MLflow 3 writes "~" for "/" of a key, MLflow 2 "#".
    name = match["name"].replace("#", "/").replace("~", "/")
    return name, int(match["step"]), milliseconds(int(match["time"])), f"image/{kind}"
