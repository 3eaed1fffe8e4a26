"""What the hooks share: saying numbers and settings, replacing functions, and failing without harm."""

from __future__ import annotations

import functools
import os
import sys

from mlstudio.probe.client import as_number

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any, Callable, Dict, Mapping, Optional

_RANKS = ("RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Which of several training processes this one is: set by torchrun and its like, and by MPI. The first one that is set
counts."""
_MARK = "_mlstudio_hook"


def is_first() -> bool:
    """Whether this process is the one among several training together that speaks for them."""
    for name in _RANKS:
        rank = os.environ.get(name)
        if rank:
            return rank == "0"
    return True


class Reporter:
    """Says what one framework logs, under its name."""

    def __init__(self, logger: str) -> None:
        self.logger = logger
        self._is_known = False
        self._has_failed = False

    def begin(self, what: str, how: str, package: str = "") -> None:
        """Once: that this framework was recognised. `package`: where to look for its version."""
        if self._is_known or not is_first():
            return
        self._is_known = True
        version = getattr(sys.modules.get(package or self.logger), "__version__", "")
        event = {"type": "logger", "logger": self.logger, "what": what, "how": how}
        if isinstance(version, str) and version:
            event["version"] = version
        _client().event(event)

    def log(self, step: Optional[int], metrics: Mapping[Any, Any]) -> None:
        """Record what is a number among `metrics`."""
        if not is_first():
            return
        numbers = numbers_of(metrics)
        if numbers:
            _client().log_as(self.logger, step, numbers)

    def params(self, parameters: Mapping[Any, Any]) -> None:
        """Record settings."""
        if parameters and is_first():
            _client().param(dict(parameters), logger=self.logger)

    def failed(self, error: BaseException) -> None:
        """Tell once that numbers may be missing."""
        if self._has_failed:
            return
        self._has_failed = True
        try:
            if is_first():
                _client().event(
                    {
                        "type": "lacks",
                        "what": self.logger,
                        "why": "Not all that %s logs could be recorded: %s: %s. Values given to mlstudio.log are not "
                        "concerned." % (self.logger, type(error).__name__, str(error)[:500]),
                    }
                )
        except Exception:  # noqa: BLE001 — nowhere to tell it
            return

    def guarded(self, do: Callable[..., Any]) -> Callable[..., Any]:
        """`do`, but what it raises is told once instead, and None is returned."""

        @functools.wraps(do)
        def safe(*arguments: Any, **words: Any) -> Any:
            try:
                return do(*arguments, **words)
            except Exception as error:  # noqa: BLE001 — whatever is wrong here, the training goes on
                self.failed(error)
                return None

        return safe


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put ``make(original)`` in the place of a function of a class or module; once, and only where there is one."""
    original = getattr(owner, name, None)
    if not callable(original) or getattr(original, _MARK, False):
        return
    made = functools.wraps(original)(make(original))
    setattr(made, _MARK, True)
    setattr(owner, name, made)


def numbers_of(metrics: Mapping[Any, Any], prefix: str = "") -> Dict[str, float]:
    """What is a number in there, by name; what is nested gets a name with ``/``."""
    found: Dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found.update(numbers_of(value, "%s%s/" % (prefix, name)))
            continue
        real = as_number(value)
        if real is not None:
            found[prefix + str(name)] = real
    return found


class Counter:
    """Steps that go on: where a script trains several times, the framework counts each time from the start."""

    def __init__(self) -> None:
        self._last = -1
        self._offset = 0

    def begin(self, first: int) -> None:
        """Another training begins, whose first step is `first` by the framework's own count."""
        self._offset = max(0, self._last + 1 - first)

    def step(self, own: int) -> int:
        """The step for the framework's own one."""
        step = own + self._offset
        self._last = max(self._last, step)
        return step


def _client() -> Any:
    import mlstudio

    return mlstudio._client if mlstudio._client is not None else mlstudio._connect()
