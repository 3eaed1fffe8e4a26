"""ML Studio's own calls: what was logged."""

import json
import math

import mlstudio

mlstudio.param({"lr": 0.1, "model": {"depth": 2}})
stored: dict[str, list[tuple[int, float]]] = {"loss": [], "val/accuracy": []}
for step in range(100):
    loss = math.exp(-step / 30)
    mlstudio.log(step=step, loss=loss)
    stored["loss"].append((step, loss))
    if step % 10 == 0:
        mlstudio.log({"val/accuracy": 1 - loss}, step=step)
        stored["val/accuracy"].append((step, 1 - loss))
with open("stored.json", "w") as file:
    json.dump({"mlstudio": stored}, file)
