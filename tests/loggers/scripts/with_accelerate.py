"""Hugging Face Accelerate with no tracker but TensorBoard's: what was given to Accelerator.log()."""

import json

import torch
from accelerate import Accelerator

torch.manual_seed(1)
accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=".")
accelerator.init_trackers("demo", config={"lr": 0.05, "layers": 1})
model = torch.nn.Linear(4, 1)
model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05))
stored: dict[str, list[tuple[int, float]]] = {"train_loss": [], "half": []}
for step in range(20):
    inputs = torch.randn(16, 4)
    loss = ((model(inputs).squeeze(1) - inputs.sum(1)) ** 2).mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    accelerator.log({"train_loss": loss.item(), "half": step / 2}, step=step)
    stored["train_loss"].append((step, loss.item()))
    stored["half"].append((step, step / 2))
accelerator.end_training()
with open("stored.json", "w") as file:
    json.dump({"accelerate": stored}, file)
