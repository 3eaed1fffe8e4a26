"""Rules for numbers in printed lines that are not found by themselves: a line as an example, with names for its numbers.

A rule is the line with its numbers in braces: ``it {step} L={loss} A={acc}% {*}``. ``{name}`` stands for a number,
``{step}`` and ``{epoch}`` say where it belongs, ``{*}`` is anything up to what follows it. Runs of blanks count as one,
and the rule may match anywhere in a line. Matching goes from left to right and never back, so that no rule is slow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlstudio.model.errors import RequestError
from mlstudio.services.printed import COLOURS, LONGEST_LINE, Printed

MOST_RULES = 100
_MOST_PARTS = 40
_LONGEST_RULE = 500
_ANYTHING = "*"
_PLACES = ("step", "epoch")
_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)\b",
    re.IGNORECASE,
)
_IN_EXAMPLE = re.compile(rf"(?<![\w.])(?:{_NUMBER.pattern})(?!\w|\.\w)", re.IGNORECASE)
_WITH_UNIT = re.compile(
    rf"(?<![\w.])(?:{_NUMBER.pattern})(?=(?:ms|us|s|m|h|sec|secs|min|it/s|s/it|[kKMGT]i?B?|x|d)(?![\w/]))",
    re.IGNORECASE,
)
_TOTAL = re.compile(r"\s?/\s?\d+(?![\d.])")
_STAMP = re.compile(
    r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{1,4}(?:[T ]?\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?|\d{1,3}:\d{2}(?::\d{2})?"
)
_STEP_WORDS = ("step", "steps", "it", "iter", "iters", "iteration", "batch", "update", "round", "episode")
_EPOCH_WORDS = ("epoch", "epochs", "ep")
_NO_METRIC = re.compile(r"\s*(?:ms|s|sec|secs|seconds|min|h|it/s|s/it|MB|GB|MiB|GiB|B|x)\b")
_LAST_WORD = re.compile(r"([A-Za-z_][\w./@-]*)[\s:=\[(<|'\"]*$")


@dataclass(frozen=True, slots=True)
class PrintedRule:
    """A rule, ready to match. `parts` are texts, and tuples of one name for what stands in braces."""

    text: str
    parts: tuple[str | tuple[str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The series that it makes."""
        found = [part[0] for part in self.parts if isinstance(part, tuple)]
        return tuple(name for name in found if name not in (*_PLACES, _ANYTHING))

    def match(self, line: str) -> Printed | None:
        """The numbers in a line, as a terminal would leave it; None for a line of another shape."""
        if "\r" in line:
            line = line.rstrip("\r\n").rpartition("\r")[2]
        if "\x1b" in line:
            line = COLOURS.sub("", line)
        line = " ".join(line.split())
        if len(line) > LONGEST_LINE:
            return None
        first = self.parts[0]
        if not isinstance(first, str):
            return self._match_at(line, 0, is_first=True)
        first = first.strip()
        begin = line.find(first)
        for _ in range(20):
            if begin < 0:
                return None
            found = self._match_at(line, begin, is_first=False)
            if found is not None:
                return found
            begin = line.find(first, begin + 1)
        return None

    def _match_at(self, line: str, place: int, *, is_first: bool) -> Printed | None:
        values: dict[str, float] = {}
        anywhere = is_first
        for part in self.parts:
            if isinstance(part, str):
                found = _after(line, part, place, anywhere=anywhere)
                if found is None:
                    return None
                place = found
                anywhere = False
            elif part[0] == _ANYTHING:
                anywhere = True
            else:
                number = _NUMBER.search(line, place) if anywhere else _NUMBER.match(line, place)
                if number is None:
                    return None
                values[part[0]] = float(number.group().replace(",", ""))
                place = number.end()
                anywhere = False
        step, epoch = values.pop("step", None), values.pop("epoch", None)
        return Printed(
            values=values,
            step=int(step) if step is not None and abs(step) < 2**53 else None,
            epoch=epoch if epoch is not None and abs(epoch) < 2**53 else None,
        )


def _after(line: str, part: str, place: int, *, anywhere: bool) -> int | None:
    """Where the line goes on behind the words `part`; None if they are not there. Numbers are set with blanks, so those
    beside the words may be there or not."""
    words = part.strip()
    if not words:
        return place + 1 if line[place : place + 1] == " " else place if anywhere else None
    if anywhere:
        place = line.find(words, place)
        if place < 0:
            return None
    else:
        while line[place : place + 1] == " ":
            place += 1
        if not line.startswith(words, place):
            return None
    place += len(words)
    return place + 1 if line[place : place + 1] == " " else place


