"""Checks: one finding before a build or about this machine, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    """It will go on, but perhaps not as wished."""
    ERROR = "error"
    """It cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found: `message` is one sentence, `try_this` what would mend it.

    `field` names the part of the request it belongs to with a dotted path, as in `RequestError.field`.
    """

    name: str
    """Stable name such as ``driver`` or ``disk``."""
    level: Level
    message: str
    try_this: str = ""
    field: str = ""


def worst(checks: tuple[Check, ...]) -> Level:
    """The most serious level among `checks`; OK if there are none."""
    order = list(Level)
    return max((check.level for check in checks), key=order.index, default=Level.OK)
