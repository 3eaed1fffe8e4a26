"""XGBoost: the metrics of the evaluation sets after each round, of `train`, `cv` and the scikit-learn classes.

Series are called ``<set>/<metric>``, as ``validation_0/logloss``; of a cross-validation's metrics the mean, and beside it
``<set>/<metric>-std``.
"""

from __future__ import annotations

from mlstudio.probe.hooks.report import Counter, Reporter, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Dict

HOW = "The metrics of the evaluation sets after each round."


def patch(module: Any) -> None:
    """Listen to what calls the callbacks (since 1.3), and to the settings."""
    reporter = Reporter("xgboost")
    if hasattr(module, "CallbackContainer"):
        _listen(module.CallbackContainer, reporter)
    for name in ("train", "cv"):
        replace(module, name, lambda original: _training(original, reporter))


def _listen(container: Any, reporter: Reporter) -> None:
    rounds = Counter()

    @reporter.guarded
    def say(self: Any, epoch: int) -> None:
        if getattr(self, "_mlstudio_begun", None) is None:
            self._mlstudio_begun = True
            rounds.begin(epoch)
        found: Dict[str, float] = {}
        for data, metrics in self.history.items():
            for name, scores in metrics.items():
                last = scores[-1]
                if isinstance(last, tuple):
                    found["%s/%s" % (data, name)], found["%s/%s-std" % (data, name)] = last[:2]
                else:
                    found["%s/%s" % (data, name)] = last
        if found:
            reporter.begin("xgboost: train", HOW)
            reporter.log(rounds.step(epoch), found)

    def make(original: Any) -> Any:
        def after_iteration(self: Any, model: Any, epoch: int, *more: Any, **words: Any) -> Any:
            result = original(self, model, epoch, *more, **words)
            say(self, epoch)
            return result

        return after_iteration

    replace(container, "after_iteration", make)


def _training(original: Any, reporter: Reporter) -> Any:
    @reporter.guarded
    def say(params: Any, rounds: Any) -> None:
        reporter.begin("xgboost: train", HOW)
        given = {} if params is None else dict(params)
        given["num_boost_round"] = rounds
        reporter.params({name: value for name, value in given.items() if _is_setting(value)})

    def train(params: Any, dtrain: Any, num_boost_round: int = 10, *more: Any, **words: Any) -> Any:
        say(params, num_boost_round)
        return original(params, dtrain, num_boost_round, *more, **words)

    return train


def _is_setting(value: Any) -> bool:
    return isinstance(value, (str, int, float, list, tuple)) and value == value
