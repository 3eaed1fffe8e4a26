"""MLflow's file store: a folder (``mlruns``) that MLflow 1, 2 and, if told to, 3 open.

MLflow 3.7 and newer want ``MLFLOW_ALLOW_FILE_STORE=true`` in the environment for it, or the SQLite store.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlstudio.services.exporting.content import Content
from mlstudio.services.exporting.mlflow_words import (
    EXPERIMENT,
    STATUS,
    STATUS_NUMBER,
    Names,
    media_path,
    milliseconds,
    parameters_of,
    tags_of,
)

EXPERIMENT_ID = "776833570241885120"
"""Any number of 18 digits will do, as MLflow makes them by chance; the same one each time joins exports in one store."""
_AT_ONCE = 100_000


def prepare_store(store: Path, *, now: float) -> None:
    """The store's folder with our experiment, and MLflow's default one, unless they are there."""
    for number, name in (("0", "Default"), (EXPERIMENT_ID, EXPERIMENT)):
        folder = store / number
        if (folder / "meta.yaml").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        _write_meta(
            folder,
            {
                "artifact_location": folder.resolve().as_uri(),
                "creation_time": milliseconds(now),
                "experiment_id": number,
                "last_update_time": milliseconds(now),
                "lifecycle_stage": "active",
                "name": name,
            },
        )


def run_folder(store: Path, content: Content) -> Path:
    return store / EXPERIMENT_ID / content.run.id


def write_run(content: Content, folder: Path, *, final: Path) -> None:
    """Write one run into a new folder, which will lie at `final`."""
    run = content.run
    for name in ("metrics", "params", "tags", "artifacts"):
        (folder / name).mkdir(parents=True)
    names = Names(as_paths=True)
    for parameter, value in parameters_of(run, names):
        _put(folder / "params" / parameter, value)
    names = Names(as_paths=True)
    for tag, value in tags_of(content, names):
        _put(folder / "tags" / tag, value)
    names = Names(as_paths=True)
    for metric, series in content.series():
        system = "" if metric.kind == "metric" else "system/"
        path = folder / "metrics" / names.make(system + metric.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="ascii", newline="\n") as file:
            for low in range(0, len(series), _AT_ONCE):
                part = slice(low, low + _AT_ONCE)
                lines = zip(
                    series.times[part].tolist(),
                    series.values[part].tolist(),
                    series.steps[part].tolist(),
                    strict=True,
                )
                file.write(
                    "".join([f"{round(time * 1000)} {value!r} {step}\n" for time, value, step in lines])
                )
    write_media(content, folder / "artifacts")
    status = STATUS[run.state]
    _write_meta(
        folder,
        {
            "artifact_uri": (final.absolute() / "artifacts").as_uri(),
            "end_time": milliseconds(run.ended),
            "entry_point_name": "",
            "experiment_id": EXPERIMENT_ID,
            "lifecycle_stage": "active",
            "run_id": run.id,
            "run_name": run.name,
            "run_uuid": run.id,
            "source_name": "",
            "source_type": 4,
            "source_version": "",
            "start_time": milliseconds(run.started if run.started is not None else run.created),
            "status": STATUS_NUMBER[status],
            "tags": [],
            "user_id": "",
        },
    )


def write_media(content: Content, folder: Path) -> None:
    """Media as artifacts."""
    for place, (item, data) in enumerate(content.media()):
        path = folder / media_path(item.name, item.kind, item.step, item.time, item.mime, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_meta(folder: Path, values: dict[str, object]) -> None:
    # JSON is YAML: nothing has to be quoted by hand.
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in sorted(values.items())]
    _put(folder / "meta.yaml", "".join(lines))
