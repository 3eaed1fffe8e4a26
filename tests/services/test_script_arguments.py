"""Arguments are read from a script's text, and argparse itself is asked what the words made from them mean."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.services.script_arguments import (
    Argument,
    arguments_of,
    changed_arguments,
    command_words,
    parse_arguments,
    read_arguments,
    wrong_value,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A script, values that are typed for its arguments, and what its parser then shall find."""

    source: str
    given: dict[str, str]
    expected: dict[str, Any]
    """What differs from `least`."""
    least: tuple[str, ...] = ()
    """The fewest words with which the script can be started."""
    defaults: dict[str, str] = field(default_factory=dict)
    """Defaults as they are shown, by key."""


def parser_of(source: str) -> argparse.ArgumentParser:
    """The parser that the script makes when it runs; it holds it as `parser`."""
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(source, "script.py", "exec"), names)
    parser = names["parser"]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def namespace(source: str, words: tuple[str, ...]) -> dict[str, Any]:
    return vars(parser_of(source).parse_args(list(words)))


def read(source: str) -> tuple[Argument, ...]:
    return parse_arguments(source.encode())


def by_key(source: str) -> dict[str, Argument]:
    return {argument.key: argument for argument in read(source)}


def words_of(source: str, given: Mapping[str, str]) -> tuple[str, ...]:
    arguments = read(source)
    unknown = set(given) - {argument.key for argument in arguments}
    assert not unknown, f"{unknown} was not read: {[argument.key for argument in arguments]}"
    return command_words(arguments, given)


HEAD = "import argparse\nparser = argparse.ArgumentParser()\n"

