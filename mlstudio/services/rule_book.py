"""The rules for printed lines that a user has made: kept in the settings, tried on runs that printed, applied to them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import LogLine
from mlstudio.services.printed import Printed
from mlstudio.services.printed_rules import MOST_RULES, PrintedRule, parse_rule, parse_rules
from mlstudio.services.recording.printed_series import PrintedSeries
from mlstudio.services.recording.progress import ProgressTracker
from mlstudio.services.recording.series_names import PRINT
from mlstudio.services.settings import Settings
from mlstudio.store import History

_SETTING = "printed.rules"
_LINES_AT_ONCE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """A line that a rule caught."""

    number: int
    """Of the line, counted from 0."""
    line: str
    found: Printed


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePreview:
    """What a rule would catch in a run's output."""

    rule: str
    names: tuple[str, ...]
    lines: int
    """Looked through."""
    caught: int
    examples: tuple[Caught, ...]


class RuleBook:
    """Rules by their numbers, counted from 1. They hold for runs that are launched from now on; `apply` is for others."""

    def __init__(self, settings: Settings, history: History) -> None:
        self._settings = settings
        self._history = history

    def rules(self) -> tuple[str, ...]:
        return self._settings.entries(_SETTING)

    def add(self, text: str) -> str:
        """Keep a rule, which comes before earlier ones; the rule as it is kept. Raises RequestError."""
        rule = parse_rule(text).text
        kept = [known for known in self.rules() if known != rule]
        if len(kept) >= MOST_RULES:
            raise RequestError(
                f"There are {MOST_RULES} rules already.",
                field="rules",
                try_this="Remove some that are not needed.",
            )
        self._settings.set(_SETTING, [rule, *kept])
        return rule

    def remove(self, which: str) -> str:
        """Forget a rule, by its number or as it is written. Raises NotFound."""
        kept = list(self.rules())
        place = int(which) - 1 if which.isdigit() else kept.index(which) if which in kept else -1
        if not 0 <= place < len(kept):
            raise NotFound(
                f"There is no rule {which}.",
                field="rules",
                try_this="`mlstudio rules` lists them with their numbers.",
            )
        removed = kept.pop(place)
        self._settings.set(_SETTING, kept)
        return removed

    def preview(self, text: str, run_id: str, *, most: int = 5) -> RulePreview:
        """What a rule would catch in what the run printed. Raises RequestError, NotFound."""
        rule = parse_rule(text)
        lines = caught = 0
        examples: list[Caught] = []
        for line in self._lines(run_id):
            lines += 1
            found = rule.match(line.text)
            if found is not None:
                caught += 1
                if len(examples) < most:
                    examples.append(Caught(number=line.number, line=line.text, found=found))
        return RulePreview(
            rule=rule.text, names=rule.names, lines=lines, caught=caught, examples=tuple(examples)
        )

    def apply(self, run_id: str, *, rules: Sequence[str] | None = None) -> dict[str, int]:
        """Take what the rules (all of them) find in the output of a run that is over: {new series: points}.

        Series that the run has already stay as they are, so that applying twice adds nothing.
        """
        summary = self._history.summary(run_id)
        if not summary.is_over:
            raise RequestError(
                f"{summary.name} is still {summary.state.value}.",
                field="run",
                try_this="Wait for its end: what it prints is still being read.",
            )
        wanted = parse_rules(self.rules() if rules is None else rules)
        points = self._found(run_id, wanted)
        if points:
            cursor = self._history.cursor(run_id)
            self._history.apply(
                run_id,
                Batch(
                    cursor=Cursor(seq=cursor.seq + 1, position=cursor.position, log_bytes=cursor.log_bytes),
                    points=tuple(points),
                ),
            )
            self._history.finish(run_id)
        return {part.name: len(part.values) for part in points}

    def _found(self, run_id: str, rules: tuple[PrintedRule, ...]) -> list[Points]:
        known = {metric.name for metric in self._history.metrics(run_id)}
        finder = PrintedSeries(ProgressTracker(), rules=rules, only_rules=True)
        parts: dict[str, Points] = {}
        for line in self._lines(run_id):
            data = line.text.encode() + b"\n"
            for point in finder.feed(data, [(False, len(data), line.time)]):
                if point.name in known:
                    continue
                part = parts.get(point.name)
                if part is None:
                    part = parts[point.name] = Points(
                        name=point.name,
                        kind="metric",
                        logger=PRINT,
                        steps=array("q"),
                        times=array("d"),
                        values=array("d"),
                    )
                part.steps.append(point.step)
                part.times.append(point.time)
                part.values.append(point.value)
        return list(parts.values())

    def _lines(self, run_id: str) -> Iterator[LogLine]:
        start = 0
        while lines := self._history.log(run_id, start=start, count=_LINES_AT_ONCE):
            yield from lines
            start += len(lines)
