"""What the scripts of users do with MLflow, in short: one walk through the client, printing what it reads back as JSON.

`python mlflow_script.py` with MLFLOW_TRACKING_URI set. `record_mlflow_calls.py` runs it beside MLflow's own server.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag, ViewType

FOUND: dict[str, Any] = {}


def plain(value: Any) -> Any:
    """As strict JSON takes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def history(client: Any, run_id: str, key: str) -> list[Any]:
    return [[m.step, m.timestamp, plain(m.value)] for m in client.get_metric_history(run_id, key)]


def data(run: Any) -> dict[str, Any]:
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "stage": run.info.lifecycle_stage,
        "metrics": {key: plain(value) for key, value in run.data.metrics.items()},
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.s")},
    }


def refused(do: Any, *arguments: Any, **words: Any) -> str:
    try:
        do(*arguments, **words)
    except mlflow.exceptions.MlflowException as error:
        return str(error.error_code)
    return "nothing"


def train(client: Any) -> str:
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="first", tags={"team": "vision"}, description="a *note*") as run:
        run_id: str = run.info.run_id
        mlflow.log_param("lr", 0.001)
        mlflow.log_params({"depth": 3, "kind": "résumé of\ntwo lines"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 3), step=step)
        mlflow.log_metrics({"train/acc": 0.5, "train/f1": 1e-300}, step=7)
        for step, value in enumerate([0.1, math.nan, math.inf, -math.inf]):
            client.log_metric(run_id, "odd one", value, 1700000002000 + step, step * 10)
        mlflow.set_tag("stage", "dev")
        mlflow.set_tags({"a": 1, "b": "two", "gone": "x"})
        mlflow.delete_tag("gone")
        client.log_batch(
            run_id,
            [Metric("batch", place / 7, 1700000003000 + place, place) for place in range(100)],
            [Param("batched", "yes"), Param("lr", "0.001")],
            [RunTag("batched", "yes")],
        )
        again = [Metric("again", 0.5, 1700000004000, 1)] * 2
        client.log_batch(run_id, again)
        client.log_batch(run_id, [*again, Metric("again", 0.25, 1700000004000, 1)])
        FOUND["again"] = sorted(map(str, history(client, run_id, "again")))
        FOUND["other value"] = refused(client.log_param, run_id, "lr", "0.002")
        with mlflow.start_run(run_name="fold", nested=True):
            mlflow.log_metric("loss", 9.0, step=1, timestamp=1700000005000)
        with mlflow.start_run(nested=True):
            mlflow.log_metric("loss", 8.0)
    FOUND["run"] = data(client.get_run(run_id))
    FOUND["odd"] = history(client, run_id, "odd one")
    FOUND["batch"] = history(client, run_id, "batch")
    FOUND["loss"] = [[step, value] for step, _, value in history(client, run_id, "loss")]
    FOUND["no such metric"] = history(client, run_id, "nothing")
    FOUND["no such run"] = refused(client.get_run, "0" * 32)
    return run_id


def files(client: Any, run_id: str) -> None:
    import numpy as np
    import pandas as pd

    with mlflow.start_run(run_id=run_id), tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.csv"
        one.write_text("a,b\n1,2\n")
        mlflow.log_artifact(str(one))
        mlflow.log_artifact(str(one), "below/it")
        mlflow.log_artifacts(folder, "all")
        mlflow.log_dict({"a": [1, 2]}, "words/dict.json")
        mlflow.log_text("hello", "words/hello.txt")
        mlflow.log_image(np.zeros((4, 6, 3), dtype=np.uint8), "black.png")
        table = {"question": ["who", "what"], "score": [0.5, 0.25]}
        mlflow.log_table(table, "answers.json")
        mlflow.log_table(table, "answers.json")
        rows = mlflow.load_table("answers.json", run_ids=[run_id])
        FOUND["table"] = rows[["question", "score"]].values.tolist()
        frame = pd.DataFrame({"x": [1, 2], "y": [0, 1]})
        dataset = mlflow.data.from_pandas(
            frame, source="https://data.example/x.csv", name="small", targets="y"
        )
        mlflow.log_input(dataset, context="training")
        FOUND["hello"] = mlflow.artifacts.load_text(mlflow.get_artifact_uri("words/hello.txt"))
        FOUND["dict"] = mlflow.artifacts.load_dict(f"runs:/{run_id}/words/dict.json")
    FOUND["files"] = sorted(found.path for found in client.list_artifacts(run_id))
    FOUND["inputs"] = [
        [found.dataset.name, found.dataset.digest, [[tag.key, tag.value] for tag in found.tags]]
        for found in client.get_run(run_id).inputs.dataset_inputs
    ]


