"""Numbers in printed lines: what real programs print, and what must not be taken for a metric."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.services.printed import Printed, parse_line

FOUND: list[tuple[str, dict[str, float], float | None, float | None]] = [
    ("epoch 3 loss 0.12 acc 91%", {"loss": 0.12, "acc": 91.0}, None, 3),
    ("Epoch 3/10 - loss: 0.12 - val_loss: 0.3", {"loss": 0.12, "val_loss": 0.3}, None, 3),
    ("Loss: 0.0008 after 1021 batches", {"loss": 0.0008}, 1021, None),
    # Keras 3, non-interactive and redrawn
    (
        "1875/1875 - 3s - 2ms/step - accuracy: 0.9123 - loss: 0.3011 - val_accuracy: 0.95 - val_loss: 0.17",
        {"accuracy": 0.9123, "loss": 0.3011, "val_accuracy": 0.95, "val_loss": 0.17}, None, None,
    ),
    (
        "\r\x1b[1m  1/100\x1b[0m \x1b[37m━━━━\x1b[0m \x1b[1m9s\x1b[0m 99ms/step - loss: 2.3\r\x1b[1m100/100\x1b[0m "
        "\x1b[32m━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m1s\x1b[0m 2ms/step - accuracy: 0.88 - loss: 0.4104",
        {"accuracy": 0.88, "loss": 0.4104}, None, None,
    ),
    ("Epoch 2/10", {}, None, 2),
    # tqdm with a postfix, Lightning's bar
    (" 45%|████▌     | 45/100 [00:10<00:12,  4.50it/s, loss=0.123]", {"loss": 0.123}, None, None),
    (
        "Epoch 3: 100%|██████████| 235/235 [00:05<00:00, 44.03it/s, v_num=0, train_loss=0.201, val_acc=0.93]",
        {"train_loss": 0.201, "val_acc": 0.93}, None, 3,
    ),
    # Hugging Face Trainer
    (
        "{'loss': 0.5012, 'grad_norm': 1.25, 'learning_rate': 5e-05, 'epoch': 0.5}",
        {"loss": 0.5012, "grad_norm": 1.25, "learning_rate": 5e-05}, None, 0.5,
    ),
    ("{'loss': '0.6931', 'epoch': '1'}", {"loss": 0.6931}, None, 1),
    ("{'eval_loss': 0.4, 'eval_runtime': 1.2, 'epoch': 1.0}", {"eval_loss": 0.4, "eval_runtime": 1.2}, None, 1),
    # JSON lines
    ('{"step": 10, "loss": 0.5, "lr": 0.001}', {"loss": 0.5, "lr": 0.001}, 10, None),
    ('{"global_step": 200, "train/loss": 1.5, "msg": "ok"}', {"train/loss": 1.5}, 200, None),
    ('{"loss": NaN, "step": 3}', {"loss": math.nan}, 3, None),
    # nanoGPT
    ("step 250: train loss 1.9643, val loss 2.0571", {"train_loss": 1.9643, "val_loss": 2.0571}, 250, None),
    ("iter 100: loss 2.3041, time 30.12ms, mfu 1.20%", {"loss": 2.3041}, 100, None),
    # PyTorch's MNIST example
    ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300039", {"loss": 2.300039}, None, 1),
    (
        "Test set: Average loss: 0.0567, Accuracy: 9812/10000 (98%)",
        {"average_loss": 0.0567, "accuracy": 0.9812}, None, None,
    ),
    # PyTorch's tutorial
    ("[1,  2000] loss: 2.173", {"loss": 2.173}, None, None),
    ("loss: 2.298730  [    0/60000]", {"loss": 2.29873}, None, None),
    (" Accuracy: 45.3%, Avg loss: 2.156", {"accuracy": 45.3, "avg_loss": 2.156}, None, None),
    # XGBoost, LightGBM
    ("[10]\ttrain-rmse:0.5123\tvalidation-rmse:0.6004", {"train-rmse": 0.5123, "validation-rmse": 0.6004}, 10, None),
    (
        "[100]\ttraining's binary_logloss: 0.31\tvalid_1's auc: 0.95",
        {"training/binary_logloss": 0.31, "valid_1/auc": 0.95}, 100, None,
    ),
    ("[10]\tcv_agg's l2: 0.5 + 0.01", {"cv_agg/l2": 0.5}, 10, None),
    # a loss without .item()
    ("step 3 loss tensor(0.1234, device='cuda:0', grad_fn=<NllLossBackward0>)", {"loss": 0.1234}, 3, None),
    ("[3]  validation_0-mlogloss:1.02", {"validation_0-mlogloss": 1.02}, 3, None),
    # scikit-learn's MLP and gradient boosting
    ("Iteration 12, loss = 0.34517", {"loss": 0.34517}, 12, None),
    ("Validation score: 0.9521", {}, None, None),
    # plain scripts
    ("Epoch [2/5], Step [100/600], Loss: 0.2188", {"loss": 0.2188}, 100, 2),
    ("epoch=4 train_loss=1.5e-3 val_f1_macro=.91", {"train_loss": 0.0015, "val_f1_macro": 0.91}, None, 4),
    ("epoch 7 | lr 0.001 | loss nan", {"loss": math.nan}, None, 7),
    ("epoch 7, lr=0.001, loss=inf", {"lr": 0.001, "loss": math.inf}, None, 7),
    ("Episode reward: 12.5 at step 400", {"episode_reward": 12.5}, 400, None),
    ("2026-11-23 10:00:00,123 INFO train: loss=0.5", {"loss": 0.5}, None, None),
    ("test accuracy is 0.97.", {"test_accuracy": 0.97}, None, None),
    ("Mean squared error: 3.2, R2: 0.8", {"mean_squared_error": 3.2, "r2": 0.8}, None, None),
    ("trainLoss: 0.5", {"trainloss": 0.5}, None, None),
]  # fmt: skip

NOT_FOUND = [
    "",
    "Listening on http://0.0.0.0:6006/ (step 1 of setup)",
    "Python 3.11.2",
    "CUDA version: 12.6",
    "batch_size: 32, lr: 0.001, epochs: 10",
    "Namespace(lr=0.1, loss=0.5, epochs=10)",
    "TrainConfig(loss=0.5, steps=100)",
    "{'lr': 0.1, 'epochs': 10, 'batch_size': 32}",
    '{"level": "info", "ts": 1732350000.1, "port": 8080}',
    '{"loss": "mse", "optimizer": "adam"}',
    "loss_weight: 0.5",
    "label_smoothing=0.1 loss_scale=1024",
    "Error: 404",
    "exit score 5",
    "return 0",
    "    loss = 0.5",
    '  File "train.py", line 12, in step',
    "Using cross entropy loss",
    "loss function: 3",
    "Number of parameters: 1234567",
    "Downloading accuracy-1.2.3.whl (12 kB)",
    "  0%|          | 0/100 [00:00<?, ?it/s]",
    "accelerate==1.2.0",
    "Loaded 60000 training images in 3.2 s",
    "torch 2.13.0+cpu",
    "loss: see above",
    "[1, 2, 3]",
    "{" * 5000,
    "x" * 10_000 + " loss: 1",
]


@pytest.mark.parametrize(("line", "values", "step", "epoch"), FOUND, ids=[row[0][:40] for row in FOUND])
def test_what_programs_print(
    line: str, values: dict[str, float], step: float | None, epoch: float | None
) -> None:
    found = parse_line(line)
    assert repr(sorted(found.values.items())) == repr(sorted(values.items()))  # NaN is not equal to itself
    assert found.step == step
    assert found.epoch == epoch


@pytest.mark.parametrize("line", NOT_FOUND, ids=[line[:40] for line in NOT_FOUND])
def test_what_is_no_metric(line: str) -> None:
    assert parse_line(line).values == {}


def _recorded() -> list[dict[str, Any]]:
    """Lines of some hundred programs, tutorials and libraries, each with what a reader would take from it."""
    path = Path(__file__).parents[1] / "recorded" / "printed_lines.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", _recorded(), ids=lambda row: row["line"][:50])
def test_what_many_programs_print(row: dict[str, Any]) -> None:
    found = parse_line(row["line"])
    assert found.values == row["values"]
    assert (found.step, found.epoch) == (row["step"], row["epoch"])


def test_the_recorded_lines_are_many_and_of_both_sorts() -> None:
    rows = _recorded()
    assert len(rows) >= 250
    assert sum(bool(row["values"]) for row in rows) >= 150
    assert sum(not row["values"] for row in rows) >= 80


def test_how_many_epochs_and_steps_there_will_be() -> None:
    assert parse_line("Epoch 2/10").total_epochs == 10
    found = parse_line("Epoch [2/5], Step [100/600], Loss: 0.2188")
    assert (found.total_epochs, found.total_steps) == (5, 600)


def test_a_line_that_counts_inside_an_epoch_says_so() -> None:
    assert parse_line("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300039").inner
    assert not parse_line("Epoch 3/10 - loss: 0.12").inner


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    assert isinstance(parse_line("loss: 1 " + text), Printed)


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.floats(), st.integers(), st.text(max_size=5), st.none())
    )
)
def test_no_dictionary_breaks_it(found: dict[str, object]) -> None:
    assert isinstance(parse_line(repr({**found, "loss": 1.0})), Printed)
