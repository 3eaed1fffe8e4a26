"""One JSON document with everything that the history knows of some runs. `mlstudio import` reads it."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO

from mlstudio.model.run import RunDetail
from mlstudio.services.exporting.content import Content
from mlstudio.services.importing.studio_document import FORMAT, VERSION
from mlstudio.store import History

_LINES_AT_ONCE = 5000


class DocumentWriter:
    """Writes runs one after the other, a series a line, so that no run lies in memory as a whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._count = 0
        self._put(
            f'{{"format": "{FORMAT}", "version": {VERSION}, "exported": {json.dumps(time.time())}, "runs": ['
        )

    def add(self, content: Content) -> None:
        self._put(("," if self._count else "") + "\n{")
        self._count += 1
        for name, value in _facts(content.detail).items():
            self._put(f"{json.dumps(name)}: {_json(value)},\n")
        self._put(f'"environment": {_json(content.environment())},\n')
        artifacts = content.history.artifacts(content.run.id)
        self._put(
            f'"artifacts": {_json([{"path": path, "size_bytes": size} for path, size in artifacts])},\n'
        )
        self._list("series", _series(content))
        self._put(",\n")
        self._list("media", _media(content))
        self._put(",\n")
        self._list("log", _log(content.history, content.run.id))
        self._put("}")

    def end(self) -> None:
        self._put("\n]}\n")

    def _list(self, name: str, entries: Iterator[object]) -> None:
        self._put(f'"{name}": [')
        for place, entry in enumerate(entries):
            self._put(("," if place else "") + "\n" + _json(entry))
        self._put("]")

    def _put(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "replace"))


def _facts(detail: RunDetail) -> dict[str, object]:
    run = detail.summary
    return {
        "id": run.id,
        "number": run.number,
        "name": run.name,
        "state": run.state.value,
        "created": run.created,
        "started": run.started,
        "ended": run.ended,
        "exit": asdict(run.exit) if run.exit is not None else None,
        "engine": run.engine,
        "engine_kind": run.engine_kind,
        "host": run.host,
        "gpus": run.gpus,
        "command": run.command,
        "parameters": dict(run.parameters),
        "tags": run.tags,
        "note": run.note,
        "commit": run.commit,
        "tree_hash": run.tree_hash,
        "image_tag": run.image_tag,
        "image_id": run.image_id,
        "lacks": run.lacks,
        "gaps": run.gaps,
        "spec": asdict(detail.spec),
        "dockerfile": detail.dockerfile,
        "patch": detail.patch,
        "code_files": detail.code_files,
        "events": [
            {"time": event.time, "type": event.type, "data": _parsed(event.data_json)}
            for event in detail.events
        ],
    }


def _series(content: Content) -> Iterator[object]:
    for metric, series in content.series():
        yield {
            "name": metric.name,
            "kind": metric.kind,
            "unit": metric.unit,
            "logger": metric.logger,
            "steps": series.steps.tolist(),
            "times": series.times.tolist(),
            "values": [value if math.isfinite(value) else _word(value) for value in series.values.tolist()],
        }


def _media(content: Content) -> Iterator[object]:
    for item, data in content.media():
        entry = asdict(item)
        del entry["id"], entry["size_bytes"]
        yield {**entry, "data": base64.b64encode(data).decode()}


def _log(history: History, run_id: str) -> Iterator[object]:
    """(time, whether it went to standard error, text), a line each."""
    place = 0
    while True:
        lines = history.log(run_id, start=place, count=_LINES_AT_ONCE)
        for line in lines:
            yield [line.time, line.is_error_stream, line.text]
        if len(lines) < _LINES_AT_ONCE:
            return
        place += len(lines)


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(value: object) -> str:
    return json.dumps(_strict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _strict(value: object) -> object:
    """NaN and infinities as words. Long lists of numbers are made so already."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _word(value)
    if isinstance(value, dict):
        return {
            str(key): item if key in ("steps", "times", "values") else _strict(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
