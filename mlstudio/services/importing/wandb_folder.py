"""W&B's offline runs: a folder each (``offline-run-…`` or ``run-…``) with a ``.wandb`` file and the run's files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from mlstudio.model.errors import WorldError
from mlstudio.model.record import LogBlock
from mlstudio.probe import wandb_file as reading
from mlstudio.services.importing.folders import is_inside, read_small
from mlstudio.services.importing.media import add_value
from mlstudio.services.importing.source import MAX_MEDIUM_BYTES, Gatherer, Piece, Source
from mlstudio.services.importing.values import (
    MAX_PARAMETERS,
    clean_name,
    clean_text,
    clean_time,
    flat,
    parameter_text,
    parse_number,
)

_BLOCK = 1024 * 1024
_FILE = re.compile(r"run-.+\.wandb")
_MOST_LOG = 256 * 1024 * 1024


def wandb_file(folder: Path, names: Collection[str]) -> Path | None:
    """The file of W&B's among the names in a folder, if there is one."""
    return next((folder / name for name in sorted(names) if _FILE.fullmatch(name)), None)


class WandbFolder(Source):
    """One offline run."""

    format = "wandb"

    def __init__(self, path: Path, file: Path) -> None:
        run_id = file.stem.removeprefix("run-")
        # The folder's name holds the time of the start: a run that was resumed has several, each with its part.
        super().__init__(path, name=run_id, identity=("wandb", path.resolve().name, file.name))
        self._file = file
        self._files = path / "files"
        self._last_step = 0
        self._start = 0.0
        self.size_bytes = file.stat().st_size
        self.facts.end_unknown("When it was imported, W&B had not noted an end.")

    def read(self, mark: str) -> Iterator[Piece]:
        done: dict[str, int] = json.loads(mark) if mark else {}
        self._metadata()
        reader = reading.WandbReader()
        gatherer = Gatherer(self)
        named: set[str] = set()
        summary: dict[str, object] = {}
        seen = 0
        has_ended = False
        try:
            with self._file.open("rb") as file:
                while data := file.read(_BLOCK):
                    self.done_bytes += len(data)
                    for record in reader.feed(data):
                        if isinstance(record, reading.History):
                            seen += 1
                            named.update(name for name, _ in record.items)
                            if seen > done.get("records", 0):
                                done["records"] = seen
                                self._history(record, gatherer)
                                if gatherer.is_full:
                                    yield gatherer.take(json.dumps(done))
                        elif isinstance(record, reading.Summary):
                            summary.update(record.items)
                        else:
                            has_ended |= self._fact(record)
                    yield Piece(mark=json.dumps(done))
        except OSError as error:
            raise WorldError(f"{self._file} cannot be read.", why=f"{error.strerror or error}.") from error
        if reader.damaged:
            self.problem(f"{self._file.name} is damaged: {reader.damaged} What came before was read.")
        if reader.skipped:
            self.problem(f"{reader.skipped} records of {self._file.name} could not be read.")
        if has_ended and not done.get("summary"):
            self._summary(summary, named, gatherer)
            done["summary"] = 1
        yield gatherer.take(json.dumps(done))
        yield from self._log(gatherer, done)

    def _history(self, record: reading.History, gatherer: Gatherer) -> None:
        items = dict(record.items)
        step = record.step if record.step is not None else items.get("_step")
        if not isinstance(step, int) or not -(2**63) <= step < 2**63:
            step = self._last_step
        self._last_step = step
        time = clean_time(items.get("_timestamp"))
        if time is None:
            runtime = parse_number(items.get("_runtime"))
            time = self._start + (runtime or 0.0)
        for name, value in reading.with_media(items).items():
            if not name.startswith("_"):
                add_value(gatherer, name, step, time, value, open_file=self._open)

    def _fact(self, record: object) -> bool:
        """What is no step; whether it is the end."""
        facts = self.facts
        if isinstance(record, reading.Run):
            facts.name = clean_name(record.name, otherwise=facts.name)
            facts.note = clean_text(record.notes)
            facts.tags = [clean_name(tag)[:200] for tag in [record.project, *record.tags][:1000] if tag]
            start = clean_time(record.start_time)
            if start is not None:
                self._start = facts.created = facts.started = start
                facts.start_is_told = True
            self._config(record.config)
        elif isinstance(record, reading.Config):
            self._config(record.items)
        elif isinstance(record, reading.Exit):
            if record.code == 0:
                facts.succeeded()
            else:
                facts.failed(f"W&B noted the exit code {record.code}.", code=record.code)
            return True
        return False

    def _config(self, items: reading.Items) -> None:
        for name, value in flat(dict(items)):
            # W&B's own notes on versions and the machine.
            if not name.startswith("_wandb") and len(self.facts.parameters) < MAX_PARAMETERS:
                self.facts.parameters[clean_name(name)] = parameter_text(value)

    def _summary(self, summary: dict[str, object], named: set[str], gatherer: Gatherer) -> None:
        """Numbers that stand only in the summary, such as ``run.summary["best"] = …``."""
        time = self.facts.ended or self._start
        for name, value in summary.items():
            number = None if isinstance(value, str) else parse_number(value)
            if number is not None and not name.startswith("_") and name not in named:
                gatherer.point(name, self._last_step, time, number)

    def _metadata(self) -> None:
        """What older versions wrote beside the run."""
        try:
            found = json.loads(read_small(self._files / "wandb-metadata.json") or b"{}")
        except (ValueError, RecursionError):
            return
        if not isinstance(found, dict):
            return
        program, words, git = found.get("program"), found.get("args"), found.get("git")
        if isinstance(program, str) and program:
            arguments = [str(word) for word in words] if isinstance(words, list) else []
            self.facts.command = tuple(clean_text(word) for word in ("python", program, *arguments[:10_000]))
        if isinstance(found.get("host"), str):
            self.facts.host = clean_name(found["host"], otherwise="")
        if isinstance(git, dict):
            self.facts.commit = clean_name(str(git.get("commit") or ""), otherwise="")[:64]
            self.facts.code_url = clean_name(str(git.get("remote") or ""), otherwise="")

    def _log(self, gatherer: Gatherer, done: dict[str, int]) -> Iterator[Piece]:
        """The output that W&B kept, with the time of the start: it notes no others."""
        path = self._files / "output.log"
        place = done.get("log", 0)
        if path.is_symlink() or not path.is_file() or path.stat().st_size <= place:
            return
        with path.open("rb") as file:
            file.seek(place)
            while place < _MOST_LOG and (data := file.read(_BLOCK)):
                place += len(data)
                done["log"] = place
                text = data.decode("utf-8", "replace").encode()
                block = LogBlock(data=text, spans=((False, len(text), self._start),))
                yield gatherer.take(json.dumps(done), log=(block,))

    def _open(self, name: str) -> bytes:
        path = self._files / name
        return read_small(path, most=MAX_MEDIUM_BYTES + 1) if is_inside(path, self._files) else b""
