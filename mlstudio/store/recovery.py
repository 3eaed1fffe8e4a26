"""Recovering a damaged history: every row that can still be read goes into a new one; the damaged file is kept aside.

The damaged file is only read (`mlstudio.store.pages`). What hangs together is then made to agree again: points that are
missing in the middle of a series move the later ones up, a run whose own row is gone gets one that says so. Everything
that was lost is counted and told.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import alembic.command

from mlstudio.model.errors import WorldError
from mlstudio.model.run import RunSpec
from mlstudio.store.database import connect
from mlstudio.store.migrate import alone, bring_up_to_date, configuration
from mlstudio.store.opening import from_the_future
from mlstudio.store.pages import Pages, Row, Value
from mlstudio.store.points_mending import mend_points
from mlstudio.store.schema import APPLICATION_ID, SCHEMA_NUMBER, metadata
from mlstudio.store.spec_json import to_json

_WITHOUT_NUMBERS = frozenset(
    table.name for table in metadata.sorted_tables if not table.dialect_options["sqlite"]["with_rowid"]
)
_AT_ONCE = 200
LOST_IN_RECOVERY = "Parts of this run were lost when its damaged history was recovered."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of a damaged history."""

    aside: Path
    """Where the damaged database lies now (its other files beside it)."""
    runs: int
    """Runs in the new history."""
    named_again: int
    """Runs whose name and settings were lost; what they recorded was not."""
    rows: tuple[tuple[str, int], ...]
    """(table, rows in the new history)."""
    lost_points: int
    """Points that are known to be missing."""
    had_contents: bool
    """Whether the file's table of contents could be read. Without it, rows that had been removed may be back."""


def looks_sound(path: Path) -> str:
    """What SQLite itself finds wrong with the database: its words; empty if it finds nothing. Reads only."""
    try:
        with closing(sqlite3.connect(f"file:{path.as_posix()}?mode=ro", uri=True, timeout=30)) as connection:
            words = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
    except sqlite3.Error as error:
        return str(error)
    return "" if words == ["ok"] else "\n".join(words)


def recover(path: Path, *, now: float | None = None) -> Recovered:
    """Make a new history at `path` of what can be read of the damaged one there, which is moved aside.

    Nobody else may have it open. Raises WorldError where nothing can be read, or it is from a newer ML Studio; then
    everything is as it was.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now if now is not None else time.time()))
    new = path.with_name(f"{path.stem}-recovering-{stamp}{path.suffix}")
    with alone(path):
        try:
            with Pages(path) as pages:
                if pages.schema > SCHEMA_NUMBER:
                    raise from_the_future(path, pages.schema)
                schema = pages.schema if pages.schema >= 1 else SCHEMA_NUMBER
                _make(new, schema)
                had_contents = _copy_rows(pages, new)
        except OSError as error:
            raise WorldError(
                f"The history {path} cannot be read.",
                why=f"{error.strerror or error}.",
                try_this="Check the disk, and who may read the file.",
            ) from error
        try:
            if schema < SCHEMA_NUMBER:
                bring_up_to_date(new)
            found = _mend(new)
            if not found.runs and not any(count for _, count in found.rows):
                raise WorldError(
                    f"Nothing can be read of {path} any more.",
                    try_this="Put a backup in its place, or move it away and begin with an empty history.",
                )
        except BaseException:
            _remove(new)
            raise
        aside = _free_name(path, stamp)
        for ending in ("-wal", "-shm", ""):
            old = path.with_name(path.name + ending)
            if old.exists():
                old.rename(aside.with_name(aside.name + ending))
        _settle(new)
        new.rename(path)
    return Recovered(
        aside=aside,
        runs=found.runs,
        named_again=found.named_again,
        rows=found.rows,
        lost_points=found.lost_points,
        had_contents=had_contents,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    runs: int
    named_again: int
    rows: tuple[tuple[str, int], ...]
    lost_points: int


# -- rows -------------------------------------------------------------------------------------------------------------


def _make(path: Path, schema: int) -> None:
    """An empty database with the tables of `schema`."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    engine = connect(path)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config = configuration()
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, f"{schema:04d}")
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version = {schema}")
            connection.exec_driver_sql("DELETE FROM counter")
            connection.exec_driver_sql("COMMIT")
    finally:
        engine.dispose()


