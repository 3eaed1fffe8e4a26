"""Reading series: from sealed chunks and from the tail that is not sealed yet; whole, or as many points as are drawn."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from mlstudio.model.errors import NotFound, RequestError
from mlstudio.store.columns import (
    CHUNK_POINTS,
    Codec,
    Columns,
    Reals,
    Steps,
    unpack_axis,
    unpack_chunk,
    unpack_values,
)
from mlstudio.store.opening import BrokenPacking
from mlstudio.store.pyramid import COARSE, FINE, unpack_coarse, unpack_fine
from mlstudio.store.tails import unpack_tail
from mlstudio.store.thinning import FEWEST, remarkable, thin

WindowAxis = Literal["step", "time", "index"]
"""What the bounds of a window mean: steps, UTC seconds, or places among all points of the series."""

_SERIES_AT_ONCE = 100


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
    indices: npt.NDArray[np.int64] | None = None
    """Index of each point among all points of the series, where some are left out; None: all from `start` on are here."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of `series`."""

    key: int
    count: int
    sealed: int
    run: int


@dataclass(frozen=True, slots=True)
class _Head:
    """A chunk without its data. Bounds are None where they are not known."""

    id: int
    start: int
    count: int
    axis_start: int
    low_step: int | None
    high_step: int | None
    low_time: float | None
    high_time: float | None
    coarse_bytes: int
    fine_bytes: int


@dataclass(frozen=True, slots=True)
class _Points:
    """Points of which some may be left out; `at` says where they stand among all."""

    at: npt.NDArray[np.int64]
    steps: Steps
    times: Reals
    values: Reals

    def __getitem__(self, kept: npt.NDArray[Any]) -> _Points:
        return _Points(self.at[kept], self.steps[kept], self.times[kept], self.values[kept])


@dataclass(frozen=True, slots=True)
class _Window:
    """Which points are wanted, bounds included; None: no bound."""

    axis: WindowAxis
    low: float | None
    high: float | None
    max_points: int

    def holds(self, head: _Head) -> bool | None:
        """Whether it holds all of a chunk's points (True), none (False), or perhaps some of them (None)."""
        if self.low is None and self.high is None:
            return True
        lowest: float | None
        highest: float | None
        if self.axis == "index":
            lowest, highest = head.start, head.start + head.count - 1
        elif self.axis == "step":
            lowest, highest = head.low_step, head.high_step
        else:
            lowest, highest = head.low_time, head.high_time
        if lowest is None or highest is None:
            return None
        if isinstance(self.low, float) or isinstance(self.high, float):
            # Steps beyond 2**53 are compared as the points themselves will be: as reals.
            lowest, highest = float(lowest), float(highest)
        if (self.low is not None and highest < self.low) or (self.high is not None and lowest > self.high):
            return False
        if (self.low is None or lowest >= self.low) and (self.high is None or highest <= self.high):
            return True
        return None

    def cut(self, points: _Points) -> _Points:
        """Those of the points that are wanted."""
        if self.low is None and self.high is None:
            return points
        places: Any = {"index": points.at, "step": points.steps, "time": points.times}[self.axis]
        wanted = np.ones(len(places), np.bool_)
        if self.low is not None:
            wanted &= places >= self.low
        if self.high is not None:
            wanted &= places <= self.high
        return points[wanted]


def read_series(
    connection: Connection, run_id: str, name: str, *, kind: str, start: int = 0, stop: int | None = None
) -> Series:
    """Points `start`..`stop` of a series. Raises NotFound."""
    row = _find(connection, run_id, name, kind)
    start = max(0, start)
    end = row.count if stop is None else max(start, min(stop, row.count))
    size = max(0, end - start)
    steps, times, values = np.empty(size, np.int64), np.empty(size), np.empty(size)
    filled = 0
    # One part after the other into the arrays that are given back: the memory for unpacking is used again and again.
    for part in chain(
        _sealed(connection, row, start, min(end, row.sealed)), _loose(connection, row, start, end)
    ):
        after = filled + len(part[0])
        steps[filled:after], times[filled:after], values[filled:after] = part
        filled = after
    if filled < size:  # A copy of another series, whose points were dropped.
        steps, times, values = steps[:filled], times[:filled], values[:filled]
    return Series(name=name, kind=kind, start=start, steps=steps, times=times, values=values, total=row.count)


def read_window(
    connection: Connection,
    run_id: str,
    name: str,
    *,
    kind: str,
    axis: WindowAxis = "step",
    low: float | None = None,
    high: float | None = None,
    max_points: int,
) -> Series:
    """At most `max_points` points of a window of a series that look like all of them when drawn. Raises NotFound."""
    found = read_windows(
        connection, [run_id], name, kind=kind, axis=axis, low=low, high=high, max_points=max_points
    ).get(run_id)
    if found is None:
        raise _no_such_series(name)
    return found


