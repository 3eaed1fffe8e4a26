"""Lightning: what is logged by `self.log` (and by `Fabric.log`), at the moment at which its own loggers get it.

Names, values, steps and the added ``epoch`` are as a `CSVLogger` or `TensorBoardLogger` would have them; no logger needs
to be there. What was logged with ``logger=False`` is left out, as everywhere.
"""

from __future__ import annotations

from mlstudio.probe.hooks.report import Reporter, numbers_of, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Dict, Optional

HOW = "All that self.log() logs, taken as the Trainer hands it to its loggers."
HOW_FABRIC = "All that fabric.log() logs, taken as it is handed to the loggers."


def patch(module: Any) -> None:
    """Listen to the Trainer, or to Fabric."""
    package = module.__name__.partition(".")[0]
    reporter = Reporter("lightning")
    if hasattr(module, "Fabric"):
        replace(module.Fabric, "log_dict", lambda original: _fabric(original, reporter, package))
    # Gives what it reads to the loggers itself.
    replace(
        getattr(module, "LearningRateMonitor", None),
        "_extract_stats",
        lambda original: _learning_rates(original, reporter),
    )
    # Without the underscore until 1.9.
    for name in ("_LoggerConnector", "LoggerConnector"):
        replace(
            getattr(module, name, None),
            "log_metrics",
            lambda original: _connector(original, reporter, package),
        )
    # A function that the Trainer's module has imported since 1.9, a method of the Trainer before.
    for owner in (module, getattr(module, "Trainer", None)):
        replace(owner, "_log_hyperparams", lambda original: _hyperparameters(original, reporter, package))


def _connector(original: Any, reporter: Reporter, package: str) -> Any:
    @reporter.guarded
    def say(trainer: Any, metrics: Any, step: Optional[int]) -> None:
        if not metrics or not getattr(trainer, "is_global_zero", True):
            return
        numbers = numbers_of(metrics)
        if step is None:
            given = numbers.pop("step", None)
            if given is not None:
                step = int(given)
            else:
                numbers.setdefault("epoch", trainer.current_epoch)
                step = _batches(trainer)
        reporter.begin("%s: Trainer" % package, HOW, package)
        reporter.log(step, numbers)

    def log_metrics(self: Any, metrics: Any, step: Optional[int] = None, *more: Any, **words: Any) -> Any:
        say(self.trainer, metrics, step)
        return original(self, metrics, step, *more, **words)

    return log_metrics


def _learning_rates(original: Any, reporter: Reporter) -> Any:
    @reporter.guarded
    def say(trainer: Any, rates: Any) -> None:
        if rates and getattr(trainer, "is_global_zero", True):
            reporter.log(_batches(trainer), rates)

    def _extract_stats(self: Any, trainer: Any, *more: Any, **words: Any) -> Any:
        rates = original(self, trainer, *more, **words)
        say(trainer, rates)
        return rates

    return _extract_stats


def _batches(trainer: Any) -> int:
    """Batches after which the optimizer made a step: what Lightning's loggers count."""
    loop = getattr(getattr(trainer, "fit_loop", None), "epoch_loop", None)
    steps = getattr(loop, "_batches_that_stepped", None)
    return int(trainer.global_step if steps is None else steps)


def _hyperparameters(original: Any, reporter: Reporter, package: str) -> Any:
    @reporter.guarded
    def say(trainer: Any) -> None:
        if not getattr(trainer, "is_global_zero", True):
            return
        found: Dict[str, Any] = {}
        for part in (getattr(trainer, "lightning_module", None), getattr(trainer, "datamodule", None)):
            if part is not None and getattr(part, "_log_hyperparams", False):
                found.update(getattr(part, "hparams_initial", None) or {})
        found.pop("_class_path", None)
        reporter.begin("%s: Trainer" % package, HOW, package)
        reporter.params(found)

    def _log_hyperparams(trainer: Any, *arguments: Any, **words: Any) -> Any:
        say(trainer)
        return original(trainer, *arguments, **words)

    return _log_hyperparams


def _fabric(original: Any, reporter: Reporter, package: str) -> Any:
    @reporter.guarded
    def say(fabric: Any, metrics: Any, step: Optional[int]) -> None:
        if getattr(fabric, "is_global_zero", True):
            reporter.begin("%s: Fabric" % package, HOW_FABRIC, package)
            reporter.log(step, metrics)

    def log_dict(self: Any, metrics: Any, step: Optional[int] = None, *more: Any, **words: Any) -> Any:
        say(self, metrics, step)
        return original(self, metrics, step, *more, **words)

    return log_dict
