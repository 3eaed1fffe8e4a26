"""fastai's Learner: what its Recorder keeps."""

import json
import warnings

warnings.simplefilter("ignore")

import fastai.callback.schedule  # noqa: F401 — adds fit_one_cycle to the Learner.
import torch
from fastai.basics import DataLoaders, Learner, mae, set_seed
from torch.utils.data import DataLoader, TensorDataset

set_seed(1)
inputs = torch.randn(128, 4)
data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
loaders = DataLoaders(
    DataLoader(data, batch_size=16), DataLoader(data, batch_size=64), device=torch.device("cpu")
)
learner = Learner(loaders, torch.nn.Linear(4, 1), loss_func=torch.nn.MSELoss(), metrics=[mae], lr=0.01)
with learner.no_logging():
    learner.fit_one_cycle(4, 0.05)
recorder = learner.recorder
stored: dict[str, list[tuple[int, float]]] = {}
for epoch, values in enumerate(recorder.values):
    for name, value in zip(list(recorder.metric_names)[1:], values, strict=False):
        stored.setdefault(name, []).append((epoch, float(value)))
stored["lr"] = list(enumerate(map(float, recorder.lrs)))
stored["batch_loss"] = list(enumerate(float(loss) for loss in recorder.losses))
with open("stored.json", "w") as file:
    json.dump({"fastai": stored}, file)
