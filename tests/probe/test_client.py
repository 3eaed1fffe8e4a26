"""`mlstudio.log`, `param` and `artifact` through the real channel: what a script says arrives, and nothing stops it."""

from __future__ import annotations

import errno
import math
import os
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstudio.probe import client as client_module
from mlstudio.probe.channel import NAMES, POINTS, SEGMENT_BYTES, ChannelReader
from mlstudio.probe.client import Client
from mlstudio.probe.wire import decode_points
from tests.conftest import wait_until
from tests.probe.runs import PYTHON, Bench

CHECKOUT = str(Path(client_module.__file__).parents[2])


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not in the checkout: scripts shall import what travels with the probe."""
    monkeypatch.chdir(tmp_path)


# ── steps and values ───────────────────────────────────────────────────────────────────────────────────────────────


def test_scripts_import_what_came_with_the_probe(bench: Bench) -> None:
    assert b"/probe.pyz/" in bench.script("import mlstudio; print(mlstudio.__file__)").log


def test_steps(each_bench: Bench) -> None:
    before = time.time()
    outcome = each_bench.script("""
import mlstudio
for i in range(5):
    mlstudio.log(auto=i / 2)
    mlstudio.log(step=10 * i, given=i)
    mlstudio.log({"val/acc": i}, step=i)
    mlstudio.log({"a": i}, b=-i)
    mlstudio.log(epoch=i, loss=i)
mlstudio.log(step=-3, far=1)
mlstudio.log(step=2**62, far=2)
mlstudio.log(step=7.9, far=3)
mlstudio.log(step=True, far=4)
""")
    assert outcome.code == 0
    assert outcome.log == b""
    assert outcome.points("auto") == [(i, i / 2) for i in range(5)]
    assert outcome.points("given") == [(10 * i, i) for i in range(5)]
    assert outcome.points("val/acc") == [(i, i) for i in range(5)]
    assert outcome.points("a") == [(i, i) for i in range(5)]
    assert outcome.points("b") == [(i, -i) for i in range(5)]
    assert outcome.points("epoch") == [(i, i) for i in range(5)]
    assert outcome.points("far") == [(-3, 1), (2**62, 2), (7, 3), (1, 4)]
    times = [
        when
        for frame in outcome.frames
        for columns in decode_points(frame.body)
        if columns.name == "auto"
        for when in columns.times
    ]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time()


def test_a_step_that_is_no_number_is_counted(bench: Bench) -> None:
    """Whatever stands for a step: the values are kept."""
    outcome = bench.script("""
import mlstudio
for step in ("three", float("nan"), float("inf"), 2**63, 10**400, object(), [1]):
    mlstudio.log(step=step, loss=1)
""")
    assert outcome.points("loss") == [(i, 1) for i in range(7)]


def test_counting_goes_on_over_segments(bench: Bench) -> None:
    outcome = bench.script("import mlstudio\nfor i in range(40_000): mlstudio.log(a=i, b=2 * i)")
    assert outcome.points("a") == [(i, i) for i in range(40_000)]
    assert outcome.points("b") == [(i, 2 * i) for i in range(40_000)]
    assert list((bench.root / "run" / "channel").iterdir()) == []


def test_numbers_of_all_kinds(bench: Bench) -> None:
    outcome = bench.script("""
import decimal, fractions, math, mlstudio
import numpy as np
class Tensor:
    def __init__(self, value): self.value = value
    def item(self): return self.value
class Scalar(Tensor):
    def __float__(self): return float(self.value)
values = [1, 2.5, True, False, -0.0, 10**400, -10**400, math.nan, math.inf, -math.inf, 5e-324,
    np.float32(0.25), np.float16(2), np.int64(3), np.uint8(4), np.bool_(True), np.array(5.0), np.array([[6.0]]),
    Tensor(7.5), Tensor(True), Scalar(8.5), decimal.Decimal("0.5"), fractions.Fraction(1, 4),
    fractions.Fraction(-10**400)]
for value in values:
    mlstudio.log(x=value)
for value in values:
    mlstudio.log(x=value, y=value)
