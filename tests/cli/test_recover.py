"""`mlstudio recover`: what is wrong is said, what can be read is saved, an open history is let alone."""

from __future__ import annotations

import subprocess
import sys
import uuid
from array import array
from contextlib import closing
from pathlib import Path

import pytest

from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.model.run import RunSpec
from mlstudio.store import History
from tests.cli.conftest import Terminal


@pytest.fixture
def damaged(home: Path) -> Path:
    path = home / "history.db"
    with closing(History(path)) as history:
        for number in range(3):
            run_id = uuid.uuid4().hex
            history.add_run(
                RunSpec(command=("python", "train.py")),
                run_id=run_id,
                name=f"run-{number}",
                created=1000.0,
                engine_kind="docker",
            )
            values = array("d", range(3000))
            history.apply(
                run_id,
                Batch(
                    cursor=Cursor(seq=0, position="0", log_bytes=0),
                    points=(
                        Points(
                            name="loss",
                            kind="metric",
                            steps=array("q", range(3000)),
                            times=values,
                            values=values,
                        ),
                    ),
                ),
            )
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 30_000)
    return path


def test_a_damaged_history_is_explained_and_recovered(terminal: Terminal, damaged: Path) -> None:
    before = damaged.read_bytes()
    refused = terminal("ls", expect=3).output
    assert "damaged" in refused
    assert "mlstudio recover" in refused
    assert "damaged" in terminal("recover", "--check", expect=1).output
    assert "--yes" in terminal("recover", expect=2).output
    assert damaged.read_bytes() == before
    said = terminal("recover", "--yes").output
    assert "Recovered 3 runs" in said
    (aside,) = damaged.parent.glob("history-damaged-*.db")
    assert str(aside) in said
    assert aside.read_bytes() == before
    assert "run-2" in terminal("ls").output
    assert "sound" in terminal("recover", "--check").output


def test_recover_tells_programs_too(terminal: Terminal, damaged: Path) -> None:
    found = terminal.json("recover", "--yes")
    assert found["runs"] == 3
    assert found["rows"]["run"] == 3
    assert Path(found["aside"]).exists()
    assert terminal.json("recover", "--check") == {"sound": True, "wrong": []}


def test_a_history_that_somebody_has_open_is_not_moved_away(terminal: Terminal, damaged: Path) -> None:
    before = damaged.read_bytes()
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; f = open(sys.argv[1]); print('open', flush=True); input()",
            damaged,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        said = terminal("recover", "--yes", expect=3).output
        assert f"process {other.pid}" in said
    finally:
        other.communicate(b"\n", timeout=20)
    assert damaged.read_bytes() == before


def test_where_no_history_is_there_is_nothing_to_recover(terminal: Terminal) -> None:
    assert "no history" in terminal("recover", "--yes", expect=2).output