CASES = {
    "types and defaults": Case(
        source=HEAD
        + """
parser.add_argument("--epochs", "-e", type=int, default=10, help="rounds (default: %(default)s)")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--batch-size", type=int, default=2 * 32)
parser.add_argument("--name", default="plain")
parser.add_argument("-o", dest="out", type=str)
""",
        given={"--epochs": "3", "--lr": "0.5", "--batch-size": "128", "--name": "two words", "-o": "a/b"},
        expected={"epochs": 3, "lr": 0.5, "batch_size": 128, "name": "two words", "out": "a/b"},
        defaults={"--epochs": "10", "--lr": "0.001", "--batch-size": "64", "--name": "plain", "-o": ""},
    ),
    "only what was changed": Case(
        source=HEAD
        + """
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--lr", type=float, default=0.1)
""",
        given={"--epochs": "10", "--lr": "0.2"},
        expected={"lr": 0.2},
    ),
    "choices": Case(
        source="""
import argparse
OPTIMIZERS = ("sgd", "adam")
MODELS = {"vit": lambda: None, "resnet": lambda: None}
parser = argparse.ArgumentParser()
parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
parser.add_argument("--model", choices=MODELS.keys(), default="vit")
parser.add_argument("--backbone", choices=sorted(MODELS), default="vit")
parser.add_argument("--depth", type=int, choices=range(2, 10, 2), default=4)
parser.add_argument("--size", choices=["s", "m"])
""",
        given={
            "--optimizer": "adam",
            "--model": "resnet",
            "--backbone": "resnet",
            "--depth": "8",
            "--size": "m",
        },
        expected={"optimizer": "adam", "model": "resnet", "backbone": "resnet", "depth": 8, "size": "m"},
    ),
    "flags": Case(
        source=HEAD
        + """
parser.add_argument("--amp", action="store_true")
parser.add_argument("--no-shuffle", action="store_false", dest="shuffle")
parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=False)
parser.add_argument("--debug", action="store_true")
""",
        given={"--amp": "on", "--no-shuffle": "on", "--compile": "off", "--pin": "on"},
        expected={"amp": True, "shuffle": False, "compile": False, "pin": True},
        defaults={"--amp": "off", "--no-shuffle": "off", "--compile": "on", "--pin": "off", "--debug": "off"},
    ),
    "a flag and its opposite": Case(
        source=HEAD
        + """
parser.add_argument("--amp", dest="amp", action="store_true")
parser.add_argument("--no-amp", dest="amp", action="store_false")
parser.set_defaults(amp=True)
parser.add_argument("--no-ema", dest="ema", action="store_false")
parser.add_argument("--ema", dest="ema", action="store_true")
parser.add_argument("--cache", action="store_true")
parser.add_argument("--no-cache", dest="cache", action="store_false")
parser.add_argument("--sync", action="store_true", default=True)
parser.add_argument("--no-sync", dest="sync", action="store_false")
""",
        given={"--amp": "off", "--ema": "off", "--cache": "on", "--sync": "off"},
        expected={"amp": False, "ema": False, "cache": True, "sync": False},
        defaults={"--amp": "on", "--ema": "on", "--cache": "off", "--sync": "on"},
    ),
    "lists": Case(
        source=HEAD
        + """
parser.add_argument("--layers", nargs="+", type=int, default=[64, 64])
parser.add_argument("--words", nargs="*", default=["a b", "c"])
parser.add_argument("--betas", nargs=2, type=float, default=(0.9, 0.999))
parser.add_argument("--resume", nargs="?", const="last.pt")
parser.add_argument("--tag", action="append")
parser.add_argument("--extra", action="extend", nargs="+")
""",
        given={
            "--layers": "128 64 32",
            "--words": "'it is' so",
            "--betas": "0.8 0.9",
            "--resume": "best.pt",
            "--tag": "x 'y z'",
            "--extra": "1 2",
        },
        expected={
            "layers": [128, 64, 32],
            "words": ["it is", "so"],
            "betas": [0.8, 0.9],
            "resume": "best.pt",
            "tag": ["x", "y z"],
            "extra": ["1", "2"],
        },
        defaults={"--layers": "64 64", "--words": "'a b' c", "--betas": "0.9 0.999"},
    ),
    "lists that are added to": Case(
        source=HEAD
        + """
parser.add_argument("--tag", action="append", default=["base"])
parser.add_argument("--data", action="extend", nargs="+", default=["a", "b c"])
""",
        given={"--tag": "base more", "--data": "a 'b c' d e"},
        expected={"tag": ["base", "more"], "data": ["a", "b c", "d", "e"]},
        defaults={"--tag": "base", "--data": "a 'b c'"},
    ),
    "a list of one": Case(
        source=HEAD + 'parser.add_argument("--gpus", nargs="+", type=int, default=[0])\n',
        given={"--gpus": "3"},
        expected={"gpus": [3]},
    ),
    "positional without defaults": Case(
        source=HEAD
        + """
parser.add_argument("data")
parser.add_argument("files", nargs="+")
parser.add_argument("--layers", nargs="+", type=int)
""",
        least=("here", "one"),
        given={"data": "my data", "files": "one 'and two'", "--layers": "1 2"},
        expected={"data": "my data", "files": ["one", "and two"], "layers": [1, 2]},
    ),
    "positional with defaults": Case(
        source=HEAD
        + """
parser.add_argument("source", nargs="?", default="train.csv")
parser.add_argument("target", nargs="?", default="out")
parser.add_argument("--seed", type=int, default=0)
""",
        given={"target": "elsewhere", "--seed": "7"},
        expected={"target": "elsewhere", "seed": 7},
    ),
    "a default that argparse does not use": Case(
        # A positional argument must be given, whatever its default, and so must a required flag.
        source=HEAD
        + """
parser.add_argument("data", default="mnist")
parser.add_argument("--seed", type=int, default=3, required=True)
parser.add_argument("--out", required=True)
parser.set_defaults(out="there")
parser.add_argument("--lr", type=float, default=0.1)
""",
        least=("mnist", "--seed", "3", "--out", "there"),
        given={"--lr": "0.2"},
        expected={"lr": 0.2},
    ),
    "groups": Case(
        source=HEAD
        + """
data = parser.add_argument_group("data", "what to learn from")
data.add_argument("--root", default="data")
which = parser.add_mutually_exclusive_group()
which.add_argument("--fast", action="store_true")
which.add_argument("--thorough", action="store_true")
parser.add_argument_group("optimiser").add_argument("--momentum", type=float, default=0.9)
""",
        given={"--root": "/mnt", "--thorough": "on", "--momentum": "0"},
        expected={"root": "/mnt", "thorough": True, "momentum": 0.0},
    ),
    "the first subcommand": Case(
        source="""
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--verbose", action="store_true")
parser.add_argument("--root", default=".")
sub = parser.add_subparsers(dest="what", required=True)
p = sub.add_parser("train")
p.add_argument("data")
group = p.add_argument_group("more")
group.add_argument("--lr", type=float, default=0.1)
p.set_defaults(lr=0.3)
p = sub.add_parser("test")
p.add_argument("checkpoint", nargs="?", default="last.pt")
p.add_argument("--lr", type=float, default=0.7)
""",
        least=("train", "d"),
        given={"--verbose": "on", "--root": "/r", "train data": "mine", "train --lr": "0.2"},
        expected={"verbose": True, "root": "/r", "data": "mine", "lr": 0.2},
        defaults={"what": "train", "train --lr": "0.3", "test --lr": "0.7", "test checkpoint": "last.pt"},
    ),
    "another subcommand": Case(
        source="""
import argparse
parser = argparse.ArgumentParser()
commands = parser.add_subparsers(dest="what")
commands.add_parser("fit").add_argument("--lr", type=float, default=0.1)
commands.add_parser("predict").add_argument("--beam", type=int, default=1)
""",
        least=("predict",),
        given={"what": "predict", "predict --beam": "4", "fit --lr": "0.9"},
        expected={"beam": 4},
    ),
    "lists in front of a subcommand": Case(
        source="""
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--gpus", nargs="+", type=int, default=[0])
parser.add_argument("--seed", type=int, default=5)
commands = parser.add_subparsers(dest="what")
fit = commands.add_parser("fit")
fit.add_argument("--lr", type=float, default=0.1)
""",
        least=("fit",),
        given={"--gpus": "1 2", "fit --lr": "0.9"},
        expected={"gpus": [1, 2], "lr": 0.9},
    ),
    "a list of one in front of a subcommand": Case(
        source="""
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--gpus", nargs="+", type=int, default=[0])
parser.add_subparsers(dest="what").add_parser("fit")
""",
        least=("fit",),
        given={"--gpus": "1"},
        expected={"gpus": [1]},
    ),
    "arguments that subcommands share": Case(
        source="""
import argparse
common = argparse.ArgumentParser(add_help=False)
common.add_argument("--seed", type=int, default=0)
parser = argparse.ArgumentParser()
commands = parser.add_subparsers(dest="what", required=True)
fit = commands.add_parser("fit", parents=[common])
fit.add_argument("--lr", type=float, default=0.1)
test = commands.add_parser("test", parents=[common])
""",
        least=("fit",),
        given={"fit --seed": "4", "fit --lr": "0.2"},
        expected={"seed": 4, "lr": 0.2},
    ),
    "arguments of a parent": Case(
        source="""
import argparse
common = argparse.ArgumentParser(add_help=False)
common.add_argument("--seed", type=int, default=0)
parser = argparse.ArgumentParser(parents=[common])
""",
        given={"--seed": "4"},
        expected={"seed": 4},
    ),
    "defaults set apart": Case(
        source=HEAD
        + """
parser.add_argument("--lr", type=float)
parser.add_argument("--batch-size", type=int, default=8)
parser.set_defaults(lr=0.25, batch_size=16, run=print)
""",
        given={"--batch-size": "8"},
        expected={"batch_size": 8},
        defaults={"--lr": "0.25", "--batch-size": "16"},
    ),
    "what begins with a dash": Case(
        source=HEAD
        + """
parser.add_argument("--shift", type=float, default=0.0)
parser.add_argument("--prompt", default="")
parser.add_argument("-s", type=int, default=0)
parser.add_argument("-lr", type=float, default=0.1)
parser.add_argument("--range", type=float, nargs=2)
parser.add_argument("--one", nargs="+")
parser.add_argument("--tag", action="append")
""",
        given={
            "--shift": "-1e-3",
            "--prompt": "--not-a-flag",
            "-s": "-5",
            "-lr": "-0.5",
            "--range": "-1 -0.5",
            "--one": "-x",
            "--tag": "-a b",
        },
        expected={
            "shift": -0.001,
            "prompt": "--not-a-flag",
            "s": -5,
            "lr": -0.5,
            "range": [-1.0, -0.5],
            "one": ["-x"],
            "tag": ["-a", "b"],
        },
    ),
    "a negative positional": Case(
        source=HEAD + 'parser.add_argument("shift", type=float)\nparser.add_argument("--x", nargs="+")\n',
        least=("0",),
        given={"shift": "-5", "--x": "1 2"},
        expected={"shift": -5.0, "x": ["1", "2"]},
    ),
    "what is left out": Case(
        source=HEAD
        + """
parser.add_argument("--version", action="version", version="1")
parser.add_argument("-v", action="count", default=0)
parser.add_argument("--secret-knob", help=argparse.SUPPRESS, default=1)
parser.add_argument("--fast", dest="mode", action="store_const", const="fast")
parser.add_argument("--seed", type=int, default=argparse.SUPPRESS)
parser.add_argument("rest", nargs=argparse.REMAINDER)
""",
        given={"--seed": "1"},
        expected={"seed": 1},
        defaults={"--seed": ""},
    ),
    "in functions": Case(
        source='''
import argparse, os
from typing import Final
LR: Final = 3e-4
DEFAULT = "ru" + "n"
def add_more(parser):
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser
def main():
    parser = argparse.ArgumentParser(description="x")
    parser.add_argument("--lr", type=float, default=LR,
        help="""step
        size""")
    parser.add_argument("--name", type=str, default=DEFAULT)
    add_more(parser)
    return parser
parser = main()
''',
        given={"--lr": "1", "--name": "n", "--workers": "2"},
        expected={"lr": 1.0, "name": "n", "workers": 2},
        defaults={"--lr": "0.0003", "--name": "run", "--workers": ""},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_argparse_finds_what_was_typed(case: Case) -> None:
    least = namespace(case.source, case.least)
    assert namespace(case.source, words_of(case.source, case.given)) == least | case.expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_that_are_typed_right_are_not_wrong(case: Case) -> None:
    arguments = by_key(case.source)
    assert {key: wrong_value(arguments[key], value) for key, value in case.given.items()} == dict.fromkeys(
        case.given, ""
    )


@pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.defaults],
    ids=[k for k, c in CASES.items() if c.defaults],
)
def test_defaults_are_told_as_they_would_be_typed(case: Case) -> None:
    arguments = by_key(case.source)
    assert {key: arguments[key].default for key in case.defaults} == case.defaults


