"""`mlstudio ls FILTER`: what is found, sorted, grouped, named; where a mistake is."""

from __future__ import annotations

import uuid
from array import array
from contextlib import closing
from pathlib import Path

import pytest

from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import RunSpec, RunState
from mlstudio.store import History
from tests.cli.conftest import Terminal


@pytest.fixture(autouse=True)
def runs(home: Path) -> None:
    with closing(History(home / "history.db")) as history:
        for number, (rate, model) in enumerate([("0.1", "cnn"), ("0.01", "cnn"), ("0.001", "vit")]):
            run_id = uuid.uuid4().hex
            history.add_run(
                RunSpec(command=("python", "train.py")),
                run_id=run_id,
                name=f"run-{number}",
                created=1000.0 + number,
                engine_kind="docker",
                parameters=(("lr", rate), ("model", model)),
            )
            values = array("d", [number / 10, number / 5])
            history.apply(
                run_id,
                Batch(
                    cursor=Cursor(seq=0, position="0"),
                    points=(
                        Points(
                            name="val/acc",
                            kind="metric",
                            steps=array("q", [0, 1]),
                            times=values,
                            values=values,
                        ),
                    ),
                ),
            )
            history.finish(run_id)
            history.observe(run_id, state=RunState.SUCCEEDED, ended=2000.0)


def found(terminal: Terminal, *words: str) -> list[str]:
    return [run["name"] for run in terminal.json("ls", *words)["runs"]]


def test_runs_that_fit_are_listed(terminal: Terminal) -> None:
    assert found(terminal, "lr < 0.05 and val.acc.max > 0.1") == ["run-2", "run-1"]
    assert found(terminal, "model", "=", "cnn") == ["run-1", "run-0"]
    assert found(terminal, "vit") == ["run-2"]
    assert "No run fits" in terminal("ls", "lr > 5").output
    assert found(terminal, "--sort", "lr", "--reverse") == ["run-2", "run-1", "run-0"]
    assert found(terminal, "--sort", "val/acc", "-n", "1") == ["run-2"]


def test_groups_and_names(terminal: Terminal) -> None:
    assert terminal.json("ls", "--group", "model")["groups"] == [
        {"value": "cnn", "runs": 2}, {"value": "vit", "runs": 1},
    ]  # fmt: skip
    assert "cnn" in terminal("ls", "lr > 0.005", "--group", "model").output
    said = terminal("ls", "--names").output
    for word in ("val/acc", "lr", "started", ".max"):
        assert word in said
    assert terminal.json("ls", "--names")["metrics"] == ["val/acc"]


def test_a_mistake_is_shown_at_its_place(terminal: Terminal) -> None:
    said = terminal("ls", "lr < 1 and lrr > 2", expect=2).output.splitlines()
    place = said.index("  lr < 1 and lrr > 2")
    assert said[place + 1] == "             ^~~"
    assert "Did you mean lr?" in said[place + 2]
    assert "sorted" in terminal("ls", "--sort", "tags", expect=2).output
