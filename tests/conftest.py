"""What every test may use, and what no test may leave behind.

Fixtures: `home` (an empty ML Studio home), `engine` (the real Docker engine of this machine), `screen` (a real X screen
without a monitor). Every test is watched: a thread or a child process that outlives it, or an error that ML Studio logged
although the test did not say `logs_errors`, fails it.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from hypothesis import settings

from mlstudio.engines.engine import Engine

# Before anything imports Qt: widgets are tested without a screen unless a test starts its own window on `screen`.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# No test may read or write the secrets of whoever runs it.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

# Machines are shared: a slow example is no failure. In CI the same examples every time, elsewhere new ones.
settings.register_profile("mlstudio", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("mlstudio")


WITHOUT_ENGINE = "MLSTUDIO_TESTS_WITHOUT_ENGINE"
LEAK_DEADLINE_S = 5.0


def wait_until(condition: Callable[[], bool], *, deadline_s: float = 10.0, every_s: float = 0.02) -> bool:
    """Poll until `condition()` is true; False if it was not within `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


# ── which tests run, and where ─────────────────────────────────────────────────────────────────────────────────────


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_engine: the test starts a Docker daemon of its own; needs root")
    config.addinivalue_line(
        "markers", "logs_errors: the test makes ML Studio log errors, and that is what it wants"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of the one engine take turns; without an engine (when asked for) they are left out, and counted so."""
    left_out: list[pytest.Item] = []
    for item in items:
        if item.get_closest_marker("engine"):
            if os.environ.get(WITHOUT_ENGINE) == "1":
                left_out.append(item)
            item.add_marker(pytest.mark.xdist_group("engine"))
        elif item.get_closest_marker("own_engine"):
            # It starts a daemon of its own, and takes only images from the machine's.
            if os.environ.get(WITHOUT_ENGINE) == "1":
                left_out.append(item)
            item.add_marker(pytest.mark.xdist_group("own engine"))
        elif item.get_closest_marker("window"):
            item.add_marker(pytest.mark.xdist_group("window"))
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


# ── nothing is left behind ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True, scope="session")
def _threads_know_their_origin() -> Iterator[None]:
    """Note where each thread was started, so that a leak can say where it began."""
    start = threading.Thread.start

    def start_and_note(thread: threading.Thread) -> None:
        thread.__dict__["started_at"] = "".join(traceback.format_stack(limit=4)[:-1])
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_and_note)
        yield


def _text_of(path: Path) -> str:
    """The file's text; none for that of a thread that has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _children() -> set[psutil.Process]:
    """Living descendants of this process, less Python's own helpers of multiprocessing."""
    # The kernel's own list says in microseconds that there is none, which is so for nearly every test.
    # (A kernel without CONFIG_PROC_CHILDREN has no such list.)
    lists = list(Path("/proc/self/task").glob("*/children"))
    if lists and not any(_text_of(children) for children in lists):
        return set()
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and "multiprocessing." not in line:
                found.add(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    threads_before = set(threading.enumerate())
    children_before = _children()
    yield

    def leaked_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread not in threads_before}

    def leaked_children() -> set[psutil.Process]:
        return _children() - children_before

    if wait_until(lambda: not leaked_threads() and not leaked_children(), deadline_s=LEAK_DEADLINE_S):
        return
    words = [
        f"Thread {thread.name!r} was left running. It began here:\n{thread.__dict__.get('started_at', '?')}"
        for thread in leaked_threads()
    ]
    for child in leaked_children():
        words.append(f"Process {child.pid} was left running: {' '.join(child.cmdline())}")
        child.kill()
    pytest.fail("\n".join(words), pytrace=False)


@pytest.fixture(autouse=True)
def _no_unexpected_log_errors(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    yield
    if request.node.get_closest_marker("logs_errors"):
        return
    errors = [
        f"{record.name}: {record.getMessage()}"
        for record in caplog.get_records("call")
        if record.levelno >= logging.ERROR and record.name.split(".")[0] == "mlstudio"
    ]
    if errors:
        pytest.fail("ML Studio logged errors:\n" + "\n".join(errors), pytrace=False)


# ── a home ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty ML Studio home, also in the environment of what the test starts. Its recorder ends with the test."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("MLSTUDIO_HOME", str(path))
    yield path
    _end_recorders(path)


def _end_recorders(home: Path) -> None:
    """The recorder is detached on purpose, so it is no child of ours: find it by its command line."""
    ours = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "recorder" in words and str(home) in words:
            ours.append(process)
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                continue
    _, alive = psutil.wait_procs(ours, timeout=5)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)


# ── the engine ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """This machine's Docker engine. A test that needs it fails without it: `docker/engine` brings one up."""
    # Here and not above: tests of other floors do not pay for the client library.
    from mlstudio.engines.registry import EngineRegistry

    registry = EngineRegistry(tmp_path / "engine-home")
    try:
        local = registry.get("local")
        status = local.check()
        if not status.usable:
            pytest.fail(
                f"No Docker engine: {status.why} {status.try_this} "
                f"(`docker/engine` installs and starts one; {WITHOUT_ENGINE}=1 leaves these tests out.)",
                pytrace=False,
            )
        yield local
    finally:
        registry.close()


# ── a screen ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Screen:
    """An X screen without a monitor (Xvfb)."""

    display: str
    width: int
    height: int
    framebuffer: Path
    """The screen's memory as an X window dump (`Xvfb -fbdir`)."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment for a program that shall show its window here."""
        environment = {
            name: value for name, value in os.environ.items() if name not in ("WAYLAND_DISPLAY", "XAUTHORITY")
        }
        return environment | {"DISPLAY": self.display, "QT_QPA_PLATFORM": "xcb"}

    def pixels(self) -> npt.NDArray[np.uint8]:
        """What stands on the screen now: height × width × (red, green, blue)."""
        data = self.framebuffer.read_bytes()
        # XWD: 25 big-endian words; the first is the header's length, number 19 the count of 12-byte colour entries.
        words = struct.unpack(">25I", data[:100])
        start = words[0] + 12 * words[19]
        line_bytes, height, width = words[12], words[5], words[4]
        rows = np.frombuffer(data, dtype=np.uint8, offset=start)[: height * line_bytes].reshape(
            height, line_bytes
        )
        return np.ascontiguousarray(rows.reshape(height, -1, 4)[:, :width, 2::-1])

    def save(self, path: Path) -> None:
        """Write a picture of the screen as PNG."""
        from PySide6.QtGui import QImage

        pixels = self.pixels()
        image = QImage(pixels.tobytes(), self.width, self.height, 3 * self.width, QImage.Format.Format_RGB888)
        if not image.save(str(path)):
            raise OSError(f"The picture could not be written to {path}.")


@pytest.fixture(scope="session")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A screen of 1440 × 900 for tests that start real windows. A test that needs it fails without Xvfb."""
    if shutil.which("Xvfb") is None:
        pytest.fail("Xvfb is missing: sudo apt-get install xvfb", pytrace=False)
    width, height = 1440, 900
    folder = tmp_path_factory.mktemp("screen")
    read_end, write_end = os.pipe()
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": (folder / "Xvfb.log").open("wb")}
    with options["stderr"]:
        server = subprocess.Popen(
            [
                "Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24",
                "-fbdir", str(folder), "-nolisten", "tcp", "-noreset",
            ],
            pass_fds=(write_end,),
            **options,
        )  # fmt: skip
    os.close(write_end)
    try:
        with os.fdopen(read_end) as numbers:
            number = (
                numbers.readline().strip()
            )  # Written once the server takes connections; empty if it died.
        if not number:
            pytest.fail(f"Xvfb did not start: {(folder / 'Xvfb.log').read_text()}", pytrace=False)
        yield Screen(f":{number}", width, height, folder / "Xvfb_screen0")
    finally:
        server.terminate()
        server.wait(timeout=10)
