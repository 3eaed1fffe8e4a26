"""Hugging Face Accelerate: what `Accelerator.log` is given, whatever trackers it has or has not."""

from __future__ import annotations

from mlstudio.probe.hooks.report import Reporter, replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Optional

HOW = "All that Accelerator.log() is given."


def patch(module: Any) -> None:
    """Listen to the Accelerator."""
    reporter = Reporter("accelerate")

    def make_log(original: Any) -> Any:
        @reporter.guarded
        def say(accelerator: Any, values: Any, step: Optional[int]) -> None:
            if accelerator.is_main_process:
                reporter.begin("accelerate: Accelerator.log", HOW)
                reporter.log(step, values)

        def log(self: Any, values: Any, step: Optional[int] = None, *more: Any, **words: Any) -> Any:
            say(self, values, step)
            return original(self, values, step, *more, **words)

        return log

    def make_init(original: Any) -> Any:
        @reporter.guarded
        def say(accelerator: Any, config: Any) -> None:
            if config and accelerator.is_main_process:
                reporter.begin("accelerate: Accelerator.log", HOW)
                reporter.params(config)

        def init_trackers(self: Any, project_name: Any, config: Any = None, *more: Any, **words: Any) -> Any:
            say(self, config)
            return original(self, project_name, config, *more, **words)

        return init_trackers

    replace(module.Accelerator, "log", make_log)
    replace(module.Accelerator, "init_trackers", make_init)
