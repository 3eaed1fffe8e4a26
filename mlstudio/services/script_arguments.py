"""Arguments that a script declares with argparse, read from its syntax tree: the script is never run.

What cannot be told without running (a default that is computed, a loop that adds arguments, a parser made in another
module) is left open or left out. What argparse does with each keyword: https://docs.python.org/3/library/argparse.html
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

_MAX_BYTES = 2 * 1024 * 1024
_FLAGS = ("store_true", "store_false", "BooleanOptionalAction")
_LEFT_OUT = ("help", "version", "append_const", "store_const", "count")
_MAX_CHOICES = 200
_SHARED = "\0"
"""Before the name of a variable whose parser is a parent of subcommands; no subcommand's name begins so."""
_NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
"""What argparse tells from a flag, see `ArgumentParser._negative_number_matcher`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a script. `flag` is ``--lr``; empty for a positional one."""

    name: str
    flag: str = ""
    kind: str = "text"
    """``int``, ``float``, ``text``, ``choice``, ``list``, ``flag`` (on or off) or ``subcommand``."""
    default: str = ""
    """As it would be typed; empty where there is none or it is not known."""
    choices: tuple[str, ...] = ()
    help: str = ""
    required: bool = False
    off_flag: str = ""
    """``--no-amp`` for a flag that can be turned off."""
    is_repeated: bool = False
    """A list whose flag is given once for each value (``--tag a --tag b``)."""
    is_added: bool = False
    """A list whose words argparse adds to the default instead of replacing it."""
    subcommand: str = ""
    """The subcommand that it belongs to; empty for the script's own."""

    @property
    def key(self) -> str:
        """Tells it from every other argument of the script."""
        return " ".join(part for part in (self.subcommand, self.flag or self.name) if part)

    @property
    def dest(self) -> str:
        """The name under which the script itself finds it: ``batch_size`` for ``--batch-size``."""
        return self.name.replace("-", "_")

    def words(self, value: str) -> tuple[str, ...]:
        """The words of the command line that give it `value`; none where that is its default.

        What argparse requires is written even then: it wants to see it whatever the default is.
        """
        if not value or (value == self.default and not self.required):
            return ()
        return self.all_words(value)

    def all_words(self, value: str) -> tuple[str, ...]:
        """The words of the command line that give it `value`, be it the default or not."""
        if self.kind == "flag":
            on = value == "on"
            return (self.flag,) if on else ((self.off_flag,) if self.off_flag else ())
        parts = _split(value) if self.kind == "list" else (value,)
        if self.is_added:
            parts = parts[len(_split(self.default)) :]
            if not parts:
                return ()
        if not self.flag:
            return parts
        if self.is_repeated:
            return tuple(word for part in parts for word in self._given(part))
        return self._given(parts[0]) if len(parts) == 1 else (self.flag, *parts)

    def _given(self, value: str) -> tuple[str, ...]:
        # A value that begins with a dash would be taken for another argument.
        return (f"{self.flag}={value}",) if value.startswith("-") else (self.flag, value)


def arguments_of(arguments: Sequence[Argument], values: Mapping[str, str]) -> tuple[Argument, ...]:
    """The arguments that count: the script's own, and those of the chosen subcommand. `values` are by `key`."""
    chosen = next(
        (values.get(entry.key, entry.default) for entry in arguments if entry.kind == "subcommand"), ""
    )
    return tuple(entry for entry in arguments if entry.subcommand in ("", chosen))


def command_words(arguments: Sequence[Argument], values: Mapping[str, str]) -> tuple[str, ...]:
    """The words behind the script that give its arguments these values (by `key`); defaults are not repeated.

    Positional ones stand first, so that no flag with a list takes them; a subcommand stands behind what is the
    script's own. A positional one at its default is written out where a later one is given.
    """
    counting = arguments_of(arguments, values)
    own = [entry for entry in counting if not entry.subcommand and entry.kind != "subcommand"]
    words = _group_words(own, values)
    for entry in counting:
        if entry.kind == "subcommand":
            words = _closed_words(own, values) + entry.all_words(values.get(entry.key, entry.default))
    return words + _group_words([entry for entry in counting if entry.subcommand], values)


