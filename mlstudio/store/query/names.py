"""What the names in a filter may mean: attributes of every run, and the parameters and metrics that runs have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from mlstudio.model.errors import QueryError
from mlstudio.store.query.tokens import Token

_PREFIXES = {
    "param": "param", "params": "param", "parameter": "param", "metric": "metric", "metrics": "metric",
    "system": "system", "run": "run",
}  # fmt: skip
_MOST_NEAR = 20_000
"""Names among which near ones are looked for."""


class Sort(StrEnum):
    """What an attribute's values are."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    DURATION = "duration"
    SHARE = "share"
    """A number from 0 to 1, or a percentage."""
    SET = "set"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    sort: Sort
    sentence: str
    example: str


ATTRIBUTES: dict[str, Attribute] = {
    found.name: found
    for found in (
        Attribute("name", Sort.TEXT, "What the run is called.", 'name ~ "cnn*"'),
        Attribute("number", Sort.NUMBER, "Its number.", "number > 100"),
        Attribute("id", Sort.TEXT, "Its id.", 'id ~ "4f21*"'),
        Attribute(
            "state", Sort.TEXT, "queued, running, succeeded, failed, stopped or lost.", "state = failed"
        ),
        Attribute("tags", Sort.SET, "Its tags.", '"baseline" in tags'),
        Attribute("note", Sort.TEXT, "Its note.", 'note contains "bug"'),
        Attribute("created", Sort.TIME, "When it was launched.", "created > yesterday"),
        Attribute("started", Sort.TIME, "When its command started.", 'started > "2 days ago"'),
        Attribute("ended", Sort.TIME, "When it ended.", "ended < 2026-11-01"),
        Attribute("duration", Sort.DURATION, "How long it ran, or has been running.", "duration > 1h30m"),
        Attribute("host", Sort.TEXT, "The machine that it ran on.", "host = lab3"),
        Attribute("engine", Sort.TEXT, "Its engine: local, process, …; of imports their format.", "engine = local"),
        Attribute("gpus", Sort.SET, "The models of its GPUs.", 'gpus contains "H100"'),
        Attribute("image", Sort.TEXT, "Its image.", 'image contains "digits"'),
        Attribute("commit", Sort.TEXT, "The Git commit of its code.", 'commit ~ "3f2a*"'),
        Attribute("command", Sort.TEXT, "What was run.", 'command contains "train.py"'),
        Attribute("exit", Sort.NUMBER, "The exit code.", "exit = 137"),
        Attribute("reason", Sort.TEXT, "Why it ended: exited, out-of-memory, stopped …", 'reason ~ "*memory*"'),
        Attribute("message", Sort.TEXT, "How it ended, in words.", 'message contains "CUDA"'),
        Attribute("progress", Sort.SHARE, "How far it is.", "progress > 50%"),
        Attribute("gaps", Sort.NUMBER, "How many gaps its record has.", "gaps > 0"),
        Attribute("archived", Sort.FLAG, "Whether it was put away.", "archived = true"),
        Attribute("imported", Sort.FLAG, "Whether another tool recorded it.", "imported = true"),
    )
}  # fmt: skip
_OTHER_NAMES = {
    "tag": "tags", "notes": "note", "gpu": "gpus", "status": "state", "runtime": "duration", "time": "created",
    "finished": "ended", "exit_code": "exit", "code": "commit", "error": "message",
}  # fmt: skip

FIELDS = {
    "last": "its last value",
    "min": "its lowest value",
    "max": "its highest value",
    "count": "how many points it has",
    "step": "the step of its last point",
    "min_step": "the step of its lowest value",
    "max_step": "the step of its highest value",
}
"""What can be asked of a metric, behind a dot."""


@dataclass(frozen=True, slots=True)
class Parameter:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    names: tuple[str, ...]
    field: str
    kind: str = "metric"


Meaning = Attribute | Parameter | Metric


