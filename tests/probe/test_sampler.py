"""What a run uses: from control groups as the kernel writes them, and from /proc where there are none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mlstudio.probe import sampler as sampler_module
from mlstudio.probe.nvml import GpuReading, Reader
from mlstudio.probe.sampler import CgroupV1, CgroupV2, Sampler, Tree, Usage, descendants, open_usage
from tests.conftest import wait_until
from tests.probe.runs import PYTHON, Bench, taken_apart

V2 = {
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\n",
    "memory.current": "5000000\n",
    "memory.stat": "anon 100\nfile 200\ninactive_anon 7\ninactive_file 1000000\n",
    "memory.max": "8000000\n",
    "memory.events": "low 0\nhigh 0\nmax 4\noom 1\noom_kill 2\n",
    "io.stat": "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n259:1 rbytes=1000 wbytes=2000 rios=1 wios=1\n",
}
V1 = {
    "cpuacct/cpuacct.usage": "2500000000\n",
    "memory/memory.usage_in_bytes": "5000000\n",
    "memory/memory.stat": "cache 5\ninactive_file 3\ntotal_inactive_file 1000000\n",
    "memory/memory.limit_in_bytes": "8000000\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "blkio/blkio.throttle.io_service_bytes": (
        "8:0 Read 100\n8:0 Write 200\n8:0 Sync 5\n8:0 Total 300\n259:1 Read 1000\n259:1 Write 2000\nTotal 3300\n"
    ),
}


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def readings(usage: Usage) -> dict[str, Any]:
    return {
        "cpu": usage.cpu_seconds(),
        "memory": usage.memory_bytes(),
        "limit": usage.memory_limit_bytes(),
        "io": usage.io_bytes(),
        "oom": usage.oom_kills(),
    }


# ── control groups ─────────────────────────────────────────────────────────────────────────────────────────────────

FULL = {"cpu": 2.5, "memory": 4_000_000, "limit": 8_000_000, "io": (1100, 2200), "oom": 2}
NOTHING = {"cpu": None, "memory": None, "limit": None, "io": None, "oom": 0}


@pytest.mark.parametrize(("files", "kind"), [(V2, CgroupV2), (V1, CgroupV1)])
def test_a_control_group(tmp_path: Path, files: dict[str, str], kind: type[Usage]) -> None:
    usage = open_usage(str(written(tmp_path, files)))
    assert type(usage) is kind
    assert readings(usage) == FULL


@pytest.mark.parametrize("kind", [CgroupV1, CgroupV2])
def test_a_control_group_without_anything(tmp_path: Path, kind: Callable[[str], Usage]) -> None:
    assert readings(kind(str(tmp_path))) == NOTHING


@pytest.mark.parametrize(("files", "kind"), [(V2, CgroupV2), (V1, CgroupV1)])
@pytest.mark.parametrize("text", ["", "rubbish\n", "-1\n", "\xff", "a b\nusage_usec x\noom_kill -3\n"])
def test_a_control_group_that_says_rubbish(
    tmp_path: Path, files: dict[str, str], kind: Callable[[str], Usage], text: str
) -> None:
    usage = kind(str(written(tmp_path, dict.fromkeys(files, text))))
    found = readings(usage)
    assert found["io"] in (None, (0, 0))
    assert found | {"io": None} == NOTHING


@pytest.mark.parametrize(
    ("file", "value", "kind"),
    [
        ("memory.max", "max\n", CgroupV2),
        ("memory.max", f"{1 << 62}\n", CgroupV2),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", CgroupV1),
    ],
)
def test_no_limit_is_no_limit(tmp_path: Path, file: str, value: str, kind: Callable[[str], Usage]) -> None:
    assert kind(str(written(tmp_path, {file: value}))).memory_limit_bytes() is None


@pytest.mark.parametrize(("files", "key"), [(V2, "memory.stat"), (V1, "memory/memory.stat")])
def test_memory_without_its_parts(tmp_path: Path, files: dict[str, str], key: str) -> None:
    root = written(tmp_path, {name: text for name, text in files.items() if name != key})
    assert open_usage(str(root)).memory_bytes() == 5_000_000


@pytest.mark.parametrize(("files", "key"), [(V2, "memory.current"), (V1, "memory/memory.usage_in_bytes")])
def test_memory_is_never_below_zero(tmp_path: Path, files: dict[str, str], key: str) -> None:
    """The two files are not read in the same moment."""
    assert open_usage(str(written(tmp_path, files | {key: "999999\n"}))).memory_bytes() == 0


def test_cpu_time_where_both_controllers_lie_together(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    usage = open_usage(str(written(tmp_path, {"cpu,cpuacct/cpuacct.usage": "1500000000\n"})))
    assert usage.cpu_seconds() == 1.5


def test_the_network_is_counted_without_the_loopback(tmp_path: Path) -> None:
    def counted() -> tuple[int, int]:
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if name != "lo"]
        return sum(card.bytes_recv for card in cards), sum(card.bytes_sent for card in cards)

    before = counted()
    found = CgroupV2(str(tmp_path)).net_bytes()
    after = counted()
    assert found is not None
    assert before[0] <= found[0] <= after[0]
    assert before[1] <= found[1] <= after[1]


# ── samples ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def dropped(sample: object) -> None:
    """Where samples go that a test does not look at."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(sampler_module, "time", SimpleNamespace(monotonic=made.monotonic, time=time.time))
    return made


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A control group that stands for the container's own."""
    root = written(tmp_path / "group", V2)
    monkeypatch.setattr(sampler_module, "open_usage", lambda: CgroupV2(str(root)))
    return root