mlstudio.log({str(i): value for i, value in enumerate(values)})
""")
    expected = [
        1, 2.5, 1, 0, 0, math.inf, -math.inf, math.nan, math.inf, -math.inf, 5e-324,
        0.25, 2, 3, 4, 1, 5, 6, 7.5, 1, 8.5, 0.5, 0.25, -math.inf,
    ]  # fmt: skip
    assert [repr(float(value)) for value in expected] == [
        repr(outcome.points(str(i))[0][1] + 0.0) for i in range(len(expected))
    ]
    assert [step for step, _ in outcome.points("x")] == [*range(len(expected))] * 2
    assert [repr(value + 0.0) for _, value in outcome.points("x")] == [repr(float(e)) for e in expected] * 2
    assert [repr(value + 0.0) for _, value in outcome.points("y")] == [repr(float(e)) for e in expected]


def test_what_is_no_number(bench: Bench) -> None:
    outcome = bench.script("""
import mlstudio
mlstudio.log(loss=0.5, note="learning rate halved", empty=None)
mlstudio.log(step=9, note=b"bytes \\xff", deep={"a": 1, "b": {"c": 2, "d": "text"}})
mlstudio.log(loss=0.25, note=None, empty=None)
mlstudio.log()
mlstudio.log({})
mlstudio.log(None)
mlstudio.log(text="a" * 100_000)
mlstudio.log(text="語" * 100_000)
""")
    assert outcome.log == b""
    assert outcome.points("loss") == [(0, 0.5), (1, 0.25)]
    assert outcome.points("deep/a") == [(9, 1)]
    assert outcome.points("deep/b/c") == [(9, 2)]
    texts = [(event["name"], event["value"], event["step"]) for event in outcome.events("text")]
    assert texts[:3] == [
        ("note", "learning rate halved", 0),
        ("note", "bytes \ufffd", 9),
        ("deep/b/d", "text", 9),
    ]
    assert [(name, value[:3], step) for name, value, step in texts[3:]] == [
        ("text", "aaa", 0),
        ("text", "語語語", 1),
    ]
    assert all(50_000 < len(value) < 100_000 for _, value, _ in texts[3:])
    assert outcome.series() == {"loss", "deep/a", "deep/b/c"}


BAD = """
import mlstudio
class Bad:
    def __float__(self): raise ZeroDivisionError("float")
    def item(self): raise ZeroDivisionError("item")
    def __str__(self): raise ZeroDivisionError("str")
    __repr__ = __str__
class BadName(str):
    def encode(self, *_): raise ZeroDivisionError("encode")
class Tensor:
    def __float__(self): raise RuntimeError("a tensor with 2 elements cannot be converted")
    item = __float__
for bad in (Bad(), Tensor(), [1, 2], object(), 1j, print, {1: {2: [3]}}):
    mlstudio.log(loss=1.0, other=2.0)
    mlstudio.log(loss=bad, other=2.0)
    mlstudio.log(loss=bad)
    mlstudio.log({bad if bad.__hash__ else "x": bad})
    mlstudio.param("p", bad)
    mlstudio.param({"q": bad, "r": 1})
    mlstudio.artifact(bad)
for path in ("", "a\\0b", "\\ud800", b"\\xff", 3, None, "x" * 10_000):
    mlstudio.artifact(path)
