"""LightGBM: the metrics of the evaluation sets after each round, of `train`, `cv` and the scikit-learn classes.

Series are called ``<set>/<metric>``, as ``valid_0/l2``; of a cross-validation's metrics the mean, and beside it
``<set>/<metric>-std``.
"""

from __future__ import annotations

import inspect

from mlstudio.probe.hooks.report import Counter, Reporter, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Dict

HOW = "The metrics of the evaluation sets after each round, taken by a callback that was added."


def patch(module: Any) -> None:
    """Add our callback to each training."""
    reporter = Reporter("lightgbm")
    rounds = Counter()
    for name in ("train", "cv"):
        replace(module, name, lambda original: _training(original, reporter, rounds))


def _training(original: Any, reporter: Reporter, rounds: Counter) -> Any:
    signature = inspect.signature(original)

    @reporter.guarded
    def prepared(arguments: Any, words: Any) -> Any:
        bound = signature.bind(*arguments, **words)
        bound.arguments["callbacks"] = [*(bound.arguments.get("callbacks") or ()), Callback(reporter, rounds)]
        reporter.begin("lightgbm: train", HOW)
        given = dict(bound.arguments.get("params") or {})
        given["num_boost_round"] = bound.arguments.get("num_boost_round")
        reporter.params({name: value for name, value in given.items() if _is_setting(value)})
        return bound

    def train(*arguments: Any, **words: Any) -> Any:
        bound = prepared(arguments, words)
        if bound is None:
            return original(*arguments, **words)
        return original(*bound.args, **bound.kwargs)

    return train


class Callback:
    """Called after each round."""

    before_iteration = False

    def __init__(self, reporter: Reporter, rounds: Counter) -> None:
        self.order = 5
        """Before early stopping, which ends the round."""
        self._reporter = reporter
        self._rounds = rounds
        self._is_new = True

    def __call__(self, env: Any) -> None:
        self._reporter.guarded(self._take)(env)

    def _take(self, env: Any) -> None:
        if self._is_new:
            self._is_new = False
            self._rounds.begin(env.iteration)
        found: Dict[str, float] = {}
        for item in env.evaluation_result_list or ():
            data, name, value = item[0], item[1], item[2]
            if data == "cv_agg":
                # Until 4.5: the set and the metric in one.
                data, _, name = name.partition(" ")
                if not name:
                    data, name = "valid", data
            found["%s/%s" % (data, name)] = value
            if len(item) > 4 and item[4] is not None:
                found["%s/%s-std" % (data, name)] = item[4]
        if found:
            self._reporter.log(self._rounds.step(env.iteration), found)


def _is_setting(value: Any) -> bool:
    return isinstance(value, (str, int, float, list, tuple)) and value == value
