"""What may stand at a place of a filter: names that exist, what to do with them, values that they have."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection

from mlstudio.model.errors import QueryError
from mlstudio.model.run import RunState
from mlstudio.store.query.names import (
    ATTRIBUTES,
    FIELDS,
    Attribute,
    Meaning,
    Metric,
    Names,
    Parameter,
    Sort,
    plain,
    written,
)
from mlstudio.store.query.syntax import OPERATORS
from mlstudio.store.query.tokens import LONGEST, Kind, Token, tokens

_MOST = 50
_MOST_VALUES = 30
_JOINTS = ("and", "or", "not", "(")


@dataclass(frozen=True, slots=True)
class CompletionItem:
    """`text` is what is put in; `kind`: attribute, parameter, metric, field, operator, value, word."""

    text: str
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class Completion:
    """`items` may stand in place of the characters from `start` to `end`."""

    start: int
    end: int
    items: tuple[CompletionItem, ...]


def complete(connection: Connection, text: str, position: int) -> Completion:
    """What may stand at `position`. Never raises for what is written there."""
    position = max(0, min(position, len(text), LONGEST))
    before = text[:position]
    begin = position - len(re.search(r"[^\s()<>=!~,]*$", before).group())  # type: ignore[union-attr]
    typed = before[begin:]
    try:
        past = tokens(before[:begin])[:-1]
    except QueryError:
        # Inside of a string that is still open.
        quote = max(before.rfind('"'), before.rfind("'"), before.rfind("`"))
        if quote < 0:
            return Completion(position, position, ())
        begin, typed = quote, before[quote:]
        try:
            past = tokens(before[: max(0, quote)])[:-1]
        except QueryError:
            return Completion(position, position, ())
    names = Names(connection)
    items = _items(connection, names, past, typed)
    return Completion(begin, position, tuple(_fitting(items, typed)))


def _items(connection: Connection, names: Names, past: list[Token], typed: str) -> list[CompletionItem]:
    last = past[-1] if past else None
    if last is None or last.small in _JOINTS or (last.value == "(" and not _after_in(past)):
        return _names(names, typed)
    if last.kind is Kind.SIGN and (last.value in OPERATORS or last.value in (",", "(")):
        return _values(connection, names, _subject(past))
    if last.small == "contains":
        return _values(connection, names, _subject(past))
    if last.small == "in":
        return [
            CompletionItem("tags", "attribute", ATTRIBUTES["tags"].sentence),
            CompletionItem("(", "operator", "a list of values"),
        ]
    if last.small == "is":
        return [CompletionItem(word, "word", "") for word in ("missing", "not missing", "nan", "not nan")]
    before = past[-2] if len(past) > 1 else None
    is_value = before is not None and (before.value in OPERATORS or before.small in ("in", "contains", "is"))
    if not is_value and last.kind in (Kind.WORD, Kind.NAME):
        try:
            return _operators(names.meaning(last))
        except QueryError:
            pass
    if last.kind is Kind.TEXT and not is_value:
        return [CompletionItem("in tags", "operator", "has this tag"), *_joints()]
    return _joints()


def _after_in(past: list[Token]) -> bool:
    return len(past) > 1 and past[-2].small == "in"


def _subject(past: list[Token]) -> Token | None:
    """The name that the values at the end belong to."""
    for place in range(len(past) - 1, -1, -1):
        token = past[place]
        if (token.value in OPERATORS and token.kind is Kind.SIGN) or token.small in ("in", "contains"):
            place -= 1
            while place > 0 and past[place].small == "not":
                place -= 1
            return past[place] if place >= 0 else None
    return None


def _names(names: Names, typed: str) -> list[CompletionItem]:
    found = [
        CompletionItem(one.name, "attribute", f"{one.sentence} {one.example}") for one in ATTRIBUTES.values()
    ]
    found += [CompletionItem(written(name), "parameter", "parameter") for name in names.parameters()]
    for name in names.metrics():
        found.append(CompletionItem(written(name), "metric", "metric: its last value"))
        if "." in typed and not written(name).startswith("`") and plain(typed).startswith(plain(name)):
            found += [
                CompletionItem(f"{name}.{field}", "field", f"metric: {what}")
                for field, what in FIELDS.items()
            ]
    if typed.lower().startswith("system"):
        found += [
            CompletionItem(f"system.{name}", "metric", "reading of the machine") for name in names.readings()
        ]
    found.append(CompletionItem("not", "word", "turns what follows into its opposite"))
    return found


def _operators(meaning: Meaning) -> list[CompletionItem]:
    numbers = [
        CompletionItem(sign, "operator", what)
        for sign, what in (
            ("<", "less"), ("<=", "at most"), (">", "more"), (">=", "at least"), ("=", "equal"), ("!=", "not equal"),
        )
    ]  # fmt: skip
    texts = [
        CompletionItem("=", "operator", "equal"), CompletionItem("!=", "operator", "not equal"),
        CompletionItem("~", "operator", "fits a pattern with * and ?"),
        CompletionItem("contains", "operator", "has a part"),
        CompletionItem("in (", "operator", "is one of"),
    ]  # fmt: skip
    missing = [
        CompletionItem("is missing", "operator", "no such value"),
        CompletionItem("is not missing", "operator", "any value"),
    ]
    match meaning:
        case Attribute(_, Sort.TEXT | Sort.SET):
            return [*texts, *missing]
        case Attribute(_, Sort.FLAG):
            return [CompletionItem("= true", "operator", ""), CompletionItem("= false", "operator", "")]
        case Attribute():
            return [*numbers, *missing]
        case Parameter():
            return [*numbers, *texts[2:], *missing]
        case Metric():
            return [*numbers, CompletionItem("is nan", "operator", "not a number"), *missing]


def _values(connection: Connection, names: Names, subject: Token | None) -> list[CompletionItem]:
    if subject is None:
        return []
    try:
        meaning = names.meaning(subject)
    except QueryError:
        return []
    match meaning:
        case Attribute("state"):
            return [CompletionItem(state.value, "value", "") for state in RunState]
        case Attribute("tags"):
            return _texts(connection, "SELECT DISTINCT tag FROM tag ORDER BY tag LIMIT ?")
        case Attribute("host" | "engine" as name):
            return _texts(
                connection, f"SELECT DISTINCT {name} FROM run WHERE {name} != '' ORDER BY {name} LIMIT ?"
            )
        case Attribute(_, Sort.TIME):
            examples = ("today", "yesterday", '"1 hour ago"', '"2 days ago"', '"1 week ago"', "monday")
            return [CompletionItem(one, "value", "") for one in examples]
        case Attribute(_, Sort.DURATION):
            return [CompletionItem(one, "value", "") for one in ("5min", "1h", "1h30m", "1d")]
        case Attribute(_, Sort.FLAG):
            return [CompletionItem(one, "value", "") for one in ("true", "false")]
        case Parameter(found):
            return _texts(
                connection,
                "SELECT DISTINCT value FROM (SELECT value FROM parameter WHERE name = ? ORDER BY run DESC LIMIT 2000) "
                "ORDER BY CAST(value AS REAL), value LIMIT ?",
                found[0],
            )
    return []


def _texts(connection: Connection, sql: str, *values: str) -> list[CompletionItem]:
    rows = connection.exec_driver_sql(sql, (*values, _MOST_VALUES))
    return [CompletionItem(_value(str(row[0])), "value", "") for row in rows]


def _value(text: str) -> str:
    if re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?|[A-Za-z_][\w./-]*", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _joints() -> list[CompletionItem]:
    return [CompletionItem("and", "word", "both hold"), CompletionItem("or", "word", "one of them holds")]


def _fitting(items: list[CompletionItem], typed: str) -> list[CompletionItem]:
    """Those that begin with what was typed, then those that contain it."""
    small = typed.lower().strip("`\"'")
    first = [item for item in items if item.text.lower().strip("`\"'").startswith(small)]
    rest = [
        item
        for item in items
        if item not in first
        and small
        and (small in item.text.lower() or (plain(small) and plain(small) in plain(item.text)))
    ]
    return [*first, *rest][:_MOST]
