"""Filters: what they mean, beside a plain reading of the same runs; where their errors point; what completes them."""

from __future__ import annotations

import math
import operator
import os
import time
import uuid
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstudio.model.errors import RequestError
from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import Exit, ExitReason, RunSpec, RunState, RunSummary
from mlstudio.store import History
from mlstudio.store.query import QueryError
from mlstudio.store.query.tokens import Token, tokens
from mlstudio.store.query.values import duration, moment, number

NOW = time.time()
DAY = 86400.0
INPUTS = int(os.environ.get("MLSTUDIO_FUZZ", "400"))


@dataclass(frozen=True)
class Made:
    """A run as it was put into the history."""

    name: str
    state: RunState
    age_days: float
    parameters: dict[str, str]
    tags: tuple[str, ...]
    metrics: dict[str, list[float]]
    note: str = ""
    is_finished: bool = True


RUNS = [
    Made("cnn-1", RunState.SUCCEEDED, 10, {"lr": "0.001", "model": "cnn", "amp": "True"}, ("cnn", "Base Line"),
         {"loss": [3, 2, 1], "val/acc": [0.1, 0.95, 0.9]}),
    Made("cnn-2", RunState.FAILED, 5, {"lr": "0.01", "model": "cnn"}, ("cnn",), {"loss": [3, math.nan]},
         "diverged: 100%"),
    Made("vit-3", RunState.SUCCEEDED, 1, {"lr": "3e-4", "model": "vit"}, (), {"loss": [0.5], "val/acc": [0.97]}),
    Made("vit-4", RunState.RUNNING, 0.5, {"lr": "auto", "model": "vit", "odd name!": "x_y"}, ("new",),
         {"loss": [0.25], "train.loss (print)": [7.0]}, "it's \"quoted\" \\ here", is_finished=False),
    Made("empty", RunState.STOPPED, 100, {}, (), {}),
    Made("ünïcode-6", RunState.SUCCEEDED, 1.9, {"lr": "1", "text": "50%"}, ("π",),
         {"val_acc": [0.5], "big": [1e300, math.inf]}),
]  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with closing(History(tmp_path_factory.mktemp("home") / "history.db")) as made:
        for one in RUNS:
            run_id = uuid.uuid4().hex
            made.add_run(
                RunSpec(command=("python", "train.py", one.name), tags=one.tags, note=one.note),
                run_id=run_id,
                name=one.name,
                created=NOW - one.age_days * DAY,
                engine_kind="docker",
                parameters=tuple(one.parameters.items()),
            )
            made.set_tags(run_id, one.tags)
            made.set_note(run_id, one.note)
            made.observe(run_id, state=RunState.RUNNING, started=NOW - one.age_days * DAY + 10)
            made.apply(
                run_id,
                Batch(
                    cursor=Cursor(seq=0, position="0"),
                    points=tuple(
                        Points(
                            name=name,
                            kind="metric",
                            steps=array("q", range(len(values))),
                            times=array("d", [NOW] * len(values)),
                            values=array("d", values),
                        )
                        for name, values in one.metrics.items()
                    ),
                ),
            )
            if one.is_finished:
                made.finish(run_id)
                code = {RunState.FAILED: 1}.get(one.state, 0)
                made.observe(
                    run_id,
                    state=one.state,
                    ended=NOW - one.age_days * DAY + 3610,
                    exit=Exit(reason=ExitReason.ERROR if code else ExitReason.COMPLETED, code=code),
                )
        yield made