def test_rates_are_per_second(clock: Clock, group: Path) -> None:
    sampler = Sampler(every_s=1, deliver=dropped)
    first = sampler.sample()
    assert {name for name in first if not name.startswith("net.")} == {"memory.bytes", "memory.limit_bytes"}
    clock.now += 2.0
    written(
        group, {"cpu.stat": "usage_usec 5500000\n", "io.stat": "8:0 rbytes=2100 wbytes=12200\n9:0 rbytes=x\n"}
    )
    second = sampler.sample()
    assert second["cpu.percent"] == pytest.approx(150.0)
    assert second["io.read_bytes_per_s"] == pytest.approx(500.0)
    assert second["io.write_bytes_per_s"] == pytest.approx(5000.0)
    assert (second["memory.bytes"], second["memory.limit_bytes"]) == (4_000_000, 8_000_000)


def test_a_counter_that_goes_back_gives_no_rate(clock: Clock, group: Path) -> None:
    sampler = Sampler(every_s=1, deliver=dropped)
    sampler.sample()
    clock.now += 1.0
    written(group, {"cpu.stat": "usage_usec 500000\n"})
    assert "cpu.percent" not in sampler.sample()
    clock.now += 1.0
    written(group, {"cpu.stat": "usage_usec 1000000\n"})
    assert sampler.sample()["cpu.percent"] == pytest.approx(50.0)


def test_no_time_between_two_samples(clock: Clock, group: Path) -> None:
    sampler = Sampler(every_s=1, deliver=dropped)
    sampler.sample()
    assert clock.now == 100.0
    assert "cpu.percent" not in sampler.sample()


class Gpus(Reader):
    def read(self, *, processes: bool = False) -> list[GpuReading]:
        return [
            {"index": 0, "uuid": "a", "utilisation_percent": 7, "memory_used_bytes": 5, "power_w": None},
            {"index": 3, "uuid": "b", "temperature_c": 0},
        ]


@pytest.mark.usefixtures("group")
def test_gpu_readings_that_are_none_are_absent() -> None:
    sampler = Sampler(every_s=1, deliver=dropped)
    sampler.gpu_reader = Gpus()
    assert {name: value for name, value in sampler.sample().items() if name.startswith("gpu.")} == {
        "gpu.0.utilisation_percent": 7.0,
        "gpu.0.memory_bytes": 5.0,
        "gpu.3.temperature_c": 0.0,
    }


@pytest.mark.usefixtures("group")
def test_samples_are_counted_and_end_when_told() -> None:
    samples: list[tuple[int, float, dict[str, float]]] = []
    sampler = Sampler(every_s=0.1, deliver=samples.append)
    sampler.start()
    try:
        assert wait_until(lambda: len(samples) >= 3 and sampler.ready.is_set(), deadline_s=20)
    finally:
        sampler.stop()
        sampler.join(timeout=10)
    assert not sampler.is_alive()
    assert [counter for counter, _, _ in samples] == list(range(len(samples)))
    assert all(readings["memory.bytes"] == 4_000_000 for _, _, readings in samples)
    assert sampler.environment is not None
    assert sampler.environment["type"] == "environment"


def test_a_reading_that_fails_ends_sampling_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Odd(Usage):
        def cpu_seconds(self) -> float | None:
            raise ZeroDivisionError("odd")

    monkeypatch.setattr(sampler_module, "open_usage", Odd)
    sampler = Sampler(every_s=0.1, deliver=dropped)
    sampler.start()
    sampler.join(timeout=20)
    assert not sampler.is_alive()
    assert "ML Studio: a system reading failed: ZeroDivisionError('odd')" in capfd.readouterr().err


