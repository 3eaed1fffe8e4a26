"""MLflow with whatever tracking address it is told: what was logged."""

import json
import math

import mlflow

stored: dict[str, list[tuple[int, float]]] = {"loss": [], "accuracy": []}
with mlflow.start_run(run_name="demo"):
    mlflow.log_params({"lr": 0.1, "layers": 2})
    mlflow.set_tag("purpose", "a check")
    for step in range(50):
        loss, accuracy = math.exp(-step / 20), 1 - math.exp(-step / 25)
        mlflow.log_metric("loss", loss, step=step)
        stored["loss"].append((step, loss))
        if step % 5 == 0:
            mlflow.log_metrics({"accuracy": accuracy}, step=step)
            stored["accuracy"].append((step, accuracy))
with open("stored.json", "w") as file:
    json.dump({"mlflow": stored}, file)