mlstudio.log({3: 1.5, None: 2.5, BadName("ü"): 3.5})
mlstudio.log(last=1)
print("reached")
"""


@pytest.mark.parametrize("options", [[], ["-W", "error"], ["-W", "ignore"]])
def test_nothing_that_is_logged_raises(bench: Bench, options: list[str]) -> None:
    outcome = bench.run([PYTHON, *options, "-c", BAD])
    assert (outcome.code, outcome.log_of(errors=False)) == (0, b"reached\n"), outcome.log.decode()
    assert outcome.points("last") == [(0, 1)]
    # What stood beside a bad value is kept.
    assert outcome.points("other") == [(i, 2) for i in range(14)]
    assert outcome.points("loss") == [(2 * i, 1) for i in range(7)]
    assert len([event for event in outcome.events("param") if event["name"] == "r"]) == 7
    said = outcome.log_of(errors=True)
    assert said.count(b"was left out") == (0 if "ignore" in options else 1), said.decode()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(), st.dictionaries(st.text() | st.integers(), VALUES, max_size=4)),
        max_size=5,
    )
)
def test_whatever_is_logged_the_next_value_arrives(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int | None, dict[object, object]]]
) -> None:
    folder = tmp_path_factory.mktemp("channel")
    client = Client(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step, values in calls:
            client.log(step, values)  # type: ignore[arg-type]
            client.log_as("keras", step, values)  # type: ignore[arg-type]
            client.param(values)  # type: ignore[arg-type]
            client.artifact(values)
    client.log(7, {"the last": 0.5})
    points, events = ChannelReader(str(folder)).read(last=True)
    assert (list(points["mlstudio", "the last"].steps), list(points["mlstudio", "the last"].values)) == (
        [7],
        [0.5],
    )
    assert all(name and logger in ("mlstudio", "keras") for logger, name in points)
    assert {event["type"] for event in events} <= {"text", "param"}


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_odd_names(each_bench: Bench) -> None:
    outcome = each_bench.script("""