def names(history: History, where: str, **more: Any) -> set[str]:
    found = {run.name for run in history.runs(where=where, **more)}
    # However it is read: all at once, or a page at a time.
    assert {run.name for run in history.runs(where=where, limit=3, **more)} <= found
    assert history.count(where=where) == len(found)
    return found


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("", {one.name for one in RUNS}),
        ("lr < 1e-3", {"vit-3"}),
        ("lr <= 0.001", {"cnn-1", "vit-3"}),
        ("lr == 1e-3", {"cnn-1"}),
        ("lr != 0.001", {"cnn-2", "vit-3", "vit-4", "ünïcode-6"}),
        ("not (lr == 0.001)", {"cnn-2", "vit-3", "vit-4", "empty", "ünïcode-6"}),
        ("0.0005 < lr < 0.5", {"cnn-1", "cnn-2"}),
        ("0.5 > lr", {"cnn-1", "cnn-2", "vit-3"}),
        ("lr = auto", {"vit-4"}),
        ("lr is missing", {"empty"}),
        ("lr is not missing and model is missing", {"ünïcode-6"}),
        ("model in (cnn, 'resnet')", {"cnn-1", "cnn-2"}),
        ("model not in (cnn)", {"vit-3", "vit-4", "empty", "ünïcode-6"}),
        ("model ~ v*", {"vit-3", "vit-4"}),
        ("model !~ 'v*'", {"cnn-1", "cnn-2"}),
        ("model contains i", {"vit-3", "vit-4"}),
        ("amp = true", {"cnn-1"}),
        ("text = '50%'", {"ünïcode-6"}),
        ("`odd name!` = x_y", {"vit-4"}),
        ("param.lr > 0.5", {"ünïcode-6"}),
        ("loss < 0.4", {"vit-4"}),
        ("loss.min <= 1", {"cnn-1", "vit-3", "vit-4"}),
        ("loss.max = 3", {"cnn-1", "cnn-2"}),
        ("loss.count >= 2", {"cnn-1", "cnn-2"}),
        ("loss.step = 2", {"cnn-1"}),
        ("loss is nan", {"cnn-2"}),
        ("loss is not nan", {"cnn-1", "vit-3", "vit-4", "empty", "ünïcode-6"}),
        ("loss is missing", {"empty", "ünïcode-6"}),
        ("val/acc.max > 0.9", {"cnn-1", "vit-3"}),
        # Signs between words do not matter where no such name exists.
        ("val.acc.max > 0.9", {"cnn-1", "vit-3"}),
        ("VAL-ACC >= 0.5", {"cnn-1", "vit-3", "ünïcode-6"}),
        ("metric.loss > 0.9 and state != failed", {"cnn-1"}),
        ("`train.loss (print)` = 7", {"vit-4"}),
        ("big = inf", {"ünïcode-6"}),
        ("big.max > 1e299", {"ünïcode-6"}),
        ("state = failed or state in (running)", {"cnn-2", "vit-4"}),
        ('"cnn" in tags', {"cnn-1", "cnn-2"}),
        ("cnn in tags and not failed", {"cnn-1", "cnn-2"}),
        ('tags contains "base line"', {"cnn-1"}),
        ("tag = π", {"ünïcode-6"}),
        ("tags ~ 'ba*'", {"cnn-1"}),
        ("tags is missing", {"vit-3", "empty"}),
        ('started > "2 days ago"', {"vit-3", "vit-4", "ünïcode-6"}),
        ("created < '7 days ago'", {"cnn-1", "empty"}),
        ("created < now", {one.name for one in RUNS}),
        ("ended is missing", {"vit-4"}),
        ("duration >= 1h and duration <= 60min", {"cnn-1", "cnn-2", "vit-3", "empty", "ünïcode-6"}),
        ("duration > 2h", {"vit-4"}),
        ("exit = 1", {"cnn-2"}),
        ("number <= 2", {"cnn-1", "cnn-2"}),
        ("name ~ cnn-?", {"cnn-1", "cnn-2"}),
        ("name = CNN-1", {"cnn-1"}),
        ("command contains train.py", {one.name for one in RUNS}),
        ('note contains "100%"', {"cnn-2"}),
        ('note contains "it\'s \\"quoted\\" \\\\"', {"vit-4"}),
        ("archived = true", set()),
        ("imported = no", {one.name for one in RUNS}),
        ("cnn", {"cnn-1", "cnn-2"}),
        ("vit lr<1", {"vit-3"}),
        ("diverged cnn", {"cnn-2"}),
        ('"cnn vit"', set()),
        ("not cnn", {"vit-3", "vit-4", "empty", "ünïcode-6"}),
        ("(cnn or vit) and (lr < 0.001 or lr > 0.005)", {"cnn-2", "vit-3"}),
        ("lr < 1e-3 and val.acc.max > 0.9 and 'x' in tags", set()),
    ],
)
def test_what_filters_mean(history: History, where: str, found: set[str]) -> None:
    assert names(history, where) == found