def _closed_words(group: Sequence[Argument], values: Mapping[str, str]) -> tuple[str, ...]:
    """Words behind which a subcommand can stand: a list at their end would take it for one more value."""
    lists = [entry for entry in group if entry.flag and entry.kind == "list" and not entry.is_repeated]
    others = [entry for entry in group if entry not in lists]
    words = _group_words([*(entry for entry in others if not entry.flag), *lists], values)
    after = _group_words([entry for entry in others if entry.flag], values)
    last = next(
        (entry for entry in reversed(lists) if entry.words(values.get(entry.key, entry.default))), None
    )
    if last is not None and not after:
        if words[-2:-1] == (last.flag,):
            return (*words[:-2], f"{words[-2]}={words[-1]}")
        # Any other flag ends the list, be it at its default.
        after = next((found for entry in others if entry.flag and (found := _default_words(entry))), ())
    return words + after


def _default_words(argument: Argument) -> tuple[str, ...]:
    return argument.all_words(argument.default) if argument.default else ()


def _group_words(group: Sequence[Argument], values: Mapping[str, str]) -> tuple[str, ...]:
    words: list[str] = []
    positional = [entry for entry in group if not entry.flag]
    given = [bool(entry.words(values.get(entry.key, entry.default))) for entry in positional]
    last = max((place for place, is_given in enumerate(given) if is_given), default=-1)
    for place, entry in enumerate(positional):
        value = values.get(entry.key, entry.default)
        if place <= last and value:
            words.extend(entry.all_words(value))
    for entry in group:
        if entry.flag:
            words.extend(entry.words(values.get(entry.key, entry.default)))
    return tuple(words)


def wrong_value(argument: Argument, value: str) -> str:
    """What is wrong with a value, in one sentence; empty where nothing is."""
    if not value:
        return "The script needs a value." if argument.required else ""
    if argument.kind == "int" and not _is_number(int, value):
        return "A whole number is needed."
    if argument.kind == "float" and not _is_number(float, value):
        return "A number is needed."
    if argument.kind == "choice" and argument.choices and value not in argument.choices:
        return "The script takes " + ", ".join(argument.choices[:8]) + "."
    parts = _split(value) if argument.kind == "list" else (value,)
    own = _split(argument.default)
    if argument.is_added and parts[: len(own)] != own:
        return f"The script adds to its own list: begin with {argument.default}."
    # Flags give a single value as `--name=-x`; other words stand by themselves.
    if not argument.flag or (argument.kind == "list" and not argument.is_repeated and len(parts) > 1):
        taken = next((part for part in parts if _looks_like_a_flag(part)), "")
        if taken:
            return f"“{taken[:40]}” begins with a dash: the script would take it for a flag."
    return ""


def _looks_like_a_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not _NEGATIVE_NUMBER.fullmatch(word)


def read_arguments(script: Path) -> tuple[Argument, ...]:
    """The arguments of `script` in the order in which it declares them; none where it cannot be read."""
    try:
        if script.stat().st_size > _MAX_BYTES:
            return ()
        source = script.read_bytes()
    except OSError:
        return ()
    return parse_arguments(source)