@pytest.mark.parametrize("case", [case for case in CASES.values() if not case.least])
def test_defaults_need_no_words(case: Case) -> None:
    assert words_of(case.source, {}) == ()
    assert words_of(case.source, {argument.key: argument.default for argument in read(case.source)}) == ()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_no_argument_is_invented(case: Case) -> None:
    text = case.source
    for argument in read(text):
        named = argument.flag or argument.name
        assert f'"{named}"' in text, named


# ── what is shown of an argument ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "choices"),
    [
        ('"--x", choices=["a", "b"]', ("a", "b")),
        ('"--x", choices=("b", "a")', ("b", "a")),
        ('"--x", choices={"b", "a"}', ("a", "b")),
        ('"--x", choices=TABLE', ("one", "two")),
        ('"--x", choices=TABLE.keys()', ("one", "two")),
        ('"--x", choices=list(TABLE)', ("one", "two")),
        ('"--x", choices=sorted(["q", "p"])', ("p", "q")),
        ('"--x", type=int, choices=range(3)', ("0", "1", "2")),
        ('"--x", type=int, choices=range(4, 0, -2)', ("4", "2")),
        ('"--x", type=int, choices=range(0)', ()),
        ('"--x", type=int, choices=range(1, 9, 0)', ()),
        ('"--x", type=int, choices=range(10**30)', ()),
        ('"--x", choices=computed()', ()),
    ],
)
def test_choices(call: str, choices: tuple[str, ...]) -> None:
    source = f'TABLE = {{"one": print, "two": print}}\nparser.add_argument({call})\n'
    (argument,) = read(source)
    assert argument.choices == choices
    assert argument.kind == ("choice" if choices else "int" if "int" in call else "text")


