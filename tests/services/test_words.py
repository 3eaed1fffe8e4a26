"""Amounts read the same everywhere."""

from __future__ import annotations

import math

from mlstudio.services.words import ago_text, bytes_text, count_text, number_text, seconds_text


def test_amounts() -> None:
    assert [bytes_text(n) for n in (0, 999, 1500, 123_456_789, 2.5e9, 3e12)] == [
        "0 bytes", "999 bytes", "1.5 kB", "123 MB", "2.5 GB", "3.0 TB",
    ]  # fmt: skip
    assert [seconds_text(s) for s in (None, 0.04, 3.21, 42, 61, 3700, 90000)] == [
        "–", "0.0 s", "3.2 s", "42 s", "1 min 01 s", "1 h 01 min", "1 d 1 h",
    ]  # fmt: skip
    assert [ago_text(s) for s in (1, 70, 7200, 200_000)] == ["just now", "1 min ago", "2 h ago", "2 d ago"]
    assert (count_text(1, "file"), count_text(2, "file")) == ("1 file", "2 files")
    assert [number_text(v) for v in (None, math.nan, math.inf, -math.inf, 3.0, 0.123456789, 1e-9)] == [
        "–", "NaN", "∞", "−∞", "3", "0.12346", "1e-09",
    ]  # fmt: skip
