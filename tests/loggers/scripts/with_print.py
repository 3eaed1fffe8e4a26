"""No logger at all, printed lines: what was printed."""

import json
import math

stored: dict[str, list[tuple[int, float]]] = {"loss": [], "accuracy": []}
for epoch in range(1, 31):
    loss, accuracy = round(math.exp(-epoch / 10), 4), round(1 - math.exp(-epoch / 12), 4)
    print(f"epoch {epoch}/30 - loss: {loss:.4f} - accuracy: {accuracy:.4f}", flush=True)
    stored["loss"].append((epoch, loss))
    stored["accuracy"].append((epoch, accuracy))
with open("stored.json", "w") as file:
    json.dump({"print": stored}, file)
