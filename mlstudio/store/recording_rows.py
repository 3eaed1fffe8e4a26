"""Writing what the recorder saw: one batch of a run, exactly once, as few statements as can be.

This is the hot path of a live run, hence plain prepared statements on the driver's cursor.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.store.columns import Columns
from mlstudio.store.log_lines import LineMaker, Lines, OpenLine, join_lines, pack_lines, unpack_lines
from mlstudio.store.media_rows import add_media
from mlstudio.store.parameters import as_number
from mlstudio.store.run_rows import no_such_run
from mlstudio.store.sealing import drop_points, seal_tail
from mlstudio.store.tails import pack_tail

_TAIL_ROWS = 64
_TAIL_POINTS = 131_072
_TAIL_POINTS_OF_MANY = 1_000_000
"""Of thousands of series more waits in the tail: sealing a few points of each would cost more than it saves."""
_LOOSE_BLOCKS = 64
_LOOSE_BYTES = 256 * 1024
_VECTOR_FROM = 64

SeriesIds = dict[tuple[str, str], int]
"""(kind, name) to the series' key."""

_SELECT_RECORDING = """
SELECT r.number, c.seq, c.position, c.log_bytes, c.log_lines, c.open_output, c.open_output_time, c.open_output_cut,
       c.open_error, c.open_error_time, c.open_error_cut, c.loose_blocks, c.loose_bytes, c.tail_rows, c.tail_points,
       c.events
FROM run r JOIN recording c ON c.run = r.number WHERE r.id = ?
"""
_UPDATE_RECORDING = """
UPDATE recording SET seq = ?, position = ?, log_bytes = ?, log_lines = ?, open_output = ?, open_output_time = ?,
       open_output_cut = ?, open_error = ?, open_error_time = ?, open_error_cut = ?, loose_blocks = ?, loose_bytes = ?,
       tail_rows = ?, tail_points = ?, events = ?
WHERE run = ?
"""
_INSERT_SERIES = """
INSERT INTO series (run, kind, name, position, unit, logger, count, sealed) VALUES (?, ?, ?, ?, ?, ?, 0, 0) RETURNING id
"""
# The right-hand sides see the row as it was, so the order of the assignments does not matter.
_UPDATE_SERIES = """
UPDATE series SET count = count + ?1, last = ?2, last_step = ?3, last_time = ?4,
       minimum_step = CASE WHEN ?5 IS NOT NULL AND (minimum IS NULL OR ?5 < minimum) THEN ?6 ELSE minimum_step END,
       minimum = CASE WHEN ?5 IS NOT NULL AND (minimum IS NULL OR ?5 < minimum) THEN ?5 ELSE minimum END,
       maximum_step = CASE WHEN ?7 IS NOT NULL AND (maximum IS NULL OR ?7 > maximum) THEN ?8 ELSE maximum_step END,
       maximum = CASE WHEN ?7 IS NOT NULL AND (maximum IS NULL OR ?7 > maximum) THEN ?7 ELSE maximum END
WHERE id = ?9
"""


@dataclass(slots=True)
class _State:
    """A row of `recording`, as it will be written."""

    number: int
    cursor: Cursor
    log_lines: int
    output: OpenLine
    error: OpenLine
    loose_blocks: int
    loose_bytes: int
    tail_rows: int
    tail_points: int
    events: int


def is_newer(batch: Cursor, stored: Cursor) -> bool:
    """Whether a batch with the cursor `batch` is not in the history yet.

    Frames decide, then bytes of output; what is counted by neither (output of the probe itself) goes by position.
    """
    if (batch.seq, batch.log_bytes) == (stored.seq, stored.log_bytes):
        return batch.position != stored.position
    return (batch.seq, batch.log_bytes) > (stored.seq, stored.log_bytes)


