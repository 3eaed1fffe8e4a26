"""TensorBoard's writers: written every second instead of every two minutes, unless the script says how often.

The probe reads the files as they grow; without this, a run's curves would stand still for minutes.
"""

from __future__ import annotations

from mlstudio.probe.hooks.report import replace

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs 5 ms.
    from typing import Any

FLUSH_S = 1
_FLUSH_PLACE = 4
"""Of ``flush_secs`` among a SummaryWriter's arguments."""
_FLUSH_MILLIS_PLACE = 2


def patch(module: Any) -> None:
    """Change the default of torch's and tensorboardX's `SummaryWriter`, and of TensorFlow's `create_file_writer`."""
    if hasattr(module, "SummaryWriter"):
        replace(module.SummaryWriter, "__init__", _summary_writer)
    replace(module, "create_file_writer_v2", _file_writer)


def _summary_writer(original: Any) -> Any:
    def begin(self: Any, *arguments: Any, **words: Any) -> None:
        if len(arguments) <= _FLUSH_PLACE:
            words.setdefault("flush_secs", FLUSH_S)
        original(self, *arguments, **words)

    return begin


def _file_writer(original: Any) -> Any:
    def create_file_writer_v2(*arguments: Any, **words: Any) -> Any:
        if len(arguments) <= _FLUSH_MILLIS_PLACE and words.get("flush_millis") is None:
            words["flush_millis"] = 1000 * FLUSH_S
        return original(*arguments, **words)

    return create_file_writer_v2
