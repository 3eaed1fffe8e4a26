"""Whether two loggers report the same number: by the name's stem, and by the values.

A script that calls Hugging Face's Trainer with TensorBoard, MLflow and Weights & Biases installed says each loss three
times. Shown once it is a help, shown three times a nuisance. Nothing is merged: the lesser series is marked as the same
as the better one, and only where every one of its points was found in the other are its own points dropped in the end.
Series of one logger are never taken for the same, and neither are unequal values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlstudio.services.recording.series_names import PRINT, plain

FIRST_POINTS = 32
"""So many points of each series are compared while the run goes on."""
_ENOUGH = 2
_ENOUGH_BY_PLACE = 3
_TOLERANCE = 2.0**-22
"""Relative: TensorBoard keeps 32 bits of a number."""

_ORDER = ("mlstudio", "keras", "lightning", "transformers", "accelerate", "fastai", "xgboost", "lightgbm", "mlflow",
          "wandb", "tensorboard", PRINT)  # fmt: skip
"""The better logger comes first: exact numbers before rounded ones, closer ones before those that pass them on."""

_VALIDATION = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev"})
_SAYS_NOTHING = frozenset({"train", "training", "epoch", "epochs"})

Steps = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
First = Callable[[str], tuple[Sequence[int], Sequence[float]]]


def stem(name: str) -> tuple[str, ...]:
    """What a name comes down to: ``train/loss``, ``loss``, ``epoch_loss`` are one, and ``eval/loss``, ``val_loss``; also
    ``valid_0/l2`` and ``valid_0's l2``."""
    spread = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name.replace("'s ", " "))
    pieces = [piece for piece in re.split(r"[^a-z0-9@]+", spread.lower()) if piece]
    found = sorted("val" if piece in _VALIDATION else piece for piece in pieces if piece not in _SAYS_NOTHING)
    return tuple(found) or tuple(pieces[-1:])


def rank(logger: str) -> int:
    """Smaller is better."""
    return _ORDER.index(logger) if logger in _ORDER else len(_ORDER) - 2


def agree(steps: Steps, values: Reals, other_steps: Steps, other_values: Reals) -> bool | None:
    """Whether two beginnings of series say the same; None if that cannot be told yet."""
    common = np.intersect1d(steps, other_steps)
    if len(common) >= _ENOUGH or (len(common) == len(steps) == len(other_steps) == 1):
        mine = dict(zip(steps.tolist(), values.tolist(), strict=True))
        others = dict(zip(other_steps.tolist(), other_values.tolist(), strict=True))
        left = np.array([mine[step] for step in common.tolist()])
        right = np.array([others[step] for step in common.tolist()])
        return bool(equal(left, right).all())
    size = min(len(values), len(other_values))
    if size < _ENOUGH_BY_PLACE or len(np.unique(values[:size])) < _ENOUGH_BY_PLACE:
        return None
    return bool(equal(values[:size], other_values[:size]).all())


def holds_all(steps: Steps, values: Reals, other_steps: Steps, other_values: Reals) -> bool:
    """Whether every point of a series is one of the other series, in the same order."""
    if len(values) > len(other_values):
        return False
    if len(values) == len(other_values):
        return bool((steps == other_steps).all() and equal(values, other_values).all())
    others = iter(zip(other_steps.tolist(), other_values.tolist(), strict=True))
    return all(
        any(step == other_step and _is_equal(value, other_value) for other_step, other_value in others)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True)
    )


