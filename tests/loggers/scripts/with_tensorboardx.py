"""tensorboardX: what TensorBoard itself reads from the files afterwards."""

import json
import math

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

with SummaryWriter("runs/demo") as writer:
    for step in range(100):
        writer.add_scalar("train/loss", math.exp(-step / 30), step)
        writer.add_scalar("rate", 0.1 / (step + 1), step)
events = EventAccumulator("runs/demo", size_guidance={"scalars": 0})
events.Reload()
stored = {
    tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
}
with open("stored.json", "w") as file:
    json.dump({"tensorboard": stored}, file)
