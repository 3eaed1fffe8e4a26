"""Fewer points for the same picture: the lowest and the highest of each stretch.

Numbers that are not finite are no extremes: of each stretch the first NaN, the first +∞ and the first −∞ are kept beside
them, so that holes stay visible and an infinity hides no peak.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

FEWEST = 8
"""Fewer points are not asked for."""


def thin(values: Reals, max_points: int, *, places: npt.NDArray[np.int64] | None = None) -> Indices:
    """Indices, ascending, of at most `max_points` values that look like all of them when drawn.

    The first and the last value are kept, and what is remarkable of equally long stretches. `places` (ascending) says
    where the values stand among all, if many are left out already; stretches are then equally long in places.
    """
    count = len(values)
    max_points = max(FEWEST, max_points)
    if count <= max_points:
        return np.arange(count)
    finite = np.isfinite(values)
    sorts = 2 + (0 if bool(finite.all()) else _sorts_of_holes(values))
    stretches = (max_points - 2) // sorts
    ends = np.array([0, count - 1])
    if places is not None and int(places[-1]) - int(places[0]) + 1 != count:
        span = int(places[-1]) - int(places[0]) + 1
        # Ceilings, so that a place p belongs to the stretch ⌊p · stretches / span⌋.
        borders = int(places[0]) + -(-np.arange(stretches, dtype=np.int64) * span // stretches)
        starts = _distinct(np.searchsorted(places, borders), count + 1)
        return _distinct(np.concatenate((ends, _of_groups(values, finite, starts[starts < count]))), count)
    # Stretches differ by at most one value: the longer ones first, so that both parts are plain reshapes.
    length, longer = divmod(count, stretches)
    split = longer * (length + 1)
    parts = (
        ends,
        _of_rows(values[:split], finite[:split], length + 1),
        split + _of_rows(values[split:], finite[split:], length),
    )
    return _distinct(np.concatenate(parts), count)


def remarkable(values: Reals, width: int) -> Indices:
    """Indices, ascending, of what is to be kept of each `width` neighbours, and of the first and the last value."""
    count = len(values)
    if not count:
        return np.empty(0, np.intp)
    finite = np.isfinite(values)
    split = count - count % width
    parts = [np.array([0, count - 1]), _of_rows(values[:split], finite[:split], width)]
    if split < count:
        parts.append(split + _of_rows(values[split:], finite[split:], count - split))
    return _distinct(np.concatenate(parts), count)


def _distinct(indices: Indices, count: int) -> Indices:
    """Each index once, ascending. For few indices among few values ten times as fast as `numpy.unique`."""
    marks = np.zeros(count, np.bool_)
    marks[indices] = True
    return np.flatnonzero(marks)


def _sorts_of_holes(values: Reals) -> int:
    return sum(bool(sort.any()) for sort in _holes(values))


def _holes(values: Reals) -> list[npt.NDArray[np.bool_]]:
    return [np.isnan(values), np.isposinf(values), np.isneginf(values)]


def _of_rows(values: Reals, finite: npt.NDArray[np.bool_], width: int) -> Indices:
    """Of each row of `width` values; all rows are full."""
    if not len(values):
        return np.empty(0, np.intp)
    rows = values.reshape(-1, width)
    starts = width * np.arange(len(rows))
    if bool(finite.all()):
        return np.concatenate((starts + rows.argmin(axis=1), starts + rows.argmax(axis=1)))
    known = finite.reshape(-1, width)
    any_known = known.any(axis=1)
    found = [
        (starts + np.where(known, rows, np.inf).argmin(axis=1))[any_known],
        (starts + np.where(known, rows, -np.inf).argmax(axis=1))[any_known],
    ]
    for hole in _holes(values):
        of_rows = hole.reshape(-1, width)
        found.append((starts + of_rows.argmax(axis=1))[of_rows.any(axis=1)])
    return np.concatenate(found)


def _of_groups(values: Reals, finite: npt.NDArray[np.bool_], starts: Indices) -> Indices:
    """Of each group of values; groups begin at `starts`, the first at 0."""
    found = [
        _firsts(np.where(finite, values, np.inf), np.minimum, starts),
        _firsts(np.where(finite, values, -np.inf), np.maximum, starts),
    ]
    if bool(finite.all()):
        return np.concatenate(found)
    sizes = np.diff(starts, append=len(values))
    groups = np.repeat(np.arange(len(starts)), sizes)
    known = np.logical_or.reduceat(finite, starts)
    found = [part[known] for part in found]
    for hole in _holes(values):
        at = np.flatnonzero(hole)
        _, first = np.unique(groups[at], return_index=True)
        found.append(at[first])
    return np.concatenate(found)


def _firsts(masked: Reals, extreme: np.ufunc, starts: Indices) -> Indices:
    """The first place of each group's extreme."""
    best = np.repeat(extreme.reduceat(masked, starts), np.diff(starts, append=len(masked)))
    at = np.flatnonzero(masked == best)
    # The first of equal ones: the first of them at or after the group's start.
    return at[np.searchsorted(at, starts)]
