"""The recorder with an engine in memory: states, stops, absences, and what runs without a probe."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from array import array
from collections.abc import Callable, Iterator

import psutil
import pytest

from mlstudio.engines.fake import FakeContainer, FakeEngine
from mlstudio.model.launch import LaunchSpec
from mlstudio.model.run import ExitReason, Limits, RunSpec, RunState, RunSummary
from mlstudio.probe.wire import FRAMES_PER_SEGMENT, encode_frame, encode_points, spool_data
from mlstudio.services.engine_table import GivenEngines
from mlstudio.services.recorder import Recorder
from mlstudio.services.recording.transcript import SPOOL
from mlstudio.store import History
from tests.conftest import wait_until

ME = f"{os.getpid()}:{psutil.Process().create_time()}"
DEAD = "999999999:1.0"


class Bench:
    """A history, an engine, and a recorder that can be ended and begun again."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.engine = FakeEngine()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def record(self, *, idle_s: float = 60.0) -> None:
        self._stop = threading.Event()
        recorder = Recorder(self.history, GivenEngines({"fake": self.engine}), idle_s=idle_s)
        self._thread = threading.Thread(target=recorder.run, args=(self._stop,), name="recorder")
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def is_recording(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def queue(self, owner: str = ME, limits: Limits | None = None, **parameters: str) -> str:
        run_id = uuid.uuid4().hex
        spec = RunSpec(
            command=("python", "train.py"),
            engine="fake",
            limits=limits or Limits(),
            parameters=tuple(parameters.items()),
        )
        self.history.add_run(
            spec, run_id=run_id, name="run", created=time.time(), engine_kind="fake", owner=owner
        )
        return run_id

    def launch(self, *, probe: bytes = b"probe", **parameters: str) -> tuple[str, FakeContainer]:
        run_id = self.queue(ME, None, **parameters)
        return run_id, self.start(run_id, probe=probe)

    def start(self, run_id: str, *, probe: bytes = b"probe", handle: bool = True) -> FakeContainer:
        spec = LaunchSpec(run_id=run_id, image="image", command=("python", "train.py"), probe=probe)
        found = self.engine.launch(spec)
        if handle:
            self.history.set_handle(run_id, found)
        return self.engine.container(found)

    def wait(
        self, run_id: str, condition: Callable[[RunSummary], bool], deadline_s: float = 10.0
    ) -> RunSummary:
        assert wait_until(lambda: condition(self.history.summary(run_id)), deadline_s=deadline_s), (
            self.history.summary(run_id)
        )
        return self.history.summary(run_id)

    def over(self, run_id: str) -> RunSummary:
        return self.wait(run_id, lambda run: run.state.is_final or run.state is RunState.LOST)


@pytest.fixture
def bench(history: History) -> Iterator[Bench]:
    made = Bench(history)
    yield made
    made.end()
    made.engine.close()


def points(name: str, *values: float) -> dict[str, object]:
    steps = array("q", range(len(values)))
    return encode_points(name, "metric", steps, array("d", [time.time()] * len(values)), array("d", values))


def say_end(container: FakeContainer, code: int, **more: object) -> None:
    event = {
        "type": "exit", "time": time.time(), "code": code, "signal": None, "oom": False, "stopped": False,
        "killed": False, "message": "", "started": True, **more,
    }  # fmt: skip
    container.write_frame({"events": [event], "final": True})


def test_a_run_is_recorded_live_and_ends_as_it_ended(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch(epochs="4")
    container.write_frame({"series": [points("loss", 3.0, 2.0)]}, log=b"epoch 1/4\n")
    running = bench.wait(run_id, lambda run: bool(run.metrics))
    assert running.state is RunState.RUNNING
    assert running.started is not None
    assert [line.text for line in bench.history.log(run_id)] == ["epoch 1/4"]
    say_end(container, 0)
    container.finish(0)
    ended = bench.over(run_id)
    assert ended.state is RunState.SUCCEEDED
    assert ended.exit is not None
    assert (ended.exit.reason, ended.exit.code) == (ExitReason.COMPLETED, 0)
    assert ended.ended is not None
    assert list(bench.history.series(run_id, "loss").values) == [3.0, 2.0]
    assert ended.lacks == ()


def test_an_error_is_told_with_the_last_line_of_its_traceback(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame(
        log=b'Traceback (most recent call last):\n  File "t.py", line 1\nValueError: shapes do not fit\nbye\n'
    )
    say_end(container, 1)
    container.finish(1)
    ended = bench.over(run_id)
    assert ended.state is RunState.FAILED
    assert ended.exit is not None
    assert ended.exit.reason is ExitReason.ERROR
    assert "ValueError: shapes do not fit" in ended.exit.message


def test_memory_is_named_where_it_ran_out(bench: Bench) -> None:
    bench.record()
    run_id = bench.queue(limits=Limits(memory_bytes=512 * 1024 * 1024))
    container = bench.start(run_id)
    container.write_frame(log=b"working\n")
    container.finish(137, oom_killed=True)
    ended = bench.over(run_id)
    assert ended.state is RunState.FAILED
    assert ended.exit is not None
    assert ended.exit.reason is ExitReason.OUT_OF_MEMORY
    assert "512 MB" in ended.exit.message


def test_a_signal_that_nobody_asked_for_is_a_failure(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    say_end(container, 139, signal=11)
    container.finish(139)
    ended = bench.over(run_id)
    assert ended.exit is not None
    assert (ended.state, ended.exit.reason) == (RunState.FAILED, ExitReason.SIGNAL)
    assert "SIGSEGV" in ended.exit.message


def test_a_stop_that_ended_it_is_a_stop(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame(log=b"working\n")
    bench.wait(run_id, lambda run: run.state is RunState.RUNNING)
    bench.history.set_desired(run_id, "stopped")
    say_end(container, 143, signal=15, stopped=True)
    container.finish(143)
    assert bench.over(run_id).state is RunState.STOPPED


def test_a_run_that_ended_before_the_stop_reached_it_did_not_stop(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame(log=b"working\n")
    bench.wait(run_id, lambda run: run.state is RunState.RUNNING)
    bench.history.set_desired(run_id, "stopped")
    say_end(container, 0, stopped=False)
    container.finish(0)
    assert bench.over(run_id).state is RunState.SUCCEEDED


def test_a_stop_that_nobody_carried_out_is_carried_out(bench: Bench) -> None:
    """Whoever asked has died: the next recorder finds the wish."""
    run_id, container = bench.launch()
    bench.history.set_desired(run_id, "stopped")
    bench.record()
    ended = bench.over(run_id)
    assert container.stop_requests == 1
    assert ended.state is RunState.STOPPED


def test_a_stop_that_somebody_carries_out_is_not_sent_twice(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.ignores_stop = True
    # Asked for well after the start, as people do: only then is it clear that whoever asked will act.
    assert wait_until(lambda: time.time() - (container.observation.started or 0) > 1.1)
    bench.history.set_desired(run_id, "stopped")
    bench.wait(run_id, lambda run: run.state is RunState.RUNNING)
    bench.history.set_note(run_id, "seen")
    assert not wait_until(lambda: container.stop_requests > 0, deadline_s=1.0)
    container.finish(0)
    bench.over(run_id)


def test_a_container_that_is_gone_leaves_the_run_lost(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame({"series": [points("loss", 1.0)]})
    bench.wait(run_id, lambda run: bool(run.metrics))
    bench.engine.lose(f"fake-{run_id}")
    ended = bench.over(run_id)
    assert ended.state is RunState.LOST
    assert ended.exit is not None
    assert "gone" in ended.exit.message
    assert list(bench.history.series(run_id, "loss").values) == [1.0]


def test_a_container_that_was_removed_after_it_said_its_end_is_not_lost(bench: Bench) -> None:
    run_id, container = bench.launch()
    say_end(container, 3)
    bench.record()
    bench.wait(run_id, lambda run: any(event.type == "exit" for event in bench.history.events(run.id)))
    bench.engine.lose(f"fake-{run_id}")
    ended = bench.over(run_id)
    assert ended.exit is not None
    assert (ended.state, ended.exit.code) == (RunState.FAILED, 3)


def test_an_engine_that_is_away_is_waited_for(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame({"series": [points("loss", 1.0)]})
    bench.wait(run_id, lambda run: bool(run.metrics))
    bench.engine.go_away()
    away = bench.wait(run_id, lambda run: "engine away" in run.phase)
    assert away.state is RunState.RUNNING
    container.write_frame({"series": [points("loss", 0.5)]})
    bench.engine.come_back()
    bench.wait(run_id, lambda run: run.metrics[0].count == 2)
    say_end(container, 0)
    container.finish(0)
    ended = bench.over(run_id)
    assert (ended.state, ended.phase, ended.gaps) == (RunState.SUCCEEDED, "", 0)


def test_a_stop_while_the_engine_is_away_is_carried_out_when_it_is_back(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    bench.wait(run_id, lambda run: run.state is RunState.RUNNING)
    bench.engine.go_away()
    bench.wait(run_id, lambda run: "engine away" in run.phase)
    bench.history.set_desired(run_id, "stopped")
    bench.engine.come_back()
    assert bench.wait(run_id, lambda run: run.state.is_final, 20.0).state is RunState.STOPPED
    assert container.stop_requests >= 1


def test_a_launch_whose_launcher_died_is_over(bench: Bench) -> None:
    run_id = bench.queue(owner=DEAD)
    bench.record()
    ended = bench.over(run_id)
    assert ended.exit is not None
    assert (ended.state, ended.exit.reason) == (RunState.FAILED, ExitReason.NOT_STARTED)


def test_a_launch_that_was_stopped_before_its_launcher_died_is_stopped(bench: Bench) -> None:
    run_id = bench.queue(owner=DEAD)
    bench.history.set_desired(run_id, "stopped")
    bench.record()
    assert bench.over(run_id).state is RunState.STOPPED


def test_a_container_whose_launcher_died_before_noting_it_is_found(bench: Bench) -> None:
    run_id = bench.queue(owner=DEAD)
    container = bench.start(run_id, handle=False)
    container.write_frame({"series": [points("loss", 1.0)]})
    bench.record()
    bench.wait(run_id, lambda run: bool(run.metrics))
    assert bench.history.detail(run_id).handle == f"fake-{run_id}"
    container.finish(0)
    bench.over(run_id)


def test_a_launch_that_goes_on_is_left_alone(bench: Bench) -> None:
    run_id = bench.queue(owner=ME)
    bench.record()
    other, container = bench.launch()
    container.finish(0)
    bench.over(other)
    assert bench.history.summary(run_id).state is RunState.QUEUED


def test_without_a_probe_the_output_is_recorded_and_the_lack_is_told(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch(probe=b"")
    container.write(b"epoch 1 loss 0.5\n")
    container.write(b"something on the side\n", is_error_stream=True)
    container.write(b"epoch 2 loss 0.25")
    bench.wait(run_id, lambda run: bool(run.metrics))
    assert bench.history.log_count(run_id) == 2
    container.finish(0)
    ended = bench.over(run_id)
    assert ended.state is RunState.SUCCEEDED
    assert any("Python" in sentence for sentence in ended.lacks)
    lines = bench.history.log(run_id)
    assert [(line.text, line.is_error_stream) for line in lines] == [
        ("epoch 1 loss 0.5", False), ("something on the side", True), ("epoch 2 loss 0.25", False),
    ]  # fmt: skip


def test_a_probe_that_never_speaks_is_told(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write(b"exec format error\n", is_error_stream=True)
    container.finish(1)
    ended = bench.over(run_id)
    assert any("probe did not start" in sentence for sentence in ended.lacks)
    assert [line.text for line in bench.history.log(run_id)] == ["exec format error"]


def test_a_hole_is_filled_from_the_spool(bench: Bench) -> None:
    run_id, container = bench.launch()
    container.write_frame({"series": [points("loss", 1.0)]})
    hidden = container.skip_frame()
    body = {
        "t": time.time(),
        "log": {"n": 4, "spans": [[0, 4, time.time()]], "data": spool_data(b"here")},
        "series": [points("loss", 0.5)],
    }
    container.files[f"{SPOOL}/{hidden // FRAMES_PER_SEGMENT}.mls"] = encode_frame(hidden, body)
    lost = container.skip_frame()
    container.write_frame({"series": [points("loss", 0.25)]})
    say_end(container, 0)
    container.finish(0)
    bench.record()
    ended = bench.over(run_id)
    assert list(bench.history.series(run_id, "loss").values) == [1.0, 0.5, 0.25]
    assert [(gap.first, gap.last, gap.recovered) for gap in bench.history.gaps(run_id)] == [
        (hidden, hidden, True), (lost, lost, False),
    ]  # fmt: skip
    assert ended.gaps == 1


def test_recorders_that_follow_each_other_go_on_where_the_last_one_stood(bench: Bench) -> None:
    run_id, container = bench.launch()
    for number in range(30):
        container.write_frame({"series": [points("loss", float(number))]}, log=b"line %d\n" % number)
        if number % 10 == 5:
            bench.record()
            bench.wait(run_id, lambda run: bool(run.metrics))
            bench.end()
    say_end(container, 0)
    container.finish(0)
    bench.record()
    bench.over(run_id)
    assert list(bench.history.series(run_id, "loss").values) == [float(number) for number in range(30)]
    assert [line.text for line in bench.history.log(run_id)] == [f"line {number}" for number in range(30)]


def test_printed_numbers_become_series_unless_the_run_logs_them_itself(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame(log=b"epoch 1 loss 0.9 acc 50%\nepoch 2 loss 0.8 acc 60%\n")
    bench.wait(run_id, lambda run: len(run.metrics) == 2)
    bench.end()
    bench.record()
    container.write_frame({"series": [points("train/loss", 0.7)]}, log=b"epoch 3 loss 0.7 acc 70%\n")
    say_end(container, 0)
    container.finish(0)
    bench.over(run_id)
    assert list(bench.history.series(run_id, "loss").values) == [0.9, 0.8]
    assert list(bench.history.series(run_id, "acc").values) == [50.0, 60.0, 70.0]
    assert list(bench.history.series(run_id, "acc").steps) == [1, 2, 3]
    told = [
        json.loads(event.data_json)["name"]
        for event in bench.history.events(run_id)
        if "printed" in event.type
    ]
    assert told == ["loss", "acc", "loss"]


def test_environment_parameters_and_artifacts_are_kept(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch(lr="0.1")
    now = time.time()
    container.write_frame(
        {
            "events": [
                {"type": "environment", "time": now, "python": "3.11.2", "gpus": [{"name": "NVIDIA H100"}]},
                {"type": "param", "time": now, "name": "lr", "value": 0.2},
                {"type": "param", "time": now, "name": "bad\ud800", "value": "\udfff"},
                {"type": "artifact", "time": now, "path": "/work/model.pt", "size_bytes": 12},
                {"type": "lacks", "time": now, "what": "gpu", "why": "No GPU could be read."},
                {"type": 7}, "nonsense", {"type": "text", "name": "x", "value": "y" * 200_000},
            ]
        }
    )  # fmt: skip
    container.finish(0)
    ended = bench.over(run_id)
    detail = bench.history.detail(run_id)
    assert json.loads(detail.environment_json)["python"] == "3.11.2"
    assert ended.gpus == ("NVIDIA H100",)
    assert dict(ended.parameters)["lr"] == "0.2"
    assert bench.history.artifacts(run_id) == [("/work/model.pt", 12)]
    assert "No GPU could be read." in ended.lacks
    assert all(len(event.data_json) < 100_000 for event in detail.events)


def test_a_run_that_is_removed_while_it_is_recorded_is_let_go(bench: Bench) -> None:
    bench.record()
    run_id, container = bench.launch()
    container.write_frame({"series": [points("loss", 1.0)]})
    bench.wait(run_id, lambda run: bool(run.metrics))
    bench.history.remove_run(run_id)
    container.write_frame({"series": [points("loss", 0.5)]})
    other, another = bench.launch()
    another.finish(0)
    assert bench.over(other).state is RunState.SUCCEEDED


def test_a_recorder_with_nothing_to_do_ends(bench: Bench) -> None:
    run_id, container = bench.launch()
    bench.record(idle_s=0.5)
    container.finish(0)
    bench.over(run_id)
    assert wait_until(lambda: not bench.is_recording())


def test_many_runs_at_once(bench: Bench) -> None:
    bench.record()
    started = [bench.launch() for _ in range(16)]
    for number in range(10):
        for _, container in started:
            container.write_frame({"series": [points("loss", float(number))]})
    for _, container in started:
        say_end(container, 0)
        container.finish(0)
    for run_id, _ in started:
        assert bench.over(run_id).state is RunState.SUCCEEDED
        assert bench.history.metrics(run_id)[0].count == 10


def test_a_defect_in_one_run_leaves_the_others_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "mlstudio")
    run_id = bench.queue()
    bench.history.set_handle(run_id, "no such handle")
    other, container = bench.launch()
    container.finish(0)
    bench.record()
    assert bench.over(other).state is RunState.SUCCEEDED
    assert bench.over(run_id).state is RunState.LOST
