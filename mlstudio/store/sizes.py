"""What uses how much in the history, and taking out what is not wanted any more."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

from mlstudio.model.sizes import HistorySizes, RunSize
from mlstudio.store.sealing import drop_points

_PAGES_AT_ONCE = 2000
"""About 8 MB: writers wait a moment only."""


def read_sizes(cursor: sqlite3.Cursor, *, largest: int) -> HistorySizes:
    """Sizes of the whole, and of the `largest` runs. Reads every row's length, not the data: seconds for 100,000 runs."""
    by_run: dict[int, dict[str, int]] = defaultdict(
        lambda: dict.fromkeys(("metric", "system", "log", "media"), 0)
    )
    for run, kind, size in cursor.execute(
        "SELECT series.run, series.kind, sum(length(coarse) + length(fine) + length(data)) "
        "FROM chunk JOIN series ON series.id = chunk.series GROUP BY 1, 2"
    ):
        by_run[run][kind] += size
    for run, kind, size in cursor.execute(
        # Series of one axis are logged together, so they are of one kind.
        "SELECT axis.run, used.kind, sum(length(axis.data)) FROM axis JOIN "
        "(SELECT chunk.axis AS id, min(series.kind) AS kind FROM chunk JOIN series ON series.id = chunk.series "
        "WHERE chunk.axis IS NOT NULL GROUP BY 1) AS used ON used.id = axis.id GROUP BY 1, 2"
    ):
        by_run[run][kind] += size
    for kind, table in (("metric", "tail"), ("log", "log_block"), ("media", "media")):
        for run, size in cursor.execute(f"SELECT run, sum(length(data)) FROM {table} GROUP BY run"):
            by_run[run][kind] += size
    first = sorted(by_run, key=lambda run: -sum(by_run[run].values()))[:largest]
    names = {
        number: (run_id, name)
        for number, run_id, name in cursor.execute(
            f"SELECT number, id, name FROM run WHERE number IN ({','.join(str(int(run)) for run in first)})"
        )
    }
    page = _pragma(cursor, "page_size")
    return HistorySizes(
        file=page * _pragma(cursor, "page_count"),
        free=page * _pragma(cursor, "freelist_count"),
        runs=cursor.execute("SELECT count(*) FROM run").fetchone()[0],
        points=cursor.execute("SELECT coalesce(sum(count), 0) FROM series").fetchone()[0],
        metrics=sum(sizes["metric"] for sizes in by_run.values()),
        system=sum(sizes["system"] for sizes in by_run.values()),
        log=sum(sizes["log"] for sizes in by_run.values()),
        media=sum(sizes["media"] for sizes in by_run.values()),
        largest=tuple(
            RunSize(
                run_id=names[run][0], number=run, name=names[run][1], metrics=by_run[run]["metric"],
                system=by_run[run]["system"], log=by_run[run]["log"], media=by_run[run]["media"],
            )
            for run in first
            if run in names
        ),
    )  # fmt: skip


def kept_bytes(cursor: sqlite3.Cursor, number: int, kind: str) -> int:
    """How many bytes the run's records of this kind take: ``system``, ``log`` or ``media``."""
    question = {
        "log": "SELECT sum(length(data)) FROM log_block WHERE run = ?",
        "media": "SELECT sum(length(data)) FROM media WHERE run = ?",
        "system": "SELECT sum(length(coarse) + length(fine) + length(data)) FROM series "
        "JOIN chunk ON chunk.series = series.id WHERE series.run = ? AND series.kind = 'system'",
    }[kind]
    return _sum(cursor, question, number)


def forget(cursor: sqlite3.Cursor, number: int, kind: str) -> int:
    """Take these records out; how many bytes they took.

    What tables show of them (latest, least and greatest values, counts) stays.
    """
    size = kept_bytes(cursor, number, kind)
    if kind == "log":
        cursor.execute("DELETE FROM log_block WHERE run = ?", (number,))
        cursor.execute(
            "UPDATE recording SET log_lines = 0, loose_blocks = 0, loose_bytes = 0 WHERE run = ?", (number,)
        )
    elif kind == "media":
        cursor.execute("DELETE FROM media WHERE run = ?", (number,))
    else:
        keys = cursor.execute("SELECT id FROM series WHERE run = ? AND kind = 'system'", (number,)).fetchall()
        before = _sum(cursor, "SELECT sum(length(data)) FROM axis WHERE run = ?", number)
        drop_points(cursor, [key for (key,) in keys])
        size += before - _sum(cursor, "SELECT sum(length(data)) FROM axis WHERE run = ?", number)
    return size


def drop_unused_documents(cursor: sqlite3.Cursor) -> None:
    """Texts that no run shows any more."""
    columns = ("dockerfile", "environment", "patch", "code_files")
    used = " UNION ".join(f"SELECT {column} FROM run_detail" for column in columns)
    cursor.execute(f"DELETE FROM document WHERE digest NOT IN ({used})")


def give_back_pages(cursor: sqlite3.Cursor) -> int:
    """Cut some unused pages off the file; how many are left."""
    cursor.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
    return _pragma(cursor, "freelist_count")


def shorten_log(path: Path) -> None:
    """Let the file be as long as what is in it: SQLite does that once its log is written back."""
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


def _sum(cursor: sqlite3.Cursor, question: str, *values: int) -> int:
    return int(cursor.execute(question, values).fetchone()[0] or 0)


def _pragma(cursor: sqlite3.Cursor, name: str) -> int:
    return int(cursor.execute(f"PRAGMA {name}").fetchone()[0])
