"""A run in another tool's store: what is known of it, and its points, piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlstudio.model.record import LogBlock, Medium, Points
from mlstudio.model.run import Exit, ExitReason, RunState
from mlstudio.services.importing.values import LAST_SECOND, clean_name

PIECE_POINTS = 65_536
"""A piece has about this many points."""
MAX_SERIES = 200_000
"""A run has at most this many series; the rest is said and left out."""
MAX_MEDIUM_BYTES = 4 * 1024 * 1024
MAX_MEDIA_BYTES = 256 * 1024 * 1024
"""Of one run, together."""


@dataclass(slots=True)
class Facts:
    """What a source says of a run. Grows while it is read, and is complete when it has been read to the end."""

    name: str
    state: RunState = RunState.LOST
    created: float | None = None
    started: float | None = None
    start_is_told: bool = False
    """`started` is the source's own word, and not just the time of the first point."""
    ended: float | None = None
    exit: Exit | None = None
    host: str = ""
    command: tuple[str, ...] = ()
    code_folder: str = ""
    code_url: str = ""
    commit: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    note: str = ""
    environment: dict[str, object] = field(default_factory=dict)

    def saw(self, first: float, last: float | None = None) -> None:
        """Something happened at this time (or from the one to the other): the run had begun, and was not over."""
        if first > 0 and not self.start_is_told and (self.started is None or first < self.started):
            self.started = first
        last = first if last is None else last
        if last > 0 and (self.ended is None or last > self.ended):
            self.ended = last

    def end_unknown(self, why: str) -> None:
        """The source does not say how the run ended."""
        self.state = RunState.LOST
        self.exit = Exit(reason=ExitReason.LOST, message=why)

    def succeeded(self) -> None:
        self.state = RunState.SUCCEEDED
        self.exit = Exit(reason=ExitReason.COMPLETED)

    def failed(self, message: str, *, code: int | None = None) -> None:
        self.state = RunState.FAILED
        self.exit = Exit(reason=ExitReason.ERROR, code=code, message=message)

    def stopped(self, message: str) -> None:
        self.state = RunState.STOPPED
        self.exit = Exit(reason=ExitReason.STOPPED, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of a run, and where to read on after it."""

    mark: str
    points: tuple[Points, ...] = ()
    media: tuple[Medium, ...] = ()
    log: tuple[LogBlock, ...] = ()
    artifacts: tuple[tuple[str, int], ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    """Of sources that tell them only once; others have them in `Facts`."""

    @property
    def is_empty(self) -> bool:
        return not (self.points or self.media or self.log or self.artifacts or self.parameters)


class Source(ABC):
    """One run in another tool's store. Read it with `read`; `facts` and `problems` are complete afterwards.

    `identity` tells it from every other run, wherever it is read from and however it has grown since.
    """

    format: str
    """The tool, and the logger of its series: ``tensorboard``, ``mlflow``, …"""

    def __init__(self, path: Path, *, name: str, identity: tuple[object, ...]) -> None:
        self.path = path
        self.identity = identity
        self.facts = Facts(clean_name(name))
        self.problems: list[str] = []
        self.size_bytes = 0
        """How much there is to read, as far as that is known."""
        self.done_bytes = 0

    @abstractmethod
    def read(self, mark: str) -> Iterator[Piece]:
        """Everything after `mark` (empty: from the beginning), a piece at a time.

        A mark is a text that only this class reads. What cannot be read is put into `problems` and left out; nothing in a
        file, however broken, raises anything but `mlstudio.model.errors` and OSError.
        """

    def problem(self, sentence: str) -> None:
        """Say once what could not be read."""
        if sentence not in self.problems and len(self.problems) < 20:
            self.problems.append(sentence)


class Gatherer:
    """Points by series until there are enough for a piece."""

    def __init__(self, source: Source, *, system_prefix: str = "", is_system: bool = False) -> None:
        """Series whose names begin with `system_prefix`, or all with `is_system`, are readings of the machine."""
        self._source = source
        self._is_system = is_system
        self.system_names: set[str] = set()
        """Series that are readings of the machine whatever their names."""
        self._system_prefix = system_prefix
        self._series: dict[str, tuple[array[int], array[float], array[float]]] = {}
        self._names: dict[str, str | None] = {}
        self.parameters: dict[str, str] = {}
        """For the next piece."""
        self._media: list[Medium] = []
        self._media_bytes = 0
        self._waiting_bytes = 0
        self.count = 0

    @property
    def is_full(self) -> bool:
        return self.count >= PIECE_POINTS or self._waiting_bytes >= 4 * MAX_MEDIUM_BYTES

    def name(self, name: str) -> str | None:
        """The name as the history takes it; None for one series too many."""
        if name not in self._names:
            full = len(self._names) >= MAX_SERIES
            if full:
                self._source.problem(f"There are more than {MAX_SERIES:,} series: the rest was left out.")
                return None
            self._names[name] = clean_name(name)
        return self._names[name]

    def point(self, name: str, step: int, time: float, value: float) -> None:
        clean = self._names.get(name) or self.name(name)
        if clean is None:
            return
        series = self._series.get(clean)
        if series is None:
            series = self._series[clean] = (array("q"), array("d"), array("d"))
        series[0].append(step)
        series[1].append(time)
        series[2].append(value)
        self.count += 1

    def columns(self, name: str, steps: array[int], times: array[float], values: array[float]) -> None:
        """Many points of one series at once."""
        clean = self.name(name)
        if clean is None or not len(values):
            return
        series = self._series.get(clean)
        if series is None:
            self._series[clean] = (steps, times, values)
        else:
            series[0].extend(steps)
            series[1].extend(times)
            series[2].extend(values)
        self.count += len(values)

    def medium(
        self,
        name: str,
        kind: str,
        step: int,
        time: float,
        mime: str,
        data: bytes,
        *,
        width: int = 0,
        height: int = 0,
        caption: str = "",
        logger: str = "",
    ) -> None:
        clean = clean_name(name)
        if len(data) > MAX_MEDIUM_BYTES:
            self._source.problem(f"“{clean}” holds media over 4 MiB, which were left out.")
            return
        if self._media_bytes + len(data) > MAX_MEDIA_BYTES:
            self._source.problem("There are more than 256 MiB of media: the rest was left out.")
            return
        self._media_bytes += len(data)
        self._waiting_bytes += len(data) + 1024
        self._media.append(
            Medium(
                name=clean, kind=kind, logger=logger or self._source.format, step=step, time=time, mime=mime, data=data,
                width=width, height=height, caption=caption,
            )
        )  # fmt: skip

    def take(
        self,
        mark: str,
        *,
        artifacts: tuple[tuple[str, int], ...] = (),
        log: tuple[LogBlock, ...] = (),
        logger: str = "",
        unit: str = "",
    ) -> Piece:
        """What was gathered, as a piece up to `mark`."""
        points = []
        for name, (steps, times, values) in self._series.items():
            self._saw(times)
            points.append(
                Points(
                    name=name,
                    kind=self._kind(name),
                    steps=steps,
                    times=times,
                    values=values,
                    unit=unit,
                    logger=logger or self._source.format,
                )
            )
        for medium in self._media:
            self._source.facts.saw(medium.time)
        piece = Piece(
            mark=mark,
            points=tuple(points),
            media=tuple(self._media),
            log=log,
            artifacts=artifacts,
            parameters=tuple(self.parameters.items()),
        )
        self._series = {}
        self._media = []
        self.parameters = {}
        self._waiting_bytes = 0
        self.count = 0
        return piece

    def _saw(self, times: array[float]) -> None:
        """Set times that no calendar knows to 0, and note the first and the last of the others."""
        seconds = np.frombuffer(times, np.float64)
        right = (seconds > 0) & (seconds <= LAST_SECOND)
        if not right.all():
            seconds[~right] = 0.0
            seconds = seconds[right]
        if len(seconds):
            self._source.facts.saw(float(seconds.min()), float(seconds.max()))

    def _kind(self, name: str) -> str:
        prefix = self._system_prefix
        is_system = self._is_system or name in self.system_names or (prefix and name.startswith(prefix))
        return "system" if is_system else "metric"
