"""Series from printed lines: puts lines together, finds their numbers, and gives each a step.

Used only for names under which the run logs nothing itself. Everything here follows from what is already in the
history plus the next bytes of output, so that a recorder that was killed goes on with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlstudio.services.printed import LONGEST_LINE, Printed, parse_line
from mlstudio.services.printed_rules import PrintedRule
from mlstudio.services.recording.progress import ProgressTracker

_LINES_AT_ONCE = 1000
"""Of one frame's output at most so many lines are looked at: who prints more does not mean it for reading."""


@dataclass(frozen=True, slots=True)
class PrintedPoint:
    name: str
    step: int
    time: float
    value: float
    is_first: bool
    """The first point under this name: worth an event, with `line`."""
    line: str


@dataclass(slots=True)
class PrintedSeries:
    """Finds points in output. `last_steps`: of each series that was found in print so far. `logged`: names that the run
    logs itself. `rules`: for lines that are not understood by themselves; `only_rules`: nothing but these. `output` and
    `error`: the unfinished lines so far. `epoch`: the last epoch that was announced."""

    progress: ProgressTracker
    rules: tuple[PrintedRule, ...] = ()
    only_rules: bool = False
    last_steps: dict[str, int] = field(default_factory=dict)
    output: bytes = b""
    error: bytes = b""
    epoch: float | None = None
    _logged: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def logs(self, names: Iterable[str]) -> list[str]:
        """The run logs these itself. Returns those that were taken from print until now."""
        ended: list[str] = []
        for name in names:
            if name in self._seen:
                continue
            self._seen.add(name)
            plain = _plain(name)
            self._logged.add(plain)
            for known in [found for found in self.last_steps if _is_same(_plain(found), plain)]:
                del self.last_steps[known]
                ended.append(known)
        return ended

    def feed(self, data: bytes, spans: Iterable[tuple[bool, int, float]]) -> list[PrintedPoint]:
        """The points in output that comes next."""
        found: list[PrintedPoint] = []
        place = 0
        left = _LINES_AT_ONCE
        for is_error, count, time in spans:
            part = data[place : place + count]
            place += count
            lines = part.split(b"\n")
            lines[0] = (self.error if is_error else self.output) + lines[0]
            # Of a line that is too long only the end can matter: that of a bar that is drawn over and over.
            rest = lines.pop()[-LONGEST_LINE - 1 :]
            if is_error:
                self.error = rest
            else:
                self.output = rest
            for line in lines[: max(0, left)]:
                self._line(line, time, found)
            left -= len(lines)
        return found

    def _line(self, line: bytes, time: float, found: list[PrintedPoint]) -> None:
        if b"\r" in line:
            line = line.rstrip(b"\r").rpartition(b"\r")[2]
        if len(line) > LONGEST_LINE:
            return
        text = line.decode("utf-8", "replace")
        printed = self._parse(text)
        if not printed:
            return
        self.progress.learn_totals(epochs=printed.total_epochs, steps=printed.total_steps)
        if printed.epoch is not None:
            self.progress.saw_epoch(printed.epoch, time, is_over=bool(printed.values) and not printed.inner)
            if not printed.values:
                self.epoch = printed.epoch
        if printed.step is not None:
            self.progress.saw_step(printed.step, time)
        for name, value in printed.values.items():
            if any(_is_same(_plain(name), logged) for logged in self._logged):
                continue
            step = self._step(name, printed)
            found.append(PrintedPoint(name, step, time, value, name not in self.last_steps, text))
            self.last_steps[name] = step

    def _parse(self, text: str) -> Printed:
        """By the first rule that fits, else as lines are read without rules."""
        for rule in self.rules:
            found = rule.match(text)
            if found is not None:
                return found
        return Printed() if self.only_rules else parse_line(text)

    def _step(self, name: str, printed: Printed) -> int:
        """The printed step, else the epoch where it goes on, else one more than the last."""
        if printed.step is not None:
            return printed.step
        last = self.last_steps.get(name)
        epoch = printed.epoch if printed.epoch is not None else self.epoch
        if epoch is not None and epoch == int(epoch) and not printed.inner and (last is None or epoch > last):
            return int(epoch)
        return 0 if last is None else last + 1


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _is_same(printed: str, logged: str) -> bool:
    """``loss`` in print and ``train/loss`` in the log are one thing said twice."""
    return logged == printed or logged.endswith("_" + printed)
