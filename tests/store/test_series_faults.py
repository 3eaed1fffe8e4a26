"""Points survive: a writer that ends between any two statements, readers in the middle of it all, an old database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.model.record import Batch, Cursor, Points
from mlstudio.store import History, migrate, recording_rows
from mlstudio.store.database import connect
from tests.store.conftest import add
from tests.store.test_series_packing import first_chunk, first_tail

ROOT = Path(__file__).parents[2]


class Crash(Exception):
    pass


class FragileCursor:
    """A cursor that fails before its `left`-th statement."""

    def __init__(self, cursor: sqlite3.Cursor, left: int) -> None:
        self.cursor, self.left = cursor, left

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._count()
        return self.cursor.execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._count()
        return self.cursor.executemany(*arguments)

    def _count(self) -> None:
        if not self.left:
            raise Crash
        self.left -= 1


def part(seq: int, *, size: int, names: int) -> Batch:
    """Points `seq * size` and following of some series, of which every other one began later."""
    steps = array("q", range(seq * size, seq * size + size))
    times = array("d", [step / 7 for step in steps])
    return Batch(
        cursor=Cursor(seq=seq, position=str(seq)),
        points=tuple(
            Points(
                name=f"series {name}",
                kind="metric",
                steps=steps,
                times=times,
                values=array("d", [step * (name + 1) / 3 for step in steps]),
            )
            for name in range(names)
            if not (name % 2 and seq == 0)
        ),
    )


def check(history: History, run_id: str, *, batches: int, size: int, names: int) -> None:
    """The history holds exactly the first `batches` parts."""
    assert history.cursor(run_id).seq == batches - 1
    for name in range(names):
        first = size if name % 2 else 0
        last = batches * size
        if last <= first:
            continue
        found = history.series(run_id, f"series {name}")
        assert found.steps.tolist() == list(range(first, last))
        assert (found.times == found.steps / 7).all()
        assert (found.values == found.steps * (name + 1) / 3).all()
        thinned = history.thinned(run_id, f"series {name}", max_points=50)
        assert thinned.values.max() == found.values.max()
    with history._database.read() as connection:
        orphans = (
            "SELECT (SELECT count(*) FROM axis WHERE uses != (SELECT count(*) FROM chunk WHERE axis = axis.id)), "
            "(SELECT count(*) FROM chunk WHERE axis NOT IN (SELECT id FROM axis))"
        )
        assert tuple(connection.exec_driver_sql(orphans).one()) == (0, 0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.sampled_from([3, 40, 700]), crashes=st.lists(st.integers(0, 60), max_size=12))
def test_a_transaction_that_ends_between_any_two_statements_leaves_no_trace(
    history: History, size: int, crashes: list[int]
) -> None:
    run_id = add(history)
    count, names = 20, 5
    whole = history._database.write_fast
    left: list[int] = []

    @contextmanager
    def fragile() -> Iterator[FragileCursor | sqlite3.Cursor]:
        with whole() as cursor:
            yield FragileCursor(cursor, left.pop()) if left else cursor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history._database, "write_fast", fragile)
        # Small limits, so that much happens in few batches.
        patch.setattr(recording_rows, "_TAIL_ROWS", 3)
        patch.setattr(recording_rows, "_TAIL_POINTS", 9000)
        waiting = list(crashes)
        for seq in range(count):
            batches = seq
            while waiting and seq % 3 == 0:
                left.append(waiting.pop())
                try:
                    history.apply(run_id, part(seq, size=size, names=names))
                    batches = seq + 1
                except Crash:
                    check(history, run_id, batches=batches, size=size, names=names)
                left.clear()
            history.apply(run_id, part(seq, size=size, names=names))
        for crash in crashes:
            left.append(crash)
            try:
                history.finish(run_id)
            except Crash:
                check(history, run_id, batches=count, size=size, names=names)
            left.clear()
        history.finish(run_id)
    check(history, run_id, batches=count, size=size, names=names)


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from mlstudio.store import History
from tests.store.test_series_faults import Crash, FragileCursor, part
history = History(Path(sys.argv[1]))
run_id, batches, statements = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole = history._database.write_fast

@contextmanager
def fragile():
    with whole() as cursor:
        try:
            yield FragileCursor(cursor, statements) if batches <= 0 else cursor
        except Crash:
            os.kill(os.getpid(), signal.SIGKILL)

history._database.write_fast = fragile
first = history.cursor(run_id).seq + 1
for seq in range(first, 1000):
    history.apply(run_id, part(seq, size=500, names=4))
    print(seq, flush=True)
    batches -= 1
"""