def test_help_is_one_sentence_with_its_default() -> None:
    found = by_key(
        'p.add_argument("--a", default=3, help="rate of\\n  decay (%(default)s)")\n'
        'p.add_argument("--b", help="share in %% (%(default)s)")\n'
        'p.add_argument("--c", help=describe("c"))\n'
    )
    assert [entry.help for entry in found.values()] == ["rate of decay (3)", "share in % (none)", ""]


def test_a_flag_that_only_turns_off_is_called_as_it_is_given() -> None:
    # Else “shuffle = false” would be noted for a run that shuffles.
    (argument,) = read('p.add_argument("--no-shuffle", dest="shuffle", action="store_false")')
    assert (argument.dest, argument.default) == ("no_shuffle", "off")


def test_arguments_stand_in_the_order_of_the_text() -> None:
    source = CASES["the first subcommand"].source
    arguments = read(source)
    assert [entry.key for entry in arguments] == [
        "--verbose",
        "--root",
        "what",
        "train data",
        "train --lr",
        "test checkpoint",
        "test --lr",
    ]
    assert [entry.key for entry in arguments_of(arguments, {"what": "test"})] == [
        "--verbose",
        "--root",
        "what",
        "test checkpoint",
        "test --lr",
    ]


def test_only_the_chosen_subcommand_counts_as_changed() -> None:
    arguments = read(CASES["the first subcommand"].source)
    values = {"what": "test", "train --lr": "9", "test --lr": "8", "--root": "."}
    assert [(entry.key, value) for entry, value in changed_arguments(arguments, values)] == [
        ("what", "test"),
        ("test --lr", "8"),
    ]


