"""Weights & Biases, offline: what was logged."""

import json
import math
import os

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

import wandb

stored: dict[str, list[tuple[int, float]]] = {"loss": [], "val/accuracy": []}
with wandb.init(project="demo", config={"lr": 0.1, "model": {"depth": 2}}, tags=["check"]) as run:
    for step in range(50):
        loss = math.exp(-step / 20)
        values = {"loss": loss}
        stored["loss"].append((step, loss))
        if step % 5 == 0:
            values["val/accuracy"] = 1 - math.exp(-step / 25)
            stored["val/accuracy"].append((step, values["val/accuracy"]))
        run.log(values, step=step)
with open("stored.json", "w") as file:
    json.dump({"wandb": stored}, file)