def look(client: Any, run_id: str) -> None:
    digits = client.get_experiment_by_name("digits")
    FOUND["experiment"] = [digits.name, digits.lifecycle_stage, client.get_experiment("0").name]
    FOUND["no such experiment"] = [
        client.get_experiment_by_name("nobody"),
        refused(client.get_experiment, "987654"),
        refused(client.create_experiment, "digits"),
    ]
    other = client.create_experiment("other", tags={"for": "tests"})
    client.set_experiment_tag(other, "more", "tags")
    client.rename_experiment(other, "renamed")
    FOUND["renamed"] = [client.get_experiment(other).name, client.get_experiment(other).tags]
    client.delete_experiment(other)
    FOUND["deleted"] = client.get_experiment(other).lifecycle_stage
    client.restore_experiment(other)
    FOUND["experiments"] = sorted(found.name for found in client.search_experiments())
    FOUND["by tag"] = [
        found.name
        for found in client.search_experiments(filter_string="tags.`for` = 'tests' AND name LIKE 're%'")
    ]
    made = client.create_run(
        digits.experiment_id, start_time=1700000000000, tags={"x": "y"}, run_name="by hand"
    )
    client.log_metric(made.info.run_id, "loss", 3)
    client.update_run(made.info.run_id, name="by hand too")
    client.set_terminated(made.info.run_id, "FAILED", 1700000050000)
    info = client.get_run(made.info.run_id).info
    FOUND["by hand"] = [info.run_name, info.status, info.start_time, info.end_time]
    filters = (
        "",
        "metrics.loss > 2",
        "metrics.loss <= 3 and params.lr = '0.001'",
        'params."lr" != "7"',
        "tags.mlflow.parentRunId = '%s'" % run_id,
        "tags.`mlflow.runName` ILIKE 'BY%'",
        "attributes.status = 'FAILED'",
        "attributes.run_id IN ('nobody', '%s')" % run_id,
        "run_id = '%s'" % run_id,
        "attributes.start_time < 1700000000001",
        "metrics.`odd one` < 0",
        "tags.team LIKE '%isio%' AND metrics.`train/acc` >= 0.5",
    )
    experiments = [digits.experiment_id]
    FOUND["searches"] = {
        words.replace(run_id, "RUN"): len(client.search_runs(experiments, words)) for words in filters
    }
    FOUND["bad searches"] = [
        refused(client.search_runs, experiments, words)
        for words in ("metrics.loss >", "nothing.at = 'all'", "metrics.loss = 'a'", "params.lr = 1")
    ]
    ordered = client.search_runs(experiments, "metrics.loss > 0", order_by=["metrics.loss DESC"])
    FOUND["ordered"] = [found.data.metrics["loss"] for found in ordered]
    ordered = client.search_runs(
        experiments, "tags.x = 'y'", order_by=["params.lr ASC", "attributes.end_time"]
    )
    FOUND["ordered too"] = [found.info.run_name for found in ordered]
    client.delete_run(made.info.run_id)
    FOUND["deleted run"] = client.get_run(made.info.run_id).info.lifecycle_stage
    FOUND["log to deleted"] = refused(client.log_metric, made.info.run_id, "loss", 4)
    FOUND["views"] = [
        len(client.search_runs(experiments, run_view_type=view))
        for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL)
    ]
    client.restore_run(made.info.run_id)
    page = client.search_runs(experiments, max_results=3)
    rest = client.search_runs(experiments, max_results=3, page_token=page.token)
    FOUND["pages"] = [len(page), bool(page.token), len(rest), bool(rest.token)]
    frame = mlflow.search_runs(experiment_names=["digits"], filter_string="metrics.loss = 9")
    FOUND["frame"] = [frame["metrics.loss"].tolist(), frame["tags.mlflow.runName"].tolist()]


