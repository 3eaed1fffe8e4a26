"""Reading series: from sealed chunks and from the tail that is not sorted yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from mlstudio.model.errors import NotFound
from mlstudio.store.columns import Columns, join, unpack_chunk, unpack_tail
from mlstudio.store.recording_rows import CHUNK_POINTS
from mlstudio.store.thinning import thin


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one series in the order in which they were logged. The arrays are equally long and not to be changed."""

    name: str
    kind: str
    start: int
    """Index of the first point here among all points of the series."""
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    """UTC seconds since the epoch."""
    values: npt.NDArray[np.float64]
    total: int = 0
    """How many points the series had when it was read: where the next reading may begin."""

    def __len__(self) -> int:
        return len(self.values)


def read_series(
    connection: Connection, run_id: str, name: str, *, kind: str, start: int = 0, stop: int | None = None
) -> Series:
    """Points `start`..`stop` of a series. Raises NotFound."""
    row = connection.exec_driver_sql(
        "SELECT s.id, s.count, s.sealed, s.run FROM series s JOIN run r ON r.number = s.run "
        "WHERE r.id = ? AND s.kind = ? AND s.name = ?",
        (run_id, kind, name),
    ).first()
    if row is None:
        raise NotFound(
            f"The run has no series “{name}”.", field="name", try_this="Look at the run's metrics."
        )
    key, count, sealed, number = row
    start = max(0, start)
    end = count if stop is None else max(start, min(stop, count))
    parts = list(_sealed(connection, key, start, min(end, sealed)))
    if end > max(sealed, start):
        parts.extend(_loose(connection, number, key, sealed, start, end))
    steps, times, values = join(parts)
    return Series(name=name, kind=kind, start=start, steps=steps, times=times, values=values, total=count)


def thinned(whole: Series, max_points: int) -> Series:
    """The series with few enough points to draw."""
    if len(whole) <= max(8, max_points):
        return whole
    kept = thin(whole.values, max_points)
    return Series(
        name=whole.name,
        kind=whole.kind,
        start=whole.start,
        steps=whole.steps[kept],
        times=whole.times[kept],
        values=whole.values[kept],
        total=whole.total,
    )


def _sealed(connection: Connection, key: int, start: int, end: int) -> list[Columns]:
    if end <= start:
        return []
    rows = connection.exec_driver_sql(
        # No chunk is longer than CHUNK_POINTS, so the index finds the first one.
        "SELECT start, data FROM chunk WHERE series = ? AND start > ? AND start < ? ORDER BY start",
        (key, start - CHUNK_POINTS, end),
    )
    return [_cut(unpack_chunk(data), first, start, end) for first, data in rows]


def _loose(connection: Connection, number: int, key: int, first: int, start: int, end: int) -> list[Columns]:
    found = []
    for (data,) in connection.exec_driver_sql("SELECT data FROM tail WHERE run = ? ORDER BY id", (number,)):
        for _, columns in unpack_tail(data, only=key):
            found.append(_cut(columns, first, start, end))
            first += len(columns[0])
    return found


def _cut(columns: Columns, first: int, start: int, end: int) -> Columns:
    """The part of `columns`, whose first point has the index `first`, that lies in `start`..`end`."""
    low, high = max(0, start - first), max(0, end - first)
    if low == 0 and high >= len(columns[0]):
        return columns
    return columns[0][low:high], columns[1][low:high], columns[2][low:high]
