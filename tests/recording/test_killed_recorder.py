"""``kill -9`` of real recorder processes while a real process writes, and the life of the detached recorder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlstudio.model.run import RunSpec, RunState
from mlstudio.services.recorder_control import RecorderControl
from mlstudio.store import History
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
ME = f"{os.getpid()}:{psutil.Process().create_time()}"


def python(*words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *words], env=environment, cwd=ROOT)


def add_run(history: History, engine: str, handle: str = "") -> str:
    run_id = uuid.uuid4().hex
    history.add_run(
        RunSpec(command=("python", "train.py"), engine=engine),
        run_id=run_id,
        name="run",
        created=time.time(),
        engine_kind="fake",
        owner=ME,
    )
    if handle:
        history.set_handle(run_id, handle)
    return run_id


def test_kill_9_at_any_moment_loses_and_doubles_nothing(home: Path, history: History, tmp_path: Path) -> None:
    points = 8000
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "output").touch()
    run_id = add_run(history, "file", str(folder))
    tool = str(Path(__file__).with_name("file_engine.py"))
    writer = python(tool, "--write", str(folder), str(points))
    chance = random.Random(7)
    kills = 0
    seen = 0
    recorder = python(tool, str(tmp_path))
    try:
        while kills < 6:

            def has_grown(than: int = seen) -> bool:
                return sum(metric.count for metric in history.metrics(run_id)) > than

            assert wait_until(has_grown, deadline_s=20.0)
            # Not at a commit, but at any moment.
            wait_until(lambda: False, deadline_s=chance.random() * 0.25)
            recorder.send_signal(signal.SIGKILL)
            recorder.wait()
            kills += 1
            seen = sum(metric.count for metric in history.metrics(run_id))
            if seen == points:
                break
            recorder = python(tool, str(tmp_path))
        if recorder.poll() is not None:
            recorder = python(tool, str(tmp_path))
        assert wait_until(lambda: history.summary(run_id).state.is_final, deadline_s=30.0)
        assert writer.wait(timeout=20) == 0
    finally:
        for process in (recorder, writer):
            process.kill()
            process.wait()
    assert kills >= 3
    assert history.summary(run_id).state is RunState.SUCCEEDED
    assert list(history.series(run_id, "loss").values) == [number / 2 for number in range(points)]
    assert list(history.series(run_id, "loss").steps) == list(range(points))
    assert [line.text for line in history.log(run_id, count=points + 1)] == [
        f"line {n}" for n in range(points)
    ]
    assert history.gaps(run_id) == []


# -- the detached process ---------------------------------------------------------------------------------------------


@pytest.fixture
def kept(home: Path) -> Iterator[History]:
    history = History(home / "history.db")
    yield history
    history.close()


def recorders(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "recorder" in words and str(home) in words and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_a_recorder_is_started_once_detached_and_again_after_its_death(home: Path, kept: History) -> None:
    control = RecorderControl(home)
    assert not control.ensure(), "nothing is live"
    assert not control.is_running()
    add_run(kept, "process")
    assert control.ensure()
    assert control.is_running(), "the lock is held from the first moment on"
    assert not control.ensure()
    assert not RecorderControl(home).ensure(), "nor does another program start a second one"
    assert wait_until(lambda: (home / "recorder.log").exists(), deadline_s=20.0)
    (recorder,) = recorders(home)
    assert recorder.pid not in {child.pid for child in psutil.Process().children(recursive=True)}
    assert os.getsid(recorder.pid) != os.getsid(0)
    # Nothing of ours is open in it.
    assert not [
        found for found in recorder.open_files() if str(ROOT) in found.path and found.path.endswith(".py")
    ]

    recorder.kill()
    assert wait_until(lambda: not control.is_running())
    assert wait_until(control.ensure)
    assert wait_until(lambda: len(recorders(home)) == 1)
    assert wait_until(lambda: "Recording for" in (home / "recorder.log").read_text(), deadline_s=20.0)


def test_a_recorder_ends_when_it_is_told_to(home: Path, kept: History) -> None:
    control = RecorderControl(home)
    add_run(kept, "process")
    assert control.ensure()
    assert wait_until(lambda: "Recording for" in _log(home), deadline_s=20.0)
    (recorder,) = recorders(home)
    recorder.terminate()
    assert wait_until(lambda: not control.is_running())
    assert wait_until(lambda: not recorders(home))
    assert (home / "recorder.err").read_text() == ""


def test_a_second_recorder_leaves_at_once(home: Path, kept: History) -> None:
    add_run(kept, "process")
    assert RecorderControl(home).ensure()
    second = python("-m", "mlstudio", "recorder", "--home", str(home))
    assert second.wait(timeout=30) == 0
    assert RecorderControl(home).is_running()


def _log(home: Path) -> str:
    path = home / "recorder.log"
    return path.read_text() if path.exists() else ""