import mlstudio
names = ["two\\nlines", "emoji 😀", "\\x1eMLS1 0 x", "tab\\tand\\rreturn", "", " ", "lone \\ud800", "ü" * 1000, "a/b c",
    "x" * 10_000, "x" * 9_999, "quote\\" \\\\ '"]
for step in range(2):
    for i, name in enumerate(names):
        mlstudio.log({name: i}, step=step)
mlstudio.log({name: i for i, name in enumerate(names) if name.strip()}, step=2)
""")
    short = {
        "two lines": 0, "emoji 😀": 1, "MLS1 0 x": 2, "tab and return": 3, "lone ?": 6, "ü" * 1000: 7, "a/b c": 8,
        "quote\" \\ '": 11,
    }  # fmt: skip
    for name, number in short.items():
        assert outcome.points(name) == [(0, number), (1, number), (2, number)], name
    assert outcome.points("unnamed") == [(0, 4), (0, 5), (1, 4), (1, 5)]
    long = outcome.series() - set(short) - {"unnamed"}
    assert sorted(outcome.points(name)[0][1] for name in long) == [9, 10]
    assert all(len(name) == 1000 and name.startswith("x" * 900) for name in long)


def test_many_names(bench: Bench) -> None:
    outcome = bench.script(
        "import mlstudio\nfor i in range(3): mlstudio.log({f'layer {k}': k for k in range(2000)})"
    )
    assert len(outcome.series()) == 2000
    assert all(outcome.points(f"layer {k}") == [(i, k) for i in range(3)] for k in (0, 999, 1999))


# ── other loggers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_of_other_loggers(bench: Bench) -> None:
    """Same names, several loggers, several segments: all stay apart, and whose they are is told with them."""
    outcome = bench.script("""
import mlstudio
for i in range(20_000):
    mlstudio._client.log_as("keras", i, {"loss": i / 2, "acc": i}, time=1000.0 + i)
    mlstudio.log(loss=i, acc=-i)
    mlstudio._client.log_as("other", None, {"loss": -i, "none": None})
mlstudio._client.log_as("keras", 3, {"note": "halved"})
mlstudio._client.param({"lr": 0.5}, logger="keras")
mlstudio._client.event({"type": "logger", "logger": "keras", "what": "Model.fit", "how": "a callback"})
""")
    points: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for frame in outcome.frames:
        for part in decode_points(frame.body):
            if part.kind == "metric":
                rows = zip(part.steps, part.times, part.values, strict=True)
                points.setdefault((part.logger, part.name), []).extend(rows)
    numbers = range(20_000)
    assert points.keys() == {
        ("keras", "loss"), ("keras", "acc"), ("mlstudio", "loss"), ("mlstudio", "acc"), ("other", "loss")
    }  # fmt: skip
    assert points["keras", "loss"] == [(i, 1000.0 + i, i / 2) for i in numbers]
    assert points["keras", "acc"] == [(i, 1000.0 + i, i) for i in numbers]
    assert [(step, value) for step, _, value in points["mlstudio", "loss"]] == [(i, i) for i in numbers]
    assert [(step, value) for step, _, value in points["mlstudio", "acc"]] == [(i, -i) for i in numbers]
    assert [(step, value) for step, _, value in points["other", "loss"]] == [(i, -i) for i in numbers]
    assert [event["logger"] for kind in ("text", "param", "logger") for event in outcome.events(kind)] == [
        "keras"
    ] * 3


@pytest.mark.parametrize(
    "said", ['{"names": "loss"}', '{"names": ["loss"]}', '{"logger": 3, "names": ["loss"]}',
             '{"logger": "", "names": ["loss"]}', '{"logger": "' + "x" * 65 + '", "names": ["loss"]}', "[3]",
             '"loss"', "null"]
)  # fmt: skip
def test_names_that_are_none_are_passed_over(tmp_path: Path, said: str) -> None:
    client = Client(str(tmp_path))
    client._write(NAMES, struct.pack("<I", 1) + said.encode())
    client._write(POINTS, struct.pack("<IIqdd", 1, 0, 5, 1.0, 0.5))
    client._write(NAMES, struct.pack("<I", 2) + b'["acc"]')
    client._write(POINTS, struct.pack("<IIqdd", 2, 0, 5, 1.0, 0.25))
    points, _ = ChannelReader(str(tmp_path)).read()
    assert {key: list(series.values) for key, series in points.items()} == {("mlstudio", "acc"): [0.25]}


# ── threads and processes ──────────────────────────────────────────────────────────────────────────────────────────


def test_threads(bench: Bench) -> None:
    outcome = bench.script("""
import mlstudio, threading
def work(k):
    for i in range(2000):
        mlstudio.log({"thread %d" % k: i}, step=i)
        mlstudio.log(all=1)
threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""")
    for k in range(6):
        assert outcome.points(f"thread {k}") == [(i, i) for i in range(2000)]
    assert [step for step, _ in outcome.points("all")] == list(range(12_000))


def test_forked_children(each_bench: Bench) -> None:
    """Also while another thread is in the middle of a call."""
    outcome = each_bench.script("""
import mlstudio, os, threading
mlstudio.log(parent=0)
ended = threading.Event()
def busy():
    while not ended.is_set(): mlstudio.log(busy=1)
thread = threading.Thread(target=busy)
thread.start()
for k in range(8):
    if os.fork() == 0:
        for i in range(300): mlstudio.log({"child %d" % k: i})
        if os.fork() == 0:
            mlstudio.log({"grandchild %d" % k: k})
            os._exit(0)
        os.wait()
        os._exit(0)
ended.set()
thread.join()
for _ in range(8): os.wait()
mlstudio.log(parent=1)
""")
    assert outcome.code == 0
    assert outcome.points("parent") == [(0, 0), (1, 1)]
    for k in range(8):
        assert outcome.points(f"child {k}") == [(i, i) for i in range(300)]
        assert outcome.points(f"grandchild {k}") == [(0, k)]


def test_spawned_children(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("""
import mlstudio, multiprocessing, subprocess, sys
def work(k):
    for i in range(10): mlstudio.log({"worker %d" % k: i})
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(k,)) for k in range(2)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    subprocess.run([sys.executable, "-c", "import mlstudio; mlstudio.log(other=5)"], check=True)
""")
    outcome = bench.run([PYTHON, str(script)])
    assert outcome.code == 0, outcome.log.decode()
    assert outcome.points("worker 0") == outcome.points("worker 1") == [(i, i) for i in range(10)]
    assert outcome.points("other") == [(0, 5)]


def test_what_a_killed_writer_wrote_arrives(each_bench: Bench) -> None:
    outcome = each_bench.script("""
