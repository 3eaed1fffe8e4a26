"""Loggers of series, media beside them; steps and times apart from values, and a pyramid beside those."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE series ADD COLUMN logger TEXT DEFAULT 'mlstudio' NOT NULL",
    "ALTER TABLE series ADD COLUMN same_as TEXT DEFAULT '' NOT NULL",
    "ALTER TABLE series ADD COLUMN final INTEGER DEFAULT 0 NOT NULL",
    """
    UPDATE series SET final = 1
    WHERE run IN (SELECT number FROM run WHERE state IN ('succeeded', 'failed', 'stopped'))
    """,
    "DROP INDEX ix_series_name",
    "CREATE INDEX ix_series_final ON series (kind, name, last, minimum, maximum, run) WHERE final = 1",
    "CREATE INDEX ix_series_open ON series (kind, name) WHERE final = 0",
    """
    CREATE TABLE media (
        id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        logger TEXT NOT NULL,
        step INTEGER NOT NULL,
        time FLOAT NOT NULL,
        mime TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        caption TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        packed INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_media_run ON media (run, name, step)",
    """
    CREATE TABLE axis (
        id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        count INTEGER NOT NULL,
        uses INTEGER NOT NULL,
        low_step INTEGER NOT NULL,
        high_step INTEGER NOT NULL,
        low_time FLOAT,
        high_time FLOAT,
        data BLOB NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_axis_run ON axis (run)",
    # Made anew, for small columns must stand before the data: SQLite reads a row from its beginning.
    """
    CREATE TABLE new_chunk (
        id INTEGER NOT NULL,
        series INTEGER NOT NULL,
        start INTEGER NOT NULL,
        count INTEGER NOT NULL,
        axis INTEGER,
        axis_start INTEGER NOT NULL,
        coarse BLOB NOT NULL,
        fine BLOB NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT uq_chunk UNIQUE (series, start),
        FOREIGN KEY(series) REFERENCES series (id) ON DELETE CASCADE
    )
    """,
    """
    INSERT INTO new_chunk (id, series, start, count, axis, axis_start, coarse, fine, data)
    SELECT id, series, start, count, NULL, 0, x'', x'', data FROM chunk
    """,
    "DROP TABLE chunk",
    "ALTER TABLE new_chunk RENAME TO chunk",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
