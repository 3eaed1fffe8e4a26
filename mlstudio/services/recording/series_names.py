"""What the series of a run are called, when several loggers bring numbers.

A name belongs to the logger that brought it first; another one's series of that name is called ``name (logger)``. What
was read from printed lines gives way: it was a guess, and whoever logs the name means it. Everything follows from the
names and loggers in the history, so that a recorder that was killed goes on in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PRINT = "print"
"""The logger of what was read from printed lines."""
SYSTEM = ""
"""Means nothing for system readings."""


@dataclass(slots=True)
class SeriesNames:
    """The series that a run has: (kind, name) to the logger. At most `cap` of them."""

    loggers: dict[tuple[str, str], str]
    cap: int
    renames: list[tuple[str, str]] = field(default_factory=list)
    """(old, new) of metrics that gave way since they were last taken."""
    _given: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.loggers)

    @property
    def is_full(self) -> bool:
        return len(self.loggers) >= self.cap

    def find(self, kind: str, name: str, logger: str) -> str | None:
        """What the logger's series is called, where there is one."""
        given = self._given.get((kind, name, logger))
        if given is not None:
            return given
        for known in (name, beside(name, logger)):
            if self.loggers.get((kind, known)) == logger or (
                kind != "metric" and (kind, known) in self.loggers
            ):
                self._given[kind, name, logger] = known
                return known
        return None

    def give(self, kind: str, name: str, logger: str) -> str:
        """What the logger's new series is called from now on."""
        known = name
        owner = self.loggers.get((kind, name))
        if owner == PRINT and logger != PRINT:
            aside = self._free(kind, beside(name, PRINT))
            self.loggers[kind, aside] = PRINT
            self._given = {key: value for key, value in self._given.items() if value != name}
            self.renames.append((name, aside))
        elif owner is not None:
            known = self._free(kind, beside(name, logger))
        self.loggers[kind, known] = logger
        self._given[kind, name, logger] = known
        return known

    def _free(self, kind: str, name: str) -> str:
        number = 2
        free = name
        while (kind, free) in self.loggers:
            free = f"{name} {number}"
            number += 1
        return free

    def take_renames(self) -> tuple[tuple[str, str], ...]:
        found = tuple(self.renames)
        self.renames.clear()
        return found


def beside(name: str, logger: str) -> str:
    """The name of a logger's series where another one has the plain name."""
    return f"{name} ({logger})"


def plain(name: str, logger: str) -> str:
    """The name as the logger itself gave it."""
    return name.removesuffix(f" ({logger})")


def names_of(loggers: Mapping[tuple[str, str], str], *, cap: int) -> SeriesNames:
    return SeriesNames(loggers=dict(loggers), cap=cap)
