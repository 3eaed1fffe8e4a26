"""What Weights & Biases' run files say, as points, parameters, tags and media of one run.

Keys are called as W&B shows them: nested ones are joined with dots. The first run of a script has its plain names; where
a script makes more of them (folds, a sweep in a loop), the later ones' names begin with their own.
"""

from __future__ import annotations

import json
import math
import os
import stat
from array import array

from mlstudio.probe.event_files import image_mime
from mlstudio.probe.wandb_file import Config, Exit, History, Run, Summary, WandbReader, with_media

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, Iterator, List, Optional, Tuple

    from mlstudio.probe.intake import Intake

LOGGER = "wandb"
_DEEPEST = 8
_MAX_TEXT = 60 * 1024
_MAX_FILE = 4 * 1024 * 1024
_MAX_WAITING = 1000
_MAX_PARAMETERS = 5000


class RunNames:
    """How runs are told apart: by nothing for the first, by their names for the others."""

    def __init__(self) -> None:
        self._prefixes: Dict[str, str] = {}
        """By the run's id."""

    def prefix(self, run_id: str, name: str) -> str:
        known = self._prefixes.get(run_id)
        if known is None:
            known = "" if not self._prefixes else "%s/" % (name or run_id)
            if known in self._prefixes.values():
                known = "%s %s/" % (name, run_id)
            self._prefixes[run_id] = known
        return known


class WandbFile:
    """One run file on its way into the intake."""

    logger = LOGGER

    def __init__(self, path: str, intake: Intake, names: RunNames) -> None:
        self._path = path
        self._files = os.path.join(os.path.dirname(path), "files")
        self._intake = intake
        self._names = names
        self._reader = WandbReader()
        self._told = False
        self._prefix: Optional[str] = None
        self._keys: set[str] = set()
        self._summary: Dict[str, float] = {}
        self._step = 0
        self._time = 0.0
        self._parameters: Dict[str, Any] = {}
        self._waiting: List[Tuple[str, str, int, float, str, Dict[str, Any]]] = []

    def feed(self, data: bytes) -> None:
        """The file's next bytes."""
        points: Dict[str, Tuple[array, array, array]] = {}  # type: ignore[type-arg]
        for record in self._reader.feed(data):
            if isinstance(record, History):
                self._history(record, points)
            elif isinstance(record, Run):
                self._run(record)
            elif isinstance(record, Config):
                self._config(record.items)
            elif isinstance(record, Summary):
                for name, value in record.items:
                    self._summarise(name, value)
            elif isinstance(record, Exit):
                pass
        for name, (steps, times, values) in points.items():
            self._intake.points(LOGGER, self._name(name), steps, times, values)
        self._look_again()
        if self._reader.damaged and not self._told:
            self._told = True
            words = "The file %s is not read on. %s" % (self._path, self._reader.damaged)
            self._intake.event({"type": "warning", "message": words})

    def end(self) -> None:
        """No more bytes will come: what stands only in the summary becomes a point."""
        self._look_again()
        for name, value in self._summary.items():
            if name not in self._keys:
                self._intake.point(LOGGER, self._name(name), self._step, self._time, value)
        self._summary.clear()

    def _name(self, name: str) -> str:
        if self._prefix is None:
            self._prefix = self._names.prefix(self._path, "")
        return self._prefix + name

    def _run(self, run: Run) -> None:
        if self._prefix is None:
            self._prefix = self._names.prefix(run.id, run.name)
        self._time = self._time or run.start_time
        self._intake.event(
            {
                "type": "logger",
                "logger": LOGGER,
                "what": self._path,
                "how": "run file%s" % (", run %s" % run.name if run.name else ""),
            }
        )
        for tag in run.tags:
            self._intake.event({"type": "tag", "tag": tag, "logger": LOGGER})
        if run.notes:
            self._intake.event({"type": "note", "text": run.notes, "logger": LOGGER})
        self._config(run.config)

    def _config(self, items: List[Tuple[str, Any]]) -> None:
        for name, value in items:
            if name.startswith("_wandb"):
                continue
            for flat, one in _flat(name, value):
                if self._parameters.get(flat, self) == one or len(self._parameters) >= _MAX_PARAMETERS:
                    continue
                self._parameters[flat] = one
                self._intake.event(
                    {"type": "param", "name": self._name(flat), "value": one, "logger": LOGGER}
                )

    def _history(self, record: History, points: Dict[str, Tuple[array, array, array]]) -> None:  # type: ignore[type-arg]
        values = dict(record.items)
        step = record.step
        if step is None:
            found = _finite(values.get("_step"))
            step = self._step if found is None else int(found)
        found = _finite(values.get("_timestamp"))
        time = self._time if found is None else found
        self._step, self._time = step, time
        for key, value in with_media(values).items():
            if key.startswith("_"):
                continue
            for name, one in _leaves(key, value):
                self._keys.add(name)
                if _is_number(one):
                    columns = points.get(name)
                    if columns is None:
                        columns = points[name] = (array("q"), array("d"), array("d"))
                    columns[0].append(step)
                    columns[1].append(time)
                    columns[2].append(_real(one))
                elif isinstance(one, str):
                    data = one[:_MAX_TEXT].encode("utf-8", "replace")
                    self._intake.medium(LOGGER, self._name(name), "text", step, time, "text/plain", data)
                elif isinstance(one, dict):
                    self._medium(name, step, time, one)

    def _summarise(self, key: str, value: Any) -> None:
        if key.startswith("_"):
            return
        for name, one in _leaves(key, value):
            if _is_number(one) and len(self._summary) < _MAX_PARAMETERS:
                self._summary[name] = _real(one)

    # -- media ----------------------------------------------------------------------------------------------------

    def _medium(self, name: str, step: int, time: float, value: Dict[str, Any]) -> None:
        kind = value.get("_type")
        if kind == "histogram":
            histogram = _histogram(value)
            if histogram is not None:
                data = json.dumps(histogram, separators=(",", ":")).encode("ascii")
                self._intake.medium(
                    LOGGER, self._name(name), "histogram", step, time, "application/json", data
                )
        elif kind == "images/separated" and isinstance(value.get("filenames"), list):
            captions = value.get("captions")
            for place, path in enumerate(value["filenames"][:100]):
                caption = captions[place] if isinstance(captions, list) and place < len(captions) else ""
                more = {key: value.get(key) for key in ("width", "height")}
                self._file(name, "image", step, time, path, {**more, "caption": caption})
        elif kind == "image-file":
            self._file(name, "image", step, time, value.get("path"), value)
        elif kind == "audio-file":
            self._file(name, "audio", step, time, value.get("path"), value)
        elif kind == "table-file":
            self._file(name, "table", step, time, value.get("path"), value)

    def _file(self, name: str, kind: str, step: int, time: float, path: Any, more: Dict[str, Any]) -> None:
        if isinstance(path, str) and len(self._waiting) < _MAX_WAITING:
            self._waiting.append((name, kind, step, time, path, more))

    def _look_again(self) -> None:
        """Take files that are there by now; W&B writes some of them after the record that names them."""
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            name, kind, step, time, path, more = entry
            data = _read_inside(self._files, path)
            if data is None:
                self._waiting.append(entry)
                continue
            extra = {key: int(more[key]) for key in ("width", "height") if isinstance(more.get(key), int)}
            caption = more.get("caption")
            self._intake.medium(
                LOGGER, self._name(name), kind, step, time,
                image_mime(data) if kind == "image" else "application/json" if kind == "table" else "audio/wav",
                data, **({**extra, "caption": caption[:2000]} if isinstance(caption, str) and caption else extra),
            )  # fmt: skip