def apply_batch(
    cursor: sqlite3.Cursor, run_id: str, batch: Batch, ids: SeriesIds | None
) -> tuple[bool, SeriesIds]:
    """Write one batch; False if it was there already. Returns the run's series keys as they are now, in a new mapping
    where they changed (the caller keeps it once the transaction is committed). Raises NotFound."""
    state = _read_state(cursor, run_id)
    if not is_newer(batch.cursor, state.cursor):
        return False, ids if ids is not None else {}
    if ids is None:
        ids = {
            (kind, name): series
            for kind, name, series in cursor.execute(
                "SELECT kind, name, id FROM series WHERE run = ?", (state.number,)
            )
        }
    for old, new in batch.renames:
        cursor.execute(
            "UPDATE series SET name = ? WHERE run = ? AND kind = 'metric' AND name = ?",
            (new, state.number, old),
        )
        ids = {
            (kind, new if (kind, name) == ("metric", old) else name): key for (kind, name), key in ids.items()
        }
    if batch.points:
        ids = _add_points(cursor, state, batch.points, ids)
    cursor.executemany(
        "UPDATE series SET same_as = ? WHERE run = ? AND kind = 'metric' AND name = ?",
        [(better, state.number, name) for name, better in batch.same_as],
    )
    if batch.log:
        maker = LineMaker(state.output, state.error)
        for block in batch.log:
            maker.feed(block)
        _add_lines(cursor, state, maker.take())
    if batch.events:
        cursor.executemany(
            "INSERT INTO event (run, time, type, data) VALUES (?, ?, ?, ?)",
            [(state.number, event.time, event.type, event.data_json) for event in batch.events],
        )
        state.events += len(batch.events)
    if batch.parameters:
        write_parameters(cursor, state.number, batch.parameters)
    if batch.media:
        add_media(cursor, state.number, batch.media)
    if batch.tags:
        _add_tags(cursor, state.number, batch.tags)
    if batch.note:
        cursor.execute(
            "UPDATE run SET note = CASE note WHEN '' THEN ?1 ELSE note || char(10) || ?1 END "
            "WHERE number = ?2 AND instr(note, ?1) = 0",
            (batch.note, state.number),
        )
    if batch.artifacts:
        cursor.executemany(
            "INSERT INTO artifact (run, path, size_bytes) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET size_bytes = excluded.size_bytes",
            [(state.number, path, size) for path, size in batch.artifacts],
        )
    if batch.gaps:
        cursor.executemany(
            "INSERT INTO gap (run, first, last, recovered) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET last = excluded.last, recovered = excluded.recovered",
            [(state.number, gap.first, gap.last, int(gap.recovered)) for gap in batch.gaps],
        )
        cursor.execute(
            "UPDATE run SET gaps = (SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE run = ?1 AND NOT recovered) "
            "WHERE number = ?1",
            (state.number,),
        )
    _add_facts(cursor, state.number, batch)
    if state.tail_rows >= _TAIL_ROWS:
        seal_tail(cursor, state.number)
        state.tail_rows = state.tail_points = 0
    _write_state(cursor, state, batch.cursor)
    touch(cursor, state.number)
    return True, ids


def _add_facts(cursor: sqlite3.Cursor, number: int, batch: Batch) -> None:
    if batch.environment_json:
        data = batch.environment_json.encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(data).hexdigest()
        cursor.execute(
            "INSERT INTO document (digest, data) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (digest, zlib.compress(data, 6)),
        )
        cursor.execute("UPDATE run_detail SET environment = ? WHERE run = ?", (digest, number))
    if batch.gpus:
        cursor.execute(
            "UPDATE run SET gpus = ? WHERE number = ?", (json.dumps(batch.gpus, ensure_ascii=False), number)
        )
    if batch.lacks:
        (text,) = cursor.execute("SELECT lacks FROM run WHERE number = ?", (number,)).fetchone()
        lacks = list(dict.fromkeys([*json.loads(text), *batch.lacks]))
        cursor.execute(
            "UPDATE run SET lacks = ? WHERE number = ?", (json.dumps(lacks, ensure_ascii=False), number)
        )
    if batch.progress is not None:
        progress = batch.progress
        cursor.execute(
            "UPDATE run SET progress_done = ?, progress_total = ?, progress_unit = ?, progress_rate = ?, "
            "progress_eta = ? WHERE number = ?",
            (
                progress.done,
                progress.total or None,
                progress.unit,
                progress.rate_per_s,
                progress.eta_s,
                number,
            ),
        )


