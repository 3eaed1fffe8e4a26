"""Parameters read from a command: `--lr 0.1`, `--lr=0.1`, `-b 32`, flags, and Hydra's `model.size=3`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

_HYDRA = re.compile(r"\+{0,2}([A-Za-z_][\w.@/-]*)=(.*)", re.DOTALL)
_OPTION = re.compile(r"--?([A-Za-z][\w.:-]*)(?:=(.*))?", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|-?inf|nan", re.IGNORECASE)

_INTERPRETERS = re.compile(r"(python|pypy)[\d.]*$")
_SAYS_NOTHING = frozenset(
    {"train", "main", "run", "app", "script", "experiment", "start", "python", "__main__"}
)
"""Names of scripts that every project has: the project's own name says more."""
_LAUNCHERS = frozenset({"torchrun", "accelerate", "deepspeed", "horovodrun", "uv", "poetry", "pipenv", "env"})


def script_of(command: Sequence[str]) -> str:
    """The script that a command runs, as it is written: ``train.py``, or ``pkg.train`` for ``-m``; else empty."""
    for place, word in enumerate(command):
        if word.endswith(".py"):
            return word
        if word == "-m" and place + 1 < len(command):
            return command[place + 1]
        if word == "-c":
            return ""
    return ""


def stem_of(command: Sequence[str]) -> str:
    """A short name for the command: its script's, without folder and ending."""
    script = script_of(command)
    if script.endswith(".py"):
        return PurePosixPath(script).stem or "run"
    if script:
        return script.rpartition(".")[2] or "run"
    if not command:
        return "run"
    first = PurePosixPath(command[0]).name
    if _INTERPRETERS.match(first):
        return "python"
    return PurePosixPath(first).stem or "run"


def run_stem(command: Sequence[str], project: str) -> str:
    """What runs of a command are called, less their number: after the script, or after the `project` (the folder's or
    repository's name) where the script's name says nothing."""
    stem = stem_of(command)
    return project if project and stem.lower() in _SAYS_NOTHING else stem


def parameters_of(command: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Parameters in a command's arguments, in their order; a flag without a value counts as ``true``.

    The last one wins where a name is given twice, as argparse has it. Everything before the script is the
    interpreter's or a launcher's own and is left out.
    """
    found: dict[str, str] = {}
    words = list(_script_arguments(command))
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == "--":
            continue
        option = _OPTION.fullmatch(word)
        if option is not None and not _NUMBER.fullmatch(word):
            name, value = option.group(1), option.group(2)
            if value is None:
                following = words[place] if place < len(words) else None
                if following is not None and _is_value(following):
                    value, place = following, place + 1
                else:
                    name, value = (name[3:], "false") if name.startswith("no-") else (name, "true")
            found[_spelled(name)] = value
            continue
        hydra = _HYDRA.fullmatch(word)
        if hydra is not None:
            found[hydra.group(1)] = hydra.group(2)
    return tuple(found.items())


def _is_value(word: str) -> bool:
    return not word.startswith("-") or _NUMBER.fullmatch(word) is not None or word == "-"


def _spelled(name: str) -> str:
    return name.replace("-", "_")


def _script_arguments(command: Sequence[str]) -> Sequence[str]:
    """What follows the script; where there is none, what follows the program."""
    words = list(command)
    for place, word in enumerate(words):
        if word.endswith(".py"):
            return words[place + 1 :]
        if word == "-m" and place + 1 < len(words) and PurePosixPath(words[0]).name not in _LAUNCHERS:
            return words[place + 2 :]
        if word == "-c":
            return words[place + 2 :]
    return words[1:]