def parse_rule(text: str) -> PrintedRule:
    """A rule as it is written. Raises RequestError."""
    written = " ".join(text.split())
    if len(written) > _LONGEST_RULE:
        raise _wrong(text, f"It is longer than {_LONGEST_RULE} characters.")
    parts: list[str | tuple[str]] = []
    place = 0
    for brace in re.finditer(r"\{([^{}]*)\}", written):
        if brace.start() > place:
            parts.append(written[place : brace.start()])
        name = brace.group(1).strip()
        if name != _ANYTHING and not re.fullmatch(r"[^\W\d][\w ./@%()-]{0,99}", name):
            raise _wrong(text, f"“{{{name}}}” is no name for a number.")
        if parts and isinstance(parts[-1], tuple):
            raise _wrong(
                text, f"“{{{parts[-1][0]}}}” and “{{{name}}}” stand side by side: nothing tells them apart."
            )
        if name != _ANYTHING and (name,) in parts:
            raise _wrong(text, f"“{{{name}}}” stands in it twice.")
        parts.append((name,))
        place = brace.end()
    if place < len(written):
        parts.append(written[place:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        raise _wrong(text, "A brace is not closed, or not opened.")
    if len(parts) > _MOST_PARTS:
        raise _wrong(text, "It has too many parts.")
    while parts and parts[-1] == (_ANYTHING,):
        parts.pop()
    while parts and parts[0] == (_ANYTHING,):
        parts.pop(0)
    rule = PrintedRule(written, tuple(parts))
    if not rule.names:
        raise _wrong(text, "It names no number.")
    if not any(isinstance(part, str) and part.strip() for part in parts):
        raise _wrong(text, "It has no words of its own, so every number in every line would do.")
    return rule


def parse_rules(texts: Sequence[str]) -> tuple[PrintedRule, ...]:
    """The rules that can be used of those that were written down; one that cannot is left out."""
    found = []
    for text in texts[:MOST_RULES]:
        try:
            found.append(parse_rule(text))
        except RequestError:
            continue
    return tuple(found)


def suggest_rule(example: str) -> str:
    """A rule for lines like `example`: numbers are named by the words before them, what looks like a time or a speed
    may be anything. Raises RequestError for a line without numbers."""
    line = " ".join(example.split())[:_LONGEST_RULE]
    pieces: list[str] = []
    used: set[str] = set()
    place = 0
    for begin, end, is_stamp in _spots(line):
        before = line[place:begin]
        pieces.append(before.replace("{", "").replace("}", ""))
        name = _ANYTHING
        whole = _TOTAL.match(line, end) if line[begin:end].isdigit() else None
        if not is_stamp and whole is not None and "step" not in used and not _named(line[:begin]):
            name = "step"
        elif not is_stamp and not _NO_METRIC.match(line, end):
            name = _name_for(line[:begin], used)
        if name == _ANYTHING and pieces[-1] == "" and len(pieces) > 1:
            pieces.pop()
        else:
            pieces.append(f"{{{name}}}")
            used.add(name)
        place = end
        # "12/100": how many there will be is no metric.
        if whole is not None:
            pieces.append(re.sub(r"\d+", "", whole.group()))
            pieces.append("{*}")
            place = whole.end()
    pieces.append(line[place:].replace("{", "").replace("}", ""))
    text = "".join(pieces).strip()
    parse_rule(text)
    return text


def _spots(line: str) -> list[tuple[int, int, bool]]:
    """(begin, end, whether it is a date or a time) of each number."""
    found = [(match.start(), match.end(), True) for match in _STAMP.finditer(line)]
    found += [(match.start(), match.end(), True) for match in _WITH_UNIT.finditer(line)]
    for match in _IN_EXAMPLE.finditer(line):
        if not any(begin < match.end() and match.start() < end for begin, end, _ in found):
            found.append((match.start(), match.end(), False))
    kept: list[tuple[int, int, bool]] = []
    for spot in sorted(found):
        last = kept[-1] if kept else None
        if (
            last is not None
            and line[last[0] : last[1]].isdigit()
            and _TOTAL.fullmatch(line, last[1], spot[1])
        ):
            continue  # how many there will be
        kept.append(spot)
    return kept


def _named(before: str) -> bool:
    return _LAST_WORD.search(before) is not None


def _name_for(before: str, used: set[str]) -> str:
    word = _LAST_WORD.search(before)
    name = word.group(1).rstrip("./-") if word is not None else ""
    if name.lower() in _STEP_WORDS and "step" not in used:
        return "step"
    if name.lower() in _EPOCH_WORDS and "epoch" not in used:
        return "epoch"
    name = name or "value"
    if name not in used:
        return name
    return next(f"{name}{number}" for number in range(2, 1000) if f"{name}{number}" not in used)


def _wrong(text: str, why: str) -> RequestError:
    return RequestError(
        f"“{text[:80]}” is no rule for printed lines.",
        field="rules",
        why=why,
        try_this="A rule is a line with names for its numbers: it {step} L={loss} A={acc}% {*}",
    )
