"""A history, and short ways to fill it."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mlstudio.model.record import Batch, Cursor, LogBlock, Points
from mlstudio.model.run import RunSpec
from mlstudio.store import History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "history.db"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    made = History(path)
    yield made
    made.close()


def add(history: History, name: str = "run", **spec: object) -> str:
    """A queued run; returns its id."""
    run_id = uuid.uuid4().hex
    history.add_run(
        RunSpec(command=("python", "train.py"), **spec),  # type: ignore[arg-type]
        run_id=run_id,
        name=name,
        created=1000.0,
        engine_kind="docker",
    )
    return run_id


def points(name: str, values: Sequence[float], *, first: int = 0, kind: str = "metric") -> Points:
    steps = array("q", range(first, first + len(values)))
    times = array("d", [1000.0 + step / 10 for step in steps])
    return Points(name=name, kind=kind, steps=steps, times=times, values=array("d", values))


def batch(seq: int, *found: Points, log: bytes = b"", before: int = 0, time: float = 1000.0) -> Batch:
    """A batch with frame `seq`; `before` is how much output came before."""
    blocks = (LogBlock(data=log, spans=((False, len(log), time),)),) if log else ()
    return Batch(
        cursor=Cursor(seq=seq, position=str(seq), log_bytes=before + len(log)), points=found, log=blocks
    )