def test_a_writer_that_is_killed_loses_nothing_that_it_had_committed(path: Path) -> None:
    with closing(History(path)) as history:
        run_id = add(history)
        batches = 0
        for before, statements in ((2, 0), (40, 3), (33, 9), (65, 30)):
            done = subprocess.run(
                [sys.executable, "-c", KILLED, str(path), run_id, str(before), str(statements)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            assert done.returncode == -signal.SIGKILL, done.stderr
            batches = int(done.stdout.split()[-1]) + 1
            check(history, run_id, batches=batches, size=500, names=4)
        history.finish(run_id)
        check(history, run_id, batches=batches, size=500, names=4)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_readers_never_see_half_of_a_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_rows, "_TAIL_ROWS", 5)
    size, names, count = 37, 4, 150
    errors: list[BaseException] = []
    over = threading.Event()
    reads = 0

    def read(run_id: str) -> None:
        nonlocal reads
        try:
            while not over.is_set():
                # A reader of its own each time: it opens while another one writes.
                with closing(History(path)) as reader:
                    for _ in range(20):
                        seq = reader.cursor(run_id).seq
                        for name in (0, 2):
                            if seq < 0:
                                continue
                            found = reader.series(run_id, f"series {name}")
                            assert len(found) % size == 0
                            assert len(found) >= (seq + 1) * size
                            assert found.total == len(found)
                            assert found.steps.tolist() == list(range(len(found)))
                            tail = reader.series(run_id, f"series {name}", start=len(found) - 10)
                            assert tail.steps.tolist() == list(range(len(found) - 10, tail.total))
                            window = reader.window(run_id, f"series {name}", max_points=20)
                            assert window.steps[-1] == window.total - 1
                            assert window.values.max() == window.steps.max() * (name + 1) / 3
                        reads += 1
        except BaseException as error:  # noqa: BLE001 — told by the test
            errors.append(error)

    with closing(History(path)) as history:
        run_id = add(history)
        threads = [threading.Thread(target=read, args=(run_id,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for seq in range(count):
            history.apply(run_id, part(seq, size=size, names=names))
        history.finish(run_id)
        over.set()
        for thread in threads:
            thread.join()
        assert not errors, errors
        assert reads > 10
        check(history, run_id, batches=count, size=size, names=names)


def test_points_of_the_first_schema_are_read_and_gone_on_with(path: Path) -> None:
    """Three sealed chunks and two rows of a tail as the first version wrote them, of a run that still runs."""
    path.parent.mkdir()
    engine = connect(path)
    with engine.connect() as connection:
        config = migrate.configuration()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        run_id = "a" * 32
        connection.exec_driver_sql(
            "INSERT INTO run (number, id, name, state, phase, desired, created, engine, engine_kind, host, owner, "
            "handle, command, gpus, colour, note, archived, image_id, image_tag, commit_hash, tree_hash, "
            "changed_files, lacks, gaps, revision) VALUES (1, ?, 'old', 'running', '', 'running', 1.0, 'local', "
            "'docker', '', '', '', '[]', '[]', 0, '', 0, '', '', '', '', 0, '[]', 0, 1)",
            (run_id,),
        )
        connection.exec_driver_sql(
            "INSERT INTO recording VALUES (1, 4, '4', 0, 0, x'', NULL, 0, x'', NULL, 0, 0, 0, 2, 100, 0)"
        )
        for key, name in ((7, "loss"), (9, "acc")):
            connection.exec_driver_sql(
                "INSERT INTO series (id, run, kind, name, position, unit, count, sealed, last, last_step, last_time) "
                "VALUES (?, 1, 'metric', ?, ?, '', 250, 150, 1.0, 249, 249.0)",
                (key, name, key),
            )
            for start in (0, 50, 100):
                steps = list(range(start, start + 50))
                data = first_chunk(steps, [step / 7 for step in steps], [step / 3 for step in steps])
                connection.exec_driver_sql(
                    "INSERT INTO chunk (series, start, count, data) VALUES (?, ?, 50, ?)", (key, start, data)
                )
        for start in (150, 200):
            steps = list(range(start, start + 50))
            data = first_tail(7, steps, [step / 7 for step in steps], [step / 3 for step in steps], again=9)
            connection.exec_driver_sql("INSERT INTO tail (run, points, data) VALUES (1, 100, ?)", (data,))
        connection.exec_driver_sql("PRAGMA user_version = 1")
        connection.exec_driver_sql("PRAGMA application_id = 0x4D4C5354")
    engine.dispose()

    with closing(History(path)) as history:

        def whole(count: int) -> None:
            for name in ("loss", "acc"):
                found = history.series(run_id, name)
                assert found.steps.tolist() == list(range(count))
                assert (found.times == np.arange(count) / 7).all()
                assert (found.values == np.arange(count) / 3).all()
                window = history.window(run_id, name, low=20, high=230, max_points=40)
                assert (window.steps[0], window.steps[-1], window.values.max()) == (20, 230, 230 / 3)

        whole(250)
        for seq in range(5, 75):
            more = array("q", range(200 + 10 * seq, 210 + 10 * seq))
            times = array("d", [step / 7 for step in more])
            values = array("d", [step / 3 for step in more])
            points = tuple(
                Points(name=name, kind="metric", steps=more, times=times, values=values)
                for name in ("loss", "acc")
            )
            history.apply(run_id, Batch(cursor=Cursor(seq=seq, position=str(seq)), points=points))
        whole(950)
        history.finish(run_id)
        whole(950)
    assert len(list(path.parent.glob("history-schema1-*.db"))) == 1
