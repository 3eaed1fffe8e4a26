"""From a filter's tree to SQL. Values are always bound; names of tables and columns stand here and nowhere else.

A run that has no such parameter or metric fits no comparison of it (and so fits ``not (lr < 1)``, but not
``lr >= 1``). Parameters compare as numbers where the value reads as one, else as texts. NaN compares as it does
everywhere: with nothing, but it is unequal to all.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
    union_all,
)

from mlstudio.model.errors import QueryError
from mlstudio.model.run import RunState
from mlstudio.store.query.names import ATTRIBUTES, Attribute, Meaning, Metric, Names, Parameter, Sort
from mlstudio.store.query.syntax import And, Compare, Contains, In, Is, Node, Not, Or, Words
from mlstudio.store.query.tokens import Kind, Token
from mlstudio.store.query.values import duration, flag, moment, needs, number
from mlstudio.store.schema import parameter, run, series, tag

Condition = ColumnElement[bool]

_OPERATORS: dict[str, Callable[[Any, Any], Condition]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
# The plus keeps SQLite from walking through the runs that fit in the order of their numbers, and then sorting them all:
# it walks in the order that is wanted, and looks each run up among those that fit.
_NUMBER: ColumnElement[int] = literal_column("+run.number", Integer)
_SAME = 1e-6
"""Metrics are often singles: as equal counts what differs by less than this share."""
_MOST_WILDCARDS = 10
_TEXT_COLUMNS: dict[str, ColumnElement[Any]] = {
    "name": run.c.name, "id": run.c.id, "state": run.c.state, "note": run.c.note, "host": run.c.host,
    "engine": run.c.engine, "image": run.c.image_tag, "commit": run.c.commit_hash, "command": run.c.command,
    "reason": run.c.exit_reason, "message": run.c.exit_message,
}  # fmt: skip
# 2440587.5 is the Julian day of the epoch.
DURATION = func.coalesce(run.c.ended, (func.julianday("now") - 2440587.5) * 86400.0) - run.c.started
_NUMBER_COLUMNS: dict[str, ColumnElement[Any]] = {
    "number": run.c.number, "exit": run.c.exit_code, "gaps": run.c.gaps, "created": run.c.created,
    "started": run.c.started, "ended": run.c.ended, "duration": DURATION,
    "progress": run.c.progress_done / func.nullif(run.c.progress_total, 0.0),
}  # fmt: skip
_FIELD_COLUMNS: dict[str, ColumnElement[Any]] = {
    "last": series.c.last, "min": series.c.minimum, "max": series.c.maximum, "count": series.c["count"],
    "step": series.c.last_step, "min_step": series.c.minimum_step, "max_step": series.c.maximum_step,
}  # fmt: skip


def condition(node: Node, names: Names, *, walks: bool = False) -> Condition:
    """The condition on rows of `run`. Raises QueryError for a name that nothing has and a value of a wrong kind.

    Which runs have a fitting parameter, metric or tag is found for all of them at once, or (`walks`) for each run as it
    comes: that is better where many fit and few are wanted.
    """
    return Conditions(names, walks=walks).of(node)


class Conditions:
    """Makes conditions of the parts of a filter."""

    def __init__(self, names: Names, *, walks: bool) -> None:
        self._names = names
        self._walks = walks

    def _fits(self, rows: Select[Any], of: ColumnElement[int]) -> Condition:
        """Whether a run is among `rows`, a selection of its numbers (the column `of`)."""
        if self._walks:
            return rows.where(of == run.c.number).exists()
        return _NUMBER.in_(rows)

    def of(self, node: Node) -> Condition:
        """The condition on rows of `run`. Raises QueryError for a name that nothing has and a value of a wrong kind."""
        match node:
            case And(parts):
                return and_(*[self.of(part) for part in parts])
            case Or(parts):
                return or_(*[self.of(part) for part in parts])
            case Not(inner):
                # NULL, where a run lacks what is asked for, counts as false: its negation is true.
                return not_(func.coalesce(self.of(inner), literal(0)))
            case Words(value):
                return and_(true(), *[self.holds_word(word) for word in _searched(value)])
            case Compare(name, op, value):
                return self._compare(self._names.meaning(name), op, value)
            case In(name, values):
                meaning = self._names.meaning(name)
                return or_(*[self._compare(meaning, "=", value) for value in values])
            case Contains(name, value):
                return self._contains(self._names.meaning(name), name, value)
            case Is(name, what):
                return self._is(self._names.meaning(name), name, what)

    def holds_word(self, word: str) -> Condition:
        """Name, note, command, commit, image, a tag or a parameter holds the word, whatever its case."""
        return or_(
            _like(run.c.name, word),
            _like(run.c.note, word),
            _like(run.c.command, word),
            _like(run.c.commit_hash, word),
            _like(run.c.image_tag, word),
            self._fits(select(tag.c.run).where(_like(tag.c.tag, word)), tag.c.run),
            self._fits(
                select(parameter.c.run).where(
                    or_(_like(parameter.c.name, word), _like(parameter.c.value, word))
                ),
                parameter.c.run,
            ),
        )

    def _compare(self, meaning: Meaning, op: str, value: Token) -> Condition:
        match meaning:
            case Parameter(names):
                return self._compare_parameter(names, op, value)
            case Metric():
                return self._compare_metric(meaning, op, value)
            case Attribute(name, Sort.TEXT):
                return _compare_text(name, _TEXT_COLUMNS[name], op, value)
            case Attribute(name, Sort.SET):
                return self._compare_set(name, op, value)
            case Attribute(name, Sort.FLAG):
                return _compare_flag(name, op, value)
            case Attribute(name, Sort.TIME):
                return _compare_time(meaning, op, value)
        column = _NUMBER_COLUMNS[meaning.name]
        wanted = duration(value) if meaning.sort is Sort.DURATION else number(value)
        if wanted is None or op in ("~", "!~"):
            what = {Sort.DURATION: "duration", Sort.SHARE: "share"}.get(meaning.sort, "number")
            raise needs(value, what, meaning.example)
        if meaning.sort is Sort.SHARE and wanted > 1:
            wanted /= 100
        return _numeric(column, op, wanted)

    def _compare_set(self, name: str, op: str, value: Token) -> Condition:
        if op not in ("=", "!=", "~", "!~"):
            raise needs(value, "way to compare a set", ATTRIBUTES[name].example)
        if name == "gpus":
            found = _glob(run.c.gpus, Token(value.kind, value.value.strip("*"), value.start, value.end))
        else:
            fits = (
                _glob(tag.c.tag, value) if op in ("~", "!~") else func.lower(tag.c.tag) == value.value.lower()
            )
            found = self._fits(select(tag.c.run).where(fits), tag.c.run)
        return found if op in ("=", "~") else not_(found)

    def _contains(self, meaning: Meaning, name: Token, value: Token) -> Condition:
        match meaning:
            case Attribute("tags"):
                return self._compare_set("tags", "=", value)
            case Attribute("gpus"):
                return _like(run.c.gpus, value.value)
            case Attribute(attribute, Sort.TEXT):
                return _like(_TEXT_COLUMNS[attribute], value.value)
            case Parameter(names):
                return self._fits(
                    _parameters(names).where(_like(parameter.c.value, value.value)), parameter.c.run
                )
        raise QueryError(
            f"“{name.value}” is a number, which contains nothing.", start=name.start, end=name.end,
            try_this=f"Compare it: {name.value} > 0.5",
        )  # fmt: skip

    def _is(self, meaning: Meaning, name: Token, what: str) -> Condition:
        match meaning:
            case Parameter(names):
                if what == "nan":
                    return self._fits(
                        _parameters(names).where(func.lower(parameter.c.value) == "nan"), parameter.c.run
                    )
                return not_(self._fits(_parameters(names), parameter.c.run))
            case Metric():
                if what == "nan":
                    return self._runs_with(meaning, _FIELD_COLUMNS[meaning.field].is_(None))
                return not_(self._runs_with(meaning, true()))
        if what == "nan":
            raise QueryError(f"“{name.value}” is never NaN.", start=name.start, end=name.end)
        if meaning.name == "tags":
            return not_(self._fits(select(tag.c.run), tag.c.run))
        if meaning.name == "gpus":
            return run.c.gpus == "[]"
        column = _TEXT_COLUMNS.get(meaning.name)
        if column is not None:
            return func.coalesce(column, "") == ""
        column = _NUMBER_COLUMNS.get(meaning.name)
        return false() if column is None else column.is_(None)

    def _compare_parameter(self, names: tuple[str, ...], op: str, value: Token) -> Condition:
        if op in ("~", "!~"):
            fits = _glob(parameter.c.value, value)
            return self._fits(_parameters(names).where(fits if op == "~" else not_(fits)), parameter.c.run)
        wanted = number(value) if value.kind is not Kind.TEXT else None
        if wanted is not None and not math.isnan(wanted):
            if op == "!=":
                # A text is another value than any number.
                unequal = or_(parameter.c.number != wanted, parameter.c.number.is_(None))
                return self._fits(_parameters(names).where(unequal), parameter.c.run)
            return self._fits(
                _parameters(names).where(_OPERATORS[op](parameter.c.number, wanted)), parameter.c.run
            )
        fits = _OPERATORS[op](func.lower(parameter.c.value), value.value.lower())
        return self._fits(_parameters(names).where(fits), parameter.c.run)

    def _compare_metric(self, meaning: Metric, op: str, value: Token) -> Condition:
        wanted = number(value)
        if wanted is None or op in ("~", "!~"):
            raise needs(value, "number", f"{meaning.names[0]}.{meaning.field} > 0.5")
        column = _FIELD_COLUMNS[meaning.field]
        if math.isnan(wanted):
            return self._runs_with(
                meaning, column.is_(None) if op == "=" else column.is_not(None) if op == "!=" else false()
            )
        if op in ("=", "!=") and math.isfinite(wanted):
            room = abs(wanted) * _SAME
            equal = column.between(wanted - room, wanted + room)
            return self._runs_with(meaning, equal if op == "=" else or_(not_(equal), column.is_(None)))
        if op == "!=":
            return self._runs_with(meaning, or_(column != wanted, column.is_(None)))
        return self._runs_with(meaning, _OPERATORS[op](column, wanted))

    def _runs_with(self, meaning: Metric, fits: Condition) -> Condition:
        if self._walks:
            rows = select(series.c.run).where(
                series.c.kind == meaning.kind, series.c.name.in_(meaning.names), fits
            )
            return self._fits(rows, series.c.run)
        return _NUMBER.in_(metric_rows(meaning, series.c.run, fits=fits))


def _searched(token: Token) -> list[str]:
    """Words are searched for one by one, what stands in quotation marks as it is."""
    return [token.value] if token.kind is Kind.TEXT else token.value.split()


def _like(column: ColumnElement[Any], part: str) -> Condition:
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(f"%{escaped}%", escape="\\")


def _glob(column: ColumnElement[Any], pattern: Token) -> Condition:
    """Matches a pattern with * and ? from end to end, whatever the case; without these, a part of the text."""
    words = pattern.value
    if "*" not in words and "?" not in words:
        return _like(column, words)
    if sum(words.count(sign) for sign in "*?") > _MOST_WILDCARDS:
        raise QueryError(
            f"A pattern has at most {_MOST_WILDCARDS} of * and ?.", start=pattern.start, end=pattern.end
        )
    return func.lower(column).op("GLOB")(words.lower().replace("[", "[[]"))


# -- attributes -------------------------------------------------------------------------------------------------------


def _numeric(column: ColumnElement[Any], op: str, wanted: float) -> Condition:
    if math.isnan(wanted):
        return column.is_not(None) if op == "!=" else false()
    return _OPERATORS[op](column, wanted)


def _compare_text(name: str, column: ColumnElement[Any], op: str, value: Token) -> Condition:
    if op in ("~", "!~"):
        found = _glob(column, value)
        return found if op == "~" else and_(column.is_not(None), not_(found))
    if op not in ("=", "!="):
        raise QueryError(
            f"“{name}” is a text, which is not more or less than another.",
            start=value.start,
            end=value.end,
            try_this=f"For example: {ATTRIBUTES[name].example}",
        )
    wanted = value.value
    if name == "state":
        known = [state.value for state in RunState]
        if wanted.lower() not in known:
            raise needs(value, "state", f"state = failed ({', '.join(known)})")
    return _OPERATORS[op](func.lower(column), wanted.lower())


def _compare_flag(name: str, op: str, value: Token) -> Condition:
    wanted = flag(value)
    if wanted is None or op not in ("=", "!="):
        raise needs(value, "yes or no", ATTRIBUTES[name].example)
    is_so = run.c.archived != 0 if name == "archived" else run.c.engine_kind == "imported"
    return is_so if wanted == (op == "=") else not_(is_so)


def _compare_time(meaning: Attribute, op: str, value: Token) -> Condition:
    column = _NUMBER_COLUMNS[meaning.name]
    found = moment(value)
    if found is None or op in ("~", "!~"):
        raise needs(value, "time", f'{meaning.example}, "3 hours ago", yesterday, monday, 2026-11-01')
    begin, end = found
    match op:
        case "=" | "!=":
            inside = and_(column >= begin, column < end) if end > begin else column == begin
            return inside if op == "=" else and_(column.is_not(None), not_(inside))
        case ">" if end > begin:
            # After a day is not within it.
            return column >= end if value.kind is Kind.DATE or end - begin > 86400 else column >= begin
        case ">" | ">=":
            return _OPERATORS[op](column, begin)
        case "<=" if end > begin:
            return column < end
    return _OPERATORS[op](column, begin)


# -- parameters -------------------------------------------------------------------------------------------------------


def _parameters(names: tuple[str, ...]) -> Select[Any]:
    return select(parameter.c.run).where(parameter.c.name.in_(names))


# -- metrics ----------------------------------------------------------------------------------------------------------


def metric_rows(meaning: Metric, *columns: ColumnElement[Any], fits: Condition) -> Any:
    """Columns of the series that a metric means. Those of runs that are over are found in an index (`ix_series_final`),
    the few others by their rows. Both conditions stand in the text: only so SQLite knows that the index holds them."""
    parts = [
        select(*columns).where(
            series.c.name.in_(meaning.names),
            text(f"series.kind = '{_KINDS[meaning.kind]}' AND series.final = {final}"),
            fits,
        )
        for final in (1, 0)
    ]
    return union_all(*parts)


_KINDS = {"metric": "metric", "system": "system"}


def order_key(meaning: Meaning) -> tuple[ColumnElement[Any], Any] | None:
    """(what to sort by, subquery with a column `run` to join or None). None: there is nothing to sort by."""
    match meaning:
        case Attribute(name):
            column = _NUMBER_COLUMNS.get(name)
            if column is None and name in _TEXT_COLUMNS:
                column = func.lower(_TEXT_COLUMNS[name])
            return None if column is None else (column, None)
        case Parameter(names):
            # SQLite sorts numbers before texts, so that both kinds may stand in one column.
            found = (
                select(
                    parameter.c.run,
                    func.max(func.coalesce(parameter.c.number, parameter.c.value)).label("key"),
                )
                .where(parameter.c.name.in_(names))
                .group_by(parameter.c.run)
                .subquery()
                if len(names) > 1
                else select(
                    parameter.c.run, func.coalesce(parameter.c.number, parameter.c.value).label("key")
                )
                .where(parameter.c.name == names[0])
                .subquery()
            )
            return found.c.key, found
    rows = metric_rows(
        meaning, series.c.run.label("run"), _FIELD_COLUMNS[meaning.field].label("key"), fits=true()
    ).subquery()
    found = (
        select(rows.c.run, func.max(rows.c.key).label("key")).group_by(rows.c.run).subquery()
        if len(meaning.names) > 1
        else rows
    )
    return found.c.key, found


def best_rows(meaning: Meaning, *, descending: bool, most: int) -> tuple[Any, Select[Any]] | None:
    """(runs and their keys: the first `most` in order, and all whose values still change; the last key of those `most`,
    which is none where there are not so many). None where nothing helps to find them."""

    def first(
        key: ColumnElement[Any], number: ColumnElement[Any], *where: Any
    ) -> tuple[Select[Any], Select[Any]]:
        order = key.desc() if descending else key.asc()
        found = select(number.label("run"), key.label("key")).where(key.is_not(None), *where).order_by(order)
        edge = select(key).where(key.is_not(None), *where).order_by(order).offset(most - 1).limit(1)
        return found.limit(most), edge

    match meaning:
        case Attribute("created" | "number" as name):
            found, edge = first(_NUMBER_COLUMNS[name], run.c.number)
            return found.subquery(), edge
        case Parameter((name,)):
            # Texts come behind the numbers, which is in front where the order is turned.
            others = parameter.alias("others")
            has_texts = select(others.c.run).where(others.c.name == name, others.c.number.is_(None)).exists()
            plain = (parameter.c.name == name, *((not_(has_texts),) if descending else ()))
            found, edge = first(parameter.c.number, parameter.c.run, *plain)
            return found.subquery(), edge
        case Metric((name,), field, kind):
            column = _FIELD_COLUMNS[field]
            final, live = (
                (series.c.name == name, text(f"series.kind = '{_KINDS[kind]}' AND series.final = {is_final}"))
                for is_final in (1, 0)
            )
            found, edge = first(column, series.c.run, *final)
            changing = select(series.c.run, column).where(column.is_not(None), *live)
            best = found.subquery()
            both: Any = union_all(select(best.c.run, best.c.key), changing)
            return both.subquery(), edge
    return None
