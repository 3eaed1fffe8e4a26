"""Secrets: values by name from the keyring, the environment or a file, only at the moment of a launch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from mlstudio.model.errors import RequestError
from mlstudio.model.launch import SecretValue

KEYRING_SERVICE = "mlstudio"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def find_secret_values(names: Sequence[str], *, given: Mapping[str, str]) -> tuple[SecretValue, ...]:
    """The value of each name: `given` first, then the system's keyring, then the environment.

    Raises RequestError(field="secrets") for a name that is found nowhere; values are never part of a message.
    """
    found: list[SecretValue] = []
    for name in names:
        check_name(name)
        value = given.get(name)
        if value is None:
            value = from_keyring(name)
        if value is None:
            value = os.environ.get(name)
        if value is None:
            raise RequestError(
                f"The secret {name} has no value.",
                field="secrets",
                why="It is neither in the keyring nor in the environment.",
                try_this=f"Keep it with `keyring set {KEYRING_SERVICE} {name}`, or set the variable {name}, "
                f"or pass --secret {name}=@file.",
            )
        found.append(SecretValue(name=name, value=value))
    return tuple(found)


def check_name(name: str) -> None:
    """Secrets become files and variables, so their names are those of variables."""
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"“{name[:40]}” cannot be the name of a secret.",
            field="secrets",
            why="A name holds letters, digits and underscores, and begins with a letter.",
        )


def from_keyring(name: str) -> str | None:
    """The keyring's value; None where there is none, or no keyring on this machine."""
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(KEYRING_SERVICE, name)
    except (KeyringError, RuntimeError):
        return None
