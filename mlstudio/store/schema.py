"""The tables of the history. `mlstudio/store/migrations` makes them; a test proves that both say the same.

How the data lies:

- `run` holds what tables and headers show, one narrow row a run; `run_detail` what only a run's own page needs. Long
  texts that many runs share (Dockerfile, environment, list of files) lie once each in `document`, by their hash.
- A commit of the recorder adds one row to `tail` (all series of the run) and one to `log_block`; from time to time the
  tail is sealed: values become `chunk`, columnar rows of one series with a pyramid beside them, steps and times become
  `axis`, which series that are logged together share; and small log blocks become one. `series` always has the latest
  values, so that tables never read points.
- `recording` is the cursor; it changes in the same transaction as the data, which makes recording exactly once.
- Every change of a run takes the next number of the counter ``revision``; viewers ask for what is newer.

SQLite stores NaN as NULL. Columns for which that could be mistaken for "missing" say how they are read.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA_NUMBER = 2
"""Grows with each migration; kept in ``PRAGMA user_version``, so that a database tells its schema without Alembic."""

APPLICATION_ID = 0x4D4C5354
"""``MLST`` in ``PRAGMA application_id``: `file` and we know the database for ours."""

LIVE_STATES = ("queued", "running", "lost")

metadata = MetaData()


def _run_key(*, primary: bool = False) -> Column[int]:
    return Column(
        "run",
        Integer,
        ForeignKey("run.number", ondelete="CASCADE"),
        primary_key=primary,
        nullable=False,
        autoincrement=False,
    )


run = Table(
    "run",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("desired", Text, nullable=False),
    Column("desired_at", Float),
    Column("stop_grace_s", Float),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("engine", Text, nullable=False),
    Column("engine_kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("handle", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("gpus", Text, nullable=False),
    Column("colour", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("archived", Integer, nullable=False),
    Column("exit_reason", Text),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    Column("exit_message", Text),
    Column("exit_try_this", Text),
    Column("progress_done", Float),
    Column("progress_total", Float),
    Column("progress_unit", Text),
    Column("progress_rate", Float),
    Column("progress_eta", Float),
    Column("image_id", Text, nullable=False),
    Column("image_tag", Text, nullable=False),
    Column("commit_hash", Text, nullable=False),
    Column("tree_hash", Text, nullable=False),
    Column("changed_files", Integer, nullable=False),
    Column("lacks", Text, nullable=False),
    Column("gaps", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("ix_run_revision", "revision"),
    Index("ix_run_created", "created"),
    Index("ix_run_name", "name"),
    Index("ix_run_image", "image_id"),
    Index(
        "ix_run_live", "state", sqlite_where=text("state in ('queued', 'running', 'lost')")
    ),  # the recorder asks several times a second
    # A number that was shown to a person is never given to another run.
    sqlite_autoincrement=True,
)

run_detail = Table(
    "run_detail",
    metadata,
    _run_key(primary=True),
    Column("spec", Text, nullable=False),
    Column("dockerfile", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("patch", Text, nullable=False),
    Column("code_files", Text, nullable=False),
)
"""Every column but `spec` is the digest of a `document`; empty means there is none."""

document = Table(
    "document",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""Texts, compressed with zlib, by the SHA-256 of the text."""

recording = Table(
    "recording",
    metadata,
    _run_key(primary=True),
    Column("seq", Integer, nullable=False),
    Column("position", Text, nullable=False),
    Column("log_bytes", Integer, nullable=False),
    Column("log_lines", Integer, nullable=False),
    Column("open_output", LargeBinary, nullable=False),
    Column("open_output_time", Float),
    Column("open_output_cut", Integer, nullable=False),
    Column("open_error", LargeBinary, nullable=False),
    Column("open_error_time", Float),
    Column("open_error_cut", Integer, nullable=False),
    Column("loose_blocks", Integer, nullable=False),
    Column("loose_bytes", Integer, nullable=False),
    Column("tail_rows", Integer, nullable=False),
    Column("tail_points", Integer, nullable=False),
    Column("events", Integer, nullable=False),
)
"""The cursor, the unfinished line of either stream, and how much waits to be put in order."""

