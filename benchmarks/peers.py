"""Other ways to keep numbers, each as a small script: writes the same points, reads one series back, tells what it took.

A script runs in an interpreter of its own, in a folder of its own. It gets how many steps and scalars, and prints one
line of JSON: ``write_us`` (a point, until it can be read), ``read_ms`` (one series), ``bytes`` (a point, on disk).
Libraries that are not installed are no error: `pip install -e .[bench]` puts them beside us, or
``MLSTUDIO_BENCH_PYTHON`` names another interpreter that has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SQLITE, TRACKIO, TENSORBOARD, MLFLOW = "sqlite3 executemany", "trackio", "TensorBoard", "MLflow log_batch"

_COMMON = """
import json, logging, os, sys, time
from pathlib import Path
import numpy as np
logging.disable(logging.WARNING)
steps, scalars, singles = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "singles"
random = np.random.default_rng(1)
times = 1.7e9 + np.cumsum(0.01 * (1 + 0.1 * random.standard_normal(steps)))
columns = []
for number in range(scalars):
    column = 0.3 + 2 * np.exp(-np.arange(steps) / steps * 5) + 0.05 * random.standard_normal(steps)
    columns.append(column.astype("f4").astype("f8") if singles else column)
names = [f"metric_{number}" for number in range(scalars)]
rows = np.stack(columns, axis=1).tolist()

def tell(write_s, read_s, *skipped):
    size = sum(path.stat().st_size for path in Path(".").rglob("*") if path.is_file() and path.name not in skipped)
    points = steps * scalars
    print("RESULT", json.dumps(
        {"write_us": 1e6 * write_s / points, "read_ms": 1e3 * read_s, "bytes": size / points}), flush=True)

clock = time.perf_counter
"""

_SCRIPTS = {
    SQLITE: """
import sqlite3
base = sqlite3.connect("points.db")
base.execute("CREATE TABLE point (name TEXT, step INTEGER, time REAL, value REAL)")
base.execute("CREATE INDEX by_name ON point (name, step)")
began = clock()
for low in range(0, steps, 100):
    base.executemany("INSERT INTO point VALUES (?, ?, ?, ?)",
        [(name, step, times[step], value) for step in range(low, min(low + 100, steps))
         for name, value in zip(names, rows[step])])
    base.commit()
write_s = clock() - began
began = clock()
question = "SELECT step, time, value FROM point WHERE name = ? ORDER BY step"
found = np.array(base.execute(question, ("metric_3",)).fetchall())
read_s = clock() - began
assert len(found) == steps
base.close()
tell(write_s, read_s)
""",
    TRACKIO: """
os.environ["TRACKIO_DIR"] = os.getcwd()
from datetime import datetime, timezone
from trackio.sqlite_storage import SQLiteStorage
began = clock()
for low in range(0, steps, 1000):
    part = range(low, min(low + 1000, steps))
    SQLiteStorage.bulk_log("project", "run", [dict(zip(names, rows[step])) for step in part], steps=list(part),
        timestamps=[datetime.fromtimestamp(times[step], timezone.utc).isoformat() for step in part])
write_s = clock() - began
began = clock()
found = np.array([(row["step"], row["value"]) for row in SQLiteStorage.get_metric_values("project", "run", "metric_3")])
read_s = clock() - began
assert len(found) == steps
tell(write_s, read_s)
""",
    TENSORBOARD: """
from tensorboard.summary import Writer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
began = clock()
writer = Writer("events")
for step, values in enumerate(rows):
    for name, value in zip(names, values):
        writer.add_scalar(name, value, step)
writer.close()
write_s = clock() - began
began = clock()
read = EventAccumulator("events", size_guidance={"scalars": 0, "tensors": 0})
read.Reload()
found = np.array([(event.step, event.wall_time) for event in read.Tensors("metric_3")])
read_s = clock() - began
assert len(found) == steps
tell(write_s, read_s)
""",
    MLFLOW: """
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
run = client.create_run(client.create_experiment("benchmark")).info.run_id
began = clock()
waiting = []
for step, values in enumerate(rows):
    waiting += [Metric(name, value, int(1000 * times[step]), step) for name, value in zip(names, values)]
    if len(waiting) >= 1000 or step == steps - 1:
        client.log_batch(run, metrics=waiting[:1000])
        waiting = waiting[1000:]
write_s = clock() - began
began = clock()
found = np.array([(metric.step, metric.value) for metric in client.get_metric_history(run, "metric_3")])
read_s = clock() - began
assert len(found) == steps
tell(write_s, read_s)
""",
}

_MODULES = {TRACKIO: "trackio", TENSORBOARD: "tensorboard", MLFLOW: "mlflow, sqlalchemy, alembic"}


def python() -> str:
    """The interpreter that peers run in."""
    return os.environ.get("MLSTUDIO_BENCH_PYTHON") or sys.executable


def missing(name: str) -> str:
    """Why a peer cannot take part; empty if it can."""
    modules = _MODULES.get(name)
    if modules is None:
        return ""
    found = subprocess.run(
        [python(), "-c", f"import {modules}"], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if found.returncode == 0:
        return ""
    return f"{name} is not installed: pip install -e .[bench] puts it beside us."


def measure(name: str, *, steps: int, scalars: int, singles: bool = True) -> dict[str, float]:
    """Let one peer write and read; what it printed. Raises CalledProcessError, with what it said in `stderr`."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "peer.py"
        script.write_text(_COMMON + _SCRIPTS[name], encoding="utf-8")
        work = Path(folder) / "work"
        work.mkdir()
        output = subprocess.run(
            [python(), str(script), str(steps), str(scalars), "singles" if singles else "doubles"],
            cwd=work,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        ).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return found
