"""The common part of all benchmarks: contestants take turns, medians are compared, a table is printed.

Machines are noisy, so a figure counts only as a ratio (or a difference) to a peer that was measured in the same run,
turn by turn. An absolute time is a lead, never a claim.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Result:
    """One contestant's measurements. `unit` is ``ms`` or ``µs``; the first contestant of a comparison is the peer."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half of the range that holds the middle half of the values."""
        if len(self.values) < 4:
            return (max(self.values) - min(self.values)) / 2
        low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / 2


@dataclass(frozen=True)
class Comparison:
    """What one benchmark found. `aim` says in words what we want, `met` whether it is so (None: no aim)."""

    name: str
    question: str
    results: tuple[Result, ...]
    aim: str = ""
    met: bool | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def peer(self) -> Result:
        return self.results[0]

    def ratio(self, result: Result) -> float:
        """How many times as long as the peer's median."""
        return result.median / self.peer.median

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {
            "medians": {result.name: result.median for result in self.results},
            "ratios": {result.name: self.ratio(result) for result in self.results},
        }


def take_turns(
    contestants: Mapping[str, Callable[[], float]], *, rounds: int, unit: str, warm_ups: int = 1
) -> tuple[Result, ...]:
    """Run every contestant once a round, in turning order; each returns what it measured, in `unit`.

    The first `warm_ups` rounds are thrown away: they fill caches that every contestant may use.
    """
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_ups + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            value = contestants[name]()
            if number >= warm_ups:
                values[name].append(value)
    return tuple(Result(name, unit, tuple(found)) for name, found in values.items())


def table(comparison: Comparison) -> str:
    """The comparison as lines for a terminal."""
    width = max(len(result.name) for result in comparison.results)
    lines = [comparison.question, ""]
    for result in comparison.results:
        difference = result.median - comparison.peer.median
        beside = (
            ""
            if result is comparison.peer
            else f"   × {comparison.ratio(result):.2f}   {difference:+.2f} {result.unit}"
        )
        lines.append(
            f"  {result.name:<{width}}  median {result.median:9.2f} {result.unit} ± {result.spread:.2f}"
            f"  ({len(result.values)} rounds){beside}"
        )
    if comparison.aim:
        verdict = {True: "met", False: "NOT met", None: "not judged"}[comparison.met]
        lines += ["", f"  aim: {comparison.aim}: {verdict}"]
    lines += [f"  {note}" for note in comparison.notes]
    return "\n".join(lines)


def named(results: Sequence[Result], name: str) -> Result:
    """The result of that contestant."""
    return next(result for result in results if result.name == name)