# ── /proc ──────────────────────────────────────────────────────────────────────────────────────────────────────────

BUSY = "import sys\nprint(flush=True)\nwhile True: pass"


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    """A process below one of ours that does nothing but count."""
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    process = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield psutil.Process(process.pid)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait(timeout=10)
        assert process.stdout is not None
        process.stdout.close()


def test_a_busy_child_uses_about_one_core(busy: psutil.Process) -> None:
    sampler = Sampler(every_s=1, deliver=dropped, tree_of=busy.pid)
    (worker,) = busy.children()

    def used() -> float:
        times = worker.cpu_times()
        return float(times.user + times.system)

    began, before = time.monotonic(), used()
    first = sampler.sample()
    assert "cpu.percent" not in first
    assert wait_until(lambda: used() - before > 0.5, deadline_s=30)
    percent = sampler.sample()["cpu.percent"]
    # Others may want the processor, too: what the process got is what must be said.
    got = 100.0 * (used() - before) / (time.monotonic() - began)
    assert percent == pytest.approx(got, rel=0.2)
    assert percent < 115.0


def test_a_tree_is_a_process_and_all_below_it(busy: psutil.Process) -> None:
    (worker,) = busy.children()
    assert list(descendants(busy.pid)) == [worker.pid]
    assert worker.pid in descendants(os.getpid())
    assert list(descendants(worker.pid)) == []
    tree = Tree(busy.pid)
    memory = tree.memory_bytes()
    assert memory is not None
    assert memory == pytest.approx(busy.memory_info().rss + worker.memory_info().rss, rel=0.2)
    assert tree.memory_limit_bytes() is None
    assert tree.net_bytes() is None


def test_what_an_ended_process_used_stays_counted(busy: psutil.Process) -> None:
    tree = Tree(busy.pid)
    (worker,) = busy.children()
    assert wait_until(lambda: (tree.cpu_seconds() or 0) > 0.3, deadline_s=30)
    before, io_before = tree.cpu_seconds(), tree.io_bytes()
    worker.kill()
    assert wait_until(lambda: not busy.children() or busy.status() == psutil.STATUS_ZOMBIE)
    after, io_after = tree.cpu_seconds(), tree.io_bytes()
    assert before is not None
    assert after is not None
    assert after >= before > 0.3
    assert io_before is not None
    assert io_after is not None
    assert io_after >= io_before


def test_a_process_with_an_odd_name(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 ("
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        assert wait_until(lambda: "a) R 1 (" in Path(f"/proc/{process.pid}/comm").read_text())
        assert process.pid in descendants(os.getpid())
        assert Tree(process.pid).cpu_seconds() is not None
    finally:
        process.kill()
        process.wait(timeout=10)


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait(timeout=10)
    tree = Tree(process.pid)
    assert readings(tree) == NOTHING


def test_without_a_control_group_all_processes_count(tmp_path: Path, busy: psutil.Process) -> None:
    usage = open_usage(str(tmp_path))
    assert type(usage) is Tree
    own = Tree(busy.pid).memory_bytes()
    memory, cpu = usage.memory_bytes(), usage.cpu_seconds()
    assert own is not None
    assert memory is not None
    assert cpu is not None
    assert memory > own
    assert cpu > 0


# ── the whole way ──────────────────────────────────────────────────────────────────────────────────────────────────

BIG = """
import os, sys
data = b"x" * 150_000_000
while not os.path.exists(sys.argv[1]): pass
"""


def test_a_run_has_system_series(bench: Bench, tmp_path: Path) -> None:
    end = tmp_path / "end"
    running = bench.start([PYTHON, "-c", BIG, str(end)], sample_s=0.1)

    def has_enough() -> bool:
        entries = [
            entry for frame in taken_apart(running.output)[0] for entry in frame.body.get("series", [])
        ]
        return len([entry for entry in entries if entry["name"] == "cpu.percent"]) >= 4

    assert wait_until(has_enough, deadline_s=30)
    end.touch()
    outcome = running.end()
    outcome.check()
    memory, cpu = outcome.points("memory.bytes", "system"), outcome.points("cpu.percent", "system")
    assert max(value for _, value in memory) > 150_000_000
    assert [step for step, _ in memory] == list(range(len(memory)))
    assert [step for step, _ in cpu] == list(range(1, len(memory))), "a rate begins with the second sample"
    assert max(value for _, value in cpu) > 10
