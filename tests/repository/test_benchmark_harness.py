"""The benchmarks' common part: turns, medians, ratios, and the command that runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Comparison, Result, named, table, take_turns

ROOT = Path(__file__).parents[2]


def test_contestants_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []

    def contestant(name: str, value: float) -> float:
        order.append(name)
        return value if len(order) > 2 else 1000.0

    results = take_turns(
        {"a": lambda: contestant("a", 1.0), "b": lambda: contestant("b", 3.0)},
        rounds=2,
        unit="ms",
        warm_ups=1,
    )
    # Who begins changes from round to round, so that neither always comes after the other.
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert results == (Result("a", "ms", (1.0, 1.0)), Result("b", "ms", (3.0, 3.0)))


def test_the_first_is_the_peer_and_ratios_are_of_medians() -> None:
    peer, ours = Result("peer", "ms", (1.0, 2.0, 99.0)), Result("ours", "ms", (2.0, 5.0, 6.0))
    comparison = Comparison("x", "How long?", (peer, ours), aim="at most twice", met=False)
    assert comparison.ratio(named(comparison.results, "ours")) == 2.5
    text = table(comparison)
    assert "× 2.50   +3.00 ms" in text
    assert "NOT met" in text


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no benchmark 'nothing'" in done.stderr
