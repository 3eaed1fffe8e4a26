"""The first tables."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Literal, so that later changes of `mlstudio.store.schema` never change what this migration does.
_STATEMENTS = (
    """
    CREATE TABLE counter (
        name TEXT NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE document (
        digest TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (digest)
    )
    """,
    """
    CREATE TABLE image (
        id TEXT NOT NULL,
        tag TEXT NOT NULL,
        recipe_digest TEXT NOT NULL,
        dockerfile TEXT NOT NULL,
        spec TEXT NOT NULL,
        base TEXT NOT NULL,
        created FLOAT NOT NULL,
        size_bytes INTEGER NOT NULL,
        build_seconds FLOAT NOT NULL,
        cached_steps INTEGER NOT NULL,
        steps INTEGER NOT NULL,
        packages TEXT NOT NULL,
        repo_digest TEXT NOT NULL,
        recorded INTEGER NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_image_recipe ON image (recipe_digest)",
    "CREATE INDEX ix_image_tag ON image (tag)",
    """
    CREATE TABLE layer (
        "key" TEXT NOT NULL,
        seconds FLOAT NOT NULL,
        PRIMARY KEY ("key")
    )
    """,
    """
    CREATE TABLE removed_run (
        id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_removed_run_revision ON removed_run (revision)",
    """
    CREATE TABLE run (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        phase TEXT NOT NULL,
        desired TEXT NOT NULL,
        desired_at FLOAT,
        stop_grace_s FLOAT,
        created FLOAT NOT NULL,
        started FLOAT,
        ended FLOAT,
        engine TEXT NOT NULL,
        engine_kind TEXT NOT NULL,
        host TEXT NOT NULL,
        owner TEXT NOT NULL,
        handle TEXT NOT NULL,
        command TEXT NOT NULL,
        gpus TEXT NOT NULL,
        colour INTEGER NOT NULL,
        note TEXT NOT NULL,
        archived INTEGER NOT NULL,
        exit_reason TEXT,
        exit_code INTEGER,
        exit_signal INTEGER,
        exit_message TEXT,
        exit_try_this TEXT,
        progress_done FLOAT,
        progress_total FLOAT,
        progress_unit TEXT,
        progress_rate FLOAT,
        progress_eta FLOAT,
        image_id TEXT NOT NULL,
        image_tag TEXT NOT NULL,
        commit_hash TEXT NOT NULL,
        tree_hash TEXT NOT NULL,
        changed_files INTEGER NOT NULL,
        lacks TEXT NOT NULL,
        gaps INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        UNIQUE (id)
    )
    """,
    "CREATE INDEX ix_run_created ON run (created)",
    "CREATE INDEX ix_run_image ON run (image_id)",
    "CREATE INDEX ix_run_live ON run (state) WHERE state in ('queued', 'running', 'lost')",
    "CREATE INDEX ix_run_name ON run (name)",
    "CREATE INDEX ix_run_revision ON run (revision)",
    """
    CREATE TABLE artifact (
        run INTEGER NOT NULL,
        path TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        PRIMARY KEY (run, path),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE event (
        id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        time FLOAT NOT NULL,
        type TEXT NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_event_run ON event (run)",
    """
    CREATE TABLE gap (
        run INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        recovered INTEGER NOT NULL,
        PRIMARY KEY (run, first),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE log_block (
        id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        first_line INTEGER NOT NULL,
        lines INTEGER NOT NULL,
        first_time FLOAT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT uq_log_block UNIQUE (run, first_line),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE parameter (
        run INTEGER NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        number FLOAT,
        position INTEGER NOT NULL,
        PRIMARY KEY (run, name),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_parameter_name ON parameter (name, number)",
    """
    CREATE TABLE recording (
        run INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        position TEXT NOT NULL,
        log_bytes INTEGER NOT NULL,
        log_lines INTEGER NOT NULL,
        open_output BLOB NOT NULL,
        open_output_time FLOAT,
        open_output_cut INTEGER NOT NULL,
        open_error BLOB NOT NULL,
        open_error_time FLOAT,
        open_error_cut INTEGER NOT NULL,
        loose_blocks INTEGER NOT NULL,
        loose_bytes INTEGER NOT NULL,
        tail_rows INTEGER NOT NULL,
        tail_points INTEGER NOT NULL,
        events INTEGER NOT NULL,
        PRIMARY KEY (run),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE run_detail (
        run INTEGER NOT NULL,
        spec TEXT NOT NULL,
        dockerfile TEXT NOT NULL,
        environment TEXT NOT NULL,
        patch TEXT NOT NULL,
        code_files TEXT NOT NULL,
        PRIMARY KEY (run),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE series (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        position INTEGER NOT NULL,
        unit TEXT NOT NULL,
        count INTEGER NOT NULL,
        sealed INTEGER NOT NULL,
        last FLOAT,
        last_step INTEGER,
        last_time FLOAT,
        minimum FLOAT,
        minimum_step INTEGER,
        maximum FLOAT,
        maximum_step INTEGER,
        CONSTRAINT uq_series UNIQUE (run, kind, name),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_series_name ON series (name, kind)",
    "CREATE INDEX ix_series_position ON series (run, position)",
    """
    CREATE TABLE tag (
        run INTEGER NOT NULL,
        tag TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (run, tag),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    "CREATE INDEX ix_tag_tag ON tag (tag)",
    """
    CREATE TABLE tail (
        id INTEGER NOT NULL,
        run INTEGER NOT NULL,
        points INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(run) REFERENCES run (number) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_tail_run ON tail (run)",
    """
    CREATE TABLE chunk (
        id INTEGER NOT NULL,
        series INTEGER NOT NULL,
        start INTEGER NOT NULL,
        count INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT uq_chunk UNIQUE (series, start),
        FOREIGN KEY(series) REFERENCES series (id) ON DELETE CASCADE
    )
    """,
    "INSERT INTO counter (name, value) VALUES ('revision', 0)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
