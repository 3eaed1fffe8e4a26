"""Strict JSON for programs: our records as plain objects, and numbers that JSON has no name for as strings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

_PAIRS = frozenset({"parameters", "env", "labels"})
"""Fields that hold (name, value) pairs and read better as an object."""


def json_ready(value: object) -> object:
    """`value` as what `json.dumps` takes with ``allow_nan=False``: NaN and infinities become strings."""
    if isinstance(value, Enum):
        return json_ready(value.value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return number_ready(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            entry.name: _pairs(getattr(value, entry.name))
            if entry.name in _PAIRS
            else json_ready(getattr(value, entry.name))
            for entry in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_ready(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def number_ready(value: float) -> float | str:
    """A float, or ``"NaN"``, ``"Infinity"``, ``"-Infinity"``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _pairs(value: object) -> object:
    if isinstance(value, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return {str(name): json_ready(item) for name, item in value}
    return json_ready(value)
