"""Smoothing and thinning of curves. Pure NumPy; runs on the reader's thread."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def smooth(values: Floats, weight: float) -> Floats:
    """Debiased exponential moving average: TensorBoard's ``smoothing`` (0 is the raw curve, 0.99 nearly a line).

    y[t] = w·y[t-1] + (1-w)·x[t], divided by 1 - w^t so that it does not begin at zero (Kingma & Ba 2015, section 3, use
    the same correction). Points that are NaN or infinite stay as they are and move nothing.
    """
    if weight <= 0 or values.size == 0:
        return values
    result = values.copy()
    finite = np.isfinite(values)
    known = values[finite]
    if known.size == 0:
        return result
    weight = min(weight, 0.999)
    average = np.empty_like(known)
    # y over a stretch is a cumulative sum of x·w^-i; the stretch is short enough for w^-i to stay exact.
    stretch = max(1, min(4096, int(math.log(1e-9) / math.log(weight))))
    powers = weight ** np.arange(1, stretch + 1)
    carried = 0.0
    for start in range(0, known.size, stretch):
        part = known[start : start + stretch]
        scale = powers[: part.size]
        average[start : start + part.size] = scale * (carried + np.cumsum((1 - weight) * part / scale))
        carried = float(average[start + part.size - 1])
    average /= 1 - weight ** np.arange(1, known.size + 1)
    result[finite] = average
    return result


def thin(x: Floats, y: Floats, most: int) -> tuple[Floats, Floats]:
    """At most about `most` points that look the same at that many pixels: the lowest and the highest of each bucket.

    First and last point stay. NaN makes a gap only where a whole bucket has nothing else.
    """
    count = y.size
    if count <= most or most < 4:
        return x, y
    buckets = most // 2
    size = math.ceil((count - 2) / buckets)
    body = y[1:-1]
    whole = (body.size // size) * size
    shaped = body[:whole].reshape(-1, size)
    lowest = np.where(np.isnan(shaped), np.inf, shaped).argmin(axis=1)
    highest = np.where(np.isnan(shaped), -np.inf, shaped).argmax(axis=1)
    starts = np.arange(shaped.shape[0]) * size + 1
    chosen = np.empty(starts.size * 2, dtype=np.intp)
    chosen[0::2] = starts + np.minimum(lowest, highest)
    chosen[1::2] = starts + np.maximum(lowest, highest)
    rest = np.arange(whole + 1, count)
    if rest.size > 4:
        tail = y[rest[:-1]]
        ends = {
            int(np.where(np.isnan(tail), np.inf, tail).argmin()),
            int(np.where(np.isnan(tail), -np.inf, tail).argmax()),
        }
        rest = np.array([*sorted(int(rest[index]) for index in ends), count - 1], dtype=np.intp)
    index = np.concatenate((np.array([0], dtype=np.intp), chosen, rest))
    return x[index], y[index]


def value_range(parts: list[Floats], *, cut_outliers: bool) -> tuple[float, float, int] | None:
    """(lowest, highest, points left out) over all finite values; None if there are none.

    With `cut_outliers` the range is that of the 1st to 99th percentile and a quarter of its width beside, so that a
    single spike does not flatten the rest.
    """
    finite = [part[np.isfinite(part)] for part in parts]
    known = np.concatenate(finite) if finite else np.empty(0)
    if known.size == 0:
        return None
    low, high = float(known.min()), float(known.max())
    if not cut_outliers or known.size < 20:
        return low, high, 0
    first, last = (float(value) for value in np.percentile(known, (1, 99)))
    width = last - first
    if width <= 0:
        return low, high, 0
    low_edge, high_edge = first - 0.25 * width, last + 0.25 * width
    inside = known[(known >= low_edge) & (known <= high_edge)]
    outside = int(known.size - inside.size)
    if outside == 0:
        return low, high, 0
    return float(inside.min()), float(inside.max()), outside
