"""Other tools' SQLite files: read, never written to, and not trusted.

A server may have the file open. In rollback mode, and where its write-ahead log and shared memory lie beside it, SQLite's
own locks let us read along; where a journal was left behind by somebody who died, a copy is recovered and read instead,
so that nothing is ever changed beside the original.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mlstudio.model.errors import Cancelled, WorldError

MAGIC = b"SQLite format 3\0"
_BUSY_S = 10.0
_MAX_CELL = 256 * 1024 * 1024
_MAX_COPY = 64 * 1024**3
_STEPS_BETWEEN_LOOKS = 100_000
_LONGEST_WITHOUT_ROW = 3_000
"""Looks (each after 100,000 steps of SQLite's machine) that one question may take before its next row: minutes."""


def is_database(path: Path) -> bool:
    """Whether the file begins as SQLite's do."""
    try:
        with path.open("rb") as file:
            return file.read(16) == MAGIC
    except OSError:
        return False


class Database:
    """An open SQLite file of another tool."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._looks = 0
        self._cancelled: Callable[[], bool] = lambda: False
        connection.set_progress_handler(self._look, _STEPS_BETWEEN_LOOKS)
        self.tables = self._tables()

    def cancel_with(self, cancelled: Callable[[], bool]) -> None:
        """Ask this now and then, and give up where it says so."""
        self._cancelled = cancelled

    def has(self, **columns: str) -> bool:
        """Whether there are these tables with these columns (a word each): ``has(runs="run_uuid name")``."""
        return all(
            table in self.tables and set(wanted.split()) <= self.tables[table]
            for table, wanted in columns.items()
        )

    def rows(self, sql: str, values: tuple[object, ...] = ()) -> Iterator[sqlite3.Row]:
        """The rows of a question, one at a time. Raises WorldError where the file is damaged."""
        self._looks = 0
        try:
            for row in self._connection.execute(sql, values):
                self._looks = 0
                yield row
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def one(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Row | None:
        """The first row, if there is any."""
        for row in self.rows(sql, values):
            return row
        return None

    def _tables(self) -> Mapping[str, set[str]]:
        """Tables and their columns. Views and virtual tables could hide endless work: they do not count."""
        found: dict[str, set[str]] = {}
        rows = list(self.rows("SELECT name, sql FROM sqlite_master WHERE type = 'table' LIMIT 1000"))
        for name, sql in rows:
            if (
                isinstance(name, str)
                and isinstance(sql, str)
                and not sql.upper().startswith("CREATE VIRTUAL")
            ):
                quoted = name.replace('"', '""')
                # Generated columns are hidden from table_info: what they compute is not asked for.
                found[name] = {str(row[1]) for row in self.rows(f'PRAGMA table_info("{quoted}")')}
        return found

    def _look(self) -> int:
        self._looks += 1
        return int(self._cancelled() or self._looks > _LONGEST_WITHOUT_ROW)

    def _translated(self, error: sqlite3.Error) -> Exception:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT and self._cancelled():
            return Cancelled("The import was cancelled.")
        return _unreadable(self.path, error)


@contextmanager
def open_database(path: Path) -> Iterator[Database]:
    """The SQLite file at `path`, to read. Raises WorldError where it cannot be read."""
    with tempfile.TemporaryDirectory(prefix="mlstudio-import-") as folder:
        try:
            connection = _connect(path, Path(folder))
        except (sqlite3.Error, OSError) as error:
            raise _unreadable(path, error) from error
        try:
            yield Database(connection, path)
        finally:
            connection.close()


def _connect(path: Path, folder: Path) -> sqlite3.Connection:
    wal, journal = (path.with_name(path.name + end) for end in ("-wal", "-journal"))
    shared = path.with_name(path.name + "-shm")
    has_wal = wal.is_file() and wal.stat().st_size > 0
    with path.open("rb") as file:
        uses_wal = file.read(20)[18:20] == b"\x02\x02"
    if uses_wal and not has_wal:
        # Nobody has written since the last checkpoint; without `immutable` SQLite would put files beside it.
        return _opened(path, "mode=ro&immutable=1")
    if uses_wal and not shared.is_file():
        return _opened(_copied(path, folder, wal), "mode=rw")
    try:
        return _opened(path, "mode=ro")
    except sqlite3.OperationalError:
        # A journal of somebody who died, or files that we may read but not lock.
        return _opened(_copied(path, folder, wal, journal), "mode=rw")


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {pragma}")
        # One snapshot for all questions. The first reading takes the lock, and finds a journal that was left behind.
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _copied(path: Path, folder: Path, *beside: Path) -> Path:
    """A copy of the file, with its log or journal, that may be recovered."""
    if path.stat().st_size > min(_MAX_COPY, shutil.disk_usage(folder).free // 2):
        raise OSError(f"there is no room for a copy of {path}")
    copy = folder / "copy.db"
    shutil.copyfile(path, copy)
    for part in beside:
        if part.is_file():
            shutil.copyfile(part, copy.with_name(copy.name + part.name[len(path.name) :]))
    return copy


def _unreadable(path: Path, error: Exception) -> WorldError:
    busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    if busy:
        return WorldError(
            f"{path} is being written.",
            why="Another program has kept it locked for more than 10 seconds.",
            try_this="Try again when it is done.",
            can_retry=True,
        )
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        return WorldError(
            f"{path} cannot be read.", why="A question to it took minutes; it may be made to do that."
        )
    return WorldError(f"{path} cannot be read.", why=f"SQLite says: {error}.", try_this="Is the file whole?")