def equal(left: Reals, right: Reals) -> npt.NDArray[np.bool_]:
    """Equal but for what 32 bits cannot hold; NaN equals NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.maximum(np.abs(left), np.abs(right))
        near = (np.abs(left - right) <= _TOLERANCE * largest) & np.isfinite(largest)
    same: npt.NDArray[np.bool_] = near | (left == right) | (np.isnan(left) & np.isnan(right))
    return same


def _is_equal(left: float, right: float) -> bool:
    if left == right or (left != left and right != right):
        return True
    return abs(left - right) <= _TOLERANCE * max(abs(left), abs(right)) < math.inf


@dataclass(slots=True)
class _Beginning:
    name: str
    logger: str
    is_read: bool
    """Whether what the history has of it is among its points."""
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class SameSeries:
    """Follows the beginnings of a run's metrics. `same_as`: what was said already, name to better name. `first` gives
    the first points of a series that is in the history."""

    first: First
    same_as: dict[str, str] = field(default_factory=dict)
    _by_stem: dict[tuple[str, ...], list[_Beginning]] = field(default_factory=dict)
    _by_name: dict[str, _Beginning] = field(default_factory=dict)
    _dirty: set[tuple[str, ...]] = field(default_factory=set)

    def know(self, name: str, logger: str) -> None:
        """A series of the run that is in the history already; its beginning is read only if a rival comes."""
        self._add(_Beginning(name, logger, is_read=False))

    def feed(self, name: str, logger: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """New points of a metric, before they are in the history."""
        found = self._by_name.get(name)
        if found is None:
            found = self._add(_Beginning(name, logger, is_read=True))
        key = stem(plain(found.name, found.logger)) if len(found.values) < FIRST_POINTS else ()
        if not key or len({rival.logger for rival in self._by_stem[key]}) < 2:
            # Alone so far: then its first points are kept only while they are new.
            if found.is_read:
                self._extend(found, steps, values)
            return
        self._read(found)
        self._extend(found, steps, values)
        self._dirty.add(key)

    def _add(self, found: _Beginning) -> _Beginning:
        self._by_name[found.name] = found
        self._by_stem.setdefault(stem(plain(found.name, found.logger)), []).append(found)
        return found

    def _read(self, found: _Beginning) -> None:
        if not found.is_read:
            found.is_read = True
            self._extend(found, *self.first(found.name))

    @staticmethod
    def _extend(found: _Beginning, steps: Sequence[int], values: Sequence[float]) -> None:
        room = FIRST_POINTS - len(found.values)
        if room > 0:
            found.steps.extend(steps[:room])
            found.values.extend(values[:room])

    def rename(self, old: str, new: str) -> None:
        """A metric is called `new` now."""
        found = self._by_name.pop(old, None)
        if found is not None:
            found.name = new
            self._by_name[new] = found
            self._dirty.add(stem(plain(new, found.logger)))
        if old in self.same_as:
            self.same_as[new] = self.same_as.pop(old)
        for name, better in self.same_as.items():
            if better == old:
                self.same_as[name] = new

    def take(self) -> tuple[tuple[str, str], ...]:
        """What changed: (name, better name or "")."""
        changed: dict[str, str] = {}
        for key in self._dirty:
            changed.update(self._judge(self._by_stem[key]))
        self._dirty.clear()
        return tuple(changed.items())

    def _judge(self, rivals: list[_Beginning]) -> dict[str, str]:
        changed: dict[str, str] = {}
        ordered = sorted(rivals, key=lambda found: (rank(found.logger), found.name))
        for place, found in enumerate(ordered):
            better = ""
            for other in ordered[:place]:
                if other.logger == found.logger or other.name in self.same_as:
                    continue
                if found.logger == PRINT and plain(found.name, PRINT) == other.name:
                    # It gave its name away to who means it.
                    better = other.name
                    break
                if self._agree(found, other):
                    better = other.name
                    break
            if better != self.same_as.get(found.name, ""):
                changed[found.name] = better
                if better:
                    self.same_as[found.name] = better
                else:
                    self.same_as.pop(found.name, None)
        return changed

    def _agree(self, found: _Beginning, other: _Beginning) -> bool:
        self._read(found)
        self._read(other)
        result = agree(
            np.array(found.steps, np.int64), np.array(found.values, np.float64),
            np.array(other.steps, np.int64), np.array(other.values, np.float64),
        )  # fmt: skip
        if result is None:
            return self.same_as.get(found.name) == other.name
        return result


def proven_copies(
    same_as: Iterable[tuple[str, str]], read: Callable[[str], tuple[Steps, Reals]]
) -> tuple[list[str], list[str]]:
    """(proven, refuted) names among those that are marked: of a proven one, every point is in the better series."""
    proven, refuted = [], []
    for name, better in same_as:
        steps, values = read(name)
        other_steps, other_values = read(better)
        if holds_all(steps, values, other_steps, other_values):
            proven.append(name)
        elif (
            agree(
                steps[:FIRST_POINTS],
                values[:FIRST_POINTS],
                other_steps[:FIRST_POINTS],
                other_values[:FIRST_POINTS],
            )
            is False
        ):
            refuted.append(name)
    return proven, refuted