class Names:
    """The names that exist, looked up as they are needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._all: dict[str, list[str]] = {}

    def parameters(self) -> list[str]:
        return self._known("param")

    def metrics(self) -> list[str]:
        return self._known("metric")

    def readings(self) -> list[str]:
        """Of the machine: ``cpu.percent`` …"""
        return self._known("system")

    def meaning(self, token: Token) -> Meaning:
        """What a name means. Raises QueryError for one that nothing has."""
        text = token.value
        prefix, _, rest = text.partition(".")
        what = _PREFIXES.get(prefix.lower(), "") if rest else ""
        found = self._find(rest, what) if what else None
        found = found or self._find(text, "")
        if found is None:
            raise self._unknown(token, rest if what else text, what)
        return found

    def _find(self, text: str, what: str) -> Meaning | None:
        if what in ("", "run"):
            small = text.lower()
            attribute = ATTRIBUTES.get(_OTHER_NAMES.get(small, small))
            # An own parameter or metric called "time" or "code" comes before the other names of attributes.
            if attribute is not None and (small in ATTRIBUTES or what == "run"):
                return attribute
        for kind in (what,) if what else ("param", "metric"):
            exact = self._exact(kind, text)
            if exact is not None:
                return exact
        for kind in (what,) if what else ("param", "metric", "system"):
            alike = self._alike(kind, text)
            if alike is not None:
                return alike
        if what == "":
            return ATTRIBUTES.get(_OTHER_NAMES.get(text.lower(), ""))
        return None

    def _exact(self, kind: str, text: str) -> Meaning | None:
        if kind == "run":
            return None
        if self._has(kind, text):
            return _make(kind, (text,), "last")
        name, _, field = text.rpartition(".")
        if kind != "param" and name and field.lower() in FIELDS and self._has(kind, name):
            return _make(kind, (name,), field.lower())
        return None

    def _alike(self, kind: str, text: str) -> Meaning | None:
        """Names that differ in case and in the signs between their words: ``val.acc`` for ``val/acc``."""
        if kind == "run":
            return None
        name, _, field = text.rpartition(".")
        wanted = plain(text)
        names = tuple(known for known in self._known(kind) if plain(known) == wanted)
        if names:
            return _make(kind, names, "last")
        if kind != "param" and name and field.lower() in FIELDS:
            wanted = plain(name)
            names = tuple(known for known in self._known(kind) if plain(known) == wanted)
            if names:
                return _make(kind, names, field.lower())
        return None

    def _has(self, kind: str, name: str) -> bool:
        if kind in self._all:
            return name in self._all[kind]
        if kind == "param":
            sql = "SELECT 1 FROM parameter WHERE name = ?1 LIMIT 1"
        else:
            of_kind = "system" if kind == "system" else "metric"
            series = f"SELECT 1 FROM series WHERE kind = '{of_kind}' AND name = ?1 AND final ="
            sql = f"{series} 1 UNION ALL {series} 0 LIMIT 1"
        return self._connection.exec_driver_sql(sql, (name,)).first() is not None

    def _known(self, kind: str) -> list[str]:
        found = self._all.get(kind)
        if found is None:
            found = self._all[kind] = list(self._read(kind))
        return found

    def _read(self, kind: str) -> Iterator[str]:
        # Each name is found by a jump in the index: many runs have the same few names.
        if kind == "param":
            yield from self._jump("parameter", "1")
            return
        series = f"kind = '{'system' if kind == 'system' else 'metric'}' AND final ="
        found = dict.fromkeys(self._jump("series", f"{series} 1"))
        yield from sorted(found | dict.fromkeys(self._jump("series", f"{series} 0")))

    def _jump(self, table: str, among: str) -> Iterator[str]:
        rows = self._connection.exec_driver_sql(
            f"WITH RECURSIVE known(name) AS (SELECT min(name) FROM {table} WHERE {among} UNION ALL SELECT "
            f"(SELECT min(name) FROM {table} WHERE {among} AND name > known.name) FROM known "
            "WHERE known.name IS NOT NULL) SELECT name FROM known WHERE name IS NOT NULL"
        )
        for (name,) in rows:
            yield str(name)

    def _unknown(self, token: Token, text: str, what: str) -> QueryError:
        words = {
            "param": "parameter",
            "metric": "metric",
            "system": "reading of the machine",
            "run": "attribute",
        }
        known = {
            "param": lambda: self.parameters(),
            "metric": lambda: self.metrics(),
            "system": lambda: self.readings(),
            "run": lambda: list(ATTRIBUTES),
        }
        pools = [known[what]()] if what else [list(ATTRIBUTES), self.parameters(), self.metrics()]
        names = [name for pool in pools for name in pool][:_MOST_NEAR]
        near = near_names(text, names)
        hint = (
            f"Did you mean {' or '.join(written(name) for name in near)}?"
            if near
            else "`mlstudio ls --names` lists what can be asked for."
        )
        return QueryError(
            f"No run has {'a ' + words[what] if what else 'anything'} called “{text}”.",
            start=token.start,
            end=token.end,
            try_this=hint,
        )


def near_names(text: str, names: list[str], most: int = 3) -> list[str]:
    """Names that somebody who wrote `text` may have meant."""
    small: dict[str, list[str]] = {}
    for name in names:
        small.setdefault(plain(name), []).append(name)
    near = difflib.get_close_matches(plain(text), small, n=most, cutoff=0.7)
    found = [name for one in near for name in small[one]][:most]
    if not found and len(text) >= 2:
        found = [name for name in names if plain(text) in plain(name)][:most]
    return found


def plain(name: str) -> str:
    """A name without case and signs, by which others are found."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def written(name: str) -> str:
    """A name as it must stand in a filter."""
    if re.fullmatch(r"[^\s\"'`()<>=!~,\d-][^\s\"'`()<>=!~,]*", name) and name.lower() not in (
        "and", "or", "not", "in", "is", "contains",
    ):  # fmt: skip
        return name
    return f"`{name}`"


def _make(kind: str, names: tuple[str, ...], field: str) -> Meaning:
    return Parameter(names) if kind == "param" else Metric(names, field, kind)
