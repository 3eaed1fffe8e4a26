"""The database behind the history: connections, transactions, and SQLite's errors in plain words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from mlstudio.model.errors import DefectError, StudioError, WorldError
from mlstudio.store.opening import (
    BrokenPacking,
    Header,
    damaged,
    from_the_future,
    read_header,
    refuse_network,
)
from mlstudio.store.schema import SCHEMA_NUMBER

BUSY_TIMEOUT_S = 30.0
_CACHE_KIB = 8 * 1024
_LOG_BYTES = 1024 * 1024


class Database:
    """One SQLite file, for all threads of this process.

    Readers get a snapshot (`read`); writers take turns, in this process by a lock and between processes by SQLite's own
    (`write` begins immediate, so a writer waits at its beginning and never fails half-way). Every SQLite error leaves as
    a WorldError. A damaged file is never written to once the damage is known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._watching = threading.Lock()
        self._watcher: sqlite3.Connection | None = None
        self._damage: WorldError | None = None
        self._closed = False
        refuse_network(path)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WorldError(
                f"The folder {path.parent} cannot be made.",
                why=f"{error.strerror or error}.",
                try_this="Choose another home with MLSTUDIO_HOME.",
            ) from error
        header = read_header(path)
        if header is not None and header.schema:
            header = self._header_in_log(header)
        if header is None or header.schema < SCHEMA_NUMBER:
            # Alembic is needed only here: the usual start does not pay for its import.
            from mlstudio.store.migrate import bring_up_to_date

            bring_up_to_date(path)
        self._engine = connect(path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees the database as it is now, all the way through."""
        self._refuse_closed()
        with self.plain_errors(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                with suppress(DBAPIError):
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection whose changes all happen, or none. Waits for other writers."""
        self._refuse_closed()
        if self._damage is not None:
            raise self._damage
        with self._writing, self.plain_errors(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself (disk full); then there is nothing left to undo.
                with suppress(DBAPIError):
                    connection.exec_driver_sql("ROLLBACK")
                raise

    @contextmanager
    def write_fast(self) -> Iterator[sqlite3.Cursor]:
        """As `write`, with the driver's own cursor: for the many small statements of a live run."""
        with self.write() as connection:
            cursor: sqlite3.Cursor = connection.connection.cursor()  # type: ignore[assignment]
            try:
                yield cursor
            finally:
                cursor.close()

    def data_version(self) -> int:
        """A number that changes when any other connection, of this process too, has committed. Takes microseconds."""
        return self._watch("PRAGMA data_version")

    def revision(self) -> int:
        """The counter ``revision`` as it is now. Takes microseconds."""
        return self._watch("SELECT value FROM counter WHERE name = 'revision'")

    def close(self) -> None:
        """Close every connection; later calls raise. Idempotent."""
        with self._watching:
            self._closed = True
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        self._engine.dispose()

    def _watch(self, sql: str) -> int:
        with self._watching:
            self._refuse_closed()
            try:
                if self._watcher is None:
                    self._watcher = sqlite3.connect(
                        self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
                    )
                row = self._watcher.execute(sql).fetchone()
            except sqlite3.Error as error:
                raise self._translated(error) from error
        return int(row[0])

    def _refuse_closed(self) -> None:
        if self._closed:
            raise WorldError("The history is closed.", try_this="Open it again.")

    def _header_in_log(self, header: Header) -> Header:
        """The header as the write-ahead log has it, if there is one: the file itself may be behind."""
        log = self.path.with_name(self.path.name + "-wal")
        try:
            if not log.stat().st_size:
                return header
        except OSError:
            return header
        # Read-only, so that a database from the future is not even checkpointed by us.
        try:
            with closing_at_end(
                sqlite3.connect(read_only_uri(self.path), uri=True, timeout=BUSY_TIMEOUT_S)
            ) as connection:
                schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error as error:
            raise self._translated(error) from error
        if schema > SCHEMA_NUMBER:
            raise from_the_future(self.path, schema)
        return Header(schema=schema, is_ours=header.is_ours)

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise DefectError("The history refused a change.", details=str(error.orig)) from error
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise self._translated(error.orig) from error
            raise
        except sqlite3.IntegrityError as error:
            raise DefectError("The history refused a change.", details=str(error)) from error
        except sqlite3.Error as error:
            raise self._translated(error) from error
        except BrokenPacking as error:
            raise damaged(self.path, f"Packed data cannot be read: {error}.") from error

    def _translated(self, error: sqlite3.Error) -> StudioError:
        found = in_plain_words(error, self.path)
        if is_damage(error) and isinstance(found, WorldError):
            self._damage = found
        return found


def connect(path: Path) -> sqlalchemy.Engine:
    """An engine whose connections are set up for us. Transactions are begun and ended by explicit statements."""
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT_S},
        pool_size=8,
        max_overflow=-1,
    )
    event.listen(engine, "connect", _set_up)
    return engine


def _set_up(connection: sqlite3.Connection, _: object) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log NORMAL cannot damage the file; a power cut may lose the last commits, which the
        # recorder reads again from the engine.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        cursor.execute("PRAGMA temp_store = MEMORY")
        # After a checkpoint the log is made so short again; else it keeps the size that it once had.
        cursor.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    finally:
        cursor.close()


def read_only_uri(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"


@contextmanager
def closing_at_end(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Close `connection` in the end (its own ``with`` only ends a transaction)."""
    try:
        yield connection
    finally:
        connection.close()


def is_damage(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def in_plain_words(error: sqlite3.Error, path: Path) -> StudioError:
    """SQLite's error as ours."""
    code = _primary_code(error)
    words = str(error)
    if is_damage(error):
        return damaged(path, f"SQLite says: {words}.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return WorldError(
            "The history is busy.",
            why=f"Another program has been writing to it for more than {BUSY_TIMEOUT_S:.0f} seconds.",
            try_this="Try again; if it stays so, end the other program.",
            can_retry=True,
        )
    if code == sqlite3.SQLITE_FULL:
        return WorldError(
            "The history could not be written: the disk is full.",
            why=f"There is no room left where {path.parent} lies.",
            try_this="Free some space; what is missing is read again from the runs' own output.",
            can_retry=True,
        )
    if code == sqlite3.SQLITE_READONLY:
        return WorldError(
            f"The history {path} may not be written.",
            why=f"SQLite says: {words}.",
            try_this="Make the file and its folder writable for you, or choose another home with MLSTUDIO_HOME.",
        )
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return WorldError(
            f"The history {path} cannot be reached.",
            why=f"SQLite says: {words}.",
            try_this="Check the disk and who may read and write the folder.",
            can_retry=True,
        )
    return DefectError("A question to the history failed.", details=words)


def _primary_code(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return int(code) & 0xFF if code is not None else 0
