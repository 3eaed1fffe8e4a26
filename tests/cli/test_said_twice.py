"""A number that two loggers reported: shown once, and found under both names, also after the copy gave up its points."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.services.studio import Studio
from tests.cli.conftest import Terminal


def test_what_two_loggers_say_is_shown_once(terminal: Terminal, finished: Callable[[], str]) -> None:
    run_id = finished()
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        copy = Points(
            name="train/loss",
            kind="metric",
            logger="mlflow",
            steps=array("q", [0, 1, 2]),
            times=array("d", [1.5, 2.5, 3.5]),
            values=array("d", [3.0, 2.0, 1.0]),
        )
        studio.history.apply(run_id, Batch(cursor=Cursor(seq=1, position="2"), points=(copy,)))
        studio.history.finish(run_id)
        studio.history.mark_same(run_id, {"train/loss": "loss"})
        for is_dropped in (False, True):
            if is_dropped:
                studio.history.drop_copies(run_id, ["train/loss"])
            names = [entry["name"] for entry in terminal.json("metrics", "1")["series"]]
            assert names == ["loss", "odd"]
            (entry,) = terminal.json("metrics", "1", "train/loss")["series"]
            assert (entry["name"], entry["steps"], entry["values"]) == (
                "train/loss",
                [0, 1, 2],
                [3.0, 2.0, 1.0],
            )
            shown = terminal("show", "1").output
            assert "train/loss (mlflow) says the same as loss." in shown
            assert len([line for line in shown.splitlines() if line.startswith("train/loss")]) == 1
            assert "train/loss" not in terminal("ls").output
            assert "loss 1" in terminal("ls").output


def test_a_copy_of_the_same_name_is_told_by_its_logger(
    terminal: Terminal, finished: Callable[[], str]
) -> None:
    run_id = finished()
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        copy = Points(
            name="loss (tensorboard)",
            kind="metric",
            logger="tensorboard",
            steps=array("q", [0, 1, 2]),
            times=array("d", [1.5, 2.5, 3.5]),
            values=array("d", [3.0, 2.0, 1.0]),
        )
        studio.history.apply(run_id, Batch(cursor=Cursor(seq=1, position="2"), points=(copy,)))
        studio.history.finish(run_id)
        studio.history.mark_same(run_id, {"loss (tensorboard)": "loss"})
        assert "\nloss (tensorboard) says the same as loss." in terminal("show", "1").output