def _add_tags(cursor: sqlite3.Cursor, number: int, tags: Sequence[str]) -> None:
    (position,) = cursor.execute(
        "SELECT coalesce(max(position) + 1, 0) FROM tag WHERE run = ?", (number,)
    ).fetchone()
    cursor.executemany(
        "INSERT INTO tag (run, tag, position) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(number, name, position + place) for place, name in enumerate(tags)],
    )


def touch(cursor: sqlite3.Cursor, number: int) -> int:
    """Give the run the next revision."""
    (revision,) = cursor.execute(
        "UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value"
    ).fetchone()
    cursor.execute("UPDATE run SET revision = ? WHERE number = ?", (revision, number))
    return int(revision)


def write_parameters(cursor: sqlite3.Cursor, number: int, parameters: Sequence[tuple[str, str]]) -> None:
    """Set parameters; later values win, earlier places stay."""
    (count,) = cursor.execute("SELECT count(*) FROM parameter WHERE run = ?", (number,)).fetchone()
    cursor.executemany(
        "INSERT INTO parameter (run, name, value, number, position) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET value = excluded.value, number = excluded.number",
        [
            (number, name, value, as_number(value), count + place)
            for place, (name, value) in enumerate(parameters)
        ],
    )


# -- series -----------------------------------------------------------------------------------------------------------


def _add_points(cursor: sqlite3.Cursor, state: _State, points: Sequence[Points], ids: SeriesIds) -> SeriesIds:
    new = {
        (part.kind, part.name): part
        for part in points
        if len(part.values) and (part.kind, part.name) not in ids
    }
    if new:
        ids = dict(ids)
        for position, (key, part) in enumerate(new.items(), start=len(ids)):
            (series,) = cursor.execute(
                _INSERT_SERIES, (state.number, part.kind, part.name, position, part.unit, part.logger)
            ).fetchone()
            ids[key] = series
    rows = []
    latest = []
    count = 0
    for part in points:
        if not len(part.values):
            continue
        series = ids[part.kind, part.name]
        rows.append((series, part.steps, part.times, part.values))
        latest.append(_latest(part, series))
        count += len(part.values)
    if not rows:
        return ids
    cursor.executemany(_UPDATE_SERIES, latest)
    if state.tail_points + count >= max(_TAIL_POINTS, min(_TAIL_ROWS * len(rows), _TAIL_POINTS_OF_MANY)):
        # So much at once is not written twice.
        seal_tail(cursor, state.number, more=[(row[0], _as_columns(*row[1:])) for row in rows])
        state.tail_rows = state.tail_points = 0
        return ids
    cursor.execute(
        "INSERT INTO tail (run, points, data) VALUES (?, ?, ?)", (state.number, count, pack_tail(rows))
    )
    state.tail_rows += 1
    state.tail_points += count
    return ids


def _as_columns(steps: array[int], times: array[float], values: array[float]) -> Columns:
    return np.frombuffer(steps, np.int64), np.frombuffer(times, np.float64), np.frombuffer(values, np.float64)


def _latest(part: Points, series: int) -> tuple[float | int | None, ...]:
    low, low_step, high, high_step = _extremes(part.steps, part.values)
    return (
        len(part.values), part.values[-1], part.steps[-1], part.times[-1], low, low_step, high, high_step, series,
    )  # fmt: skip


def _extremes(
    steps: array[int], values: array[float]
) -> tuple[float | None, int | None, float | None, int | None]:
    """Least and greatest finite value, each with the step of its first occurrence."""
    if len(values) >= _VECTOR_FROM:
        numbers = np.frombuffer(values, np.float64)
        finite = np.isfinite(numbers)
        if not finite.any():
            return None, None, None, None
        low = int(np.argmin(np.where(finite, numbers, np.inf)))
        high = int(np.argmax(np.where(finite, numbers, -np.inf)))
        return values[low], steps[low], values[high], steps[high]
    least = greatest = -1
    for place, value in enumerate(values):
        if value - value != 0.0:  # NaN and infinities
            continue
        if least < 0 or value < values[least]:
            least = place
        if greatest < 0 or value > values[greatest]:
            greatest = place
    if least < 0:
        return None, None, None, None
    return values[least], steps[least], values[greatest], steps[greatest]


