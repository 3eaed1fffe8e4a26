"""What frameworks call a number when they report it by themselves, and what their other loggers call the same number."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mlstudio.services.recording.same_series import SameSeries, stem

SAME = [
    # Keras, and its TensorBoard callback (two folders: train, validation)
    ("loss", "epoch_loss", "train/epoch_loss"),
    ("val_loss", "validation/epoch_loss", "epoch_val_loss"),
    ("learning_rate", "epoch_learning_rate"),
    ("batch_loss", "train/batch_loss"),
    # Transformers, and the names its own callbacks give: train/, eval/
    ("loss", "train/loss"),
    ("epoch", "train/epoch"),
    ("grad_norm", "train/grad_norm"),
    ("eval_samples_per_second", "eval/samples_per_second"),
    ("eval_loss", "eval/loss", "val_loss"),
    # Lightning gives all its loggers one name
    ("train_loss_step", "train/loss_step"),
    ("lr-SGD", "lr-SGD"),
    # XGBoost's and LightGBM's printed lines
    ("validation_0/logloss", "validation_0-logloss"),
    ("valid_0/l2", "valid_0's l2", "valid_0_l2"),
    # fastai and its TensorBoard callback
    ("valid_loss", "val_loss"),
]
DIFFERENT = [
    ("loss", "val_loss"),
    ("loss", "batch_loss"),
    ("train_loss_step", "train_loss_epoch"),
    ("validation_0/logloss", "validation_1/logloss"),
    ("epoch", "train"),
    ("lr-SGD", "lr-Adam"),
    ("loss", "loss-std"),
]


@pytest.mark.parametrize("names", SAME, ids=lambda names: names[-1])
def test_names_of_one_number(names: tuple[str, ...]) -> None:
    for one, other in pairwise(names):
        assert stem(one) == stem(other)


@pytest.mark.parametrize("names", DIFFERENT, ids=lambda names: names[-1])
def test_names_of_two_numbers(names: tuple[str, str]) -> None:
    assert stem(names[0]) != stem(names[1])


@pytest.mark.parametrize(
    ("logger", "name", "other"),
    [("keras", "batch_loss", "batch_loss (tensorboard)"), ("transformers", "loss", "train/loss"),
     ("lightning", "train_loss_epoch", "train_loss_epoch (tensorboard)")],
)  # fmt: skip
def test_the_framework_is_better_than_the_files_it_writes(logger: str, name: str, other: str) -> None:
    same = SameSeries(first=lambda _: ([], []))
    values = [0.1, 0.2, 0.3]
    same.feed(
        other, "tensorboard", [1, 2, 3], [0.10000000149011612, 0.20000000298023224, 0.30000001192092896]
    )
    same.feed(name, logger, [1, 2, 3], values)
    assert same.take() == ((other, name),)