def read_windows(
    connection: Connection,
    run_ids: Sequence[str],
    name: str,
    *,
    kind: str,
    axis: WindowAxis = "step",
    low: float | None = None,
    high: float | None = None,
    max_points: int,
) -> dict[str, Series]:
    """`read_window` of one series of many runs; runs that have no such series are left out."""
    if axis not in ("step", "time", "index"):
        raise RequestError(f"A window cannot be along “{axis}”.", try_this="Known: step, time, index.")
    window = _Window(axis, low, high, max(FEWEST, max_points))
    rows = {
        run_id: _Row(*fields)
        for run_id, *fields in connection.exec_driver_sql(
            "SELECT r.id, s.id, s.count, s.sealed, s.run FROM run r JOIN series s ON s.run = r.number "
            "WHERE r.id IN (SELECT value FROM json_each(?)) AND s.kind = ? AND s.name = ?",
            (json.dumps(list(run_ids)), kind, name),
        )
    }
    ordered = [run_id for run_id in dict.fromkeys(run_ids) if run_id in rows]
    found = {}
    for first in range(0, len(ordered), _SERIES_AT_ONCE):
        some = ordered[first : first + _SERIES_AT_ONCE]
        heads = _heads(connection, [rows[run_id].key for run_id in some])
        codec = Codec()
        for run_id in some:
            row = rows[run_id]
            points = _picture(connection, row, heads[row.key], window, codec)
            found[run_id] = Series(
                name=name,
                kind=kind,
                start=int(points.at[0]) if len(points.at) else 0,
                steps=points.steps,
                times=points.times,
                values=points.values,
                total=row.count,
                indices=points.at,
            )
    return found


def _find(connection: Connection, run_id: str, name: str, kind: str) -> _Row:
    row = connection.exec_driver_sql(
        "SELECT s.id, s.count, s.sealed, s.run FROM series s JOIN run r ON r.number = s.run "
        "WHERE r.id = ? AND s.kind = ? AND s.name = ?",
        (run_id, kind, name),
    ).first()
    if row is None:
        raise _no_such_series(name)
    return _Row(*row)


def _no_such_series(name: str) -> NotFound:
    return NotFound(f"The run has no series “{name}”.", field="name", try_this="Look at the run's metrics.")


# -- every point ------------------------------------------------------------------------------------------------------


def _sealed(connection: Connection, row: _Row, start: int, end: int) -> Iterator[Columns]:
    if end <= start:
        return
    codec = Codec()
    rows = connection.exec_driver_sql(
        # No chunk is longer than CHUNK_POINTS, so the index finds the first one.
        "SELECT c.start, c.axis_start, c.data, a.data FROM chunk c LEFT JOIN axis a ON a.id = c.axis "
        "WHERE c.series = ? AND c.start > ? AND c.start < ? ORDER BY c.start",
        (row.key, start - CHUNK_POINTS, end),
    )
    for first, at, data, axis in rows:
        yield _cut(_unpack(data, axis, at, codec), first, start, end)


def _unpack(data: bytes, axis: bytes | None, axis_start: int, codec: Codec) -> Columns:
    """A chunk's points."""
    if axis is None:
        return unpack_chunk(data)
    values = unpack_values(data, codec)
    steps, times = unpack_axis(axis, codec)
    end = axis_start + len(values)
    if end > len(steps):
        raise BrokenPacking("a chunk that goes beyond its axis")
    return steps[axis_start:end], times[axis_start:end], values


def _loose(connection: Connection, row: _Row, start: int, end: int) -> list[Columns]:
    """Points of the tail, read from the newest row back to `start`."""
    start = max(start, row.sealed)
    found: list[Columns] = []
    if end <= start:
        return found
    after = row.count
    rows = connection.exec_driver_sql("SELECT data FROM tail WHERE run = ? ORDER BY id DESC", (row.run,))
    for (data,) in rows:
        for _, columns in reversed(list(unpack_tail(data, only=row.key))):
            first = after - len(columns[0])
            found.append(_cut(columns, first, start, end))
            after = first
        if after <= start:
            break
    rows.close()
    return found[::-1]


def _cut(columns: Columns, first: int, start: int, end: int) -> Columns:
    """The part of `columns`, whose first point has the index `first`, that lies in `start`..`end`."""
    low, high = max(0, start - first), max(0, end - first)
    if low == 0 and high >= len(columns[0]):
        return columns
    return columns[0][low:high], columns[1][low:high], columns[2][low:high]


