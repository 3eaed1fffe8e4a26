"""Runs of the real probe as a process of its own, and what came out of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from mlstudio.probe.wire import Decoder, Frame, decode_points, decode_spool
from mlstudio.probe.zipapp import build_probe
from tests.conftest import wait_until

PYTHON = sys.executable
RUN_DEADLINE_S = 60.0

Kind = Literal["metric", "system"]


def can_have_its_own_pids() -> bool:
    """Whether this machine lets us make a PID namespace, in which the probe is process 1 as in a container."""
    try:
        tried = subprocess.run([*NEW_PIDS, "true"], capture_output=True, timeout=10, check=False)
    except OSError:
        return False
    return tried.returncode == 0


NEW_PIDS = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Outcome:
    """What a finished probe left: its exit code, its output taken apart, its spool."""

    code: int
    output: bytes
    errors: bytes
    frames: tuple[Frame, ...]
    pending: bytes
    root: Path

    @property
    def log(self) -> bytes:
        """The command's output, as a reader sees it."""
        return b"".join(frame.log for frame in self.frames)

    def log_of(self, *, errors: bool) -> bytes:
        """The part that the command wrote to one of its two streams."""
        found = bytearray()
        for frame in self.frames:
            position = 0
            for is_error, count, _ in frame.spans:
                if is_error is errors:
                    found += frame.log[position : position + count]
                position += count
        return bytes(found)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for frame in self.frames for e in frame.body.get("events", []) if e["type"] == kind]

    @property
    def exit(self) -> dict[str, Any]:
        (event,) = self.events("exit")
        return event

    def points(self, name: str, kind: Kind = "metric") -> list[tuple[int, float]]:
        """(step, value) of one series."""
        return [
            (step, value)
            for frame in self.frames
            for columns in decode_points(frame.body)
            if (columns.name, columns.kind) == (name, kind)
            for step, value in zip(columns.steps, columns.values, strict=True)
        ]

    def series(self, kind: Kind = "metric") -> set[str]:
        return {c.name for frame in self.frames for c in decode_points(frame.body) if c.kind == kind}

    def spooled(self) -> list[Frame]:
        files = sorted((self.root / "run" / "spool").glob("*.mls"), key=lambda path: int(path.stem))
        return [frame for path in files for frame in decode_spool(path.read_bytes())]

    def check(self) -> None:
        """What holds for every run: frames without holes, each with exactly its output, the last one marked."""
        assert [frame.seq for frame in self.frames] == list(range(len(self.frames)))
        assert all(frame.intact for frame in self.frames)
        assert [bool(frame.body.get("final")) for frame in self.frames] == [False] * (
            len(self.frames) - 1
        ) + [True]
        assert self.pending == b""
        assert self.errors == b""
        assert len(self.events("exit")) == 1


def taken_apart(output: bytes) -> tuple[tuple[Frame, ...], bytes]:
    decoder = Decoder()
    frames = tuple(decoder.feed(output))
    return frames, decoder.pending


@dataclass
class Running:
    """A probe that was started."""

    process: subprocess.Popen[bytes]
    root: Path
    output_file: Path
    error_file: Path

    @property
    def output(self) -> bytes:
        return self.output_file.read_bytes()

    def wait_for(self, text: bytes, *, deadline_s: float = 30.0) -> None:
        """Wait until the command has printed `text`."""
        assert wait_until(lambda: text in self.output, deadline_s=deadline_s), self.output[-2000:]

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self, *, deadline_s: float = RUN_DEADLINE_S) -> Outcome:
        """Wait for its end."""
        code = self.process.wait(timeout=deadline_s)
        output = self.output
        frames, pending = taken_apart(output)
        return Outcome(code, output, self.error_file.read_bytes(), frames, pending, self.root)


@dataclass
class Bench:
    """Starts probes. `root` is the folder that a container would have as /mlstudio."""

    root: Path
    as_init: bool = False
    python: str = PYTHON
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = b"",
        settings: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> Running:
        """Start the probe with `command`; `config` as in the probe's configuration, and `settings` where `env` is meant
        that the run says; `stdin` None: stays open."""
        self.root.mkdir(exist_ok=True)
        (self.root / "run").mkdir(exist_ok=True)
        (self.root / "probe.pyz").write_bytes(build_probe())
        known: dict[str, Any] = {
            "run_id": "r1",
            "command": list(command),
            "batch_s": 0.05,
            "sample_s": 0.2,
            "grace_s": 5,
            "secrets_dir": str(self.root / "secrets"),
        }
        (self.root / "config.json").write_text(json.dumps(known | config | dict(settings or {})))
        line = [self.python, str(self.root / "probe.pyz"), str(self.root / "config.json")]
        output, errors = self.root / "output", self.root / "errors"
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONUNBUFFERED") and not name.startswith("COV")
        }
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [*NEW_PIDS, *line] if self.as_init else line,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=kept | dict(env or {}),
            )
        self.started.append(process)
        assert process.stdin is not None
        if stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        return Running(process, self.root, output, errors)

    def run(self, command: Sequence[str], **words: Any) -> Outcome:
        """Run `command` to its end, and check what holds for every run."""
        outcome = self.start(command, **words).end()
        outcome.check()
        return outcome

    def script(self, text: str, **words: Any) -> Outcome:
        """Run a Python script."""
        return self.run([self.python, "-c", text], **words)

    def close(self) -> None:
        """Let nothing live on that a failed test left."""
        for process in self.started:
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
            if process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
                for found in [*children, psutil.Process(process.pid)]:
                    try:
                        found.kill()
                    except psutil.NoSuchProcess:
                        continue
                process.wait(timeout=10)


def is_gone(pid: int) -> bool:
    """Whether no living process has this number."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def soon(moment: float, seconds: float) -> bool:
    """Whether less than `seconds` have passed since `moment` (`time.monotonic`)."""
    return time.monotonic() - moment < seconds