def parse_arguments(source: bytes) -> tuple[Argument, ...]:
    """The arguments that a script's source declares; none where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        reader = _Reader(tree)
        return reader.arguments()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


class _Reader:
    """Goes through a module's calls in the order of its text."""

    def __init__(self, tree: ast.Module) -> None:
        self._constants = _constants(tree)
        self._owners: dict[str, str] = {}
        """Subcommand by the name of the variable that holds its parser or a group of it."""
        self._defaults: dict[tuple[str, str], str] = {}
        """From `set_defaults`, by (subcommand, dest)."""
        self._subcommands: list[str] = []
        self._chooser: Argument | None = None
        self._chooser_place = 0
        self._found: dict[str, Argument] = {}
        self._turning_off: set[str] = set()
        """Keys of `store_false` arguments."""
        self._parents: dict[str, list[str]] = {}
        """Owners of the arguments that a subcommand takes over from its parents."""
        self._note_parents(tree)
        self._read(tree)

    def arguments(self) -> tuple[Argument, ...]:
        found = self._with_shared(
            [
                argument
                for argument in map(self._with_default, self._found.values())
                # A flag that turns on what is on already changes nothing.
                if argument.kind != "flag" or argument.off_flag or argument.default != "on"
            ]
        )
        if self._chooser is not None and self._subcommands:
            chooser = replace(self._chooser, choices=tuple(self._subcommands))
            if not chooser.default:
                chooser = replace(chooser, default=self._subcommands[0])
            place = next((at for at, entry in enumerate(found) if entry.subcommand), len(found))
            found.insert(min(self._chooser_place, place), chooser)
        return tuple(found)

    def _with_shared(self, found: Sequence[Argument]) -> list[Argument]:
        """Give each subcommand its parents' arguments, before its own as argparse does."""
        shared = {owner for owners in self._parents.values() for owner in owners}
        kept = [argument for argument in found if argument.subcommand not in shared]
        for name, owners in self._parents.items():
            taken = [replace(entry, subcommand=name) for entry in found if entry.subcommand in owners]
            keys = {entry.key for entry in taken}
            kept = [entry for entry in kept if entry.key not in keys]
            place = next((at for at, entry in enumerate(kept) if entry.subcommand == name), len(kept))
            kept[place:place] = taken
        return kept

    def _note_parents(self, tree: ast.AST) -> None:
        for call in ast.walk(tree):
            if (
                not isinstance(call, ast.Call)
                or not isinstance(call.func, ast.Attribute)
                or call.func.attr != "add_parser"
            ):
                continue
            known, name = _literal(call.args[0] if call.args else None, self._constants)
            listed = next((entry.value for entry in call.keywords if entry.arg == "parents"), None)
            if known and isinstance(name, str) and isinstance(listed, (ast.List, ast.Tuple)):
                names = [entry.id for entry in listed.elts if isinstance(entry, ast.Name)]
                self._parents[name] = [_SHARED + entry for entry in names]
                self._owners.update({entry: _SHARED + entry for entry in names})

    def _read(self, tree: ast.AST) -> None:
        calls = sorted(
            (
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            ),
            # A call's own end tells `parser.add_subparsers().add_parser("a")` from what stands inside it.
            key=lambda call: (call.lineno, call.end_lineno or 0, call.end_col_offset or 0),
        )
        # In the order of the text, for a variable may hold one subcommand's parser after the other.
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            self._note_owner(call, tree)
            owner = self._owner_of(call.func.value)
            if call.func.attr == "add_argument":
                argument = self._argument(call, owner)
                if argument is not None:
                    self._keep(argument)
            elif call.func.attr == "set_defaults":
                for keyword in call.keywords:
                    known, value = _literal(keyword.value, self._constants)
                    if keyword.arg is not None and known:
                        self._defaults[(owner, keyword.arg)] = _typed(value)
            elif call.func.attr == "add_subparsers" and self._chooser is None:
                options = {keyword.arg: keyword.value for keyword in call.keywords}
                _, dest = _literal(options.get("dest"), self._constants)
                _, text = _literal(options.get("help"), self._constants)
                self._chooser = Argument(
                    name=dest if isinstance(dest, str) and dest else "command",
                    kind="subcommand",
                    help=_sentence(text, ""),
                    required=True,
                )
                self._chooser_place = len(self._found)

    def _note_owner(self, call: ast.Call, tree: ast.AST) -> None:
        """Remember which variable holds the parser of which subcommand, and groups of it."""
        assert isinstance(call.func, ast.Attribute)
        if call.func.attr == "add_parser":
            known, name = _literal(call.args[0] if call.args else None, self._constants)
            if known and isinstance(name, str) and name not in self._subcommands:
                self._subcommands.append(name)
            owner = name if isinstance(name, str) else ""
        elif call.func.attr in ("add_argument_group", "add_mutually_exclusive_group"):
            owner = self._owner_of(call.func.value)
        else:
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and node.value is call and isinstance(node.targets[0], ast.Name):
                self._owners[node.targets[0].id] = owner

    def _owner_of(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self._owners.get(node.id, "")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "add_parser":
                known, name = _literal(node.args[0] if node.args else None, self._constants)
                return name if known and isinstance(name, str) else ""
            return self._owner_of(node.func.value)
        return ""

    def _keep(self, argument: Argument) -> None:
        """`--amp` and `--no-amp` with the same `dest` are one flag that can be turned on and off."""
        for key, other in self._found.items():
            is_pair = (
                argument.kind == other.kind == "flag"
                and (other.subcommand, other.name) == (argument.subcommand, argument.name)
                and other.flag != argument.flag
                and not other.off_flag
                and {argument.flag[:5], other.flag[:5]} & {"--no-"}
            )
            if is_pair:
                # The first to be declared decides the default: `store_false` means that it is on.
                if argument.flag.startswith("--no-"):
                    self._found[key] = replace(other, off_flag=argument.flag)
                else:
                    self._found[key] = replace(argument, off_flag=other.flag, default="on")
                return
        self._found.setdefault(argument.key, argument)

    def _with_default(self, argument: Argument) -> Argument:
        if argument.key in self._turning_off and not argument.off_flag:
            # Called as it is given: “shuffle = off” would be said of a run that shuffles.
            return replace(argument, name=argument.flag.lstrip("-"))
        given = self._defaults.get((argument.subcommand, argument.dest))
        if given is None:
            return argument
        if argument.kind == "flag":
            return replace(argument, default="on" if given == "True" else "off")
        return replace(argument, default=given)

    def _argument(self, call: ast.Call, subcommand: str) -> Argument | None:
        constants = self._constants
        names = [value for known, value in (_literal(entry, constants) for entry in call.args) if known]
        words = [name for name in names if isinstance(name, str)]
        if not words:
            return None
        options = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
        action = _name_of(options.get("action"), constants)
        if action in _LEFT_OUT or words == ["-h"] or _name_of(options.get("help"), constants) == "SUPPRESS":
            return None
        flags = [word for word in words if word.startswith("-")]
        flag = next((word for word in flags if word.startswith("--")), flags[0] if flags else "")
        _, dest = _literal(options.get("dest"), constants)
        name = (dest if isinstance(dest, str) else "") or (flag or words[0]).lstrip("-")
        known, default = _literal(options.get("default"), constants)
        plain = Argument(
            name=name,
            flag=flag,
            help=_sentence(_literal(options.get("help"), constants)[1], _typed(default) if known else ""),
            subcommand=subcommand,
        )
        if action == "store_false":
            self._turning_off.add(plain.key)
        if action in _FLAGS:
            return _flag(plain, action, default if known else None)
        if options.get("nargs") is not None and _name_of(options["nargs"], constants) in ("REMAINDER", "..."):
            # It takes all that follows: that is what the further words of a command are for.
            return None
        return self._valued(plain, action, options, known=known, default=default)

    def _valued(
        self, plain: Argument, action: str, options: dict[str, ast.expr], *, known: bool, default: object
    ) -> Argument:
        constants = self._constants
        choices = _choices(options.get("choices"), constants)
        kind = "choice" if choices else _kind(options, default if known else None, constants)
        counts_known, count = _literal(options.get("nargs"), constants)
        is_optional = counts_known and count in ("?", "*")
        if "nargs" in options and count != "?":
            kind = "list"
        is_repeated = action in ("append", "extend")
        _, required = _literal(options.get("required"), constants)
        return replace(
            plain,
            kind="list" if is_repeated else kind,
            default=_typed(default) if known else "",
            choices=choices,
            required=required is True or (not plain.flag and not is_optional),
            is_repeated=action == "append",
            is_added=is_repeated and known and isinstance(default, (list, tuple)) and bool(default),
        )


def _flag(plain: Argument, action: str, default: object) -> Argument:
    is_on = action == "store_false" if not isinstance(default, bool) else default
    if action == "BooleanOptionalAction" and plain.flag.startswith("--"):
        return replace(
            plain, kind="flag", default="on" if is_on else "off", off_flag="--no-" + plain.flag[2:]
        )
    if action == "store_false":
        # The flag turns something off that is on: it is given or it is not.
        return replace(plain, kind="flag", default="off")
    return replace(plain, kind="flag", default="on" if is_on else "off")


def _constants(tree: ast.Module) -> dict[str, object]:
    """Names that are given a literal at the top of the module, and only there."""
    found: dict[str, object] = {}
    twice: set[str] = set()
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if isinstance(node, ast.AnnAssign):
            target = node.target
        if not isinstance(target, ast.Name) or not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        if target.id in found:
            twice.add(target.id)
        known, value = _literal(node.value, found)
        if known:
            found[target.id] = value
        elif isinstance(node.value, ast.Dict):
            # A table of things by name: its names are what `choices=MODELS` or `MODELS.keys()` offers.
            keys = [_literal(key, found) for key in node.value.keys]
            if keys and all(is_known for is_known, _ in keys):
                found[target.id] = {key: None for _, key in keys if isinstance(key, (str, int, float))}
    return {name: value for name, value in found.items() if name not in twice}


def _choices(node: ast.expr | None, constants: dict[str, object]) -> tuple[str, ...]:
    """The choices that are written out, or named: a constant, its keys, a range, `list` or `sorted` of these."""
    if isinstance(node, ast.Call):
        if (
            isinstance(node.func, ast.Name)
            and node.func.id in ("list", "tuple", "sorted", "set")
            and node.args
        ):
            inner = _choices(node.args[0], constants)
            return tuple(sorted(inner)) if node.func.id == "sorted" else inner
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            bounds = [value for known, value in (_literal(entry, constants) for entry in node.args) if known]
            numbers = [value for value in bounds if isinstance(value, int)]
            if len(numbers) != len(node.args) or not 1 <= len(numbers) <= 3 or 0 in numbers[2:]:
                return ()
            # The length of a range may be more than `len` can tell.
            values = range(*numbers)[: _MAX_CHOICES + 1]
            return tuple(str(value) for value in values) if len(values) <= _MAX_CHOICES else ()
        if isinstance(node.func, ast.Attribute) and node.func.attr == "keys":
            return _choices(node.func.value, constants)
        return ()
    _, values_given = _literal(node, constants)
    if isinstance(values_given, (list, tuple, set, frozenset, dict)) and len(values_given) <= _MAX_CHOICES:
        texts = [str(entry) for entry in values_given]
        return tuple(sorted(texts) if isinstance(values_given, (set, frozenset)) else texts)
    return ()


def _kind(options: dict[str, ast.expr], default: object, constants: dict[str, object]) -> str:
    stated = _name_of(options.get("type"), constants)
    return stated if stated in ("int", "float") else "text"


def _name_of(node: ast.expr | None, constants: dict[str, object]) -> str:
    if isinstance(node, ast.Name) and node.id not in constants:
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
        return shlex.join(str(entry) for entry in value)
    return str(value)


def _split(text: str) -> tuple[str, ...]:
    """A list as it is typed in a shell; where a quote is left open, words between spaces."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return tuple(text.split())


def _sentence(text: object, default: str) -> str:
    if not isinstance(text, str):
        return ""
    return " ".join(text.split())[:300].replace("%(default)s", default or "none").replace("%%", "%")


def _is_number(kind: type[int] | type[float], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def changed_arguments(
    arguments: Sequence[Argument], values: Mapping[str, str]
) -> Iterator[tuple[Argument, str]]:
    """The arguments whose values are not their defaults, with those values."""
    for argument in arguments_of(arguments, values):
        value = values.get(argument.key, argument.default)
        if value != argument.default:
            yield argument, value
