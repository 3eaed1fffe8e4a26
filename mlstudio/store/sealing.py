"""From the tail to sealed chunks: points of a run are packed, and short chunks become longer ones.

Series that stand at the same steps and times share one row of `axis`. Which chunks are joined is decided by the lengths
of their axes alone, so that series which shared an axis go on sharing: a new stretch of points takes in the stretches
before it that are not longer than itself, which packs every point some few times in all, and leaves few short chunks.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlstudio.store.columns import (
    CHUNK_POINTS,
    Codec,
    Columns,
    Reals,
    Steps,
    join,
    pack_axis,
    pack_values,
    unpack_axis,
    unpack_values,
)
from mlstudio.store.pyramid import pack_levels
from mlstudio.store.tails import unpack_tail

_FINISH_SERIES = 500
_FINISH_POINTS = 4_000_000
"""So much at most is packed in one transaction: other writers get their turn."""
_FREE_PAGES = 16
_FREE_SHARE = 8
_PAGES_AT_ONCE = 1024

_INSERT_CHUNK = """
INSERT INTO chunk (series, start, count, axis, axis_start, coarse, fine, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_AXIS = """
INSERT INTO axis (run, count, uses, low_step, high_step, low_time, high_time, data) VALUES (?, ?, 0, ?, ?, ?, ?, ?)
RETURNING id
"""
# Of a chunk of an older version there is no axis; it stays as it is.
_SELECT_CHUNKS = """
SELECT c.id, c.start, c.count, c.axis, c.axis_start, a.count FROM chunk c JOIN axis a ON a.id = c.axis
WHERE c.series = ? ORDER BY c.start DESC
"""

Piece = tuple[int, Reals]
"""A series and values of it."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A sealed chunk without its data."""

    id: int
    start: int
    count: int
    axis: int
    axis_start: int
    axis_count: int


@dataclass(slots=True)
class _Axis:
    """New steps and times with the series that have them, each from some place on to the end."""

    steps: Steps
    times: Reals
    members: list[tuple[int, int, Reals]] = field(default_factory=list)
    """(series, first place, values)."""


def seal_tail(cursor: sqlite3.Cursor, number: int, *, more: Iterable[tuple[int, Columns]] = ()) -> None:
    """Move the run's tail, and `more` points after it, into chunks."""
    parts: dict[int, list[Columns]] = defaultdict(list)
    for (data,) in cursor.execute("SELECT data FROM tail WHERE run = ? ORDER BY id", (number,)).fetchall():
        for series, columns in unpack_tail(data):
            parts[series].append(columns)
    for series, columns in more:
        parts[series].append(columns)
    seal(cursor, number, {series: join(found) for series, found in parts.items()})
    cursor.execute("DELETE FROM tail WHERE run = ?", (number,))


def seal(cursor: sqlite3.Cursor, number: int, parts: Mapping[int, Columns]) -> None:
    """Add points of series of the run as chunks."""
    codec = Codec()
    sealed: dict[int, int] = {
        series: cursor.execute("SELECT sealed FROM series WHERE id = ?", (series,)).fetchone()[0]
        for series in parts
    }
    for axis in _axes(parts, sealed):
        for low in range(0, len(axis.steps), CHUNK_POINTS):
            _seal_axis(cursor, number, _cut(axis, low, low + CHUNK_POINTS), sealed, codec)
    cursor.executemany(
        "UPDATE series SET sealed = sealed + ? WHERE id = ?",
        [(len(columns[0]), series) for series, columns in parts.items()],
    )


def finish_series(cursor: sqlite3.Cursor, number: int, *, after: int) -> int | None:
    """Join short chunks of the run's next series after the key `after` as well as can be; the last key done, or None."""
    keys = [
        row[0]
        for row in cursor.execute(
            "SELECT id FROM series WHERE run = ? AND id > ? ORDER BY id LIMIT ?",
            (number, after, _FINISH_SERIES),
        )
    ]
    plans: dict[tuple[int, ...], list[tuple[int, list[_Chunk]]]] = defaultdict(list)
    planned = 0
    last: int | None = None
    for series in keys:
        chunks = [_Chunk(*row) for row in cursor.execute(_SELECT_CHUNKS, (series,))]
        for group in _neighbours(chunks):
            plans[tuple(chunk.axis for chunk in group)].append((series, group))
            planned += sum(chunk.count for chunk in group)
        last = series
        if planned > _FINISH_POINTS:
            break
    codec = Codec()
    for pasts in plans.values():
        _join(cursor, number, pasts, None, codec)
    return last


def give_back(cursor: sqlite3.Cursor) -> bool:
    """Shorten the file where more of it is empty than will soon be filled again: rows of the tail that were sealed leave
    holes, which for a short run are larger than its points. Whether there is more to give back."""
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    if free <= max(_FREE_PAGES, pages // _FREE_SHARE):
        return False
    # The driver takes one step of it, which frees one page, whatever number it is given.
    for _ in range(min(free, _PAGES_AT_ONCE)):
        cursor.execute("PRAGMA incremental_vacuum(1)")
    return bool(free > _PAGES_AT_ONCE)


def drop_points(cursor: sqlite3.Cursor, series: Sequence[int]) -> None:
    """Forget the sealed points of these series."""
    for key in series:
        used = cursor.execute(
            "SELECT axis FROM chunk WHERE series = ? AND axis IS NOT NULL", (key,)
        ).fetchall()
        cursor.execute("DELETE FROM chunk WHERE series = ?", (key,))
        _release(cursor, [(1, axis) for (axis,) in used])


# -- what stands at the same steps and times --------------------------------------------------------------------------


def _axes(parts: Mapping[int, Columns], sealed: Mapping[int, int]) -> list[_Axis]:
    """Series of the same steps and times together. One without sealed points may have begun later than the others."""
    found: list[_Axis] = []
    by_end: dict[tuple[int, bytes], list[_Axis]] = defaultdict(list)
    for series, (steps, times, values) in sorted(parts.items(), key=lambda part: -len(part[1][0])):
        if not len(steps):
            continue
        end = (int(steps[-1]), times[-1:].tobytes())
        for axis in by_end[end]:
            first = len(axis.steps) - len(steps)
            if (
                (not first or not sealed[series])
                and _is_same(axis.steps[first:], steps)
                and _is_same(axis.times[first:], times)
            ):
                axis.members.append((series, first, values))
                break
        else:
            axis = _Axis(steps, times, [(series, 0, values)])
            found.append(axis)
            by_end[end].append(axis)
    return found


def _is_same(one: Steps | Reals, other: Steps | Reals) -> bool:
    return one is other or bool((one.view(np.int64) == other.view(np.int64)).all())


def _cut(axis: _Axis, low: int, high: int) -> _Axis:
    if low == 0 and high >= len(axis.steps):
        return axis
    members = [
        (series, max(0, first - low), values[max(0, low - first) : max(0, high - first)])
        for series, first, values in axis.members
        if first < high
    ]
    return _Axis(axis.steps[low:high], axis.times[low:high], members)


# -- writing ----------------------------------------------------------------------------------------------------------


def _seal_axis(
    cursor: sqlite3.Cursor, number: int, axis: _Axis, sealed: dict[int, int], codec: Codec
) -> None:
    """Write one stretch, joined with what comes before it where that is short. `sealed` says how many points each series
    has in chunks, and is kept up to date."""
    by_past: dict[tuple[int, ...], list[tuple[int, list[_Chunk]]]] = defaultdict(list)
    values: dict[int, Reals] = {}
    alone: list[tuple[int, int]] = []
    for series, first, numbers in axis.members:
        values[series] = numbers
        past = _past(cursor, series, sealed[series], len(axis.steps)) if not first else []
        if past:
            by_past[tuple(chunk.axis for chunk in past)].append((series, past))
        else:
            alone.append((series, first))
    home: tuple[int, int] | None = None
    for members in by_past.values():
        joined = _join(cursor, number, members, (axis.steps, axis.times, values), codec)
        home = home or (joined, sum(chunk.axis_count for chunk in members[0][1]))
    if alone:
        # Who joins nothing stands at the end of an axis that others made longer, or at a new one.
        if home is None:
            home = _write_axis(cursor, number, axis.steps, axis.times, codec), 0
        for series, first in alone:
            columns = axis.steps[first:], axis.times[first:], values[series]
            _write_chunk(cursor, series, sealed[series], home[0], home[1] + first, columns, codec)
        _use(cursor, home[0], len(alone))
    for series, numbers in values.items():
        sealed[series] += len(numbers)


def _past(cursor: sqlite3.Cursor, series: int, start: int, count: int) -> list[_Chunk]:
    """The chunks, oldest first, with which `count` new points at place `start` are joined."""
    found: list[_Chunk] = []
    total = count
    for fields in cursor.execute(_SELECT_CHUNKS, (series,)):
        chunk = _Chunk(*fields)
        if (
            chunk.start + chunk.count != (found[-1].start if found else start)
            or not _may_join(chunk, found)
            or chunk.axis_count > total
            or chunk.axis_count + total > CHUNK_POINTS
        ):
            break
        found.append(chunk)
        total += chunk.axis_count
    return found[::-1]


def _may_join(chunk: _Chunk, later: Sequence[_Chunk]) -> bool:
    """Whether the chunk's points go up to the end of its axis, and those of the next one begin with theirs."""
    return chunk.axis_start + chunk.count == chunk.axis_count and (not later or later[-1].axis_start == 0)


def _neighbours(chunks: Iterable[_Chunk]) -> list[list[_Chunk]]:
    """Groups of two or more neighbours, oldest first, that make one chunk; `chunks` come newest first.

    From the end on: series that began at different times end together, and find the same groups.
    """
    found: list[list[_Chunk]] = []
    group: list[_Chunk] = []
    total = 0
    for chunk in chunks:
        if (
            group
            and total + chunk.axis_count <= CHUNK_POINTS
            and chunk.start + chunk.count == group[-1].start
            and _may_join(chunk, group)
        ):
            group.append(chunk)
            total += chunk.axis_count
            continue
        found.append(group[::-1])
        group, total = [chunk], chunk.axis_count
    found.append(group[::-1])
    return [group for group in found if len(group) > 1]


def _join(
    cursor: sqlite3.Cursor,
    number: int,
    members: Sequence[tuple[int, Sequence[_Chunk]]],
    new: tuple[Steps, Reals, Mapping[int, Reals]] | None,
    codec: Codec,
) -> int:
    """Make one chunk of each member's chunks, which stand at the same axes, and its `new` values; the new axis."""
    parts = [
        unpack_axis(cursor.execute("SELECT data FROM axis WHERE id = ?", (chunk.axis,)).fetchone()[0], codec)
        for chunk in members[0][1]
    ]
    if new is not None:
        parts.append((new[0], new[1]))
    steps = np.concatenate([part[0] for part in parts])
    times = np.concatenate([part[1] for part in parts])
    axis = _write_axis(cursor, number, steps, times, codec)
    for series, chunks in members:
        values = [
            unpack_values(
                cursor.execute("SELECT data FROM chunk WHERE id = ?", (chunk.id,)).fetchone()[0], codec
            )
            for chunk in chunks
        ]
        if new is not None:
            values.append(new[2][series])
        cursor.executemany("DELETE FROM chunk WHERE id = ?", [(chunk.id,) for chunk in chunks])
        first = chunks[0].axis_start
        columns = (steps[first:], times[first:], np.concatenate(values))
        _write_chunk(cursor, series, chunks[0].start, axis, first, columns, codec)
    _use(cursor, axis, len(members))
    _release(cursor, [(len(members), chunk.axis) for chunk in members[0][1]])
    return axis


def _write_axis(cursor: sqlite3.Cursor, number: int, steps: Steps, times: Reals, codec: Codec) -> int:
    # SQLite keeps NaN as NULL: then the bounds are not known, and the times are looked at.
    bounds = (int(steps.min()), int(steps.max()), float(times.min()), float(times.max()))
    (axis,) = cursor.execute(
        _INSERT_AXIS, (number, len(steps), *bounds, pack_axis(steps, times, codec))
    ).fetchone()
    return int(axis)


def _write_chunk(
    cursor: sqlite3.Cursor, series: int, start: int, axis: int, first: int, columns: Columns, codec: Codec
) -> None:
    coarse, fine = pack_levels(*columns)
    values = columns[2]
    cursor.execute(
        _INSERT_CHUNK, (series, start, len(values), axis, first, coarse, fine, pack_values(values, codec))
    )


def _use(cursor: sqlite3.Cursor, axis: int, chunks: int) -> None:
    cursor.execute("UPDATE axis SET uses = uses + ? WHERE id = ?", (chunks, axis))


def _release(cursor: sqlite3.Cursor, uses: Sequence[tuple[int, int]]) -> None:
    """(how many chunks stand there no more, axis): an axis at which nothing stands goes."""
    cursor.executemany("UPDATE axis SET uses = uses - ? WHERE id = ?", uses)
    cursor.executemany("DELETE FROM axis WHERE id = ? AND uses <= 0", [(axis,) for _, axis in uses])
