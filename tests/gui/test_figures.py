from __future__ import annotations

import math
import time

import pytest

from mlstudio.gui.figures import (
    bytes_text,
    clock_text,
    count_text,
    duration_text,
    number_text,
    when_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.78684, "0.7868"),
        (1.084, "1.084"),
        (1467.0, "1,467"),
        (1467.26, "1,467"),
        (-0.5, "\u22120.5000"),
        (5e-4, "5e\u22124"),
        (3.7e-5, "3.7e\u22125"),
        (2.5e9, "2.5e9"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "\u2212∞"),
    ],
)
def test_a_value_has_four_significant_figures_and_a_true_minus(value: float | None, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (48, "48 s"), (200, "3 m 20 s"), (2760, "46 m"), (22320, "6 h 12 m"), (273600, "3 d 4 h")],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_stopwatch_and_bytes_and_counts() -> None:
    assert [clock_text(0.44), clock_text(48), clock_text(3723)] == ["0.4 s", "0:48", "1:02:03"]
    assert [bytes_text(310e6), bytes_text(1.24e9), bytes_text(512), bytes_text(None)] == [
        "310 MB", "1.24 GB", "512 B", "–",
    ]  # fmt: skip
    assert [count_text(1, "run"), count_text(1284, "run")] == ["1 run", "1,284 runs"]


def test_a_time_is_told_from_now() -> None:
    now = time.mktime((2026, 11, 18, 15, 0, 0, 0, 0, -1))
    assert when_text(now - 12, now=now) == "12 s ago"
    assert when_text(now - 1500, now=now) == "25 min ago"
    assert when_text(now - 5 * 3600, now=now) == "10:00"
    assert when_text(now - 3 * 86400, now=now) == "Sun 15:00"
    assert when_text(now - 40 * 86400, now=now) == "9 Oct"
    assert when_text(None) == "–"
