"""Frozen dataclasses of the model as JSON, and back. Unknown fields are skipped and missing ones take their defaults,
so that a spec written by another version of the program is still read.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from enum import Enum
from typing import Any, TypeVar, Union

from mlstudio.model.errors import DefectError

T = TypeVar("T")


def to_json(value: object) -> str:
    """A dataclass as compact JSON."""
    return json.dumps(dataclasses.asdict(value), ensure_ascii=False, separators=(",", ":"))  # type: ignore[call-overload]


def from_json(kind: type[T], text: str) -> T:
    """A dataclass of `kind` from JSON. Raises DefectError if the text is no such thing."""
    try:
        return typing.cast("T", _build(kind, json.loads(text)))
    except (ValueError, TypeError, KeyError) as error:
        raise DefectError(f"A {kind.__name__} in the history cannot be read.", details=str(error)) from error


@functools.cache
def _fields(kind: type[object]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]


def _build(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        inner = [part for part in typing.get_args(kind) if part is not type(None)]
        return _build(inner[0], value)
    if origin is tuple:
        parts = typing.get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_build(parts[0], item) for item in value)
        return tuple(_build(part, item) for part, item in zip(parts, value, strict=True))
    if isinstance(kind, type):
        if dataclasses.is_dataclass(kind):
            known = _fields(kind)
            return kind(**{name: _build(known[name], item) for name, item in value.items() if name in known})
        if issubclass(kind, Enum):
            return kind(value)
        if kind is float:
            return float(value)
    return value
