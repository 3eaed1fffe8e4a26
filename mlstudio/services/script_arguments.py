"""Arguments that a script declares with argparse, read from its syntax tree: the script is never run.

What cannot be told without running (a default that is computed, a loop that adds arguments) is left open or left out.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAX_BYTES = 2 * 1024 * 1024
_FLAGS = ("store_true", "store_false", "BooleanOptionalAction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a script. `flag` is ``--lr``; empty for a positional one."""

    name: str
    flag: str = ""
    kind: str = "text"
    """``int``, ``float``, ``text``, ``choice`` or ``flag`` (on or off)."""
    default: str = ""
    """As it would be typed; empty where there is none or it is not known."""
    choices: tuple[str, ...] = ()
    help: str = ""
    required: bool = False
    off_flag: str = ""
    """``--no-amp`` for a flag that can be turned off."""

    def words(self, value: str) -> tuple[str, ...]:
        """The words of the command line that give it `value`; none where that is its default."""
        if value == self.default or (not value and not self.required):
            return ()
        if self.kind == "flag":
            on = value == "on"
            return (self.flag,) if on else ((self.off_flag,) if self.off_flag else ())
        parts = tuple(value.split()) if self.kind == "list" else (value,)
        if not self.flag:
            return parts
        # A value that begins with a dash would be taken for another argument.
        return (f"{self.flag}={value}",) if len(parts) == 1 and value.startswith("-") else (self.flag, *parts)


def read_arguments(script: Path) -> tuple[Argument, ...]:
    """The arguments of `script` in the order in which it declares them; none where it cannot be read."""
    try:
        if script.stat().st_size > _MAX_BYTES:
            return ()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    constants = _constants(tree)
    found: dict[str, Argument] = {}
    for call in _calls(tree):
        argument = _argument(call, constants)
        if argument is not None:
            found.setdefault(argument.flag or argument.name, argument)
    return tuple(found.values())


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
    ]
    return iter(sorted(calls, key=lambda call: (call.lineno, call.col_offset)))


def _constants(tree: ast.Module) -> dict[str, object]:
    """Names that are given a literal once at the top of the module."""
    found: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            known, value = _literal(node.value, {})
            if known:
                found[node.targets[0].id] = value
    return found


def _argument(call: ast.Call, constants: dict[str, object]) -> Argument | None:
    names = [value for known, value in (_literal(entry, constants) for entry in call.args) if known]
    words = [name for name in names if isinstance(name, str)]
    if not words:
        return None
    options = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    action = _name_of(options.get("action"), constants)
    if action in ("help", "version", "append_const", "store_const", "count") or words == ["-h"]:
        return None
    flags = [word for word in words if word.startswith("-")]
    flag = next((word for word in flags if word.startswith("--")), flags[0] if flags else "")
    _, dest = _literal(options.get("dest"), constants)
    name = (dest if isinstance(dest, str) else "") or (flag or words[0]).lstrip("-")
    _, help_text = _literal(options.get("help"), constants)
    _, required = _literal(options.get("required"), constants)
    known, default = _literal(options.get("default"), constants)
    if action in _FLAGS:
        is_on = action == "store_false" if not known or not isinstance(default, bool) else default
        off = "--no-" + flag[2:] if action == "BooleanOptionalAction" and flag.startswith("--") else ""
        if action == "store_false":
            # The flag turns something off that is on: it is given or it is not.
            return Argument(name=name, flag=flag, kind="flag", default="off", help=_sentence(help_text))
        return Argument(
            name=name,
            flag=flag,
            kind="flag",
            default="on" if is_on else "off",
            help=_sentence(help_text),
            off_flag=off,
        )
    _, choices = _literal(options.get("choices"), constants)
    chosen = tuple(str(entry) for entry in choices) if isinstance(choices, (list, tuple)) else ()
    kind = "choice" if chosen else _kind(options, default if known else None, constants)
    if "nargs" in options and _literal(options["nargs"], constants)[1] != "?":
        kind = "list"
    nargs_optional = "nargs" in options and _literal(options["nargs"], constants)[1] in ("?", "*")
    return Argument(
        name=name,
        flag=flag,
        kind=kind,
        default=_typed(default) if known else "",
        choices=chosen,
        help=_sentence(help_text),
        required=required is True or (not flag and not nargs_optional and not known),
    )


def _kind(options: dict[str, ast.expr], default: object, constants: dict[str, object]) -> str:
    stated = _name_of(options.get("type"), constants)
    if stated in ("int", "float"):
        return stated
    if stated:
        return "text"
    return "text" if not isinstance(default, float) else "float"


def _name_of(node: ast.expr | None, constants: dict[str, object]) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    known, value = _literal(node, constants)
    return value if known and isinstance(value, str) else ""


def _literal(node: ast.expr | None, constants: dict[str, object]) -> tuple[bool, object]:
    """(whether it is known, the value) of an expression that is written out or names a constant of the module."""
    if node is None:
        return False, None
    if isinstance(node, ast.Name) and node.id in constants:
        return True, constants[node.id]
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if isinstance(node, ast.BinOp):
        left_known, left = _literal(node.left, constants)
        right_known, right = _literal(node.right, constants)
        if left_known and right_known and isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return _computed(node.op, left, right)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return True, left + right
    return False, None


def _computed(operator: ast.operator, left: float, right: float) -> tuple[bool, object]:
    try:
        if isinstance(operator, ast.Mult):
            return True, left * right
        if isinstance(operator, ast.Div):
            return True, left / right
        if isinstance(operator, ast.Add):
            return True, left + right
        if isinstance(operator, ast.Sub):
            return True, left - right
        if isinstance(operator, ast.Pow) and abs(left) <= 1000 and abs(right) <= 64:
            return True, left**right
    except (ZeroDivisionError, OverflowError):
        pass
    return False, None


def _typed(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(str(entry) for entry in value)
    return str(value)


def _sentence(text: object) -> str:
    return " ".join(text.split())[:300].replace("%%", "%") if isinstance(text, str) else ""