def _copy_rows(pages: Pages, new: Path) -> bool:
    """Put every row that can be read into the new database; whether the table of contents was there."""
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        # Rows of damaged pages may contradict each other; the first one stays.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        tables = _layouts(connection)
        seen: set[int] = {1}
        contents = {name: root for name, root in pages.tables().items() if name in tables}
        for name, root in contents.items():
            tables[name].take(connection, pages.rows(root, seen))
        for name, root in pages.tables().items():
            if name not in tables:
                for _ in pages.rows(root, seen):
                    pass
        for number, has_numbers in pages.loose_leaves(seen):
            rows = pages.rows_of_leaf(number)
            fitting = [table for table in tables.values() if table.fits(rows, has_numbers=has_numbers)]
            if fitting:
                # Told apart by their length alone; the narrower ones hold what can be done without.
                max(fitting, key=lambda table: len(table.columns)).take(connection, rows)
        for table in tables.values():
            table.end(connection)
    return bool(contents)


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    kind: str
    is_needed: bool
    """Whether a row without it is no row."""
    is_number: bool
    """Whether it stands for the row's own number."""
    default: Value

    def value(self, found: Value, number: int | None) -> Value:
        """The value as it goes into the new database. Raises ValueError for one that cannot be this column's."""
        if found is None and self.is_number:
            found = number
        if found is None:
            found = self.default
        if found is None:
            if self.is_needed:
                raise ValueError("a value is missing")
        elif not isinstance(found, _TYPES[self.kind]):
            raise ValueError("a value of another kind")
        return found


class _Layout:
    """One table: how its rows look in a file, and how they are put into the new database."""

    def __init__(self, name: str, columns: list[_Column]) -> None:
        self.columns = columns
        self.has_numbers = name not in _WITHOUT_NUMBERS
        self._sql = f"INSERT OR IGNORE INTO {name} VALUES ({', '.join('?' * len(columns))})"
        self._waiting: list[list[Value]] = []

    def fits(self, rows: list[Row], *, has_numbers: bool) -> bool:
        """Whether all of `rows`, found in a page that belongs to no tree, look like this table's."""
        if has_numbers != self.has_numbers or not rows:
            return False
        return all(len(row.values) == len(self.columns) and self._whole(row) is not None for row in rows)

    def take(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        for row in rows:
            whole = self._whole(row)
            if whole is not None:
                self._waiting.append(whole)
                if len(self._waiting) >= _AT_ONCE:
                    self.end(connection)

    def end(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.executemany(self._sql, self._waiting)
        connection.execute("COMMIT")
        self._waiting = []

    def _whole(self, row: Row) -> list[Value] | None:
        """The row's values for all columns; None if it cannot be a row of this table."""
        if len(row.values) > len(self.columns):
            return None
        # Columns that were added later are not in old rows.
        values = [*row.values, *[None] * (len(self.columns) - len(row.values))]
        try:
            return [
                column.value(value, row.number) for column, value in zip(self.columns, values, strict=True)
            ]
        except ValueError:
            return None


_TYPES: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "FLOAT": (float, int),
    "TEXT": (str,),
    "BLOB": (bytes,),
}


def _layouts(connection: sqlite3.Connection) -> dict[str, _Layout]:
    names = [
        str(row[0])
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' "
            "AND name NOT LIKE 'sqlite_%' AND name != 'alembic_version'"
        )
    ]
    found = {}
    for name in names:
        described = connection.execute(f"PRAGMA table_info({name})").fetchall()
        keys = [row for row in described if row[5]]
        is_numbered = len(keys) == 1 and keys[0][2].upper() == "INTEGER" and name not in _WITHOUT_NUMBERS
        found[name] = _Layout(
            name,
            [
                _Column(column, kind.upper(), bool(needed), is_numbered and bool(key), _literal(default))
                for _, column, kind, needed, default, key in described
            ],
        )
    return found


def _literal(text: str | None) -> Value:
    """A column's default, as it stands in its declaration."""
    if text is None:
        return None
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    try:
        return int(text)
    except ValueError:
        return None


# -- making it agree --------------------------------------------------------------------------------------------------


