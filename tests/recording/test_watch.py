"""What is told of metrics that go wrong, and what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlstudio.model.errors import RequestError
from mlstudio.services.recording.watch import Finding, StopRules, Watch, is_loss, parse_stop_rules


def _feed(watch: Watch, name: str, values: list[float], *, at_once: int = 7) -> list[Finding]:
    found = []
    for begin in range(0, len(values), at_once):
        part = values[begin : begin + at_once]
        found.extend(watch.feed(name, range(begin, begin + len(part)), part))
    return found


def test_a_loss_that_becomes_nan_is_told_once_with_its_step() -> None:
    (found,) = _feed(Watch(StopRules()), "train/loss", [0.5] * 40 + [math.nan] * 40)
    assert (found.kind, found.step, found.stops) == ("nan", 40, False)
    assert found.message == "train/loss became NaN (not a number) at step 40."


def test_it_stops_the_run_only_where_that_was_asked_for() -> None:
    (found,) = _feed(Watch(parse_stop_rules(["nan"])), "loss", [1.0, math.inf])
    assert found.stops
    assert "infinite" in found.message


def test_other_metrics_may_be_nan() -> None:
    assert _feed(Watch(StopRules()), "val/auc", [math.nan] * 50) == []


def test_a_loss_that_runs_away_has_diverged() -> None:
    falling = [2 / (1 + step / 20) + 0.01 for step in range(400)]
    (found,) = _feed(Watch(StopRules()), "loss", falling + [50.0] * 100)
    assert found.kind == "diverged"


@pytest.mark.parametrize("seed", range(20))
def test_noise_spikes_warm_up_and_slow_growth_are_no_divergence(seed: int) -> None:
    random = np.random.default_rng(seed)
    noisy = (np.exp(-np.arange(3000) / 500) + 0.2) * random.lognormal(0, 0.6, 3000)
    noisy[random.integers(0, 3000, 10)] *= 50
    overfit = np.concatenate([np.linspace(2, 0.5, 500), np.linspace(0.5, 2.5, 500)])
    signed = random.normal(0, 1, 1000)
    watch = Watch(StopRules())
    for name, values in (("loss", noisy), ("val_loss", overfit), ("policy_loss", signed)):
        assert _feed(watch, name, values.tolist()) == []


def test_a_plateau_ends_the_run_in_either_direction() -> None:
    rules = parse_stop_rules(["plateau:val/loss:10", "plateau:val/acc:10"])
    (loss,) = _feed(Watch(rules), "val/loss", [1 / (1 + step) for step in range(20)] + [0.2] * 30)
    assert (loss.kind, loss.step, loss.stops) == ("plateau", 29, True)
    (accuracy,) = _feed(Watch(rules), "val/acc", [step / 20 for step in range(20)] + [0.95] * 30)
    assert (accuracy.step, accuracy.stops) == (29, True)
    assert "0.95" in accuracy.message
    assert _feed(Watch(rules), "val/acc", [step / 100 for step in range(100)]) == []


def test_a_recorder_that_goes_on_judges_as_the_one_before() -> None:
    values = [1 / (1 + step) + 0.05 for step in range(200)] + [9.0] * 60
    whole = _feed(Watch(StopRules()), "loss", values)
    for cut in (1, 100, 210, 230):
        first = Watch(StopRules())
        before = _feed(first, "loss", values[:cut])
        second = Watch(
            StopRules(),
            told=[(found.kind, found.name) for found in before],
            earlier=lambda _, known=values[:cut]: known,  # type: ignore[misc]
        )
        after = second.feed("loss", range(cut, len(values)), values[cut:])
        assert [found.kind for found in [*before, *after]] == [found.kind for found in whole]


@pytest.mark.parametrize(
    "word", ["", "never", "plateau", "plateau:loss", "plateau:loss:1", "plateau::5", "nan:3"]
)
def test_rules_that_mean_nothing_are_refused(word: str) -> None:
    with pytest.raises(RequestError, match="Known: nan"):
        parse_stop_rules([word])


def test_names_of_losses() -> None:
    assert all(
        is_loss(name) for name in ("loss", "valLoss", "train/box_loss", "val_rmse", "Loss/train", "ppl")
    )
    assert not any(is_loss(name) for name in ("accuracy", "lr", "lossless_ratio", "errors_seen"))