@pytest.mark.parametrize(
    ("where", "part", "word"),
    [
        ("lrr < 1", "lrr", "lr"),
        ("loss < 1 and vall.acc > 2", "vall.acc", "val/acc"),
        ("metric.nothing > 1", "metric.nothing", "No run has a metric"),
        ("lr <", "<", "needs something"),
        ("lr < and", "<", "needs something"),
        ("(lr < 1", "(", "not closed"),
        ("lr < 1)", ")", "never opened"),
        ('"open', '"open', "not closed"),
        ("1 < 2", "1 < 2", "Two values"),
        ("state = finished", "finished", "no state"),
        ("state > failed", "failed", "not more or less"),
        ("started > tomorrowish", "tomorrowish", "no time"),
        ("duration > many", "many", "no duration"),
        ("loss > high", "high", "no number"),
        ("loss contains 1", "loss", "contains nothing"),
        ("lr is odd", "odd", "missing or nan"),
        ("and lr < 1", "and", "before it"),
        ("lr < 1 or", "", "missing at the end"),
        ("1 < lr < 2 < 3", "<", "not expected|before it|needs"),
        ("lr < 1 < 2", "<", "middle"),
        ("state in (failed", "(", "not closed"),
        ("lr = 1 ; DROP TABLE run", ";", ""),
    ],
)
def test_errors_point_at_their_place(history: History, where: str, part: str, word: str) -> None:
    if part == ";":
        # A word like any other, which is searched for.
        assert names(history, where) == set()
        return
    with pytest.raises(QueryError, match=word) as caught:
        history.runs(where=where)
    error = caught.value
    assert 0 <= error.start < error.end <= len(where) + 1
    assert where[error.start : error.end] == part or not part or part == "<"


def test_orders_follow_names_too(history: History) -> None:
    assert [run.name for run in history.runs(order_by="lr", descending=False, limit=3)] == [
        "vit-3", "cnn-1", "cnn-2",
    ]  # fmt: skip
    for order in ("val/acc.max", "loss", "lr", "name", "duration", "created", "loss.min", "exit"):
        for descending in (True, False):
            whole = [run.id for run in history.runs(order_by=order, descending=descending)]
            pages = [
                run.id
                for offset in range(0, len(RUNS) + 1, 2)
                for run in history.runs(order_by=order, descending=descending, limit=2, offset=offset)
            ]
            assert pages == whole, order
    with pytest.raises(RequestError):
        history.runs(order_by="tags")


def test_groups_count_runs(history: History) -> None:
    assert history.groups("model") == [(None, 2), ("cnn", 2), ("vit", 2)]
    assert dict(history.groups("state", where="cnn")) == {"succeeded": 1, "failed": 1}


# -- beside a plain reading ---------------------------------------------------------------------------------------------

_OPS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parameter(run: RunSummary, name: str, op: str, wanted: float) -> bool:
    text = dict(run.parameters).get(name)
    if text is None:
        return False
    value = _number(text)
    return op == "!=" if value is None else _OPS[op](value, wanted)


def _metric(run: RunSummary, name: str, field: str, op: str, wanted: float) -> bool:
    for metric in run.metrics:
        if metric.name == name:
            value = {
                "last": metric.last,
                "min": metric.minimum,
                "max": metric.maximum,
                "count": metric.count,
            }[field]
            return op == "!=" if value is None else _OPS[op](value, wanted)
    return False


