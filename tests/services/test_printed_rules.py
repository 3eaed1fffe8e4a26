"""Rules for printed lines: made from examples, matched without going back, kept, tried and applied."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.record import Batch, Cursor, LogBlock
from mlstudio.model.run import RunSpec, RunState
from mlstudio.services.printed_rules import parse_rule, parse_rules, suggest_rule
from mlstudio.services.recording.printed_series import PrintedSeries
from mlstudio.services.recording.progress import ProgressTracker
from mlstudio.services.rule_book import RuleBook
from mlstudio.services.settings import Settings
from mlstudio.store import History

EXAMPLES = [
    ("it 12/100 L=0.53 A=91.2% 12ms", "it {step}/{*} L={L} A={A}% {*}ms", {"L": 0.53, "A": 91.2}, 12, None),
    (
        "2026-11-23 10:00:01,123 [INFO] ep 3 | trn 0.53 | dev 0.61 | 3.2 s",
        "{*} [INFO] ep {epoch} | trn {trn} | dev {dev} | {*} s",
        {"trn": 0.53, "dev": 0.61}, None, 3,
    ),
    ("[12/100] 0.53 (0.61)", "[{step}/{*}] {value} ({value2})", {"value": 0.53, "value2": 0.61}, 12, None),
    ("    0/ 200000: 3.7881", "{step}/ {*}: {value}", {"value": 3.7881}, 0, None),
    ("D(x): 0.81 D(G(z)): 0.15 / 0.04", "D(x): {value} D(G(z)): {value2} / {value3}",
     {"value": 0.81, "value2": 0.15, "value3": 0.04}, None, None),
    ("gen 5 best=-1.5e3", "gen {gen} best={best}", {"gen": 5.0, "best": -1500.0}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "rule", "values", "step", "epoch"), EXAMPLES)
def test_a_line_becomes_a_rule_that_reads_it(
    line: str, rule: str, values: dict[str, float], step: int | None, epoch: float | None
) -> None:
    assert suggest_rule(line) == rule
    found = parse_rule(rule).match(line)
    assert found is not None
    assert (found.values, found.step, found.epoch) == (values, step, epoch)


@pytest.mark.parametrize(
    ("rule", "line", "values"),
    [
        ("it {step}/{*} L={loss}", "[node1]  it   7/100   L= 3.5 A=2", {"loss": 3.5}),
        ("loss {loss}", "a loss b loss 3", {"loss": 3.0}),
        ("L={loss} {*} A={acc}", "L=1 x y z A=2", {"loss": 1.0, "acc": 2.0}),
        ("L={loss}", "L=nan", None),
        ("n {n}", "n 1,234.5 of", {"n": 1234.5}),
        ("{a} {b}", "12", None),
        ("it {step} L={loss}", "it x L=3", None),
        ("it {step} L={loss}", "", None),
    ],
)
def test_what_a_rule_finds(rule: str, line: str, values: dict[str, float] | None) -> None:
    if rule == "{a} {b}":
        with pytest.raises(RequestError, match="no words"):
            parse_rule(rule)
        return
    found = parse_rule(rule).match(line)
    if line == "L=nan":
        assert found is not None
        assert repr(found.values) == "{'loss': nan}"
        return
    assert (None if found is None else found.values) == values


def test_a_line_is_read_as_a_terminal_would_leave_it() -> None:
    rule = parse_rule("it {step} L={loss}")
    found = rule.match("it 1 L=9\rit 2 L=8\r\x1b[32mit 3\x1b[0m L=\x1b[1m0.5\x1b[0m\r")
    assert found is not None
    assert (found.step, found.values) == (3, {"loss": 0.5})


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("loss", "no number"),
        ("{step} of {epoch}", "no number"),
        ("{loss}", "no words"),
        ("a {x}{y}", "side by side"),
        ("a {x} {x}", "twice"),
        ("a {x", "brace"),
        ("a x} {y}", "brace"),
        ("a {1}", "no name"),
        ("a {}", "no name"),
        ("x" * 501 + "{a}", "longer"),
    ],
)
def test_what_is_no_rule_is_said(rule: str, word: str) -> None:
    with pytest.raises(RequestError, match=word):
        parse_rule(rule)
    assert parse_rules([rule, "a {b}"]) == parse_rules(["a {b}"])


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_line_breaks_a_rule_and_no_example_breaks_the_suggestion(example: str, line: str) -> None:
    try:
        rule = suggest_rule("L=3 " + example)
    except RequestError:
        return
    found = parse_rule(rule)
    found.match(line)
    found.match(line + "L=3" * 50)


def test_no_rule_is_slow() -> None:
    rule = parse_rule("{*}a {*} a {*} a {x} {*} a {y} {*} b {z}")
    began = time.perf_counter()
    rule.match("a 1 " * 500)
    assert time.perf_counter() - began < 0.2


def test_a_rule_reads_a_line_before_the_usual_way_does() -> None:
    finder = PrintedSeries(ProgressTracker(), rules=parse_rules(["loss {x}/{y}"]))
    data = b"loss 3/4\nloss 5\n"
    points = finder.feed(data, [(False, len(data), 1.0)])
    assert [(point.name, point.value) for point in points] == [("x", 3.0), ("y", 4.0), ("loss", 5.0)]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "home" / "history.db")) as made:
        yield made


@pytest.fixture
def book(tmp_path: Path, history: History) -> RuleBook:
    return RuleBook(Settings(tmp_path / "settings.toml"), history)


@pytest.fixture
def run_id(history: History) -> str:
    run_id = uuid.uuid4().hex
    history.add_run(
        RunSpec(command=("python", "x.py")), run_id=run_id, name="x", created=1.0, engine_kind="docker"
    )
    log = b"".join(b"it %d/100 L=%.2f\nother line\n" % (step, 1 / (step + 1)) for step in range(50))
    history.apply(
        run_id,
        Batch(
            cursor=Cursor(seq=0, position="0", log_bytes=len(log)),
            log=(LogBlock(data=log, spans=((False, len(log), 5.0),)),),
        ),
    )
    history.finish(run_id)
    history.observe(run_id, state=RunState.SUCCEEDED, ended=9.0)
    return run_id


def test_rules_are_kept_newest_first_and_once(book: RuleBook) -> None:
    book.add("a {x}")
    book.add("b  {y}")
    book.add("a {x}")
    assert book.rules() == ("a {x}", "b {y}")
    assert book.remove("2") == "b {y}"
    assert book.remove("a {x}") == "a {x}"
    with pytest.raises(NotFound):
        book.remove("1")


def test_a_preview_says_what_would_be_caught(book: RuleBook, run_id: str) -> None:
    found = book.preview("it {step}/{*} L={loss}", run_id)
    assert (found.lines, found.caught, found.names) == (100, 50, ("loss",))
    assert [caught.found.step for caught in found.examples] == [0, 1, 2, 3, 4]


def test_rules_are_applied_to_a_run_that_is_over_and_twice_adds_nothing(
    book: RuleBook, run_id: str, history: History
) -> None:
    book.add("it {step}/{*} L={loss}")
    assert book.apply(run_id) == {"loss": 50}
    assert book.apply(run_id) == {}
    series = history.series(run_id, "loss")
    assert series.steps.tolist() == list(range(50))
    assert series.values[1] == 0.5
    assert set(series.times) == {5.0}
    (metric,) = history.metrics(run_id)
    assert metric.logger == "print"
