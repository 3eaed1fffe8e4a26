"""Runs that another ML Studio wrote with ``mlstudio export --to json``: everything but the image and the code."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlstudio.model.errors import RequestError, WorldError
from mlstudio.model.record import LogBlock
from mlstudio.model.run import Exit, ExitReason, RunState
from mlstudio.services.importing.source import Gatherer, Piece, Source
from mlstudio.services.importing.values import (
    MAX_PARAMETERS,
    clean_name,
    clean_text,
    clean_time,
    parameter_text,
    parse_number,
    parse_step,
)

FORMAT = "mlstudio-runs"
VERSION = 1
_MAX_BYTES = 512 * 1024 * 1024
_LINES_AT_ONCE = 5000
_KINDS = ("histogram", "image", "text", "audio", "table")


def is_document(path: Path) -> bool:
    """Whether the file begins as ours do."""
    try:
        with path.open("rb") as file:
            return f'"format": "{FORMAT}"'.encode() in file.read(200)
    except OSError:
        return False


def document_runs(path: Path) -> Iterator[StudioRun]:
    """The runs in a document. Raises RequestError if it is a newer program's, WorldError if it cannot be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RequestError(
                f"{path} is too large to be read at once.",
                field="path",
                try_this="Export fewer runs to one file, or export them to Parquet or TensorBoard.",
            )
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WorldError(f"{path} cannot be read.", why=f"{error}.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise RequestError(f"{path} is no document of ML Studio.", field="path")
    if document.get("version") != VERSION:
        raise RequestError(
            f"{path} was written by a newer ML Studio.", field="path", try_this="Update this one."
        )
    runs = document.get("runs")
    for run in runs if isinstance(runs, list) else ():
        if isinstance(run, dict) and isinstance(run.get("id"), str) and run["id"]:
            yield StudioRun(path, run)


class StudioRun(Source):
    """One run of a document."""

    format = "mlstudio"

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.original = str(run["id"])
        """The run's id in the history that it was exported from."""
        super().__init__(path, name=_text(run, "name"), identity=("mlstudio", self.original))
        self._run = run
        facts = self.facts
        facts.created = clean_time(run.get("created"))
        facts.note = clean_text(_text(run, "note"))
        facts.host = clean_name(_text(run, "host"), otherwise="")
        facts.commit = clean_name(_text(run, "commit"), otherwise="")[:64]
        facts.command = tuple(clean_text(str(word)) for word in _list(run, "command")[:10_000])
        facts.tags = [clean_name(str(tag))[:200] for tag in _list(run, "tags")[:1000]]
        parameters = run.get("parameters")
        for name, value in parameters.items() if isinstance(parameters, dict) else ():
            if len(facts.parameters) < MAX_PARAMETERS:
                facts.parameters[clean_name(str(name))] = parameter_text(value)
        environment = run.get("environment")
        if isinstance(environment, dict):
            facts.environment = environment
        self._set_end()
        self.size_bytes = sum(len(_list(series, "values")) for series in self._series())

    def _set_end(self) -> None:
        run, facts = self._run, self.facts
        end = run.get("exit") if isinstance(run.get("exit"), dict) else {}
        assert isinstance(end, dict)
        code = end.get("code") if isinstance(end.get("code"), int) else None
        message = clean_text(_text(end, "message"))
        state = _text(run, "state")
        if state not in (RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED):
            facts.end_unknown(message or "When it was exported, it had not ended.")
            return
        facts.state = RunState(state)
        reason = _text(end, "reason")
        known = ExitReason(reason) if reason in list(ExitReason) else ExitReason.COMPLETED
        facts.exit = Exit(
            reason=known, code=code, message=message, try_this=clean_text(_text(end, "try_this"))
        )

    def _series(self) -> list[dict[str, Any]]:
        return [series for series in _list(self._run, "series") if isinstance(series, dict)]

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {}
        yield from self._points(done)
        gatherer = Gatherer(self)
        media = _list(self._run, "media")
        for item in media[done.get("media", 0) :]:
            done["media"] = done.get("media", 0) + 1
            if isinstance(item, dict):
                self._medium(gatherer, item)
            if gatherer.is_full:
                yield gatherer.take(json.dumps(done))
        artifacts = tuple(
            (clean_name(_text(item, "path")), int(item["size_bytes"]))
            for item in _list(self._run, "artifacts")[:10_000]
            if isinstance(item, dict) and parse_step(item.get("size_bytes")) is not None
        )
        if artifacts and not done.get("artifacts"):
            done["artifacts"] = 1
            yield gatherer.take(json.dumps(done), artifacts=artifacts)
        yield from self._log(gatherer, done)
        yield gatherer.take(json.dumps(done))
        self.facts.started = clean_time(self._run.get("started")) or self.facts.started
        self.facts.ended = clean_time(self._run.get("ended")) or self.facts.ended

    def _points(self, done: dict[str, int]) -> Iterator[Piece]:
        for series in self._series():
            gatherer = Gatherer(self, is_system=series.get("kind") == "system")
            name = _text(series, "name")
            key = f"{'system' if series.get('kind') == 'system' else 'metric'}:{name}"
            columns = [_list(series, column) for column in ("steps", "times", "values")]
            count = min(map(len, columns))
            for place in range(done.get(key, 0), count):
                step, value = parse_step(columns[0][place]), parse_number(columns[2][place])
                time = columns[1][place]
                done[key] = place + 1
                if step is None or value is None or not isinstance(time, int | float):
                    self.problem(f"Points of “{clean_name(name)}” could not be read.")
                else:
                    gatherer.point(name, step, float(time), value)
                if gatherer.is_full:
                    yield gatherer.take(json.dumps(done), logger=_text(series, "logger"))
            self.done_bytes += count
            yield gatherer.take(json.dumps(done), logger=_text(series, "logger"), unit=_text(series, "unit"))

    def _log(self, gatherer: Gatherer, done: dict[str, int]) -> Iterator[Piece]:
        """Lines of [time, whether it went to standard error, text]."""
        lines = _list(self._run, "log")
        while (place := done.get("log", 0)) < len(lines):
            data = bytearray()
            spans = []
            for line in lines[place : place + _LINES_AT_ONCE]:
                if isinstance(line, list) and len(line) == 3 and isinstance(line[2], str):
                    text = clean_text(line[2], most=65_536).encode() + b"\n"
                    data += text
                    spans.append((line[1] is True, len(text), clean_time(line[0]) or 0.0))
            done["log"] = place + _LINES_AT_ONCE
            yield gatherer.take(json.dumps(done), log=(LogBlock(data=bytes(data), spans=tuple(spans)),))

    def _medium(self, gatherer: Gatherer, item: dict[str, Any]) -> None:
        step, time = parse_step(item.get("step")), clean_time(item.get("time")) or 0.0
        try:
            data = base64.b64decode(_text(item, "data"), validate=True)
        except ValueError:
            data = b""
        kind = _text(item, "kind")
        if step is None or not data or kind not in _KINDS:
            self.problem("Some media could not be read.")
            return
        width, height = (
            value if isinstance(value, int) and 0 <= value < 2**31 else 0
            for value in (item.get("width"), item.get("height"))
        )
        gatherer.medium(
            _text(item, "name"), kind, step, time, clean_name(_text(item, "mime")), data,
            width=width, height=height, caption=clean_text(_text(item, "caption")),
            logger=_text(item, "logger"),
        )  # fmt: skip


def _text(item: dict[str, Any], name: str) -> str:
    found = item.get(name)
    return found if isinstance(found, str) else ""


def _list(item: dict[str, Any], name: str) -> list[Any]:
    found = item.get(name)
    return found if isinstance(found, list) else []
