"""Records a file store and a SQLite store with the MLflow that is installed: `python record_mlflow.py FOLDER`."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pack import pack, plain  # type: ignore[import-not-found]


def train(mlflow: Any, uri: str, artifacts: str) -> dict[str, Any]:
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("digits", artifact_location=artifacts)
    nan, inf = float("nan"), float("inf")
    made = []
    for place, status in enumerate(("FINISHED", "FAILED", "KILLED", None)):
        run = client.create_run(
            experiment,
            run_name=f"run {place}",
            start_time=1700000000000 + place * 100000,
            tags={
                "mlflow.source.name": "train.py",
                "mlflow.source.git.commit": "0123456789abcdef0123456789abcdef01234567",
                "mlflow.note.content": "a *note*",
                "team": "vision",
            },
        )
        run_id = run.info.run_id
        made.append(run_id)
        for step in range(20):
            client.log_metric(run_id, "train/loss", 1 / (step + 3), 1700000001000 + step * 250, step)
        for step, value in enumerate([0.1, nan, inf, -inf, 1e-300]):
            client.log_metric(run_id, "odd one", value, 1700000002000 + step, step * 10)
        client.log_param(run_id, "lr", 0.001 * (place + 1))
        client.log_param(run_id, "model/kind", "résumé of\ntwo lines")
        client.log_text(run_id, "hello", "notes/readme.txt")
        if status:
            client.set_terminated(run_id, status, 1700000050000 + place * 100000)
    client.delete_run(client.create_run(experiment, run_name="deleted").info.run_id)
    expected = {}
    for run_id in made:
        run = client.get_run(run_id)
        expected[run_id] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "start": run.info.start_time / 1000,
            "end": run.info.end_time and run.info.end_time / 1000,
            "params": dict(run.data.params),
            "series": {
                key: [
                    [point.step, point.timestamp / 1000, plain(point.value)]
                    for point in client.get_metric_history(run_id, key)
                ]
                for key in run.data.metrics
            },
        }
    return expected


def main() -> None:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow = importlib.import_module("mlflow")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        expected = {
            "version": mlflow.__version__,
            "files": train(mlflow, f"file://{store}/mlruns", f"file://{store}/mlruns/1/artifacts"),
            "database": train(mlflow, f"sqlite:///{store}/mlflow.db", f"file://{store}/mlartifacts"),
        }
        pack(store, Path(sys.argv[1]), f"mlflow{mlflow.__version__.split('.')[0]}", expected)


main()
