"""How far a run is and when it will be there, from the steps it logs or prints and the totals it was started with."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence

from mlstudio.model.run import Progress


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EPOCH_TOTALS = _words(
    "epochs num_epochs n_epochs max_epochs nepochs num_train_epochs train_epochs total_epochs"
)
_STEP_TOTALS = _words(
    """
    steps max_steps num_steps n_steps total_steps train_steps num_train_steps max_iters iterations num_iterations
    n_iterations max_iterations iters n_iter max_iter num_iters total_timesteps n_estimators num_boost_round num_rounds
    n_rounds num_trees
    """
)
_VALIDATION = re.compile(r"(^|[/_.])(val|valid|validation|eval|dev|test)([/_.]|$)")
_SAMPLES = 32
_SAMPLE_EVERY_S = 0.5
_RATE_FROM_S = 0.5
"""A rate over less time would be a guess."""

UNKNOWN = Progress(done=0.0, total=0.0)
"""Says that progress is not known (any more)."""


class ProgressTracker:
    """Learns totals and steps; `progress` says how far the run is, None while that is not known."""

    def __init__(self, parameters: Iterable[tuple[str, str]] = (), *, started: float | None = None) -> None:
        self._started = started
        self._epochs: float | None = None
        self._steps: float | None = None
        self._step: int | None = None
        self._step_offset = 0
        self._epoch: float | None = None
        self._epoch_offset = 0.0
        self._epoch_is_over = False
        self._in_epoch = 0
        self._per_epoch = 0
        self._validation_name = ""
        self._validations = 0
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)
        for name, value in parameters:
            self.learn(name, value)

    def learn(self, name: str, value: str) -> None:
        """A parameter of the run: it may be a total."""
        key = re.sub(r"[^a-z0-9]+", "_", name.lower().lstrip("-").rpartition(".")[2])
        if key not in _EPOCH_TOTALS and key not in _STEP_TOTALS:
            return
        try:
            total = float(value)
        except ValueError:
            return
        if not 0 < total < 1e15:
            return
        if key in _EPOCH_TOTALS:
            self._epochs = total
        else:
            self._steps = total

    def learn_totals(self, *, epochs: int | None, steps: int | None) -> None:
        """Totals that were printed; those given as parameters are trusted more."""
        if epochs and self._epochs is None:
            self._epochs = float(epochs)
        if steps and self._steps is None and self._epochs is None:
            self._steps = float(steps)

    def saw_points(self, name: str, steps: Sequence[int], time: float) -> None:
        """Points of a metric were logged. `steps` is not empty."""
        if _VALIDATION.search(name) and self._validation_name in ("", name):
            self._validation_name = name
            self._validations += len(steps)
        if self._step is None and min(steps) == 0:
            self.saw_step(0, time)
        self.saw_step(max(steps), time)

    def saw_step(self, step: int, time: float) -> None:
        if self._step is None:
            self._step_offset = 1 if step == 0 else 0
        if self._step is None or step > self._step:
            self._step = step
            self._sample(time)

    def saw_epoch(self, epoch: float, time: float, *, is_over: bool | None = None) -> None:
        """An epoch was logged or printed. `is_over`: whether that was at its end; None if that cannot be told."""
        if self._epoch is None:
            self._epoch_offset = 1.0 if epoch == 0 else 0.0
        if self._epoch is None or epoch > self._epoch:
            if self._epoch is not None:
                self._per_epoch = self._in_epoch
            self._epoch = epoch
            self._in_epoch = 1
            self._epoch_is_over = bool(is_over)
        elif epoch == self._epoch:
            self._in_epoch += 1
            self._epoch_is_over = self._epoch_is_over or bool(is_over)
        else:
            return
        if is_over is False:
            self._in_epoch = max(self._in_epoch, 2)
        self._sample(time)

    def progress(self, now: float) -> Progress | None:
        """How far it is, with what is left at the rate of the last half minute or more."""
        found = self._done()
        if found is None:
            return None
        done, total, unit = found
        rate = self._rate()
        eta = None
        if rate and self._samples:
            eta = max(0.0, (total - done) / rate - max(0.0, now - self._samples[-1][0]))
        return Progress(done=done, total=total, unit=unit, rate_per_s=rate, eta_s=eta)

    def _done(self) -> tuple[float, float, str] | None:
        if self._steps is not None and self._step is not None:
            done = float(self._step + self._step_offset)
            if done <= self._steps:
                return done, self._steps, "step"
        if self._epochs is None:
            return None
        if self._epoch is not None:
            return min(self._epochs, self._epochs_done()), self._epochs, "epoch"
        if self._step is not None:
            # The epoch's number given as the step: told from real steps by a validation with (nearly) every one, and by
            # never passing the total.
            done = float(self._step + self._step_offset)
            if done <= self._epochs and 2 * self._validations >= done:
                return done, self._epochs, "epoch"
        return None

    def _epochs_done(self) -> float:
        """Epochs that are over, with the fraction of the present one where several lines come an epoch."""
        assert self._epoch is not None
        counted = self._epoch + self._epoch_offset
        if self._epoch_is_over or self._epoch != int(self._epoch):
            return counted
        if self._per_epoch > 1:
            return counted - 1 + min(1.0, self._in_epoch / self._per_epoch)
        return counted if self._in_epoch < 2 else max(0.0, counted - 1)

    def _sample(self, time: float) -> None:
        found = self._done()
        if found is None:
            return
        samples = self._samples
        if len(samples) > 1 and time - samples[-2][0] < _SAMPLE_EVERY_S:
            samples[-1] = (time, found[0])
        else:
            samples.append((time, found[0]))

    def _rate(self) -> float | None:
        if not self._samples:
            return None
        last_time, last_done = self._samples[-1]
        first_time, first_done = self._samples[0]
        if len(self._samples) < 3 and self._started is not None and self._started < last_time:
            first_time, first_done = self._started, 0.0
        if last_time - first_time < _RATE_FROM_S or last_done <= first_done:
            return None
        return (last_done - first_done) / (last_time - first_time)
