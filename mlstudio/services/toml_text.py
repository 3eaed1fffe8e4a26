"""TOML out: the few shapes that settings and project files hold (the standard library only reads TOML)."""

from __future__ import annotations

import re
from collections.abc import Mapping

TomlValue = str | int | float | bool | list[str] | dict[str, str]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(value: object) -> str:
    """A value as it stands on the right of ``=``; raises TypeError for shapes that our files do not have."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key_text(str(key))} = {to_toml(item)}" for key, item in value.items())
        return "{ " + pairs + " }" if pairs else "{}"
    raise TypeError(f"{type(value).__name__} has no place in a settings file")


def quoted(text: str) -> str:
    """A basic string (https://toml.io/en/v1.0.0#string): quote, backslash and control characters escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    plain = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return (
        '"'
        + "".join(
            plain.get(char, f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char)
            for char in escaped
        )
        + '"'
    )


def key_text(key: str) -> str:
    """A key, quoted where it must be."""
    return key if _BARE_KEY.fullmatch(key) else quoted(key)
