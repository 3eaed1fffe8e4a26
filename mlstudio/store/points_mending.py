"""Making the points of a recovered history agree: what can be unpacked is kept in order, what is missing is counted.

A run whose rows all hang together stays as it is. Of another one every series is packed anew from the chunks and tail
rows that are whole, later points moving up into the places of lost ones, and what the tables show of it (count, last
value, lowest and highest) is taken from the points again.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from mlstudio.store.columns import Codec, Columns, join, unpack_axis, unpack_chunk, unpack_values
from mlstudio.store.opening import BrokenPacking
from mlstudio.store.sealing import seal
from mlstudio.store.tails import is_whole_tail, unpack_tail

_POINTS_AT_ONCE = 4_000_000
_UNKNOWN = "recovered-{}"
_OUT_OF_THE_WAY = 10**12


def mend_points(connection: sqlite3.Connection) -> dict[int, int]:
    """Mend every run's points, within the caller's transaction; {number of a damaged run: points known to be lost}."""
    cursor = connection.cursor()
    _name_orphans(cursor)
    lost = {}
    for (number,) in cursor.execute("SELECT number FROM run ORDER BY number").fetchall():
        found = _Run(cursor, number)
        if not found.is_whole():
            lost[number] = found.pack_anew()
    cursor.execute("DELETE FROM chunk WHERE series NOT IN (SELECT id FROM series)")
    return lost


class _Run:
    """The points of one run, as far as they can be read."""

    def __init__(self, cursor: sqlite3.Cursor, number: int) -> None:
        self._cursor = cursor
        self._number = number
        self._codec = Codec()
        self._axis: tuple[int, Columns | None] = (-1, None)
        self._series: list[tuple[int, int, int, bool]] = [
            (key, count, sealed, bool(same_as))
            for key, count, sealed, same_as in cursor.execute(
                "SELECT id, count, sealed, same_as FROM series WHERE run = ? ORDER BY id", (number,)
            )
        ]
        self._tail_is_whole = True
        self._tail: dict[int, list[Columns]] = defaultdict(list)
        rows = cursor.execute("SELECT points, data FROM tail WHERE run = ? ORDER BY id", (number,)).fetchall()
        for points, data in rows:
            if not is_whole_tail(data):
                self._tail_is_whole = False
                continue
            try:
                parts = [(key, _copy(columns)) for key, columns in unpack_tail(data)]
            except BrokenPacking:
                self._tail_is_whole = False
                continue
            self._tail_is_whole &= sum(len(columns[0]) for _, columns in parts) == points
            for key, columns in parts:
                self._tail[key].append(columns)

    def is_whole(self) -> bool:
        """Whether every point that the rows speak of is there."""
        if not self._tail_is_whole or self._tail.keys() - {key for key, *_ in self._series}:
            return False
        for key, count, sealed, is_copy in self._series:
            loose = sum(len(part[0]) for part in self._tail.get(key, ()))
            at = 0
            for start, columns in self._chunks(key):
                if columns is None or start != at:
                    return False
                at += len(columns[0])
            if is_copy and not at and not loose:
                continue  # Its points were dropped on purpose: another series has the same.
            if at != sealed or at + loose != count:
                return False
        return True

    def pack_anew(self) -> int:
        """Write what can be read as if it had just been logged; how many points are known to be missing."""
        cursor = self._cursor
        lost = 0
        old_chunks = cursor.execute(
            "SELECT c.id FROM chunk c JOIN series s ON s.id = c.series WHERE s.run = ?", (self._number,)
        ).fetchall()
        old_axes = cursor.execute("SELECT id FROM axis WHERE run = ?", (self._number,)).fetchall()
        # Chunks are told by series and place: the old ones make room before the new ones come, and go at the end.
        cursor.executemany(
            "UPDATE chunk SET start = -1 - start - ? WHERE id = ?",
            [(_OUT_OF_THE_WAY, key) for (key,) in old_chunks],
        )
        waiting: dict[int, Columns] = {}
        size = 0
        for key, count, _, is_copy in self._series:
            columns = self._all_of(key)
            there = len(columns[0])
            if is_copy and not there:
                continue
            lost += max(0, count - there)
            self._describe(key, columns)
            waiting[key] = columns
            size += there
            if size > _POINTS_AT_ONCE:
                seal(cursor, self._number, waiting)
                waiting, size = {}, 0
        seal(cursor, self._number, waiting)
        cursor.executemany("DELETE FROM chunk WHERE id = ?", old_chunks)
        cursor.executemany("DELETE FROM axis WHERE id = ?", old_axes)
        cursor.execute("DELETE FROM tail WHERE run = ?", (self._number,))
        cursor.execute("UPDATE recording SET tail_rows = 0, tail_points = 0 WHERE run = ?", (self._number,))
        return lost

    def _all_of(self, key: int) -> Columns:
        """The series' points that can be read, in order, each place once."""
        parts = []
        after = 0
        for start, columns in self._chunks(key):
            if columns is None or start + len(columns[0]) <= after:
                continue
            known = max(0, after - start)
            parts.append((columns[0][known:], columns[1][known:], columns[2][known:]))
            after = start + len(columns[0])
        return join([*parts, *self._tail.get(key, ())])

    def _chunks(self, key: int) -> Iterator[tuple[int, Columns | None]]:
        """(place of the first point, points; None where they cannot be unpacked), in order."""
        # Chunks that have made room already are read at their own places.
        rows = self._cursor.connection.execute(
            "SELECT CASE WHEN start < 0 THEN -1 - (start + ?) ELSE start END AS place, axis, axis_start, data "
            "FROM chunk WHERE series = ? ORDER BY place, id",
            (_OUT_OF_THE_WAY, key),
        )
        for start, axis, axis_start, data in rows:
            yield start, self._unpack(axis, axis_start, data)

    def _unpack(self, axis: int | None, axis_start: int, data: bytes) -> Columns | None:
        try:
            if axis is None:
                return unpack_chunk(data)
            values = unpack_values(data, self._codec)
            if self._axis[0] != axis:
                row = self._cursor.connection.execute(
                    "SELECT data FROM axis WHERE id = ?", (axis,)
                ).fetchone()
                self._axis = axis, None
                if row is not None:
                    steps, times = unpack_axis(row[0], self._codec)
                    self._axis = axis, (steps, times, times)
        except BrokenPacking:
            return None
        found = self._axis[1]
        end = axis_start + len(values)
        if found is None or axis_start < 0 or end > len(found[0]):
            return None
        return found[0][axis_start:end], found[1][axis_start:end], values

    def _describe(self, key: int, columns: Columns) -> None:
        """What the row of the series says of its points; `sealed` begins again."""
        steps, times, values = columns
        fields: list[float | int | None] = [len(values), None, None, None, None, None, None, None]
        if len(values):
            fields[1:4] = [_number(values[-1]), int(steps[-1]), _number(times[-1])]
            real = np.flatnonzero(np.isfinite(values))
            if len(real):
                low, high = real[np.argmin(values[real])], real[np.argmax(values[real])]
                fields[4:] = [float(values[low]), int(steps[low]), float(values[high]), int(steps[high])]
        self._cursor.execute(
            "UPDATE series SET sealed = 0, count = ?, last = ?, last_step = ?, last_time = ?, minimum = ?, "
            "minimum_step = ?, maximum = ?, maximum_step = ? WHERE id = ?",
            (*fields, key),
        )


