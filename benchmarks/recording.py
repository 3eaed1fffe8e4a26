"""The recorder under sixty-four runs at once: what of the processor and the memory it takes, and how soon a point can be
read.

The runs are pipes that one process fills with what the probe writes: frames five times a second with 20 points each (ten
scalars, ten steps a second) and a line of output for every step. The recorder is a process of its own with its real
followers, judges and committer; only the engine is one that reads those pipes. Freshness is the time between the writing
of a frame and the moment at which another process can read its last point from the history.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil

from benchmarks.harness import Comparison, Result
from mlstudio.model.errors import NotFound
from mlstudio.model.host import EngineKind, EngineStatus
from mlstudio.model.launch import Chunk, LaunchSpec, Observation, Phase
from mlstudio.model.run import RunSpec
from mlstudio.probe.frames import encode_frame, encode_points
from mlstudio.services.engine_table import GivenEngines
from mlstudio.services.launcher import owner_of_this_process
from mlstudio.services.recorder import Recorder
from mlstudio.store import History

RUNS, SCALARS, STEPS_A_FRAME, EVERY_S = 64, 10, 2, 0.2
WARM_UP_S, MEASURED_S = 5.0, 30.0
PERCENT_AIM, MEMORY_AIM_MB, FRESH_AIM_MS = 10.0, 300.0, 250.0


class Pipes:
    """An engine whose runs are pipes: like the connection to a real one, they wake a reader when there is something."""

    name = "pipes"
    kind = EngineKind.FAKE

    def check(self) -> EngineStatus:
        return EngineStatus(name=self.name, kind=self.kind)

    def launch(self, spec: LaunchSpec) -> str:
        raise NotImplementedError

    def inspect(self, handle: str) -> Observation:
        return Observation(phase=Phase.RUNNING, started=1.0, has_probe=True)

    def find(self, run_id: str) -> str | None:
        return None

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        at = int(position or 0)
        pipe = os.open(handle, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while not should_stop():
                if select.select([pipe], [], [], 0.5)[0] and (data := os.read(pipe, 256 * 1024)):
                    at += len(data)
                    yield Chunk(data=data, position=str(at), time=time.time())
        finally:
            os.close(pipe)

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        raise NotImplementedError

    def remove(self, handle: str) -> None:
        raise NotImplementedError

    def read_file(self, handle: str, path: str) -> bytes:
        raise NotFound(path)

    def close(self) -> None:
        pass


def compare(rounds: int) -> list[Comparison]:
    """`rounds` times half a minute."""
    percent: list[float] = []
    memory: list[float] = []
    fresh: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            one = measure(Path(folder))
        percent.append(one[0])
        memory.append(one[1])
        fresh.append(one[2])
    question = f"{RUNS} live runs, {SCALARS * STEPS_A_FRAME / EVERY_S:.0f} points a second each"
    found = []
    for name, unit, values, aim in (
        ("processor, % of one core", "%", percent, PERCENT_AIM),
        ("memory", "MB", memory, MEMORY_AIM_MB),
        ("freshness, 95th percentile", "ms", fresh, FRESH_AIM_MS),
    ):
        middle = statistics.median(values)
        found.append(
            Comparison(
                name=f"recording: {name}",
                question=question,
                results=(Result("the recorder", unit, tuple(values)),),
                aim=f"at most {aim:g} {unit} (now {middle:.1f})",
                met=middle <= aim,
            )
        )
    return found


def measure(folder: Path) -> tuple[float, float, float]:
    """(percent of a core, MB, ms until 95 of 100 frames could be read)."""
    with closing(History(folder / "history.db")) as history:
        runs = []
        for number in range(RUNS):
            run_id = uuid.uuid4().hex
            spec = RunSpec(command=("python", "train.py"), engine="pipes")
            history.add_run(
                spec, run_id=run_id, name=f"run-{number}", created=time.time(), engine_kind="fake",
                owner=owner_of_this_process(),
            )  # fmt: skip
            output = folder / f"{number}.log"
            os.mkfifo(output)
            history.set_handle(run_id, str(output))
            runs.append((run_id, output))
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.recording", str(folder)])
        ending = threading.Event()
        written: dict[str, list[float]] = {run_id: [] for run_id, _ in runs}
        writer = threading.Thread(target=write, args=(runs, written, ending))
        try:
            writer.start()
            time.sleep(WARM_UP_S)
            watched = psutil.Process(process.pid)
            before, began = sum(watched.cpu_times()[:2]), time.monotonic()
            ages = list(looks(history, runs[0][0], written[runs[0][0]], began + MEASURED_S))
            took = time.monotonic() - began
            percent = 100 * (sum(watched.cpu_times()[:2]) - before) / took
            memory = watched.memory_info().rss / 1e6
        finally:
            ending.set()
            writer.join()
            process.kill()
            process.wait()
    return percent, memory, 1000 * statistics.quantiles(ages, n=20)[-1]


def write(runs: list[tuple[str, Path]], written: dict[str, list[float]], ending: threading.Event) -> None:
    """Frames for all runs, spread evenly over each fifth of a second."""
    pipes = [os.open(path, os.O_RDWR) for _, path in runs]
    seq = 0
    began = time.monotonic()
    while not ending.is_set():
        for number, (run_id, _) in enumerate(runs):
            due = began + (seq + number / len(runs)) * EVERY_S
            if (pause := due - time.monotonic()) > 0:
                time.sleep(pause)
            os.write(pipes[number], frame(seq))
            written[run_id].append(time.monotonic())
        seq += 1
    for pipe in pipes:
        os.close(pipe)


def frame(seq: int) -> bytes:
    now = time.time()
    steps = array("q", range(seq * STEPS_A_FRAME, (seq + 1) * STEPS_A_FRAME))
    log = b"".join(b"step %d of the training\n" % step for step in steps)
    series = [
        encode_points(
            f"metric_{number}", "metric", steps, array("d", [now] * len(steps)),
            array("d", [1 / (step + 1 + number) for step in steps]),
        )
        for number in range(SCALARS)
    ]  # fmt: skip
    said = {"n": len(log), "crc": zlib.crc32(log), "spans": [[0, len(log), now]], "open": False}
    return log + encode_frame(seq, {"t": now, "log": said, "series": series})


def looks(history: History, run_id: str, written: list[float], until: float) -> Iterator[float]:
    """Ages in seconds of the frames that could be read, each when it could."""
    seen = history.cursor(run_id).seq
    version = history.data_version()
    while time.monotonic() < until:
        time.sleep(0.002)
        if (now := history.data_version()) == version:
            continue
        version = now
        seq = history.cursor(run_id).seq
        for number in range(seen + 1, seq + 1):
            yield time.monotonic() - written[number]
        seen = max(seen, seq)


if __name__ == "__main__":
    Recorder(History(Path(sys.argv[1]) / "history.db"), GivenEngines({"pipes": Pipes()})).run(
        threading.Event()
    )
