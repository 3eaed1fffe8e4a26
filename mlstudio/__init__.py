"""ML Studio: experiments in containers.

In a training script::

    import mlstudio

    mlstudio.param("lr", 3e-4)
    for step, batch in enumerate(loader):
        mlstudio.log(step=step, loss=train_step(batch))
    mlstudio.artifact("model.pt")

The same import works inside a run and outside one, where all three do nothing. This module and `mlstudio.probe` travel
into every container: standard library only, Python 3.8 and newer.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, Optional

__version__ = "0.1.0"
__all__ = ["__version__", "artifact", "log", "param"]

_client: Any = None


def log(
    values: Optional[Dict[str, Any]] = None,  # noqa: UP006, UP045
    /,
    *,
    step: Optional[int] = None,  # noqa: UP045
    **metrics: Any,
) -> None:
    """Record values of this moment: ``log(step=3, loss=0.2)`` or ``log({"val/acc": 0.9}, step=3)``.

    A value is a number (also NaN, infinite, a NumPy or torch scalar); a string is kept as text; None is left out; a
    dictionary inside is flattened with ``/``. Without `step`, the calls with the same names are counted from 0. Safe
    to call from threads and forked processes. Outside a run it does nothing; it never raises because of a value.
    """
    client = _client
    if client is None:
        client = _connect()
    if values:
        metrics = {**values, **metrics}
    client.log(step, metrics)


def param(
    name: Any = None,
    value: Any = None,
    /,
    **parameters: Any,
) -> None:
    """Record settings of the run: ``param("lr", 0.1)``, ``param({"lr": 0.1})`` or ``param(lr=0.1)``."""
    client = _client if _client is not None else _connect()
    if isinstance(name, dict):
        parameters = {**name, **parameters}
    elif name is not None:
        parameters = {str(name): value, **parameters}
    client.param(parameters)


def artifact(path: Any) -> None:
    """Record that the run wrote the file or folder `path`. The file stays where it is."""
    (_client if _client is not None else _connect()).artifact(path)


def _connect() -> Any:
    """The client of this process: one that writes to the probe inside a run, one that does nothing outside."""
    global _client
    folder = os.environ.get("MLSTUDIO_CHANNEL", "")
    if folder:
        from mlstudio.probe.client import Client

        _client = Client(folder)
    else:
        from mlstudio.probe.client import Nothing

        _client = Nothing()
    return _client


def __getattr__(name: str) -> Any:
    """`mlstudio.Studio` is loaded when it is asked for: training needs none of it, and in a container it is not there."""
    if name == "Studio":
        try:
            from mlstudio.api import Studio
        except ImportError as error:
            raise AttributeError(
                f"mlstudio.Studio is for scripts outside of runs: it needs ML Studio itself ({error})."
            ) from None
        return Studio
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "MLSTUDIO_CHANNEL" in os.environ:
    # Inside a run: what is slow about it belongs to the script's imports and not into its first step.
    _connect()