def _read_inside(folder: str, path: str) -> Optional[bytes]:
    """A regular file below `folder`, if it is there and not too large."""
    full = os.path.realpath(os.path.join(folder, path))
    if not full.startswith(os.path.realpath(folder) + os.sep):
        return None
    try:
        file = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(file, "rb") as opened:
        about = os.fstat(opened.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_FILE or not about.st_size:
            return None
        return opened.read(_MAX_FILE)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _finite(value: Any) -> Optional[float]:
    """The value as a number of common size; None if it is none."""
    return float(value) if _is_number(value) and abs(value) < 2**62 else None


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _leaves(name: str, value: Any, depth: int = 0) -> Iterator[Tuple[str, Any]]:
    """Values below a key: of a dictionary without a type of W&B's own, its members; NaN and infinities as W&B writes
    them."""
    if isinstance(value, dict) and "_type" not in value and depth < _DEEPEST:
        for key, one in value.items():
            yield from _leaves("%s.%s" % (name, key), one, depth + 1)
    elif value in ("NaN", "Infinity", "-Infinity"):
        yield name, float(value)
    else:
        yield name, value


def _flat(name: str, value: Any, depth: int = 0) -> Iterator[Tuple[str, Any]]:
    """A parameter's parts as JSON scalars."""
    if isinstance(value, dict) and value and depth < _DEEPEST:
        for key, one in value.items():
            yield from _flat("%s.%s" % (name, key), one, depth + 1)
    elif isinstance(value, (dict, list)):
        yield name, json.dumps(value, ensure_ascii=False)[:_MAX_TEXT]
    elif isinstance(value, float) and not math.isfinite(value):
        yield name, str(value)
    elif isinstance(value, str):
        yield name, value[:_MAX_TEXT]
    else:
        yield name, value


def _histogram(value: Dict[str, Any]) -> Optional[Dict[str, List[float]]]:
    """W&B's histogram, with its edges spelt out or packed, as edges and counts."""
    counts, edges, packed = value.get("values"), value.get("bins"), value.get("packedBins")
    if not isinstance(counts, list) or not all(_is_number(count) for count in counts) or len(counts) > 10_000:
        return None
    if isinstance(packed, dict) and all(_is_number(packed.get(key)) for key in ("min", "size")):
        edges = [packed["min"] + packed["size"] * place for place in range(len(counts) + 1)]
    if not isinstance(edges, list) or len(edges) != len(counts) + 1:
        return None
    if not all(_is_number(edge) and math.isfinite(edge) for edge in edges):
        return None
    return {"edges": [float(edge) for edge in edges], "counts": [_real(count) for count in counts]}
