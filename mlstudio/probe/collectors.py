"""The collectors: what brings the numbers of loggers that know nothing of ML Studio.

Each watches one way in which numbers come, in a thread of its own, and puts what it finds into the `Intake`. What goes
wrong in one of them is told once and touches neither the command nor the others.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, Dict, List

    from mlstudio.probe.config import ProbeConfig
    from mlstudio.probe.intake import Intake

FINISH_WITHIN_S = 30.0
"""After the command's end, what was written last is read for so long at most."""
STOPPING_WITHIN_S = 5.0
"""The same where the run was asked to stop: the engine will not wait for long."""


class Collector:
    """One way in which numbers come. Methods are called by the main loop and must not wait, but for `finish`."""

    name = ""
    """Whose numbers these are, as events say it."""

    def __init__(self, config: ProbeConfig, intake: Intake, root: str) -> None:
        """`root` is the folder that holds the probe's own files; ``<root>/run`` can be written to."""
        self.config = config
        self.intake = intake
        self.root = root

    def prepare(self, environment: Dict[str, str]) -> None:
        """Before the command starts: may add variables to its `environment`, which the user's own settings precede."""

    def started(self, pid: int) -> None:
        """The command runs as `pid`."""

    def tick(self) -> None:
        """Called a few times a second; takes less than a millisecond. Work belongs to a thread that begins here."""

    def finish(self, deadline: float) -> None:
        """The command has ended: take what is left, until `deadline` (`time.monotonic`) at most."""


class Collectors:
    """All collectors of one run."""

    def __init__(self, collectors: List[Collector], intake: Intake) -> None:
        self._collectors = collectors
        self._intake = intake

    def prepare(self, environment: Dict[str, str]) -> None:
        self._each(lambda collector: collector.prepare(environment))

    def started(self, pid: int) -> None:
        self._each(lambda collector: collector.started(pid))

    def tick(self) -> None:
        self._each(lambda collector: collector.tick())

    def finish(self, within_s: float) -> None:
        """See `Collector.finish`; in a thread beside the main loop, which goes on taking what is found."""
        deadline = time.monotonic() + within_s
        self._each(lambda collector: collector.finish(deadline))

    def _each(self, do: Callable[[Collector], Any]) -> None:
        for collector in list(self._collectors):
            try:
                do(collector)
            except Exception as error:  # noqa: BLE001 — a collector's defect must not end a training
                self._collectors.remove(collector)
                self._intake.event(
                    {
                        "type": "lacks",
                        "what": collector.name,
                        "why": "What %s writes is not read any more: %s: %s."
                        % (collector.name, type(error).__name__, error),
                    }
                )


def make_collectors(config: ProbeConfig, intake: Intake, root: str) -> Collectors:
    """The collectors of this program. One is added with a module and a line here."""
    from mlstudio.probe.files import FileCollector
    from mlstudio.probe.mlflow_endpoint import MlflowEndpoint

    collectors: List[Collector] = [FileCollector(config, intake, root), MlflowEndpoint(config, intake, root)]
    return Collectors(collectors, intake)
