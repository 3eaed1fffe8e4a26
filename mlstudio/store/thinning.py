"""Fewer points for the same picture: the lowest and the highest of each stretch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def thin(values: npt.NDArray[np.float64], max_points: int) -> npt.NDArray[np.intp]:
    """Indices, ascending, of at most `max_points` values that look like all of them when drawn.

    Of each of equally long stretches the lowest and the highest value are kept, and its first NaN, so that holes
    stay visible; of the whole the first and the last value. Fewer than 8 points are not asked for.
    """
    count = len(values)
    max_points = max(8, max_points)
    if count <= max_points:
        return np.arange(count)
    missing = np.isnan(values)
    any_missing = bool(missing.any())
    stretches = (max_points - 2) // (3 if any_missing else 2)
    # Stretches differ by at most one value: the longer ones first, so that both parts are plain reshapes.
    length, longer = divmod(count, stretches)
    split = longer * (length + 1)
    parts = [
        (0, values[:split], missing[:split], length + 1),
        (split, values[split:], missing[split:], length),
    ]
    found = [np.array([0, count - 1])]
    for offset, part, holes, width in parts:
        if not len(part):
            continue
        rows = part.reshape(-1, width)
        starts = offset + width * np.arange(len(rows))
        if any_missing:
            gone = holes.reshape(-1, width)
            found.append(starts + np.argmin(np.where(gone, np.inf, rows), axis=1))
            found.append(starts + np.argmax(np.where(gone, -np.inf, rows), axis=1))
            with_hole = gone.any(axis=1)
            found.append((starts + np.argmax(gone, axis=1))[with_hole])
        else:
            found.append(starts + np.argmin(rows, axis=1))
            found.append(starts + np.argmax(rows, axis=1))
    return np.unique(np.concatenate(found))
