"""What uses how much: of the history, and beside it."""

from __future__ import annotations

from dataclasses import dataclass

RECORDS = ("metrics", "system", "log", "media")
"""The kinds of records of a run that are large, and may be forgotten one by one (metrics excepted)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSize:
    """Bytes that a run's records take in the history, as they are packed there."""

    run_id: str
    number: int
    name: str
    metrics: int = 0
    system: int = 0
    log: int = 0
    media: int = 0

    @property
    def total(self) -> int:
        return self.metrics + self.system + self.log + self.media


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySizes:
    """Bytes in the history's file. `free` is room inside it that nothing uses (`History.give_back`)."""

    file: int
    free: int
    runs: int
    points: int
    metrics: int
    system: int
    log: int
    media: int
    largest: tuple[RunSize, ...]

    @property
    def rest(self) -> int:
        """Names, settings, environments, indexes, and what the file itself needs."""
        return max(0, self.file - self.free - self.metrics - self.system - self.log - self.media)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was taken out of the history."""

    runs: int = 0
    bytes: int = 0