@pytest.mark.parametrize(
    ("call", "value", "words"),
    [
        ('"--n", type=int', "3.5", "A whole number is needed."),
        ('"--n", type=int', "three", "A whole number is needed."),
        ('"--n", type=float', "1,5", "A number is needed."),
        ('"--n", choices=["a", "b"]', "c", "The script takes a, b."),
        ('"n"', "", "The script needs a value."),
        ('"--n", required=True', "", "The script needs a value."),
        ('"n", nargs="?"', "", ""),
        ('"n", nargs="*"', "", ""),
        ('"--n", type=int', "", ""),
        ('"--n", type=float', "1e-3", ""),
        ('"--n", type=float', "nan", ""),
    ],
)
def test_what_is_wrong_with_a_value(call: str, value: str, words: str) -> None:
    (argument,) = read(f"parser.add_argument({call})")
    assert wrong_value(argument, value) == words


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ('"n"', "-x"),
        ('"n"', "--lr"),
        ('"n", nargs="+"', "a -b"),
        ('"--n", nargs="+"', "a -b"),
        ('"--n", nargs="*"', "-a b"),
    ],
)
def test_words_that_argparse_takes_for_flags_are_wrong(call: str, value: str) -> None:
    source = HEAD + f"parser.add_argument({call})\n"
    (argument,) = read(source)
    with pytest.raises(SystemExit):
        namespace(source, argument.all_words(value))
    assert "dash" in wrong_value(argument, value)


def test_a_default_that_is_added_to_cannot_be_taken_away() -> None:
    (argument,) = read('p.add_argument("--tag", action="append", default=["a", "b"])')
    assert "a b" in wrong_value(argument, "c")
    assert wrong_value(argument, "a b c") == ""


def test_a_list_can_be_emptied_in_front_of_a_subcommand() -> None:
    source = HEAD + (
        'parser.add_argument("--gpus", nargs="*", default=["0"])\n'
        'parser.add_argument("--seed", type=int, default=1)\n'
        'parser.add_subparsers(dest="what").add_parser("fit")\n'
    )
    assert namespace(source, words_of(source, {"--gpus": " "})) == {"gpus": [], "seed": 1, "what": "fit"}


# ── anything may stand in a file ───────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(source: bytes) -> None:
    assert isinstance(parse_arguments(source), tuple)


@given(st.text(max_size=400))
def test_any_text_is_survived(source: str) -> None:
    assert isinstance(parse_arguments(source.encode("utf-8", "surrogatepass")), tuple)


