"""What happened: the history of runs, their series, logs and images, in one SQLite file.

`History` is the door. `Series`, which needs NumPy, is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlstudio.store.history import Changes, History, LiveRun, OpenLines, has_live_runs

if TYPE_CHECKING:
    from mlstudio.store.points_rows import Series

__all__ = ["Changes", "History", "LiveRun", "OpenLines", "Series", "has_live_runs"]


def __getattr__(name: str) -> object:
    if name == "Series":
        from mlstudio.store.points_rows import Series

        return Series
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