tag = Table(
    "tag",
    metadata,
    _run_key(primary=True),
    Column("tag", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Index("ix_tag_tag", "tag"),
    sqlite_with_rowid=False,
)

parameter = Table(
    "parameter",
    metadata,
    _run_key(primary=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("number", Float),
    Column("position", Integer, nullable=False),
    Index("ix_parameter_name", "name", "number"),
    sqlite_with_rowid=False,
)
"""`number` is the value as a number where it reads as one, for sorting and filtering."""

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_key(),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("unit", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("sealed", Integer, nullable=False),
    Column("last", Float),
    Column("last_step", Integer),
    Column("last_time", Float),
    Column("minimum", Float),
    Column("minimum_step", Integer),
    Column("maximum", Float),
    Column("maximum_step", Integer),
    Column("logger", Text, nullable=False, server_default=text("'mlstudio'")),
    Column("same_as", Text, nullable=False, server_default=text("''")),
    Column("final", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("run", "kind", "name", name="uq_series"),
    Index("ix_series_position", "run", "position"),
    # Values of runs that are over: filters and orders over many runs read nothing else. Those of live runs change several
    # times a second, and are few.
    Index(
        "ix_series_final", "kind", "name", "last", "minimum", "maximum", "run", sqlite_where=text("final = 1")
    ),
    Index("ix_series_open", "kind", "name", sqlite_where=text("final = 0")),
    # A removed run's series may still be named by a reader; its id shall not mean another one.
    sqlite_autoincrement=True,
)
"""A row exists from the first point on, so a NULL in `last` means NaN. `sealed` points lie in `chunk`, the rest in
`tail`. `position` counts the run's series in the order of their first points: tables show a few hundred of a run.
`same_as` names the series of the run that has the same numbers from a better logger; a proven copy's own points are
dropped, its `count` and latest values stay."""

axis = Table(
    "axis",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_key(),
    Column("count", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("low_step", Integer, nullable=False),
    Column("high_step", Integer, nullable=False),
    Column("low_time", Float),
    Column("high_time", Float),
    Column("data", LargeBinary, nullable=False),
    Index("ix_axis_run", "run"),
)
"""Steps and times at which `uses` chunks stand: series that are logged together share them. A NULL time: not known."""

chunk = Table(
    "chunk",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series", Integer, ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    Column("start", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("axis", Integer),
    Column("axis_start", Integer, nullable=False),
    Column("coarse", LargeBinary, nullable=False),
    Column("fine", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("series", "start", name="uq_chunk"),
)
"""Points `start` and following of a series: its values in `data`, their steps and times from place `axis_start` of the
axis on, and the pyramid's levels (`pyramid.py`) in `coarse` and `fine`, before the data, so that they are read without
it. Chunks of schema 1 have no axis: `data` holds all (`columns.unpack_chunk`)."""

tail = Table(
    "tail",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_key(),
    Column("points", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("ix_tail_run", "run"),
)

log_block = Table(
    "log_block",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_key(),
    Column("first_line", Integer, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("first_time", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("run", "first_line", name="uq_log_block"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_key(),
    Column("time", Float, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Text, nullable=False),
    Index("ix_event_run", "run"),
)

artifact = Table(
    "artifact",
    metadata,
    _run_key(primary=True),
    Column("path", Text, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    sqlite_with_rowid=False,
)

media = Table(
    "media",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_key(),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("logger", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("time", Float, nullable=False),
    Column("mime", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("caption", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("packed", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("ix_media_run", "run", "name", "step"),
)
"""`size_bytes` is the size of the medium itself; `packed` says whether `data` is its zlib compression."""

gap = Table(
    "gap",
    metadata,
    _run_key(primary=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
    Column("recovered", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Frames `first`..`last`, both included."""

removed_run = Table(
    "removed_run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Index("ix_removed_run_revision", "revision"),
)

counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

image = Table(
    "image",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tag", Text, nullable=False),
    Column("recipe_digest", Text, nullable=False),
    Column("dockerfile", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("build_seconds", Float, nullable=False),
    Column("cached_steps", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("packages", Text, nullable=False),
    Column("repo_digest", Text, nullable=False),
    Column("recorded", Integer, nullable=False),
    Index("ix_image_recipe", "recipe_digest"),
    Index("ix_image_tag", "tag"),
)
"""`dockerfile` and `packages` are digests of documents; `recorded` grows: the newest record has the highest."""

layer = Table(
    "layer",
    metadata,
    Column("key", Text, primary_key=True),
    Column("seconds", Float, nullable=False),
)
