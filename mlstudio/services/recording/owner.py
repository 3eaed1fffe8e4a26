"""Who launches a run: named so that no later process with the same number is mistaken for it."""

from __future__ import annotations

import psutil

_SLACK_S = 1.0


def is_alive(owner: str) -> bool:
    """Whether the process that ``pid:start time`` names still runs. Text that names no process: no."""
    number, _, start = owner.partition(":")
    try:
        process = psutil.Process(int(number))
        return (
            abs(process.create_time() - float(start)) < _SLACK_S and process.status() != psutil.STATUS_ZOMBIE
        )
    except (ValueError, psutil.Error):
        return False