def drop_copies(cursor: sqlite3.Cursor, run_id: str, names: Sequence[str]) -> None:
    """Forget the sealed points of those of the run's metrics that are copies of another one. Raises NotFound."""
    number = _read_state(cursor, run_id).number
    keys = cursor.execute(
        "SELECT id FROM series WHERE run = ? AND kind = 'metric' AND same_as != '' "
        "AND name IN (SELECT value FROM json_each(?))",
        (number, json.dumps(list(names))),
    ).fetchall()
    drop_points(cursor, [key for (key,) in keys])
    touch(cursor, number)


# -- log --------------------------------------------------------------------------------------------------------------


def _add_lines(cursor: sqlite3.Cursor, state: _State, lines: Lines) -> None:
    if not lines.texts:
        return
    data = pack_lines(lines)
    cursor.execute(
        "INSERT INTO log_block (run, first_line, lines, first_time, data) VALUES (?, ?, ?, ?, ?)",
        (state.number, state.log_lines, len(lines.texts), lines.stretches[0].time, data),
    )
    state.log_lines += len(lines.texts)
    size = sum(map(len, lines.texts)) + len(lines.texts)
    if not state.loose_blocks and size >= _LOOSE_BYTES:
        return
    state.loose_blocks += 1
    state.loose_bytes += size
    if state.loose_blocks >= _LOOSE_BLOCKS or state.loose_bytes >= _LOOSE_BYTES:
        _join_loose(cursor, state)


def _join_loose(cursor: sqlite3.Cursor, state: _State) -> None:
    """Make one block of the last small ones."""
    if state.loose_blocks > 1:
        rows = cursor.execute(
            "SELECT id, first_line, first_time, data FROM log_block WHERE run = ? ORDER BY first_line DESC LIMIT ?",
            (state.number, state.loose_blocks),
        ).fetchall()[::-1]
        lines = join_lines(unpack_lines(row[3]) for row in rows)
        cursor.executemany("DELETE FROM log_block WHERE id = ?", [(row[0],) for row in rows])
        cursor.execute(
            "INSERT INTO log_block (run, first_line, lines, first_time, data) VALUES (?, ?, ?, ?, ?)",
            (state.number, rows[0][1], len(lines.texts), rows[0][2], pack_lines(lines)),
        )
    state.loose_blocks = state.loose_bytes = 0


def finish_log(cursor: sqlite3.Cursor, run_id: str) -> int:
    """No more output comes: open lines become lines, the tail is sorted. Returns the run's number."""
    state = _read_state(cursor, run_id)
    maker = LineMaker(state.output, state.error)
    maker.end()
    _add_lines(cursor, state, maker.take())
    _join_loose(cursor, state)
    seal_tail(cursor, state.number)
    state.tail_rows = state.tail_points = 0
    _write_state(cursor, state, state.cursor)
    touch(cursor, state.number)
    return state.number


# -- the cursor -------------------------------------------------------------------------------------------------------


def _read_state(cursor: sqlite3.Cursor, run_id: str) -> _State:
    row = cursor.execute(_SELECT_RECORDING, (run_id,)).fetchone()
    if row is None:
        raise no_such_run(run_id)
    return _State(
        number=row[0],
        cursor=Cursor(seq=row[1], position=row[2], log_bytes=row[3]),
        log_lines=row[4],
        output=OpenLine(row[5], row[6], bool(row[7])),
        error=OpenLine(row[8], row[9], bool(row[10])),
        loose_blocks=row[11],
        loose_bytes=row[12],
        tail_rows=row[13],
        tail_points=row[14],
        events=row[15],
    )


def _write_state(cursor: sqlite3.Cursor, state: _State, new: Cursor) -> None:
    output, error = state.output, state.error
    cursor.execute(
        _UPDATE_RECORDING,
        (
            new.seq, new.position, new.log_bytes, state.log_lines,
            output.data, output.time, int(output.was_cut), error.data, error.time, int(error.was_cut),
            state.loose_blocks, state.loose_bytes, state.tail_rows, state.tail_points, state.events, state.number,
        ),
    )  # fmt: skip
