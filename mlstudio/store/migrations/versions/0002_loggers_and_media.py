"""Loggers of series, and media beside them."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    "ALTER TABLE series ADD COLUMN logger TEXT DEFAULT 'mlstudio' NOT NULL",
    "ALTER TABLE series ADD COLUMN same_as TEXT DEFAULT '' NOT NULL",
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
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