def _mend(path: Path) -> _Found:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        named_again = _name_again(connection)
        _complete(connection)
        lost = mend_points(connection)
        hurt = set(lost) | set(named_again)
        moment = time.time()
        for number in sorted(hurt):
            words = {"message": LOST_IN_RECOVERY, "points": lost.get(number, 0)}
            connection.execute(
                "INSERT INTO event (run, time, type, data) VALUES (?, ?, 'warning', ?)",
                (number, moment, json.dumps(words)),
            )
            (text,) = connection.execute("SELECT lacks FROM run WHERE number = ?", (number,)).fetchone()
            lacks = list(dict.fromkeys([*_list(text), LOST_IN_RECOVERY]))
            connection.execute("UPDATE run SET lacks = ? WHERE number = ?", (json.dumps(lacks), number))
        (newest,) = connection.execute("SELECT coalesce(max(revision), 0) FROM run").fetchone()
        (removed,) = connection.execute("SELECT coalesce(max(revision), 0) FROM removed_run").fetchone()
        connection.execute("DELETE FROM counter WHERE name = 'revision'")
        connection.execute("INSERT INTO counter VALUES ('revision', ?)", (max(newest, removed) + 1,))
        connection.execute("COMMIT")
        counts = tuple(
            (table.name, int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]))
            for table in metadata.sorted_tables
            if table.name != "counter"
        )
    return _Found(
        runs=dict(counts)["run"], named_again=len(named_again), rows=counts, lost_points=sum(lost.values())
    )


def _name_again(connection: sqlite3.Connection) -> list[int]:
    """Rows for runs whose own row is gone but of which something else is there; their numbers."""
    parts: dict[int, set[str]] = defaultdict(set)
    for name in ("run_detail", "series", "log_block", "parameter"):
        for (number,) in connection.execute(
            f"SELECT DISTINCT run FROM {name} WHERE run NOT IN (SELECT number FROM run)"
        ):
            parts[number].add(name)
    columns = connection.execute("PRAGMA table_info(run)").fetchall()
    moment = time.time()
    found = []
    for number in sorted(number for number in parts if 0 < number < 2**53):
        values: dict[str, Value] = {
            "number": number,
            "id": f"recovered-{number}-{int(moment)}",
            "name": f"recovered-{number}",
            "state": "lost",
            "desired": "running",
            "created": moment,
            "engine": "local",
            "engine_kind": "docker",
            "command": "[]",
            "gpus": "[]",
            "lacks": "[]",
            "colour": number - 1,
        }
        for _, name, kind, is_needed, _, _ in columns:
            if is_needed and name not in values:
                values[name] = "" if kind.upper() == "TEXT" else 0
        connection.execute(
            f"INSERT OR IGNORE INTO run ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            list(values.values()),
        )
        found.append(number)
    return found


def _complete(connection: sqlite3.Connection) -> None:
    """Rows that every run must have, and none that belong to no run."""
    spec = to_json(RunSpec(command=()))
    connection.execute(
        "INSERT INTO run_detail (run, spec, dockerfile, environment, patch, code_files) "
        "SELECT number, ?, '', '', '', '' FROM run WHERE number NOT IN (SELECT run FROM run_detail)",
        (spec,),
    )
    # Without its cursor a run that still goes on would be recorded twice: it is let go.
    connection.execute(
        "UPDATE run SET state = 'lost', phase = '' WHERE state IN ('queued', 'running') "
        "AND number NOT IN (SELECT run FROM recording)"
    )
    connection.execute(
        "INSERT INTO recording (run, seq, position, log_bytes, log_lines, open_output, open_output_cut, open_error, "
        "open_error_cut, loose_blocks, loose_bytes, tail_rows, tail_points, events) "
        "SELECT number, -1, '', 0, coalesce((SELECT max(first_line + lines) FROM log_block WHERE run = number), 0), "
        "x'', 0, x'', 0, 0, 0, 0, 0, 0 FROM run WHERE number NOT IN (SELECT run FROM recording)"
    )
    for table in metadata.sorted_tables:
        if "run" in table.columns and table.name != "run":
            connection.execute(f"DELETE FROM {table.name} WHERE run NOT IN (SELECT number FROM run)")
    for digest, data in connection.execute("SELECT digest, data FROM document").fetchall():
        try:
            zlib.decompress(data)
        except zlib.error:
            connection.execute("DELETE FROM document WHERE digest = ?", (digest,))


def _list(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [str(item) for item in found] if isinstance(found, list) else []


# -- files ------------------------------------------------------------------------------------------------------------


def _settle(path: Path) -> None:
    """One sound file, without a log beside it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _free_name(path: Path, stamp: str) -> Path:
    for number in range(1, 1000):
        name = f"{path.stem}-damaged-{stamp}{'' if number == 1 else f'-{number}'}{path.suffix}"
        found = path.with_name(name)
        if not found.exists():
            return found
    raise WorldError(f"There are too many damaged copies beside {path}.", try_this="Move some of them away.")


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal", ".lock"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
