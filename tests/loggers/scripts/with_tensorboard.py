"""PyTorch's SummaryWriter: what TensorBoard itself reads from the files afterwards."""

import json
import math

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

torch.manual_seed(1)
with SummaryWriter("runs/demo") as writer:
    for step in range(100):
        writer.add_scalar("train/loss", math.exp(-step / 30), step)
        if step % 10 == 0:
            writer.add_scalar("val/accuracy", 1 - math.exp(-step / 50), step)
            writer.add_histogram("weights", torch.randn(1000), step)
    writer.add_text("note", "a text", 0)
events = EventAccumulator("runs/demo", size_guidance={"scalars": 0})
events.Reload()
stored = {
    tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
}
with open("stored.json", "w") as file:
    json.dump({"tensorboard": stored}, file)
