"""Keras 3 with PyTorch, a callback that changes the learning rate: what its own History keeps."""

import json
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

random = np.random.default_rng(1)
inputs = random.normal(size=(256, 8)).astype("float32")
targets = (inputs.sum(axis=1) > 0).astype("float32")
keras.utils.set_random_seed(1)
model = keras.Sequential(
    [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
)
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="binary_crossentropy", metrics=["accuracy"])


class Batches(keras.callbacks.Callback):
    """What Keras reports of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


batches = Batches()
history = model.fit(
    inputs,
    targets,
    validation_split=0.25,
    epochs=5,
    batch_size=32,
    verbose=0,
    callbacks=[batches, keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)],
)
stored = {name: list(enumerate(map(float, values))) for name, values in history.history.items()}
stored["batch_loss"] = list(enumerate(batches.losses, start=1))
with open("stored.json", "w") as file:
    json.dump({"keras": stored}, file)
