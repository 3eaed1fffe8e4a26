"""How far a run is."""

from __future__ import annotations

import pytest

from mlstudio.model.run import Progress
from mlstudio.services.recording.progress import ProgressTracker


def seen(tracker: ProgressTracker, now: float) -> Progress:
    found = tracker.progress(now)
    assert found is not None
    return found


def test_steps_with_a_total_give_an_eta() -> None:
    tracker = ProgressTracker([("max_steps", "1000")], started=0.0)
    for step in range(101):
        tracker.saw_step(step, step * 0.1)
    found = seen(tracker, 10.0)
    assert (found.done, found.total, found.unit) == (101, 1000, "step")
    assert found.rate_per_s == pytest.approx(10.0)
    assert found.eta_s == pytest.approx(89.9)
    # Time passes without news: less is left.
    assert seen(tracker, 15.0).eta_s == pytest.approx(84.9)


def test_epochs_that_are_logged_once_each_count_as_over() -> None:
    tracker = ProgressTracker([("--epochs", "5")])
    tracker.saw_epoch(0, 1.0)
    tracker.saw_epoch(1, 2.0)
    found = seen(tracker, 2.0)
    assert (found.done, found.total, found.unit) == (2, 5, "epoch")
    assert found.eta_s == pytest.approx(3.0)


def test_epochs_that_are_logged_with_every_step_count_by_their_steps() -> None:
    tracker = ProgressTracker([("epochs", "4")])
    time = 0.0
    for epoch in (1, 2):
        for _ in range(10 if epoch == 1 else 5):
            time += 1.0
            tracker.saw_epoch(epoch, time)
    assert seen(tracker, time).done == pytest.approx(1.5)


def test_fractions_of_epochs_are_taken_as_they_are() -> None:
    tracker = ProgressTracker([("num_train_epochs", "3.0")])
    tracker.saw_epoch(0.5, 1.0)
    tracker.saw_epoch(1.25, 2.5)
    assert seen(tracker, 2.5).done == 1.25


def test_printed_totals_do() -> None:
    tracker = ProgressTracker()
    tracker.learn_totals(epochs=10, steps=None)
    tracker.saw_epoch(3, 1.0, is_over=True)
    assert seen(tracker, 1.0).fraction == pytest.approx(0.3)


def test_an_epoch_that_was_only_announced_is_not_over() -> None:
    tracker = ProgressTracker([("epochs", "10")])
    tracker.saw_epoch(1, 1.0, is_over=False)
    assert seen(tracker, 1.0).done == 0
    tracker.saw_epoch(2, 2.0, is_over=False)
    assert seen(tracker, 2.0).done == pytest.approx(1.0, abs=1.0)


def test_steps_beyond_the_epochs_are_no_epochs() -> None:
    tracker = ProgressTracker([("epochs", "3")])
    tracker.saw_points("val/loss", [1, 2], 1.0)
    assert seen(tracker, 1.0).unit == "epoch"
    tracker.saw_points("val/loss", [3, 4], 2.0)
    assert tracker.progress(2.0) is None


def test_batches_of_the_first_epoch_are_no_epochs() -> None:
    tracker = ProgressTracker([("epochs", "120")])
    tracker.saw_points("train/loss", range(1, 22), 1.0)
    assert tracker.progress(1.0) is None
    tracker.saw_points("train/loss", range(22, 44), 2.0)
    tracker.saw_points("val/loss", [43], 2.0)
    assert tracker.progress(2.0) is None
    tracker.saw_epoch(1, 2.0, is_over=True)
    assert seen(tracker, 2.0).done == 1


def test_epochs_that_are_given_as_steps_are_known_by_their_validation() -> None:
    tracker = ProgressTracker([("epochs", "10")])
    tracker.saw_points("train/loss", [0, 1, 2], 3.0)
    assert tracker.progress(3.0) is None
    tracker.saw_points("val_loss", [0, 1, 2], 3.0)
    found = seen(tracker, 3.0)
    assert (found.done, found.total, found.unit) == (3, 10, "epoch")


@pytest.mark.parametrize("value", ["0", "-3", "nan", "many", "1e300", ""])
def test_totals_that_make_no_sense_are_passed_over(value: str) -> None:
    tracker = ProgressTracker([("epochs", value)])
    tracker.saw_step(0, 1.0)
    assert tracker.progress(1.0) is None


def test_nothing_is_said_before_anything_is_known() -> None:
    assert ProgressTracker([("epochs", "3")]).progress(1.0) is None
    assert ProgressTracker().progress(1.0) is None
