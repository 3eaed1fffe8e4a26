"""fastai: what the Recorder keeps of each epoch, and of each batch the smoothed loss and the learning rate.

Steps are epochs for the Recorder's columns, and training batches since the start for ``batch_loss`` and ``lr``.
"""

from __future__ import annotations

from mlstudio.probe.hooks.report import Counter, Reporter, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any

HOW = "The Recorder's values of each epoch and each batch."


def patch(module: Any) -> None:
    """Listen to the Recorder."""
    reporter = Reporter("fastai")
    epochs, batches = Counter(), Counter()

    @reporter.guarded
    def begin(recorder: Any) -> None:
        epochs.begin(0)
        batches.begin(0)
        if not _is_search(recorder):
            reporter.begin("fastai: Learner.fit", HOW)
            found = {"epochs": getattr(recorder.learn, "n_epoch", None)}
            found["batch_size"] = getattr(getattr(recorder.learn, "dls", None), "bs", None)
            reporter.params({name: value for name, value in found.items() if value is not None})

    @reporter.guarded
    def batch(recorder: Any) -> None:
        if recorder.training and recorder.losses and not _is_search(recorder):
            count = len(recorder.losses)
            reporter.log(batches.step(count - 1), {"batch_loss": recorder.losses[-1], "lr": recorder.lrs[-1]})

    @reporter.guarded
    def epoch(recorder: Any) -> None:
        if not _is_search(recorder):
            names = list(recorder.metric_names)[1:]
            values = list(recorder.values[-1])
            reporter.log(epochs.step(int(recorder.log[0])), dict(zip(names, values)))

    def after(say: Any) -> Any:
        def make(original: Any) -> Any:
            def wrapper(self: Any) -> Any:
                result = original(self)
                say(self)
                return result

            return wrapper

        return make

    for name, say in (("before_fit", begin), ("after_batch", batch), ("after_epoch", epoch)):
        replace(module.Recorder, name, after(say))


def _is_search(recorder: Any) -> bool:
    """Whether this is the search for a learning rate and no training."""
    return hasattr(recorder.learn, "lr_finder")