def models(client: Any, run_id: str) -> None:
    client.create_registered_model("clock", tags={"a": "b"}, description="tells the time")
    FOUND["twice"] = refused(client.create_registered_model, "clock")
    for _ in range(2):
        client.create_model_version("clock", f"runs:/{run_id}/model", run_id, tags={"c": "d"})
    client.set_registered_model_alias("clock", "best", "1")
    client.set_registered_model_tag("clock", "e", "f")
    client.set_model_version_tag("clock", "2", "g", "h")
    client.update_model_version("clock", "2", "the better one")
    client.update_registered_model("clock", "still tells the time")
    version = client.get_model_version_by_alias("clock", "best")
    FOUND["alias"] = [version.version, version.run_id == run_id, version.tags, list(version.aliases)]
    version = client.get_model_version("clock", "2")
    FOUND["version"] = [version.version, version.description, version.status, version.tags]
    model = client.get_registered_model("clock")
    FOUND["model"] = [model.name, model.description, model.tags, dict(model.aliases)]
    FOUND["found models"] = [found.name for found in client.search_registered_models("name = 'clock'")]
    FOUND["found versions"] = sorted(
        int(found.version) for found in client.search_model_versions("name = 'clock'")
    )
    FOUND["by run"] = len(client.search_model_versions(f"run_id = '{run_id}'"))
    client.delete_registered_model_alias("clock", "best")
    client.delete_model_version("clock", "1")
    FOUND["no version"] = refused(client.get_model_version, "clock", "1")
    client.rename_registered_model("clock", "watch")
    FOUND["no model"] = refused(client.get_registered_model, "clock")
    FOUND["renamed model"] = client.get_registered_model("watch").name
    client.delete_registered_model("watch")
    FOUND["models"] = len(client.search_registered_models())


def sklearn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mlflow.set_experiment("sklearn")
    mlflow.autolog(silent=True)
    inputs = [[place, place % 3] for place in range(40)]
    labels = [int(place > 20) for place in range(40)]
    with mlflow.start_run(run_name="search") as run:
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(inputs, labels)
    client = mlflow.MlflowClient()
    found = client.get_run(run.info.run_id)
    FOUND["autolog"] = [sorted(found.data.metrics), sorted(found.data.params)]
    children = client.search_runs(
        [found.info.experiment_id], "tags.mlflow.parentRunId = '%s'" % run.info.run_id
    )
    FOUND["children"] = sorted(child.data.params["C"] for child in children)
    mlflow.autolog(disable=True)
    with mlflow.start_run(run_name="saved") as run:
        words = {"name": "model"} if mlflow.__version__[0] >= "3" else {"artifact_path": "model"}
        fitted = LogisticRegression().fit(inputs, labels)
        info = mlflow.sklearn.log_model(fitted, registered_model_name="fitted", **words)
    for uri in (info.model_uri, "models:/fitted/1"):
        loaded = mlflow.pyfunc.load_model(uri)
        FOUND.setdefault("predicted", []).append([int(label) for label in loaded.predict(inputs)] == labels)
    if mlflow.__version__[0] >= "3":
        model = mlflow.get_logged_model(info.model_id)
        FOUND["logged model"] = [model.name, str(model.status), model.tags.get("x")]
        mlflow.set_logged_model_tags(info.model_id, {"x": "y"})
        mlflow.delete_logged_model_tag(info.model_id, "x")
        FOUND["logged models"] = [
            found.name
            for found in mlflow.search_logged_models(output_format="list", filter_string="name = 'model'")
        ]
        mlflow.log_metric("by model", 1.5, model_id=info.model_id, run_id=run.info.run_id)
        FOUND["model's metrics"] = [
            [metric.key, metric.value] for metric in mlflow.get_logged_model(info.model_id).metrics
        ]
        made = mlflow.initialize_logged_model(name="by hand", params={"p": "q"}, tags={"r": "s"})
        made = mlflow.finalize_logged_model(made.model_id, "READY")
        FOUND["model by hand"] = [made.name, str(made.status), made.params, made.tags.get("r")]


def trace(client: Any) -> None:
    if not hasattr(mlflow, "trace"):
        return

    @mlflow.trace  # type: ignore[untyped-decorator,unused-ignore]
    def double(x: int) -> int:
        return 2 * x

    double(21)
    flush = getattr(mlflow, "flush_trace_async_logging", None)
    if flush is not None:
        flush()
    traces = mlflow.search_traces(return_type="list") if mlflow.__version__[0] >= "3" else []
    FOUND["traces"] = [[len(found.data.spans), found.data.spans[0].outputs] for found in traces]


def main() -> None:
    client = mlflow.MlflowClient()
    run_id = train(client)
    files(client, run_id)
    look(client, run_id)
    models(client, run_id)
    if "--long" in sys.argv:
        sklearn()
        trace(client)
    print(json.dumps(FOUND, indent=1, sort_keys=True))


main()