def _name_orphans(cursor: sqlite3.Cursor) -> None:
    """Rows for series whose own row is gone but of which chunks are there; their axes know which run's they are."""
    orphans = cursor.execute(
        "SELECT c.series, min(a.run), count(DISTINCT a.run) FROM chunk c JOIN axis a ON a.id = c.axis "
        "WHERE c.series NOT IN (SELECT id FROM series) AND a.run IN (SELECT number FROM run) GROUP BY c.series"
    ).fetchall()
    for key, number, runs in orphans:
        if runs != 1 or not 0 < key < 2**53:
            continue
        (position,) = cursor.execute(
            "SELECT coalesce(max(position) + 1, 0) FROM series WHERE run = ?", (number,)
        ).fetchone()
        cursor.execute(
            "INSERT OR IGNORE INTO series (id, run, kind, name, position, unit, count, sealed) "
            "VALUES (?, ?, 'metric', ?, ?, '', 0, 0)",
            (key, number, _UNKNOWN.format(key), position),
        )


def _copy(columns: Iterable[np.ndarray[tuple[int], np.dtype[np.generic]]]) -> Columns:
    steps, times, values = (np.array(column) for column in columns)
    return steps, times, values


def _number(value: float) -> float | None:
    """SQLite keeps NaN as NULL."""
    return None if np.isnan(value) else float(value)
