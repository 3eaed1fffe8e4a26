"""Answers are asked for again when they are old, and never kept when they failed."""

from __future__ import annotations

import pytest

from mlstudio.services.recent import Recent


def test_an_answer_is_good_for_a_while() -> None:
    now = [0.0]
    asked: list[str] = []

    def ask() -> int:
        asked.append("x")
        return len(asked)

    recent: Recent[int] = Recent(5.0, clock=lambda: now[0])
    assert [recent.get("a", ask), recent.get("a", ask), recent.get("b", ask)] == [1, 1, 2]
    now[0] = 5.0
    assert recent.get("a", ask) == 3
    recent.forget()
    assert recent.get("a", ask) == 4


def test_a_failure_is_not_kept() -> None:
    recent: Recent[int] = Recent(5.0)

    def fail() -> int:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        recent.get("a", fail)
    assert recent.get("a", lambda: 1) == 1
