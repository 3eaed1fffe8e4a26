"""Keras (3 with any backend, and tf.keras 2): what `fit` reports after each epoch and each batch.

The names are those of Keras' own History; the values of single batches get ``batch_`` before them, as its TensorBoard
callback names them. Steps are epochs, and batches since the start.
"""

from __future__ import annotations

import sys

from mlstudio.probe.hooks.report import Counter, Reporter, numbers_of, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Dict, Optional

HOW = "The values of each epoch and each batch, taken by a callback that was added to fit()."


def patch(module: Any) -> None:
    """Add our callback to every list of callbacks that trains."""
    container = getattr(module, "CallbackList", None)
    base = getattr(module, "Callback", None)
    if container is None or base is None:
        return
    package = module.__name__.partition(".")[0]
    callback = _callback_class(base, Reporter("keras"), package)

    def make(original: Any) -> Any:
        def begin(self: Any, callbacks: Any = None, *arguments: Any, **words: Any) -> None:
            original(self, _with(callbacks, callback), *arguments, **words)

        return begin

    replace(container, "__init__", make)


def _with(callbacks: Any, callback: Any) -> Any:
    if callbacks is None:
        return [callback()]
    given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    # The same list may be given to fit() twice.
    return given if any(isinstance(one, callback) for one in given) else [*given, callback()]


def _callback_class(base: Any, reporter: Reporter, package: str) -> Any:
    epochs, batches = Counter(), Counter()

    class MLStudioCallback(base):  # type: ignore[misc]
        """Takes what Keras reports to its callbacks."""

        async_safe = True
        """Batches may be reported in threads, in any order: their step is known by their number."""

        def __init__(self) -> None:
            super().__init__()
            self._is_new = True
            self._seen = 0
            self._batches = 0

        @reporter.guarded
        def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
            self._is_new = True
            self._seen = self._batches = 0
            batches.begin(1)
            reporter.begin("%s: Model.fit" % package, HOW, package)
            reporter.params(_settings(self.model, getattr(self, "params", None)))

        @reporter.guarded
        def on_train_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
            self._batches = max(self._batches, self._seen + batch + 1)
            if logs:
                named = {"batch_%s" % name: value for name, value in numbers_of(logs).items()}
                # The first one is 1, as in Keras' own TensorBoard callback.
                reporter.log(batches.step(self._seen + batch + 1), named)

        @reporter.guarded
        def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
            if self._is_new:
                self._is_new = False
                epochs.begin(epoch)
            self._seen = self._batches
            values = numbers_of(logs or {})
            if "learning_rate" not in values and "lr" not in values:
                rate = _learning_rate(self.model)
                if rate is not None:
                    values["learning_rate"] = rate
            reporter.log(epochs.step(epoch), values)

    return MLStudioCallback


def _settings(model: Any, given: Any) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        found["optimizer"] = getattr(optimizer, "name", None) or type(optimizer).__name__
        rate = _learning_rate(model)
        if rate is not None:
            found["learning_rate"] = rate
    loss = getattr(model, "loss", None)
    if isinstance(loss, str) or callable(loss):
        found["loss"] = loss if isinstance(loss, str) else getattr(loss, "name", None) or loss.__name__
    try:
        found["model_parameters"] = model.count_params()
    except Exception:  # noqa: BLE001 — a model that was not built yet has none
        pass
    for name in ("epochs", "batch_size", "steps"):
        value = given.get(name) if isinstance(given, dict) else None
        if value is not None:
            found[name] = value
    return found


def _learning_rate(model: Any) -> Optional[float]:
    """The optimizer's present learning rate, None where it cannot be told."""
    optimizer: Any = getattr(model, "optimizer", None)
    rate = getattr(optimizer, "learning_rate", None)
    if rate is None:
        return None
    if callable(rate) and not hasattr(rate, "numpy"):
        # A schedule, in tf.keras 2.
        rate = rate(optimizer.iterations)
    try:
        return float(rate)
    except (TypeError, ValueError, RuntimeError):
        pass
    # A variable of another backend.
    keras = sys.modules.get("keras")
    convert = getattr(getattr(keras, "ops", None), "convert_to_numpy", None)
    return float(convert(rate)) if convert is not None else None