_NAMES = st.sampled_from(["parser", "sub", "group", "X", "argparse", "int", "range", "sorted", "list"])
_ATOMS = st.one_of(
    _NAMES,
    st.sampled_from(['"--a"', '"-b"', '"c"', '"--no-a"', '"train"', "None", "True", "...", "-1", "0"]),
    st.integers(-(10**40), 10**40).map(repr),
    st.floats().map(repr),
    st.text(max_size=5).map(repr),
    st.binary(max_size=3).map(repr),
)
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: "{" + ", ".join(parts) + "}"),
        st.tuples(inner, inner).map(lambda pair: f"{{{pair[0]}: {pair[1]}}}"),
        st.tuples(inner, st.sampled_from("+-*/%@"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} ** {pair[1]})"),
        st.tuples(inner, st.lists(inner, max_size=3)).map(lambda t: f"{t[0]}({', '.join(t[1])})"),
        inner.map(lambda text: f"range({text})"),
        inner.map(lambda text: f"{text}.keys()"),
    ),
    max_leaves=6,
)
_KEYWORDS = st.lists(
    st.tuples(
        st.sampled_from(
            ["type", "default", "choices", "action", "nargs", "dest", "help", "required", "parents", "lr"]
        ),
        st.one_of(
            _EXPRESSIONS,
            st.sampled_from(['"store_true"', '"store_false"', '"append"', "argparse.BooleanOptionalAction"]),
        ),
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
)
_METHODS = st.sampled_from(
    [
        "add_argument",
        "add_parser",
        "add_subparsers",
        "set_defaults",
        "add_argument_group",
        "add_mutually_exclusive_group",
    ]
)


@st.composite
def _statements(draw: st.DrawFn) -> str:
    """A line as scripts hold them, with anything at all where its values stand."""
    if draw(st.integers(0, 4)) == 0:
        return f"{draw(_NAMES)} = {draw(_EXPRESSIONS)}"
    parts = draw(st.lists(_EXPRESSIONS, max_size=2))
    parts += [f"{name}={value}" for name, value in draw(_KEYWORDS)]
    call = f"{draw(_NAMES)}.{draw(_METHODS)}({', '.join(parts)})"
    return draw(st.sampled_from([call, f"{draw(_NAMES)} = {call}", f'{call}.add_argument("--z")']))


@given(st.lists(_statements(), max_size=6), st.text(max_size=8))
def test_any_python_is_survived(lines: list[str], value: str) -> None:
    arguments = parse_arguments("\n".join(lines).encode())
    assert len({argument.key for argument in arguments}) == len(arguments)
    for argument in arguments:
        wrong_value(argument, value)
        assert all(isinstance(word, str) for word in argument.all_words(value))
    assert all(command_words(arguments, {argument.key: value}) is not None for argument in arguments)


ONE = HEAD + 'parser.add_argument("--text", default="")\nparser.add_argument("--items", nargs="+")\n'


@given(st.text(min_size=1), st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_text_arrives(text: str, items: list[str]) -> None:
    arguments = by_key(ONE)
    typed = {"--text": text, "--items": shlex.join(items)}
    # Python 3.11's argparse removes a lone `--` wherever it stands.
    if "--" in (text, *items) or any(wrong_value(arguments[key], value) for key, value in typed.items()):
        return
    assert namespace(ONE, command_words(tuple(arguments.values()), typed)) == {"text": text, "items": items}


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"def broken(:\n",
        b"parser.add_argument('--a'",
        b'\0parser.add_argument("--a")',
        b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8,
        b"# coding: no-such-codec\nparser.add_argument('--a')\n",
        b"parser.add_argument('\xff')\n",
        b"(" * 5000,
        b"x = " + b"-" * 50_000 + b"1\nparser.add_argument('--a')\n",
        b"print 'two'\nparser.add_argument('--a')\n",
    ],
    ids=["empty", "syntax", "cut", "null", "binary", "codec", "utf-8", "brackets", "deep", "python 2"],
)
def test_what_is_no_python_has_no_arguments(source: bytes) -> None:
    assert parse_arguments(source) == ()


def test_a_script_is_read_from_its_file(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b'\xef\xbb\xbfparser.add_argument("--gr\xc3\xb6\xc3\x9fe", type=int, default=3)\n')
    assert [(entry.flag, entry.default) for entry in read_arguments(script)] == [("--größe", "3")]


def test_files_that_cannot_be_read_have_no_arguments(tmp_path: Path) -> None:
    assert read_arguments(tmp_path / "missing.py") == ()
    assert read_arguments(tmp_path) == ()
    huge = tmp_path / "huge.py"
    line = b'parser.add_argument("--a")\n'
    huge.write_bytes(line + b"#" * (2 * 1024 * 1024))
    assert read_arguments(huge) == ()
    huge.write_bytes(line + b"#" * 1024)
    assert [entry.flag for entry in read_arguments(huge)] == ["--a"]


def test_a_script_is_never_run(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    mark = tmp_path / "ran"
    script.write_text(
        f'open({str(mark)!r}, "w")\nparser.add_argument("--a", default=open({str(mark)!r}, "w"))\n'
    )
    assert [entry.flag for entry in read_arguments(script)] == ["--a"]
    assert not mark.exists()