Check = Callable[[RunSummary], bool]
NUMBERS = st.sampled_from([0.0, 0.001, 0.01, 0.5, 0.9, 1.0, 2.0, 3.0, 1e-4, 7.0])


@st.composite
def _terms(draw: st.DrawFn) -> tuple[str, Check]:
    op = draw(st.sampled_from(list(_OPS)))
    wanted = draw(NUMBERS)
    match draw(st.integers(0, 4)):
        case 0:
            return f"lr {op} {wanted}", lambda run: _parameter(run, "lr", op, wanted)
        case 1:
            field = draw(st.sampled_from(["last", "min", "max", "count"]))
            name = draw(st.sampled_from(["loss", "val/acc"]))
            return f"{name}.{field} {op} {wanted}", lambda run: _metric(run, name, field, op, wanted)
        case 2:
            tag = draw(st.sampled_from(["cnn", "new", "π", "absent"]))
            return f'"{tag}" in tags', lambda run: tag in run.tags
        case 3:
            state = draw(st.sampled_from(list(RunState))).value
            return f"state = {state}", lambda run: run.state.value == state
        case _:
            return f"number {op} {wanted}", lambda run: _OPS[op](run.number, wanted)


def _joined(inner: st.SearchStrategy[tuple[str, Check]]) -> st.SearchStrategy[tuple[str, Check]]:
    def both(pair: tuple[tuple[str, Check], tuple[str, Check]]) -> tuple[str, Check]:
        (one, first), (other, second) = pair
        return f"({one}) and {other}", lambda run: first(run) and second(run)

    def either(pair: tuple[tuple[str, Check], tuple[str, Check]]) -> tuple[str, Check]:
        (one, first), (other, second) = pair
        return f"({one} or ({other}))", lambda run: first(run) or second(run)

    def neither(part: tuple[str, Check]) -> tuple[str, Check]:
        return f"not ({part[0]})", lambda run: not part[1](run)

    return st.one_of(
        st.tuples(inner, inner).map(both), st.tuples(inner, inner).map(either), inner.map(neither)
    )


@settings(max_examples=300, deadline=None)
@given(st.recursive(_terms(), _joined, max_leaves=6))
def test_filters_find_what_a_plain_reading_finds(history: History, made: tuple[str, Check]) -> None:
    where, check = made
    every = history.runs()
    wanted = {run.name for run in every if check(run)}
    assert names(history, where) == wanted


# -- hostile ------------------------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    ["lr", "loss", "<", ">=", "=", "and", "or", "not", "(", ")", '"', "'", "`", "in", "tags", "is", "missing", "nan", "~",
     "!~", "1e999", "10k", "50%", "2 days ago", "contains", ",", "\x00", "%", "_", "*", "?", "[", "\\", "state", "failed",
     "started", "duration", "1h", "2026-13-45", "val.acc.max", "param.", ".", "-", "é", "\ud800", "9" * 400]
)  # fmt: skip


@settings(max_examples=INPUTS, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=12).map(" ".join)))
def test_no_text_does_more_than_be_refused(history: History, text: str) -> None:
    refused: QueryError | None = None
    try:
        history.runs(where=text, limit=5)
    except QueryError as error:
        refused = error
    assert refused is None or (refused.what and 0 <= refused.start < refused.end)
    history.complete(text)
    history.complete(text, len(text) // 2)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000, "not " * 2000 + "lr < 1", "lr < 1 and " * 2000 + "x", "lr < 1 " * 250, "x" * 1_000_000,
        "name ~ " + "*a" * 3000, "state in (" + "failed," * 900 + "failed)", '"' * 9999, "lr = " + "9" * 9000,
        "(" * 59 + "lr < 1" + ")" * 59,
    ],
    ids=range(10),
)  # fmt: skip
def test_what_is_huge_is_refused_or_answered_quickly(history: History, text: str) -> None:
    began = time.perf_counter()
    refused: QueryError | None = None
    try:
        history.runs(where=text)
    except QueryError as error:
        refused = error
    assert refused is None or len(str(refused)) < 1000
    assert time.perf_counter() - began < 2


