"""What uses how much of the disk, and taking away what is not wanted any more.

Nothing goes that was not asked for: what is kept for how long stands in the settings ``keep.*``, whose defaults keep
everything for ever. Metrics, parameters and what a run ran in are never taken away here; `RunService.remove` does that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlstudio.model.errors import NotFound, RequestError, StudioError, WorldError
from mlstudio.model.run import RunSummary
from mlstudio.model.sizes import HistorySizes
from mlstudio.services.engine_table import Engines
from mlstudio.services.settings import Settings
from mlstudio.store import History

KINDS: Mapping[str, str] = {
    "system": "readings of processor, memory and GPUs",
    "log": "output",
    "media": "images, histograms, texts and sounds",
    "container": "container, with the files that were written in it",
}
"""What can be taken away from a run that is over, and what it is called."""

_DAY_S = 86_400.0
_UNITS = {"h": 1 / 24, "d": 1.0, "w": 7.0, "m": 30.0, "y": 365.0}
_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(h|d|w|m|y|hours?|days?|weeks?|months?|years?)?\s*", re.IGNORECASE)
_RUNS_AT_ONCE = 1000
_COPY = "history-*.db*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """What lies where, in bytes."""

    history: HistorySizes
    copies: tuple[tuple[Path, int], ...]
    """Histories that were put aside before they were changed to a newer form or mended."""
    others: tuple[tuple[str, int], ...]
    """What else lies in the home, by name."""


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a sweep took away, or would."""

    runs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """By kind: from how many runs."""
    copies: int = 0
    freed_bytes: int = 0
    """By how much the home became smaller; 0 where nothing was done."""
    problems: list[str] = field(default_factory=list)
    """What could not be taken away."""


class Housekeeping:
    """Sizes and sweeps of one home."""

    def __init__(self, home: Path, *, history: History, engines: Engines, settings: Settings) -> None:
        self._home = home
        self._history = history
        self._engines = engines
        self._settings = settings

    def uses(self, *, largest: int = 5) -> Uses:
        """What uses how much, with the `largest` runs. Reads lengths only: seconds for a large history."""
        copies = tuple((path, path.stat().st_size) for path in self._copies())
        skipped = {path.name for path, _ in copies}
        others = [
            (path.name, _size_of(path))
            for path in sorted(self._home.iterdir())
            if path.name not in skipped and not path.name.startswith("history.db")
        ]
        return Uses(
            history=self._history.sizes(largest=largest),
            copies=copies,
            others=tuple(sorted((entry for entry in others if entry[1]), key=lambda entry: -entry[1])),
        )

    def ages(self, **given: float | None) -> dict[str, float]:
        """Days after which each kind goes: as `given`, else as the settings say; kinds that stay are left out."""
        found = {
            kind: self._settings.number(f"keep.{kind}_days") if given.get(kind) is None else given[kind]
            for kind in KINDS
        }
        # A day count that is given as 0 means all; a setting of 0 means never.
        return {
            kind: days
            for kind, days in found.items()
            if days is not None and (days > 0 or given.get(kind) is not None)
        }

    def sweep(
        self,
        ages: Mapping[str, float],
        *,
        where: str = "",
        copies: bool = False,
        is_trial: bool = False,
        on_run: Callable[[RunSummary], None] | None = None,
    ) -> Swept:
        """Take away what is older than its kind's age (days since the run ended), of runs that fit the filter `where`;
        with `copies` the histories that were put aside, too. `is_trial`: only count.

        A container that cannot be removed now is told in `problems`. Raises QueryError.
        """
        done = Swept()
        before = _size_of(self._home)
        now = time.time()
        for run in self._over(where) if ages else ():
            end = run.ended if run.ended is not None else run.created
            due = [kind for kind, days in ages.items() if now - end >= days * _DAY_S]
            if due and on_run is not None:
                on_run(run)
            records = [kind for kind in due if kind != "container"]
            if records:
                self._forget(run, records, now, is_trial=is_trial, done=done)
            if "container" in due:
                self._remove_container(run, is_trial=is_trial, done=done)
        for path in self._copies() if copies else ():
            done.copies += 1
            if not is_trial:
                path.unlink(missing_ok=True)
        if not is_trial:
            self._history.give_back()
            done.freed_bytes = max(0, before - _size_of(self._home))
        return done

    def _over(self, where: str) -> list[RunSummary]:
        """All runs that are over, archived ones too."""
        found: list[RunSummary] = []
        while True:
            part = self._history.runs(
                where=where, archived=True, limit=_RUNS_AT_ONCE, offset=len(found), with_metrics=False,
                order_by="created", descending=False,
            )  # fmt: skip
            found.extend(part)
            if len(part) < _RUNS_AT_ONCE:
                return [run for run in found if run.is_over]

    def _forget(self, run: RunSummary, kinds: list[str], now: float, *, is_trial: bool, done: Swept) -> None:
        for kind in kinds:
            date = time.strftime("%Y-%m-%d", time.localtime(now))
            sentence = f"Its {KINDS[kind]}: taken out on {date} to save space."
            try:
                size = (
                    self._history.kept_bytes(run.id, kind)
                    if is_trial
                    else self._history.forget(run.id, [kind], sentence)
                )
            except NotFound:
                return  # removed meanwhile
            done.runs[kind] += size > 0

    def _remove_container(self, run: RunSummary, *, is_trial: bool, done: Swept) -> None:
        try:
            handle = self._history.detail(run.id).handle
            if not handle:
                return
            if not is_trial:
                self._engines.get(run.engine).remove(handle)
                self._history.set_handle(run.id, "")
        except NotFound:
            return
        except (WorldError, StudioError) as error:
            done.problems.append(f"{run.name}: {error}")
            return
        done.runs["container"] += 1

    def _copies(self) -> list[Path]:
        return sorted(path for path in self._home.glob(_COPY) if path.is_file())


def parse_age(text: str) -> float:
    """Days: ``90``, ``90d``, ``12 weeks``, ``6m``, ``2 years``, ``36h``. Raises RequestError."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise RequestError(f"“{text}” is no age.", field="age", try_this="For example: 90d, 12w, 6m, 2y")
    return float(found.group(1)) * _UNITS[(found.group(2) or "d")[0].lower()]


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count nothing, and what goes meanwhile neither."""
    try:
        if path.is_symlink():
            return 0
        if path.is_dir():
            return sum(_size_of(inner) for inner in path.iterdir())
        return path.stat().st_size
    except OSError:
        return 0
