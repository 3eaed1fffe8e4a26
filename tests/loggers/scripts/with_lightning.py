"""Lightning's Trainer with its CSVLogger and TensorBoardLogger: what the CSVLogger keeps."""

import csv
import json
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")


class Model(LightningModule):
    def __init__(self, rate: float = 0.05, hidden: int = 8):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
        )

    def _loss(self, batch):
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.layers(inputs).squeeze(1), targets)

    def training_step(self, batch, number):
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, number):
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch, number):
        self.log("test_loss", self._loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.rate)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


seed_everything(1, verbose=False)
inputs = torch.randn(128, 4)
loader = DataLoader(TensorDataset(inputs, inputs.sum(1)), batch_size=16)
kept = CSVLogger("csv")
trainer = Trainer(
    max_epochs=4,
    logger=[kept, TensorBoardLogger("lightning_logs")],
    callbacks=[LearningRateMonitor("epoch")],
    accelerator="cpu",
    log_every_n_steps=2,
    enable_progress_bar=False,
    enable_model_summary=False,
)
model = Model()
trainer.fit(model, loader, loader)
trainer.test(model, loader, verbose=False)
stored: dict[str, list[tuple[int, float]]] = {}
with open(kept.log_dir + "/metrics.csv", newline="") as file:
    for row in csv.DictReader(file):
        for name, value in row.items():
            if value and name != "step":
                stored.setdefault(name, []).append((int(row["step"]), float(value)))
with open("stored.json", "w") as file:
    json.dump({"lightning": stored}, file)
