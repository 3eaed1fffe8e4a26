"""Names, numbers, times and parameters from elsewhere, as the history may hold them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

MAX_NAME = 1000
MAX_TEXT = 10_000
MAX_PARAMETERS = 10_000
_MAX_DEPTH = 16
LAST_SECOND = 253402300799.0
"""The end of the year 9999, after which no calendar goes on."""
_STEPS = 2**63
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS = {"nan": math.nan, "infinity": math.inf, "inf": math.inf, "-infinity": -math.inf, "-inf": -math.inf}


def clean_name(text: str, *, otherwise: str = "unnamed") -> str:
    """A name without control characters; a very long one is cut, with a digest so that it stays its own."""
    text = _CONTROL.sub("\ufffd", text).strip()
    if len(text) > MAX_NAME:
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        text = f"{text[: MAX_NAME - 13]}~{digest}"
    return text or otherwise


def clean_text(text: str, *, most: int = MAX_TEXT) -> str:
    """Text of several lines without control characters, cut where it is endless."""
    text = _CONTROL_BUT_LINES.sub("\ufffd", text.replace("\r\n", "\n"))
    return text if len(text) <= most else text[: most - 1] + "…"


def clean_time(value: object) -> float | None:
    """Seconds since the epoch, if a calendar knows them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if 0.0 < seconds <= LAST_SECOND else None


def parse_time(value: object) -> float | None:
    """A time as tables and databases write it: seconds (or milliseconds, …) since the epoch, or a date (zone: UTC)."""
    if isinstance(value, str):
        text = value.strip()
        number = parse_number(text)
        if number is None:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                return None
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return clean_time(moment.timestamp())
        value = number
    if isinstance(value, datetime):
        return parse_time(value.isoformat())
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 1e11:
        value = value / 1000 if value < 1e14 else value / 1e6 if value < 1e17 else value / 1e9
    return clean_time(value)


def parse_number(value: object) -> float | None:
    """A number, also as text (``1e-3``, ``NaN``, ``-Infinity``); None for anything else, empty text among it."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str):
        text = value.strip()
        if not text or len(text) > 400 or "_" in text:
            return None
        try:
            return float(text)
        except ValueError:
            return _WORDS.get(text.lower())
    return None


def parse_step(value: object) -> int | None:
    """A whole number of 64 bits."""
    if isinstance(value, int):
        step = int(value)
    else:
        number = parse_number(value)
        if number is None or not number.is_integer():
            return None
        step = int(number)
        if isinstance(value, str) and abs(number) > 2**53:
            try:
                step = int(value)
            except ValueError:
                pass  # "1e18": as good as it gets
    return step if -_STEPS <= step < _STEPS else None


def parameter_text(value: object) -> str:
    """A parameter's value as text: text as it is, all else as JSON."""
    if isinstance(value, str):
        return clean_text(value)
    try:
        return clean_text(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return "…"


def flat(tree: Mapping[Any, Any], *, separator: str = ".", prefix: str = "") -> Iterator[tuple[str, object]]:
    """The leaves of nested mappings with their joined names. What lies too deep comes as it is."""
    stack: list[tuple[str, object, int]] = [(prefix, tree, 0)]
    while stack:
        name, value, depth = stack.pop()
        if isinstance(value, Mapping) and value and depth < _MAX_DEPTH:
            head = f"{name}{separator}" if name else ""
            stack.extend((f"{head}{key}", item, depth + 1) for key, item in reversed(list(value.items())))
        else:
            yield name, value


def digest_of(*parts: object) -> str:
    """32 hexadecimal digits that tell these parts from others."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:32]
