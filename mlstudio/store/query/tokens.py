"""Words, numbers, strings and signs of a filter, each with its place in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from mlstudio.model.errors import QueryError

LONGEST = 10_000
"""Characters of a filter."""

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_UNITS = r"(?:%|[kMGT]i?B|[kKMGT](?![A-Za-z])|B(?![A-Za-z]))"
_DURATION = r"\d+(?:\.\d+)?(?:ms|s|sec|secs|min|mins|m|h|hours?|days?|d|weeks?|w)"
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`[^`]*`)
    | (?P<date>\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}})?)?(?![\w-]))
    | (?P<duration>(?:{_DURATION})+(?![\w.]))
    | (?P<number>{_NUMBER}{_UNITS}?(?![\w.]))
    | (?P<sign><=|>=|!=|<>|==|!~|=|<|>|~|\(|\)|,)
    | (?P<word>[^\s"'`()<>=!~,]+)
    """,
    re.VERBOSE,
)


_NO_CHARACTER = re.compile("[\ud800-\udfff]")


class Kind(StrEnum):
    TEXT = "text"
    """A string; `value` without quotes."""
    NAME = "name"
    """A name in backticks."""
    NUMBER = "number"
    DURATION = "duration"
    DATE = "date"
    SIGN = "sign"
    WORD = "word"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    value: str
    start: int
    end: int

    @property
    def small(self) -> str:
        """The word in lower case; empty for all that is no plain word, so that a keyword in quotes is none."""
        return self.value.lower() if self.kind is Kind.WORD else ""


def tokens(text: str) -> list[Token]:
    """The filter's tokens, an END last. Raises QueryError."""
    if len(text) > LONGEST:
        raise QueryError(f"The filter is longer than {LONGEST:,} characters.", start=LONGEST, end=LONGEST + 1)
    odd = _NO_CHARACTER.search(text)
    if odd is not None:
        raise QueryError("Here is half a character.", start=odd.start(), end=odd.end())
    found: list[Token] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _no_token(text, place)
        kind, value = match.lastgroup, match.group()
        assert kind is not None
        if kind == "text":
            found.append(Token(Kind.TEXT, _unquoted(value), place, match.end()))
        elif kind == "quoted":
            found.append(Token(Kind.NAME, value[1:-1], place, match.end()))
        elif kind != "space":
            found.append(Token(Kind(kind), value, place, match.end()))
        place = match.end()
    found.append(Token(Kind.END, "", len(text), len(text)))
    return found


def _no_token(text: str, place: int) -> QueryError:
    sign = text[place]
    if sign in "\"'`":
        return QueryError(
            "A quotation mark is not closed.",
            start=place,
            end=len(text),
            try_this=f"Put {sign} at the end of the text.",
        )
    return QueryError(
        f"“{sign}” means nothing here.", start=place, end=place + 1, try_this="Known: = != < <= > >= ~ !~ ( )"
    )


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
