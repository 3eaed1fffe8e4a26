"""Values in a filter: numbers with units, durations, moments."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timedelta

from mlstudio.model.errors import QueryError
from mlstudio.store.query.tokens import Kind, Token

_SCALES = {
    "": 1.0, "%": 0.01, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "B": 1.0,
    "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "kiB": 2.0**10, "KiB": 2.0**10,
    "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40,
}  # fmt: skip
_SECONDS = {
    "ms": 0.001, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "mins": 60, "minute": 60,
    "minutes": 60, "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400, "w": 604800,
    "week": 604800, "weeks": 604800, "month": 2629800, "months": 2629800, "year": 31557600, "years": 31557600,
}  # fmt: skip
_NUMBER = re.compile(r"([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z%]*)")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_AGO = re.compile(r"(?:an?|(\d+(?:\.\d+)?))\s*([a-z]+)\s+ago")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m", "%Y")
_WORDS = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "+inf": math.inf}


def number(token: Token) -> float | None:
    """The value as a number, ``10k``, ``4GiB`` and ``50%`` (0.5) too; None if it is none."""
    if token.kind is Kind.DURATION:
        return duration(token)
    if token.kind not in (Kind.NUMBER, Kind.TEXT, Kind.WORD):
        return None
    text = token.value.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    match = _NUMBER.fullmatch(text)
    if match is None or match.group(2) not in _SCALES:
        return None
    return float(match.group(1).replace("_", "")) * _SCALES[match.group(2)]


def duration(token: Token) -> float | None:
    """Seconds: ``90``, ``5min``, ``1h30m``, ``"2 days"``; None if it is no duration."""
    text = token.value.strip().lower()
    try:
        return float(text)
    except ValueError:
        pass
    seconds = 0.0
    place = 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None or part.group(2) not in _SECONDS:
            return None
        seconds += float(part.group(1)) * _SECONDS[part.group(2)]
        place = part.end()
    return seconds if place else None


def moment(token: Token, *, now: float | None = None) -> tuple[float, float] | None:
    """(begin, end) in UTC seconds of what the value says, such as a day or a minute of the local time; None if it is no
    moment. For ``"2 days ago"`` both are the same."""
    now = time.time() if now is None else now
    text = " ".join(token.value.strip().lower().split())
    if text == "now":
        return now, now
    ago = _AGO.fullmatch(text)
    if ago is not None and ago.group(2) in _SECONDS:
        seconds = float(ago.group(1) or 1) * _SECONDS[ago.group(2)]
        return now - seconds, now - seconds
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    day: datetime | None = None
    if text in ("today", "yesterday"):
        day = today - timedelta(days=int(text == "yesterday"))
    elif text.removeprefix("last ") in _WEEKDAYS:
        wanted = _WEEKDAYS.index(text.removeprefix("last "))
        day = today - timedelta(days=(today.weekday() - wanted) % 7 or 7)
    elif text in ("last week", "last month"):
        seconds = _SECONDS[text.removeprefix("last ")]
        return now - seconds, now - seconds
    if day is not None:
        return day.timestamp(), (day + timedelta(days=1)).timestamp()
    return _written_out(token.value.strip().replace("T", " "))


def _written_out(text: str) -> tuple[float, float] | None:
    lengths = (86400.0, 60.0, 1.0, 0.0, 0.0)
    for form, length in zip(_FORMATS, lengths, strict=True):
        try:
            begin = datetime.strptime(text, form)
        except ValueError:
            continue
        try:
            if form == "%Y-%m":
                end = (begin.replace(day=28) + timedelta(days=4)).replace(day=1)
            elif form == "%Y":
                end = begin.replace(year=begin.year + 1)
            elif form == "%Y-%m-%d":
                end = begin + timedelta(days=1)
            else:
                end = begin + timedelta(seconds=length)
            return begin.timestamp(), end.timestamp()
        except (OverflowError, ValueError, OSError):
            return None
    try:
        exact = datetime.fromisoformat(text)
        return exact.timestamp(), exact.timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def flag(token: Token) -> bool | None:
    word = token.value.strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    return False if word in ("false", "no", "off", "0") else None


def needs(token: Token, what: str, example: str) -> QueryError:
    """The error for a value of another kind."""
    return QueryError(
        f"“{token.value[:60]}” is no {what}.",
        start=token.start,
        end=token.end,
        try_this=f"For example: {example}",
    )
