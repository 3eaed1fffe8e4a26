"""Watching what a run logs: values that are no numbers, losses that run away, metrics that stand still.

No code in the script is needed for it. What is found is told once a metric and never on a guess: a loss has diverged
where it stays ten times above what it had reached before, not where it jumps. A run is ended for it only if its owner
asked for that (`RunSpec.stop_when`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlstudio.model.errors import RequestError

_BLOCK = 25
"""Points whose mean counts as one value of a loss: single steps jump."""
_RUN_AWAY = 10.0
_BLOCKS_AWAY = 2
_BLOCKS_BEFORE = 4
_MOST_SERIES = 2000
"""Who has more losses than this is not helped by being told of each."""
_IMPROVES_BY = 1e-3
"""Relative to the best value: less is standing still."""

_LOSS = frozenset({
    "loss", "losses", "nll", "perplexity", "ppl", "elbo", "objective", "cost", "rmse", "mse", "mae", "logloss", "bpd",
    "bpc", "wer", "cer", "fid", "error",
})  # fmt: skip

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that its owner would want to know of."""

    kind: str
    """``nan``, ``diverged`` or ``plateau``."""
    name: str
    step: int
    message: str
    stops: bool
    """Whether the run shall end for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """End the run once `name` has not become better in its last `points` points."""

    name: str
    points: int
    is_up: bool
    """Whether larger is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """For what a run shall be ended."""

    nan: bool = False
    diverged: bool = False
    plateaus: tuple[Plateau, ...] = ()


def parse_stop_rules(words: Iterable[str]) -> StopRules:
    """``nan``, ``diverged``, ``plateau:NAME:POINTS[:min|max]``. Raises RequestError."""
    nan = diverged = False
    plateaus = []
    for word in words:
        if word == "nan":
            nan = True
        elif word == "diverged":
            diverged = True
        elif word.startswith("plateau:"):
            plateaus.append(_plateau(word))
        else:
            raise _not_a_rule(word)
    return StopRules(nan=nan, diverged=diverged, plateaus=tuple(plateaus))


def _plateau(word: str) -> Plateau:
    found = re.fullmatch(r"plateau:(?P<name>.+?):(?P<points>\d{1,9})(?::(?P<way>min|max))?", word)
    if found is None or int(found["points"]) < 2:
        raise _not_a_rule(word)
    name = found["name"]
    is_up = found["way"] == "max" if found["way"] else not is_loss(name)
    return Plateau(name=name, points=int(found["points"]), is_up=is_up)


def _not_a_rule(word: str) -> RequestError:
    return RequestError(
        f"“{word}” is no reason to stop.",
        field="stop_when",
        try_this="Known: nan, diverged, plateau:NAME:POINTS (such as plateau:val/loss:20; add :max where larger is "
        "better and the name does not tell).",
    )


