"""Bringing a database to the present schema with Alembic, after copying it aside.

Imported only when a database is new or old; `Database` looks at its number first.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import alembic.command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from mlstudio.model.errors import WorldError
from mlstudio.store.database import (
    BUSY_TIMEOUT_S,
    closing_at_end,
    connect,
    in_plain_words,
    read_only_uri,
)
from mlstudio.store.opening import from_the_future, read_header
from mlstudio.store.schema import APPLICATION_ID, SCHEMA_NUMBER

MIGRATIONS = Path(__file__).with_name("migrations")


def bring_up_to_date(path: Path) -> Path | None:
    """Make or migrate the database at `path`; return where the old one was copied to, None if there was none.

    Only one process does it, the others wait. All migrations happen, or none. Raises WorldError.
    """
    with alone(path):
        header = read_header(path)
        if header is None:
            # Only the owner may read what was trained here; SQLite gives its other files the same permissions.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        schema = _schema(path)
        if schema > SCHEMA_NUMBER:
            raise from_the_future(path, schema)
        if schema == SCHEMA_NUMBER:
            return None
        copy = _copy_aside(path, schema) if schema else None
        try:
            _migrate(path)
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise in_plain_words(error.orig, path) from error
            raise
        return copy


def configuration() -> Config:
    """Alembic's configuration for our migrations; the connection is put into its attributes."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(path: Path) -> None:
    engine = connect(path)
    try:
        with engine.connect() as connection:
            if not _has_tables(connection.exec_driver_sql("PRAGMA schema_version").scalar_one()):
                # Before the first table, or never: lets removed runs give their space back.
                connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")  # tables may be rebuilt
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                config = configuration()
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, "head")
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_NUMBER}")
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
    finally:
        engine.dispose()
    # On a connection of its own: statements that Alembic left open would lock the log.
    with closing_at_end(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as fresh:
        fresh.execute("PRAGMA journal_mode = WAL").fetchall()
        # So that the number can be read from the file itself.
        fresh.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _has_tables(schema_version: int) -> bool:
    return schema_version > 0


def _schema(path: Path) -> int:
    try:
        with closing_at_end(
            sqlite3.connect(read_only_uri(path), uri=True, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
            tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    except sqlite3.Error as error:
        raise in_plain_words(error, path) from error
    if tables and not schema:
        raise WorldError(
            f"{path} is a database, but not a history of ML Studio.",
            try_this="Choose another home with MLSTUDIO_HOME.",
        )
    return schema


def _copy_aside(path: Path, schema: int) -> Path:
    """A whole copy of the database as it is, log included."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    copy = path.with_name(f"{path.stem}-schema{schema}-{stamp}{path.suffix}")
    partial = copy.with_name(copy.name + ".partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with (
            closing_at_end(sqlite3.connect(read_only_uri(path), uri=True, timeout=BUSY_TIMEOUT_S)) as source,
            closing_at_end(sqlite3.connect(partial)) as target,
        ):
            source.backup(target)
        partial.replace(copy)
    except (sqlite3.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        raise WorldError(
            "The history could not be copied before its migration, so it was left as it is.",
            why=f"{error}.",
            try_this="Free some space on the disk and start again.",
        ) from error
    return copy


@contextmanager
def alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
