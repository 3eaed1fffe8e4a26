"""A build that failed, with what is needed to explain it."""

from __future__ import annotations

from mlstudio.model.errors import BuildFailed


class StepFailed(BuildFailed):
    """A build failed at `step`; `log` is the end of what that step printed, `exit_text` the builder's own words."""

    def __init__(self, what: str, *, step: str, log: str, exit_text: str, try_this: str = "") -> None:
        super().__init__(what, why=exit_text, try_this=try_this, details=log)
        self.step = step
        self.log = log
        self.exit_text = exit_text