def is_loss(name: str) -> bool:
    """Whether smaller is better, by the name."""
    pieces = re.split(r"[^a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return any(piece in _LOSS or piece.endswith("loss") for piece in pieces)


class Watch:
    """Watches one run's metrics. `told` holds (kind, name) of what was found before.

    `earlier(name)` gives the values that are in the history already, the latest few thousand: a recorder that goes on
    judges as the one before it would have.
    """

    def __init__(
        self,
        rules: StopRules,
        *,
        told: Iterable[tuple[str, str]] = (),
        earlier: Callable[[str], Sequence[float]] | None = None,
    ) -> None:
        self._rules = rules
        self._told = set(told)
        self._earlier = earlier
        self._losses: dict[str, _Loss] = {}
        self._plateaus = {plateau.name: _Standstill(plateau) for plateau in rules.plateaus}
        self._started: set[str] = set()

    def feed(self, name: str, steps: Sequence[int], values: Sequence[float]) -> list[Finding]:
        """New points of a metric, in order."""
        standstill = self._plateaus.get(name)
        watched = name in self._losses or (len(self._losses) < _MOST_SERIES and is_loss(name))
        if not len(values) or not (watched or standstill is not None):
            return []
        numbers = np.asarray(values, np.float64)
        if name not in self._started:
            self._started.add(name)
            self._catch_up(name, watched=watched, standstill=standstill)
        findings = []
        if watched:
            findings.extend(self._loss(name, steps, numbers))
        if standstill is not None and ("plateau", name) not in self._told:
            place = standstill.feed(numbers)
            if place is not None:
                findings.append(self._tell("plateau", name, steps[place], standstill.words(name), stops=True))
        return findings

    def _catch_up(self, name: str, *, watched: bool, standstill: _Standstill | None) -> None:
        if watched:
            self._losses[name] = _Loss()
        before = np.asarray(self._earlier(name), np.float64) if self._earlier is not None else np.empty(0)
        if len(before):
            if watched:
                self._losses[name].feed(before)
            if standstill is not None:
                standstill.feed(before)

    def _loss(self, name: str, steps: Sequence[int], numbers: Reals) -> list[Finding]:
        findings = []
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad) and ("nan", name) not in self._told:
            place = int(bad[0])
            what = "NaN (not a number)" if math.isnan(numbers[place]) else "infinite"
            words = f"{name} became {what} at step {steps[place]:,}."
            findings.append(self._tell("nan", name, steps[place], words, stops=self._rules.nan))
        away = self._losses[name].feed(numbers)
        if away is not None and ("diverged", name) not in self._told:
            now, best = away
            words = f"{name} has diverged: about {now:.3g}, after it had been down to {best:.3g}."
            findings.append(self._tell("diverged", name, steps[-1], words, stops=self._rules.diverged))
        return findings

    def _tell(self, kind: str, name: str, step: int, message: str, *, stops: bool) -> Finding:
        self._told.add((kind, name))
        return Finding(kind=kind, name=name, step=int(step), message=message, stops=stops)


class _Loss:
    """Means of blocks of a loss, and whether the last ones lie far above the best."""

    def __init__(self) -> None:
        self._rest: Reals = np.empty(0)
        self._blocks = 0
        self._best = math.inf
        self._away = 0

    def feed(self, numbers: Reals) -> tuple[float, float] | None:
        """(where it is, where it had been) once it has run away."""
        numbers = numbers[np.isfinite(numbers)]
        joined = np.concatenate([self._rest, numbers]) if len(self._rest) else numbers
        whole = len(joined) // _BLOCK * _BLOCK
        self._rest = joined[whole:].copy()
        found = None
        # Halved before they are added: the sum of the largest numbers there are is infinite.
        for mean in (joined[:whole].reshape(-1, _BLOCK) / 2).mean(axis=1) * 2 if whole else ():
            self._blocks += 1
            if self._blocks > _BLOCKS_BEFORE and self._best > 0 and mean > _RUN_AWAY * self._best:
                self._away += 1
                if self._away >= _BLOCKS_AWAY:
                    found = (float(mean), self._best)
            else:
                self._away = 0
            self._best = min(self._best, float(mean))
        return found


class _Standstill:
    """How long ago a metric was best."""

    def __init__(self, rule: Plateau) -> None:
        self._rule = rule
        self._best = math.inf
        self._since = 0

    def words(self, name: str) -> str:
        best = -self._best if self._rule.is_up else self._best
        return f"{name} has not become better than {best:.4g} in its last {self._since:,} points."

    def feed(self, numbers: Reals) -> int | None:
        """The place among `numbers` at which it had stood still for too long."""
        for place, value in enumerate(-numbers if self._rule.is_up else numbers):
            is_better = math.isinf(self._best) or value < self._best - _IMPROVES_BY * abs(self._best)
            if is_better and math.isfinite(value):
                self._best = float(value)
                self._since = 0
                continue
            self._since += 1
            if self._since >= self._rule.points:
                return place
        return None