import mlstudio, os, signal
if os.fork() == 0:
    for i in range(20_000): mlstudio.log(child=i)
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
for i in range(20_000): mlstudio.log(main=i)
mlstudio.param("lr", 0.5)
os.kill(os.getpid(), signal.SIGKILL)
""")
    assert outcome.code == 137
    assert outcome.points("child") == outcome.points("main") == [(i, i) for i in range(20_000)]
    assert [event["value"] for event in outcome.events("param")] == [0.5]


# ── where nobody reads ─────────────────────────────────────────────────────────────────────────────────────────────


def test_outside_a_run_nothing_happens(tmp_path: Path) -> None:
    script = (
        "import mlstudio; mlstudio.log(a=1); mlstudio.param('a', 1); mlstudio.artifact('b'); print('fine')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MLSTUDIO_CHANNEL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": CHECKOUT},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"fine\n", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_channel_that_is_gone_is_told_once(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "nowhere"))

    def write() -> None:
        for i in range(100):
            client.log(i, {"loss": 0.5})
        client.param({"lr": 1})

    with pytest.warns(RuntimeWarning, match="cannot be recorded") as caught:
        write()
    assert len(caught) == 1


def test_what_nobody_reads_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_WAITING_SEGMENTS", 2)
    client = Client(str(tmp_path))

    def write() -> None:
        for i in range(20_000):
            client.log(i, {"loss": i})

    with pytest.warns(RuntimeWarning, match="nothing reads them"):
        write()
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    assert sum(path.stat().st_size for path in files) == 2 * SEGMENT_BYTES
    points, _ = ChannelReader(str(tmp_path)).read()
    assert list(points["mlstudio", "loss"].steps) == list(range(len(points["mlstudio", "loss"].steps)))
    assert len(points["mlstudio", "loss"].steps) > 10_000


# ── without room on the disk ───────────────────────────────────────────────────────────────────────────────────────


class Disk:
    """A disk that is full, or not, for the segments of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error = 0
        real = os.posix_fallocate

        def reserve(file: int, begin: int, size: int) -> None:
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            real(file, begin, size)

        monkeypatch.setattr(os, "posix_fallocate", reserve)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    # So that whoever still waits comes to an end.
    made.error = 0


def _is_saved(client: Client) -> bool:
    return wait_until(lambda: not client._unsaved)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
def test_on_a_full_disk_values_wait_in_memory(tmp_path: Path, disk: Disk, error: int) -> None:
    client = Client(str(tmp_path))
    reader = ChannelReader(str(tmp_path))
    for i in range(100):
        client.log(i, {"loss": i})
    before = reader.read()[0]["mlstudio", "loss"].steps
    disk.error = error

    def write() -> None:
        # Some segments' worth, of which only the first has a file.
        for i in range(100, 30_000):
            client.log(i, {"loss": i})
            if not i % 1000:
                client.param({"at": i})

    with pytest.warns(RuntimeWarning, match="wait in memory until there is room") as caught:
        write()
    assert len(caught) == 1
    points, events = reader.read()
    while_full = points["mlstudio", "loss"].steps
    assert len(while_full) < 15_000
    assert len(list(tmp_path.glob("*.seg"))) == 1
    disk.error = 0
    assert _is_saved(client)
    client.log(30_000, {"loss": 30_000})
    points, more = reader.read(last=True)
    assert [*before, *while_full, *points["mlstudio", "loss"].steps] == list(range(30_001))
    assert [event["value"] for event in events + more] == list(range(1000, 30_000, 1000))
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_begins_on_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    disk.error = errno.ENOSPC
    client = Client(str(tmp_path))
    with pytest.warns(RuntimeWarning, match="wait in memory"):
        client.log(0, {"loss": 0.0})
    assert list(tmp_path.glob("*.seg")) == []
    disk.error = 0
    assert _is_saved(client)
    # What comes now is written into the file that has been made.
    for i in range(1, 100):
        client.log(i, {"loss": i})
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == SEGMENT_BYTES
    points, _ = ChannelReader(str(tmp_path)).read()
    assert list(points["mlstudio", "loss"].values) == list(range(100))


