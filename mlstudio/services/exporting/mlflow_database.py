"""MLflow's SQLite store, which is what MLflow 3 uses (``mlflow server --backend-store-uri sqlite:///mlflow.db``).

The tables are those of MLflow 2.0 (its migration 97727af70f4d). MLflow sees that some of its newer tables are missing and
brings the file up to its own version when it first opens it: so one file serves them all, from 2.0 on.
"""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlstudio.services.exporting.content import Content
from mlstudio.services.exporting.mlflow_words import (
    EXPERIMENT,
    STATUS,
    Names,
    milliseconds,
    parameters_of,
    tags_of,
)
from mlstudio.store import Series

_AT_ONCE = 50_000
_SCHEMA = """
CREATE TABLE experiments (
    experiment_id INTEGER NOT NULL, name VARCHAR(256) NOT NULL, artifact_location VARCHAR(256),
    lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT,
    CONSTRAINT experiment_pk PRIMARY KEY (experiment_id),
    CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), UNIQUE (name)
);
CREATE TABLE experiment_tags (
    "key" VARCHAR(250) NOT NULL, value VARCHAR(5000), experiment_id INTEGER NOT NULL,
    CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id),
    FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE runs (
    run_uuid VARCHAR(32) NOT NULL, name VARCHAR(250), source_type VARCHAR(20), source_name VARCHAR(500),
    entry_point_name VARCHAR(50), user_id VARCHAR(256), status VARCHAR(9), start_time BIGINT, end_time BIGINT,
    source_version VARCHAR(50), lifecycle_stage VARCHAR(20), artifact_uri VARCHAR(200), experiment_id INTEGER,
    deleted_time BIGINT,
    CONSTRAINT run_pk PRIMARY KEY (run_uuid),
    CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')),
    CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')),
    FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id),
    CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
CREATE TABLE tags (
    "key" VARCHAR(250) NOT NULL, value VARCHAR(5000), run_uuid VARCHAR(32) NOT NULL,
    CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE TABLE params (
    "key" VARCHAR(250) NOT NULL, value VARCHAR(500) NOT NULL, run_uuid VARCHAR(32) NOT NULL,
    CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE TABLE metrics (
    "key" VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL, run_uuid VARCHAR(32) NOT NULL,
    step BIGINT DEFAULT '0' NOT NULL, is_nan BOOLEAN DEFAULT '0' NOT NULL,
    CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan),
    FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), CHECK (is_nan IN (0, 1))
);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE TABLE latest_metrics (
    "key" VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT, step BIGINT NOT NULL, is_nan BOOLEAN NOT NULL,
    run_uuid VARCHAR(32) NOT NULL,
    CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid),
    CHECK (is_nan IN (0, 1))
);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE TABLE registered_models (
    name VARCHAR(256) NOT NULL, creation_time BIGINT, last_updated_time BIGINT, description VARCHAR(5000),
    CONSTRAINT registered_model_pk PRIMARY KEY (name), UNIQUE (name)
);
CREATE TABLE registered_model_tags (
    "key" VARCHAR(250) NOT NULL, value VARCHAR(5000), name VARCHAR(256) NOT NULL,
    CONSTRAINT registered_model_tag_pk PRIMARY KEY ("key", name),
    FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE cascade
);
CREATE TABLE model_versions (
    name VARCHAR(256) NOT NULL, version INTEGER NOT NULL, creation_time BIGINT, last_updated_time BIGINT,
    description VARCHAR(5000), user_id VARCHAR(256), current_stage VARCHAR(20), source VARCHAR(500),
    run_id VARCHAR(32), status VARCHAR(20), status_message VARCHAR(500), run_link VARCHAR(500),
    CONSTRAINT model_version_pk PRIMARY KEY (name, version),
    FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE CASCADE
);
CREATE TABLE model_version_tags (
    "key" VARCHAR(250) NOT NULL, value VARCHAR(5000), name VARCHAR(256) NOT NULL, version INTEGER NOT NULL,
    CONSTRAINT model_version_tag_pk PRIMARY KEY ("key", name, version),
    FOREIGN KEY(name, version) REFERENCES model_versions (name, version) ON UPDATE cascade
);
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('97727af70f4d');
"""
_OURS = 1


@contextmanager
def new_store(path: Path, *, artifacts: Path, now: float) -> Iterator[StoreWriter]:
    """A new SQLite store at `path`; artifacts will lie in the folder `artifacts`."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nobody sees the file before it is whole.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript("BEGIN;" + _SCHEMA)
        moment = milliseconds(now)
        connection.executemany(
            "INSERT INTO experiments VALUES (?, ?, ?, 'active', ?, ?)",
            [
                (0, "Default", (artifacts / "0").absolute().as_uri(), moment, moment),
                (_OURS, EXPERIMENT, (artifacts / str(_OURS)).absolute().as_uri(), moment, moment),
            ],
        )
        yield StoreWriter(connection, artifacts)
        connection.execute("COMMIT")


def artifact_folder(artifacts: Path, run_id: str) -> Path:
    """Where a run's artifacts lie."""
    return artifacts / str(_OURS) / run_id / "artifacts"


class StoreWriter:
    """Adds runs to a new store."""

    def __init__(self, connection: sqlite3.Connection, artifacts: Path) -> None:
        self._connection = connection
        self._artifacts = artifacts

    def add(self, content: Content) -> None:
        run = content.run
        self._connection.execute(
            "INSERT INTO runs VALUES (?, ?, 'LOCAL', '', '', '', ?, ?, ?, '', 'active', ?, ?, NULL)",
            (
                run.id,
                run.name[:250],
                STATUS[run.state],
                milliseconds(run.started if run.started is not None else run.created),
                milliseconds(run.ended),
                artifact_folder(self._artifacts, run.id).absolute().as_uri(),
                _OURS,
            ),
        )
        parameters = [(name, value, run.id) for name, value in parameters_of(run, Names())]
        tags = [(name, value, run.id) for name, value in tags_of(content, Names())]
        self._connection.executemany("INSERT INTO params VALUES (?, ?, ?)", parameters)
        self._connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", tags)
        names = Names()
        for metric, series in content.series():
            system = "" if metric.kind == "metric" else "system/"
            self._add_series(run.id, names.make(system + metric.name), series)

    def _add_series(self, run_id: str, name: str, series: Series) -> None:
        latest: tuple[int, int, float] | None = None
        last: tuple[str, float, int, int, bool, str] | None = None
        for low in range(0, len(series), _AT_ONCE):
            part = slice(low, low + _AT_ONCE)
            rows = []
            for step, time, value in zip(
                series.steps[part].tolist(),
                series.times[part].tolist(),
                series.values[part].tolist(),
                strict=True,
            ):
                is_nan = math.isnan(value)
                moment = round(time * 1000)
                number = 0.0 if is_nan else max(-sys.float_info.max, min(sys.float_info.max, value))
                rows.append((name, number, moment, run_id, step, is_nan))
                # As SqlAlchemyStore compares them: by step, then time, then value.
                if latest is None or (step, moment, number) >= latest:
                    latest = (step, moment, number)
                    last = (name, number, moment, step, is_nan, run_id)
            # MLflow itself keeps the very same point once.
            self._connection.executemany("INSERT OR IGNORE INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
        if last is not None:
            self._connection.execute("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?, ?)", last)
