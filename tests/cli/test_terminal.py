"""What is written to a terminal: safe, aligned, and drawn from real numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.cli.curve import Line, chart, main_metrics, spark
from mlstudio.cli.safe_text import columns_of, cut, safe_line
from mlstudio.cli.strict_json import json_ready
from mlstudio.cli.tables import Column, table
from mlstudio.model.run import RunState


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("10%\r50%\r100%", "100%"),
        ("done\r", "done"),
        ("\x1b]52;c;ZXZpbA==\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x1b[2J\x1b[1;1Hafter", "after"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("bell\x07 null\0 del\x7f", "bell null del"),
        ("c1\x9b31mx", "c1x"),
        ("cut short \x1b]52;c;abc", "cut short "),
    ],
)
def test_what_steers_a_terminal_is_taken_out(text: str, shown: str) -> None:
    assert safe_line(text) == shown


def test_colours_may_stay_and_are_ended() -> None:
    assert safe_line("\x1b[31mred", colour=True) == "\x1b[31mred\x1b[0m"
    assert safe_line("\x1b[31mred\x1b[2J", colour=True) == "\x1b[31mred\x1b[0m"


@given(st.text())
def test_nothing_unsafe_is_left_of_any_text(text: str) -> None:
    shown = safe_line(text)
    assert not any(
        (ord(char) < 32 and char != "\t" and char != "\n") or 127 <= ord(char) < 160 for char in shown
    )


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.integers(2, 30))
def test_a_cut_text_fits(text: str, columns: int) -> None:
    assert columns_of(cut(text, columns)) <= columns


def test_a_table_is_aligned_and_fits() -> None:
    columns = (
        Column(title="n", right=True),
        Column(title="name", shrinks=True),
        Column(title="empty"),
        Column(title="end"),
    )
    rows = [("1", "a" * 50, "", "x"), ("12", "日本", "", "yy")]
    lines = [click.unstyle(line) for line in table(columns, rows, width=30)]
    assert all(columns_of(line) <= 30 for line in lines)
    assert "empty" not in lines[0]
    assert lines[1].startswith(" 1  aaa")
    assert "…" in lines[1]
    ends = [columns_of(line[: line.rindex(end)]) for line, end in zip(lines[1:], ("x", "yy"), strict=True)]
    assert ends[0] == ends[1]


def test_a_falling_curve_falls() -> None:
    steps = [float(step) for step in range(100)]
    lines = [
        click.unstyle(line)
        for line in chart([Line(name="loss", xs=steps, ys=[1 / (1 + x) for x in steps])], width=60, height=6)
    ]
    assert lines[0].startswith("   1 ")
    assert lines[5].strip().startswith("0.01")
    assert "loss 0.01" in lines[6]
    body = [line[5:] for line in lines[:6]]
    first = [next((i for i, char in enumerate(row) if char.strip()), 99) for row in body]
    assert first[0] == 0
    assert all(len(line) <= 60 for line in lines)


def test_curves_survive_odd_values() -> None:
    assert chart([], width=40, height=4) == []
    assert chart([Line(name="nan", xs=[0, 1], ys=[math.nan, math.inf])], width=40, height=4) == []
    assert len(chart([Line(name="one", xs=[5], ys=[3])], width=40, height=4)) == 5
    assert len(chart([Line(name="flat", xs=[0, 1], ys=[2, 2])], width=40, height=4)) == 5


@given(st.lists(st.floats()))
def test_any_values_make_a_spark(values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value) and abs(value) < 1e300]
    assert len(spark(finite, width=12)) <= 12


def test_sparks_rise() -> None:
    assert spark([1, 2, 3, 4]) == "▁▃▆█"


def test_the_losses_come_first() -> None:
    assert main_metrics(["epoch", "lr", "val_loss", "acc", "loss"]) == ("loss", "val_loss")
    assert main_metrics(["train/acc", "lr"]) == ("train/acc",)
    assert main_metrics(["epoch"]) == ()


def test_json_is_strict() -> None:
    @dataclass
    class Thing:
        state: RunState
        value: float
        parameters: tuple[tuple[str, str], ...]
        path: Path

    ready = json_ready(Thing(RunState.RUNNING, math.nan, (("lr", "1"),), Path("/x")))
    assert ready == {"state": "running", "value": "NaN", "parameters": {"lr": "1"}, "path": "/x"}
    assert json_ready([math.inf, -math.inf, 1.5, None, True]) == ["Infinity", "-Infinity", 1.5, None, True]
    json.dumps(ready, allow_nan=False)
    with pytest.raises(TypeError):
        json_ready(object())
