"""Where parts of a run's record are missing. The history knows which frames; the machine's readings tell when that was.

Readings are numbered one by one, and every frame brings those since the last: where numbers are left out, frames are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlstudio.gui.figures import count_text
from mlstudio.model.record import Gap

if TYPE_CHECKING:
    from mlstudio.store import History

MOST = 200
_NAMED = 6


@dataclass(frozen=True, slots=True)
class Hole:
    """Nothing is known between two moments (UTC seconds); `words` say what is missing."""

    begin: float
    end: float
    words: str


def holes_of(history: History, run_id: str) -> tuple[Hole, ...]:
    """The stretches of time of which the record is missing, in order. Those that cannot be placed are left out."""
    gaps = [gap for gap in history.gaps(run_id) if not gap.recovered]
    if not gaps:
        return ()
    system = [metric for metric in history.metrics(run_id, kind="system") if metric.count > 1]
    if not system:
        return ()
    longest = max(system, key=lambda metric: metric.count)
    series = history.series(run_id, longest.name, kind="system")
    places = np.flatnonzero(np.diff(series.steps) > 1)[:MOST]
    found = [(float(series.times[place]), float(series.times[place + 1])) for place in places]
    if len(found) == len(gaps):
        return tuple(
            Hole(begin, end, _here(frame_words([gap]), begin, end))
            for (begin, end), gap in zip(found, gaps, strict=True)
        )
    return tuple(Hole(begin, end, _here(frame_words(gaps), begin, end)) for begin, end in found)


def frame_words(gaps: Sequence[Gap]) -> str:
    """``frame 7``, ``frames 12 to 19``, ``frames 12 to 19, 33 and 2 more gaps``."""
    parts = [
        f"{gap.first:,}" if gap.first == gap.last else f"{gap.first:,} to {gap.last:,}"
        for gap in gaps[:_NAMED]
    ]
    words = "frame" if len(gaps) == 1 and gaps[0].first == gaps[0].last else "frames"
    more = f" and {count_text(len(gaps) - _NAMED, 'more gap')}" if len(gaps) > _NAMED else ""
    return f"{words} {', '.join(parts)}{more}"


def _here(frames: str, begin: float, end: float) -> str:
    first, last = (time.strftime("%H:%M:%S", time.localtime(moment)) for moment in (begin, end))
    return f"The record has a gap here, from {first} to {last}: {frames} of what the run sent did not arrive."
