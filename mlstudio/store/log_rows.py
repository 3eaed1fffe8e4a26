"""Reading the log: lines by number, by time, and by what they hold."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from mlstudio.model.run import LogLine
from mlstudio.store.log_lines import Lines, as_log_lines, readable, unpack_lines


def read_log(connection: Connection, number: int, start: int, count: int) -> list[LogLine]:
    found: list[LogLine] = []
    if count <= 0:
        return found
    start = max(0, start)
    for first, lines in _blocks(connection, number, start, start + count):
        found.extend(as_log_lines(lines, first, start=start, stop=start + count))
    return found


def count_lines(connection: Connection, number: int) -> int:
    return int(
        connection.exec_driver_sql("SELECT log_lines FROM recording WHERE run = ?", (number,)).scalar_one()
    )


def read_open_line(connection: Connection, number: int) -> LogLine | None:
    """The line that is being written just now: the newer one of both streams' beginnings, if there is any."""
    row = connection.exec_driver_sql(
        "SELECT log_lines, open_output, open_output_time, open_output_cut, open_error, open_error_time, open_error_cut "
        "FROM recording WHERE run = ?",
        (number,),
    ).one()
    lines = [
        LogLine(
            number=row[0],
            time=time or 0.0,
            text=readable(data),
            is_error_stream=is_error,
            continued=bool(cut),
        )
        for data, time, cut, is_error in ((*row[1:4], False), (*row[4:7], True))
        if data
    ]
    return max(lines, key=lambda line: line.time, default=None)


def search_lines(connection: Connection, number: int, text: str, *, start: int, limit: int) -> list[int]:
    """Numbers of lines from `start` on that hold `text`, whatever its case."""
    wanted = text.casefold()
    found: list[int] = []
    if not wanted:
        return found
    for first, lines in _blocks(connection, number, max(0, start), None):
        whole = b"\n".join(lines.texts).decode("utf-8", "replace").casefold()
        if wanted not in whole:
            continue
        for line in as_log_lines(lines, first, start=start):
            if wanted in line.text.casefold():
                found.append(line.number)
                if len(found) >= limit:
                    return found
    return found


def line_at(connection: Connection, number: int, time: float) -> int:
    """Number of the last line that was begun at or before `time`; 0 if there is none."""
    row = connection.exec_driver_sql(
        "SELECT first_line, data FROM log_block WHERE run = ? AND first_time <= ? ORDER BY first_line DESC LIMIT 1",
        (number, time),
    ).first()
    if row is None:
        return 0
    found = at = row[0]
    for stretch in unpack_lines(row[1]).stretches:
        at += stretch.count
        if stretch.time <= time:
            found = at - 1
    return int(found)


def _blocks(connection: Connection, number: int, start: int, stop: int | None) -> Iterator[tuple[int, Lines]]:
    first = connection.exec_driver_sql(
        "SELECT max(first_line) FROM log_block WHERE run = ? AND first_line <= ?", (number, start)
    ).scalar()
    rows = connection.exec_driver_sql(
        "SELECT first_line, data FROM log_block WHERE run = ? AND first_line >= ? AND first_line < ? ORDER BY first_line",
        (number, first or 0, 2**62 if stop is None else stop),
    )
    for first_line, data in rows:
        yield first_line, unpack_lines(data)