# -- as many as are drawn ---------------------------------------------------------------------------------------------


def _heads(connection: Connection, keys: Sequence[int]) -> dict[int, list[_Head]]:
    found: dict[int, list[_Head]] = defaultdict(list)
    for key, *fields in connection.exec_driver_sql(
        # How long a blob is stands at the beginning of the row.
        "SELECT c.series, c.id, c.start, c.count, c.axis_start, a.low_step, a.high_step, a.low_time, a.high_time, "
        "length(c.coarse), length(c.fine) FROM chunk c LEFT JOIN axis a ON a.id = c.axis "
        "WHERE c.series IN (SELECT value FROM json_each(?)) ORDER BY c.series, c.start",
        (json.dumps(list(keys)),),
    ):
        found[key].append(_Head(*fields))
    return found


def _picture(
    connection: Connection, row: _Row, heads: Sequence[_Head], window: _Window, codec: Codec
) -> _Points:
    """What is drawn of one series: whole chunks from the level of the pyramid that is fine enough, the rest point by
    point."""
    whole: list[_Head] = []
    partly: list[_Head] = []
    for head in heads:
        holds = window.holds(head)
        if holds is not False:
            (whole if holds else partly).append(head)
    stretches = (window.max_points - 2) // 2
    total = sum(head.count for head in whole) + row.count - row.sealed
    width = 1 if total <= FINE * stretches else FINE if total <= COARSE * stretches else COARSE
    coarse: list[_Head] = []
    fine: list[_Head] = []
    every = partly
    for head in whole:
        if width == COARSE and head.coarse_bytes:
            coarse.append(head)
        elif width != 1 and head.fine_bytes:
            fine.append(head)
        else:
            every.append(head)
    parts = _coarse(connection, coarse) + _fine(connection, fine, codec)
    parts += _every(connection, every, window, width, codec)
    parts += _new(connection, row, window)
    parts = sorted((part for part in parts if len(part.at)), key=lambda part: int(part.at[0]))
    if not parts:
        return _Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    points = _Points(
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
    )
    return points[thin(points.values, window.max_points, places=points.at)]


def _coarse(connection: Connection, heads: Sequence[_Head]) -> list[_Points]:
    found = []
    for head, data in _blobs(connection, "SELECT id, coarse FROM chunk", heads):
        at, steps, times, values = unpack_coarse(data)
        found.append(_Points(at + head.start, steps, times, values))
    return found


def _fine(connection: Connection, heads: Sequence[_Head], codec: Codec) -> list[_Points]:
    found = []
    for head, data, axis in _blobs(
        connection, "SELECT c.id, c.fine, a.data FROM chunk c JOIN axis a ON a.id = c.axis", heads
    ):
        at, values = unpack_fine(data)
        steps, times = unpack_axis(axis, codec)
        on_axis = at + head.axis_start
        if len(on_axis) and int(on_axis[-1]) >= len(steps):
            raise BrokenPacking("a level of the pyramid that goes beyond its axis")
        found.append(_Points(at + head.start, steps[on_axis], times[on_axis], values))
    return found


def _every(
    connection: Connection, heads: Sequence[_Head], window: _Window, width: int, codec: Codec
) -> list[_Points]:
    """Point by point; where there are so many that levels are read of others, only what is remarkable of them."""
    found = []
    for head, data, axis in _blobs(
        connection, "SELECT c.id, c.data, a.data FROM chunk c LEFT JOIN axis a ON a.id = c.axis", heads
    ):
        steps, times, values = _unpack(data, axis, head.axis_start, codec)
        at = np.arange(head.start, head.start + len(values), dtype=np.int64)
        points = window.cut(_Points(at, steps, times, values))
        found.append(points[remarkable(points.values, width)] if width > 1 else points)
    return found


def _new(connection: Connection, row: _Row, window: _Window) -> list[_Points]:
    """What the tail holds of the window."""
    found = []
    first = row.sealed
    for steps, times, values in _loose(connection, row, first, row.count):
        at = np.arange(first, first + len(values), dtype=np.int64)
        found.append(window.cut(_Points(at, steps, times, values)))
        first += len(values)
    return found


def _blobs(connection: Connection, select: str, heads: Sequence[_Head]) -> Any:
    """(head, *columns) of each chunk, one after the other."""
    if not heads:
        return
    by_id = {head.id: head for head in heads}
    alias = "c." if " c " in select else ""
    for key, *columns in connection.exec_driver_sql(
        f"{select} WHERE {alias}id IN (SELECT value FROM json_each(?))", (json.dumps(list(by_id)),)
    ):
        yield (by_id[key], *columns)
