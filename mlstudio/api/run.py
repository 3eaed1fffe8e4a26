"""A run as an object: what is known of it, its series as arrays, and what can be done with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.run import LogLine, MediaItem, MetricSummary, RunState, RunSummary

if TYPE_CHECKING:
    import pandas

    from mlstudio.api.studio import Studio

_ONCE = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Points of one series in the order in which they were logged. The three arrays are equally long and read-only."""

    name: str
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    """UTC seconds since the epoch."""
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<Series {self.name!r}, {len(self):,} points>"

    def to_pandas(self) -> pandas.DataFrame:
        """A frame with the columns ``step``, ``time`` (UTC) and ``value``. Raises RequestError without pandas."""
        frames = pandas_module()
        return frames.DataFrame(
            {
                "step": self.steps,
                "time": frames.to_datetime(self.times, unit="s", utc=True),
                "value": self.values,
            }
        )


@dataclass(frozen=True, slots=True)
class Medium:
    """A histogram, image, text, sound or table that a run logged at a step."""

    item: MediaItem
    _run: Run

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def kind(self) -> str:
        """``histogram``, ``image``, ``text``, ``audio`` or ``table``."""
        return self.item.kind

    @property
    def step(self) -> int:
        return self.item.step

    def data(self) -> bytes:
        """The bytes as they were logged: a PNG or JPEG, UTF-8 text, the JSON of a histogram."""
        return self._run._studio._history.media_data(self._run.id, self.item.id)

    def text(self) -> str:
        return self.data().decode("utf-8", "replace")

    def histogram(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(edges, counts) with one edge more than counts. Raises RequestError for another kind."""
        if self.kind != "histogram":
            raise RequestError(f"“{self.name}” is no histogram but: {self.kind}.", field="media")
        found = json.loads(self.data())
        return np.asarray(found["edges"], np.float64), np.asarray(found["counts"], np.float64)


class Run:
    """One run. What it says is as it was when the object was made or last refreshed (`refresh`)."""

    def __init__(self, studio: Studio, summary: RunSummary) -> None:
        self._studio = studio
        self.summary = summary

    def __repr__(self) -> str:
        return f"<Run {self.number} {self.name!r}, {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- what is known --------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.summary.id

    @property
    def number(self) -> int:
        """The number that tables show."""
        return self.summary.number

    @property
    def name(self) -> str:
        return self.summary.name

    @name.setter
    def name(self, name: str) -> None:
        self._studio._services.runs.rename(self.id, name)
        self.refresh()

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed``, ``stopped`` or ``lost``."""
        return self.summary.state.value

    @property
    def is_over(self) -> bool:
        return self.summary.state.is_final or self.summary.state is RunState.LOST

    @property
    def created(self) -> datetime:
        """When it was asked for, in UTC."""
        return datetime.fromtimestamp(self.summary.created, UTC)

    @property
    def started(self) -> datetime | None:
        return _moment(self.summary.started)

    @property
    def ended(self) -> datetime | None:
        return _moment(self.summary.ended)

    @property
    def duration_s(self) -> float | None:
        """Seconds from its start to its end, or until now; None if it has not started."""
        return self.summary.duration_s(datetime.now(UTC).timestamp())

    @property
    def exit_code(self) -> int | None:
        return self.summary.exit.code if self.summary.exit is not None else None

    @property
    def exit_message(self) -> str:
        """Why it ended as it did, in a sentence; empty if there is nothing to say."""
        return self.summary.exit.message if self.summary.exit is not None else ""

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by name; what reads as a number is one, true and false are booleans."""
        return {name: _plain(text) for name, text in self.summary.parameters}

    @property
    def tags(self) -> tuple[str, ...]:
        return self.summary.tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._studio._services.runs.tag(self.id, tuple(tags))
        self.refresh()

    @property
    def note(self) -> str:
        return self.summary.note

    @note.setter
    def note(self, note: str) -> None:
        self._studio._services.runs.note(self.id, note)
        self.refresh()

    @property
    def command(self) -> tuple[str, ...]:
        return self.summary.command

    @cached_property
    def metrics(self) -> Mapping[str, MetricSummary]:
        """Of each metric: count, last, minimum, maximum, and where they were. What two loggers brought is there once."""
        return self._metrics("metric")

    @cached_property
    def system(self) -> Mapping[str, MetricSummary]:
        """The same of what was measured of GPU, CPU, memory, disk and network."""
        return self._metrics("system")

    def _metrics(self, kind: str) -> dict[str, MetricSummary]:
        found = self._studio._services.runs.metrics(self.id, kind=kind)
        return {metric.name: metric for metric in found if not metric.same_as}

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on and in: Python, packages, CUDA, driver, kernel, CPU, memory, GPUs."""
        text = self._studio._services.runs.detail(self.id).environment_json
        found = json.loads(text) if text else {}
        return found if isinstance(found, dict) else {}

    @property
    def dockerfile(self) -> str:
        return self._studio._services.runs.detail(self.id).dockerfile

    # -- what it recorded -----------------------------------------------------------------------------------------

    def series(self, name: str, *, kind: str = "metric") -> Series:
        """Every point of a series. `kind`: ``metric`` or ``system``. Raises NotFound, with names that are near."""
        try:
            found = self._studio._services.runs.series(self.id, name, kind=kind)
        except NotFound as error:
            from difflib import get_close_matches

            known = self.metrics if kind == "metric" else self.system
            near = get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:5]
            raise NotFound(
                f"{self.name} has no series “{name}”.",
                field="name",
                try_this=f"It has: {', '.join(near)}." if near else "It has logged nothing.",
            ) from error
        return Series(found.name, _frozen(found.steps), _frozen(found.times), _frozen(found.values))

    def log(self) -> Iterator[LogLine]:
        """Every line of its output, in order."""
        start = 0
        while True:
            lines = self._studio._services.runs.log(self.id, start=start, count=_ONCE)
            yield from lines
            if len(lines) < _ONCE:
                return
            start += len(lines)

    def media(self, name: str | None = None, *, kind: str | None = None) -> list[Medium]:
        """Images, histograms, texts that it logged, by name and step; all, or of one name or kind."""
        return [Medium(item, self) for item in self._studio._history.media(self.id, name=name, kind=kind)]

    def artifacts(self) -> list[tuple[str, int]]:
        """(path in the container, size in bytes)."""
        return self._studio._history.artifacts(self.id)

    # -- what can be done -----------------------------------------------------------------------------------------

    def refresh(self) -> Run:
        """Read again how it stands; returns itself."""
        self.summary = self._studio._services.runs.get(self.id)
        for part in ("metrics", "system"):
            self.__dict__.pop(part, None)
        return self

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until it is over, `timeout` seconds at most; returns itself, refreshed."""
        self._studio._services.recorder.ensure()
        self._studio._services.runs.wait(self.id, timeout=timeout)
        return self.refresh()

    def stop(self, grace_s: float | None = None) -> Run:
        """End it: the script gets `grace_s` seconds to save what it wants."""
        self._studio._services.runs.stop(self.id, grace_s)
        return self.refresh()

    def again(self) -> Run:
        """Launch the same once more; returns the new run."""
        spec = self._studio._services.launcher.again(self.id)
        return self._studio._launched(spec)

    def remove(self, *, force: bool = False) -> None:
        """Take it out of the history for good. `force`: also while it runs."""
        self._studio._services.runs.remove(self.id, force=force)

    def archive(self, archived: bool = True) -> Run:
        """Keep it out of lists (or take it back in)."""
        self._studio._services.runs.archive(self.id, archived)
        return self.refresh()


def pandas_module() -> Any:
    """pandas; raises RequestError with how to get it where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise RequestError(
            "This needs pandas, which is not installed here.",
            field="pandas",
            try_this="pip install pandas; without it, Series has NumPy arrays and Studio.records() dictionaries.",
        ) from error
    return pandas


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _plain(text: str) -> Any:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = values.view()
    values.flags.writeable = False
    return values