def test_memory_for_what_waits_has_a_limit_and_that_is_said(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_UNSAVED_SEGMENTS", 2)
    disk.error = errno.ENOSPC
    client = Client(str(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(30_000):
            client.log(i, {"loss": i})
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert "wait in memory until there is room" in said[0]
    assert "too many wait in memory" in said[1]
    disk.error = 0
    assert _is_saved(client)
    points, _ = ChannelReader(str(tmp_path)).read(last=True)
    kept = list(points["mlstudio", "loss"].steps)
    # The first ones, whole.
    assert kept == list(range(len(kept)))
    assert len(kept) > 10_000


def test_a_script_that_ends_while_values_wait(bench: Bench) -> None:
    outcome = bench.script("""
import errno, os, threading, warnings
import mlstudio
warnings.simplefilter("ignore")
real = os.posix_fallocate
def full(*words):
    raise OSError(errno.ENOSPC, "full")
os.posix_fallocate = full
for i in range(20_000):
    mlstudio.log(step=i, loss=i)
def room():
    os.posix_fallocate = real
threading.Timer(0.3, room).start()
""")
    assert outcome.code == 0
    assert outcome.points("loss") == [(i, i) for i in range(20_000)]


def test_a_child_that_is_forked_while_values_wait_has_its_own(bench: Bench) -> None:
    outcome = bench.script("""
import errno, os, sys, warnings
import mlstudio
warnings.simplefilter("ignore")
real = os.posix_fallocate
def full(*words):
    raise OSError(errno.ENOSPC, "full")
os.posix_fallocate = full
for i in range(100):
    mlstudio.log(step=i, parent=i)
child = os.fork()
os.posix_fallocate = real
if not child:
    for i in range(100):
        mlstudio.log(step=i, child=i)
    sys.exit()
os.waitpid(child, 0)
""")
    assert outcome.points("parent") == [(i, i) for i in range(100)]
    assert outcome.points("child") == [(i, i) for i in range(100)]


# ── rubbish ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rubbish_in_the_channel_is_passed_over(tmp_path: Path) -> None:
    client = Client(str(tmp_path))
    client.log(1, {"loss": 0.5})
    (good,) = tmp_path.iterdir()
    whole = good.read_bytes()
    (tmp_path / "1-1-000001.seg").write_bytes(b"")
    (tmp_path / "1-2-000001.seg").write_bytes(b"rubbish" * 100)
    (tmp_path / "1-3-000001.seg").write_bytes(whole[:8] + b"\xff" * 8 + whole[16:])
    (tmp_path / "1-4-000001.seg").write_bytes(whole[:16] + os.urandom(len(whole) - 16))
    (tmp_path / "x.seg").mkdir()
    points, events = ChannelReader(str(tmp_path)).read()
    assert list(points["mlstudio", "loss"].values) == [0.5]
    assert events == []


# ── parameters and files ───────────────────────────────────────────────────────────────────────────────────────────


def test_parameters(bench: Bench) -> None:
    outcome = bench.script("""
import mlstudio, math
import numpy as np
mlstudio.param("lr", 3e-4)
mlstudio.param({"model": {"name": "resnet", "depth": 18, "pretrained": True, "head": None}})
mlstudio.param(seed=1, nan=math.nan, huge=10**30, layers=[1, 2], scalar=np.float32(0.5), count=np.int64(3))
mlstudio.param("odd\\nname", "text\\nof two lines 😀")
""")
    assert outcome.log == b""
    assert {event["name"]: event["value"] for event in outcome.events("param")} == {
        "lr": 3e-4, "model/name": "resnet", "model/depth": 18, "model/pretrained": True, "model/head": None,
        "seed": 1, "nan": "nan", "huge": str(10**30), "layers": "[1, 2]", "scalar": 0.5, "count": 3,
        "odd name": "text\nof two lines 😀",
    }  # fmt: skip
    assert {event["name"]: type(event["value"]) for event in outcome.events("param")}["count"] is int


def test_artifacts(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"x" * 1000)
    (folder / "deep" / "more.bin").write_bytes(b"x" * 24)
    outcome = bench.script(
        "import mlstudio, pathlib\nmlstudio.artifact('out/model.pt'); mlstudio.artifact(pathlib.Path('out'));"
        "mlstudio.artifact(b'out/deep/more.bin'); mlstudio.artifact('out/none')",
        workdir=str(tmp_path),
    )
    assert [(event["path"], event["size_bytes"]) for event in outcome.events("artifact")] == [
        (str(folder / "model.pt"), 1000),
        (str(folder), 1024),
        (str(folder / "deep" / "more.bin"), 24),
    ]
    assert str(folder / "none").encode() in outcome.log_of(errors=True)
