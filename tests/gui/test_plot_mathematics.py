"""Ticks, smoothing and thinning: pure functions, checked against slow and simple ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.gui.plots.smoothing import smooth, thin, value_range
from mlstudio.gui.plots.ticks import Scale, place_text, ticks_between


def texts(low: float, high: float, scale: Scale = Scale.NUMBER, most: int = 6) -> list[str]:
    return [tick.text for tick in ticks_between(low, high, scale, most=most)]


def test_ticks_are_round_and_say_no_more_than_they_must() -> None:
    assert texts(0, 100, most=5) == ["0", "20", "40", "60", "80", "100"]
    assert texts(0.28, 0.83) == ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]
    assert texts(0, 3000, most=3) == ["0", "1k", "2k", "3k"]
    assert texts(-1, 1, most=2) == ["\u22121", "0", "1"]
    assert texts(1, 1) == []
    assert texts(math.nan, 1) == []


def test_log_ticks_stand_at_decades_or_between_them() -> None:
    assert texts(-3, 1, Scale.LOG, 6) == ["0.001", "0.01", "0.1", "1", "10"]
    inside = ticks_between(math.log10(0.9), math.log10(7), Scale.LOG)
    assert [tick.text for tick in inside] == ["1", "2", "5"]
    assert inside[1].place == pytest.approx(math.log10(2))


def test_time_since_a_beginning_is_told_in_its_unit() -> None:
    assert texts(0, 300, Scale.SPAN, 5)[:3] == ["0", "1 m", "2 m"]
    assert place_text(3725, Scale.SPAN) == "1 h 02"


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_ticks_lie_inside_and_are_few(low: float, width: float) -> None:
    ticks = ticks_between(low, low + width, Scale.NUMBER, most=6)
    assert len(ticks) <= 8
    slack = width * 1e-6 + abs(low) * 1e-9
    assert all(low - slack <= tick.place <= low + width + slack for tick in ticks)


def naive(values: list[float], weight: float) -> list[float]:
    found: list[float] = []
    carried, count = 0.0, 0
    for value in values:
        if not math.isfinite(value):
            found.append(value)
            continue
        count += 1
        carried = weight * carried + (1 - weight) * value
        found.append(carried / (1 - weight**count))
    return found


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf), max_size=300),
    st.floats(0.01, 0.995),
)
def test_smoothing_is_the_debiased_average_and_skips_what_is_not_finite(
    values: list[float], weight: float
) -> None:
    ours = smooth(np.array(values, dtype=float), weight)
    expected = np.array(naive(values, weight))
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-5)


def test_smoothing_a_long_curve_stays_exact() -> None:
    values = np.random.default_rng(1).normal(size=20_000)
    np.testing.assert_allclose(smooth(values, 0.97), naive(values.tolist(), 0.97), rtol=1e-6, atol=1e-9)


def test_thinning_keeps_ends_and_spikes() -> None:
    x = np.arange(100_000, dtype=float)
    y = np.sin(x / 900)
    y[41_237], y[77_001] = 9.0, -9.0
    thin_x, thin_y = thin(x, y, 2400)
    assert thin_y.size <= 2410
    assert (thin_x[0], thin_x[-1]) == (0, 99_999)
    assert (thin_y.max(), thin_y.min()) == (9.0, -9.0)
    assert np.all(np.diff(thin_x) >= 0)


def test_thinning_sees_past_nan() -> None:
    y = np.full(10_000, np.nan)
    y[5000] = 3.0
    assert np.nanmax(thin(np.arange(10_000.0), y, 400)[1]) == 3.0


def test_the_range_leaves_out_what_lies_far_outside() -> None:
    y = np.concatenate((np.linspace(1, 2, 500), [5000.0, np.nan, np.inf]))
    assert value_range([y], cut_outliers=False) == (1.0, 5000.0, 0)
    assert value_range([y], cut_outliers=True) == (1.0, 2.0, 1)
    assert value_range([np.array([np.nan])], cut_outliers=True) is None