# -- values -------------------------------------------------------------------------------------------------------------


def _token(text: str) -> Token:
    return tokens(text)[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [("10k", 1e4), ("2M", 2e6), ("50%", 0.5), ("4GiB", 4 * 2**30), ("200MB", 2e8), ("1_000", 1000), (".5", 0.5),
     ("-1e-3", -0.001), ("inf", math.inf), ("abc", None), ('"12"', 12)],
)  # fmt: skip
def test_numbers(text: str, value: float | None) -> None:
    assert number(_token(text)) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("5min", 300),
        ("1h30m", 5400),
        ('"2 days"', 172800),
        ("500ms", 0.5),
        ("1w", 604800),
        ("soon", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(_token(text)) == seconds


def test_moments_are_of_the_local_time() -> None:
    now = time.mktime((2026, 11, 23, 15, 30, 0, 0, 0, -1))
    day = time.mktime((2026, 11, 23, 0, 0, 0, 0, 0, -1))
    for text, begin in (
        ("now", now), ('"2 hours ago"', now - 7200), ("today", day), ("yesterday", day - DAY), ("monday", day - 7 * DAY),
        ("2026-11-23", day), ('"2026-11-23 15:30"', now), ("2026-11-23T15:30:00", now),
    ):  # fmt: skip
        found = moment(_token(text), now=now)
        assert found is not None, text
        assert found[0] == begin, text
    assert moment(_token("2026-13-45"), now=now) is None


# -- completion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "offered", "begin"),
    [
        ("", {"lr", "loss", "state", "tags", "val/acc", "`odd name!`"}, 0),
        ("l", {"lr", "loss"}, 0),
        ("loss < 1 and st", {"state", "started"}, 13),
        ("lr ", {"<", ">=", "=", "is missing"}, 3),
        ("state = ", {"succeeded", "failed", "running"}, 8),
        ("state = fa", {"failed"}, 8),
        ("model = ", {"cnn", "vit"}, 8),
        ("tags contains ", {"cnn", '"Base Line"', '"π"'}, 14),
        ('"cnn" ', {"in tags"}, 6),
        ("lr < 1 ", {"and", "or"}, 7),
        ("loss.", {"loss.max", "loss.min"}, 0),
        ("lr is ", {"missing", "nan"}, 6),
        ("started > ", {"yesterday"}, 10),
        ("(", {"lr"}, 1),
        ("not ", {"lr"}, 4),
    ],
)
def test_completion_offers_what_may_stand_there(
    history: History, text: str, offered: set[str], begin: int
) -> None:
    found = history.complete(text)
    assert offered <= {item.text for item in found.items}
    assert (found.start, found.end) == (begin, len(text))


def test_what_is_offered_can_be_used(history: History) -> None:
    for item in history.complete("").items:
        if item.kind in ("parameter", "metric", "attribute"):
            history.runs(where=f"{item.text} is missing")


def test_the_examples_of_the_documentation_can_be_understood(history: History) -> None:
    text = (Path(__file__).parents[2] / "docs" / "query.md").read_text(encoding="utf-8")
    indented = [line for line in text.splitlines() if line.startswith("    ")]
    examples = [line.strip() for line in indented if not line.startswith("    mlstudio")]
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| `") and row.count("|") == 4]
    examples += [row[3].strip().strip("`") for row in rows]
    shown = [one for one in examples if one[0] not in "$^" and not one.startswith(("Try", "print", "No run"))]
    assert len(shown) > 25
    refused = []
    for one in shown:
        try:
            history.runs(where=one)
        except QueryError as error:
            refused.append(error.what)
    # Some names are other runs' names.
    assert all("No run has" in what for what in refused), refused
