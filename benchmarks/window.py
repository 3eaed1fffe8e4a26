"""How long the window takes from the start of the program to its first picture, beside an empty PySide6 window.

Measured from outside: both are started on an X screen without a monitor, whose memory is watched for the first pixel
that is not black. With 2,000 runs in the history the first page has something to read.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Comparison, named, take_turns
from mlstudio.model.code import CodeSource
from mlstudio.model.run import RunSpec
from mlstudio.store import History

OURS, FULL, PEER = "ML Studio", "ML Studio, 2,000 runs", "empty PySide6 window"
AIM_S = 1.0
RUNS = 2_000

EMPTY_WINDOW = """
import sys
from PySide6.QtWidgets import QApplication, QMainWindow
application = QApplication(sys.argv)
window = QMainWindow()
window.resize(1200, 800)
window.show()
sys.exit(application.exec())
"""


def compare(rounds: int) -> Comparison:
    """Start both in turns."""
    with tempfile.TemporaryDirectory() as folder, screen(Path(folder)) as (display, memory):
        full = Path(folder) / "full"
        fill(full)
        environment = {**os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
        environment.pop("WAYLAND_DISPLAY", None)
        window = [sys.executable, "-P", "-m", "mlstudio", "gui"]

        def start(command: list[str], home: Path) -> float:
            return first_picture(command, environment | {"MLSTUDIO_HOME": str(home)}, memory)

        results = take_turns(
            {
                PEER: lambda: start([sys.executable, "-c", EMPTY_WINDOW], Path(folder) / "none"),
                OURS: lambda: start(window, Path(folder) / "empty"),
                FULL: lambda: start(window, full),
            },
            rounds=rounds,
            unit="ms",
        )
    slowest = max(named(results, OURS).median, named(results, FULL).median)
    return Comparison(
        name="window",
        question="From the start of the program to the first picture on the screen",
        results=results,
        aim=f"at most {AIM_S:.1f} s (now {slowest / 1000:.2f} s)",
        met=slowest <= 1000 * AIM_S,
    )


@contextmanager
def screen(folder: Path) -> Iterator[tuple[str, mmap.mmap]]:
    """An X screen without a monitor, and its memory."""
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(write_end),
            "-screen",
            "0",
            "1440x900x24",
            "-fbdir",
            str(folder),
            "-noreset",
        ],
        pass_fds=(write_end,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise SystemExit("Xvfb did not start.")
        with (folder / "Xvfb_screen0").open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield f":{number}", memory
        finally:
            memory.close()
    finally:
        server.terminate()
        server.wait()


def is_black(memory: mmap.mmap) -> bool:
    """Whether nothing is drawn, judged by a grid of pixels."""
    words = struct.unpack(">25I", memory[:100])
    start, line_bytes = words[0] + 12 * words[19], words[12]
    return not any(
        any(memory[at : at + 3])
        for y in range(20, 800, 60)
        for x in range(20, 1100, 60)
        for at in [start + y * line_bytes + 4 * x]
    )


def first_picture(command: list[str], environment: dict[str, str], memory: mmap.mmap) -> float:
    """Milliseconds from starting `command` to its first picture; then it is ended."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        while is_black(memory):
            if process.poll() is not None:
                raise SystemExit(f"It ended before it drew anything: {' '.join(command)}")
            if time.perf_counter() - began > 60:
                raise SystemExit(f"It drew nothing within a minute: {' '.join(command)}")
            time.sleep(0.002)
        took = time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
    while not is_black(memory):
        time.sleep(0.002)
    return 1000 * took


def fill(home: Path) -> None:
    """A history of `RUNS` runs."""
    home.mkdir()
    history = History(home / "history.db")
    try:
        for number in range(RUNS):
            spec = RunSpec(
                command=("python", "train.py", "--seed", str(number)), code=CodeSource(folder="/code")
            )
            history.add_run(
                spec,
                run_id=f"{number:032x}",
                name=f"train-{number}",
                created=1_700_000_000.0 + number,
                engine_kind="docker",
            )
    finally:
        history.close()
