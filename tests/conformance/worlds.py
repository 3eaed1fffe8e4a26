"""The engines under test, each in a world of its own, and what containers do in them.

A behaviour is written twice: as a Python script for engines that run programs, and as a play for the one in memory.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from mlstudio.engines.engine import BuildContext, Engine
from mlstudio.engines.fake import FakeContainer, FakeEngine, Program
from mlstudio.model.image import BuildFinished, ImageSpec, Recipe
from mlstudio.model.launch import LaunchSpec

STAND_IN = "mlstudio-base/python:3.11-bookworm"

_TINY = """
import json, os, signal, subprocess, sys
with open(sys.argv[1]) as file:
    config = json.load(file)
env = dict(os.environ)
if config["secrets"]:
    folder = config.get("secrets_dir") or "/run/secrets"
    for name, value in json.loads(sys.stdin.readline()).items():
        with open(folder + "/" + name, "w") as file:
            file.write(value)
        env[name + "_FILE"] = folder + "/" + name
child = subprocess.Popen(config["command"], cwd=config["workdir"] or None, stdin=subprocess.DEVNULL, env=env)
signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
code = child.wait()
sys.exit(128 - code if code < 0 else code)
"""


def tiny_probe() -> bytes:
    """A probe that does the least a probe must: secrets, the command as a child, signals, its exit code."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("__main__.py", _TINY)
    return data.getvalue()


@dataclass(frozen=True)
class Behaviour:
    """What a container does."""

    script: str
    play: Program


def _say_and_end(container: FakeContainer) -> int:
    container.write(b"hello\n")
    return 0


def _two_streams(container: FakeContainer) -> int:
    for number in range(40):
        container.write(b"out %d\n" % number)
        container.write(b"err %d\n" % number, is_error_stream=True)
        container.wait_for_stop(0.01)
    return 0


def _sleep(container: FakeContainer) -> int:
    container.write(b"ready\n")
    container.wait_for_stop(60)
    return 143


def _hang(container: FakeContainer) -> int:
    container.write(b"ready\n")
    while container.observation.ended is None:
        container.wait_for_stop(0.02)
    return 0


def _long_line(container: FakeContainer) -> int:
    container.write(b"x" * LONG_LINE_BYTES)
    return 0


def _leave_file(container: FakeContainer) -> int:
    container.files["/tmp/result.bin"] = FILE_CONTENT
    container.write(b"ready\n")
    container.wait_for_stop(60)
    return 143


LONG_LINE_BYTES = 1_000_003
FILE_CONTENT = bytes(range(256)) * 1000

SAY_AND_END = Behaviour("print('hello')", _say_and_end)
TWO_STREAMS = Behaviour(
    """
import sys, time
for number in range(40):
    print("out", number, flush=True)
    print("err", number, file=sys.stderr, flush=True)
    time.sleep(0.01)
""",
    _two_streams,
)
SLEEP = Behaviour(
    """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
print("ready", flush=True)
time.sleep(60)
""",
    _sleep,
)
HANG = Behaviour(
    """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
end = time.time() + 60
while time.time() < end:
    time.sleep(0.1)
""",
    _hang,
)
LONG_LINE = Behaviour(
    f"import sys; sys.stdout.write('x' * {LONG_LINE_BYTES}); sys.stdout.flush()", _long_line
)
LEAVE_FILE = Behaviour(
    """
import time
with open("/tmp/result.bin", "wb") as file:
    file.write(bytes(range(256)) * 1000)
print("ready", flush=True)
time.sleep(60)
""",
    _leave_file,
)
KILL_ITSELF = Behaviour("import os; os.kill(os.getpid(), 9)", lambda container: 137)


def exits_with(code: int) -> Behaviour:
    return Behaviour(f"raise SystemExit({code})", lambda container: code)


def tells_secret(name: str) -> Behaviour:
    """Prints the length of a secret that it read from its file, and the secret backwards."""

    def play(container: FakeContainer) -> int:
        values = {secret.name: secret.value for secret in container.spec.secrets}
        container.write(f"{values[name][::-1]}\n".encode())
        return 0

    return Behaviour(f"import os; print(open(os.environ['{name}_FILE']).read()[::-1])", play)


@dataclass
class World:
    """An engine and an image that it can run."""

    engine: Engine
    image: str
    again: Callable[[], Engine]
    """The engine as another process would have it."""
    traces: Callable[[str], bytes]
    """Everything that the engine keeps of a container, as far as its user can see it."""
    plays: dict[str, Program] = field(default_factory=dict)
    handles: list[str] = field(default_factory=list)

    def spec(self, behaviour: Behaviour, *, probe: bytes = b"", **words: object) -> LaunchSpec:
        self.plays[behaviour.script] = behaviour.play
        values: dict[str, object] = {"run_id": uuid.uuid4().hex, "image": self.image, **words}
        return LaunchSpec(command=("python3", "-c", behaviour.script), probe=probe, **values)  # type: ignore[arg-type]

    def launch(self, behaviour: Behaviour, **words: object) -> str:
        handle = self.engine.launch(self.spec(behaviour, **words))  # type: ignore[arg-type]
        self.handles.append(handle)
        return handle

    def output(self, handle: str) -> bytes:
        return b"".join(chunk.data for chunk in self.engine.follow(handle))

    def clean(self) -> None:
        last = self.again()
        for handle in self.handles:
            last.remove(handle)
        last.close()
        self.engine.close()


def fake_world() -> World:
    plays: dict[str, Program] = {}

    def program(container: FakeContainer) -> int:
        return plays[container.spec.command[2]](container)

    def again() -> Engine:
        return engine

    engine = FakeEngine(program=program, any_image=False)
    context = cast("BuildContext", SimpleNamespace())
    recipe = Recipe(dockerfile="", layers=(), spec=ImageSpec(), base="", tag="fake:1", digest="sha256:1")
    list(engine.build(recipe, context))
    return World(
        engine=engine,
        image="fake:1",
        again=again,
        traces=lambda handle: repr(engine.inspect(handle)).encode(),
        plays=plays,
    )


def process_world(folder: Path) -> World:
    from mlstudio.engines.process import ProcessEngine

    engine = ProcessEngine(folder)
    recipe = Recipe(
        dockerfile="", layers=(), spec=ImageSpec(), base="", tag="mlstudio/conformance:1", digest="sha256:1"
    )
    nothing = SimpleNamespace(root=None, files=(), extra=(), mounts=(), build_args=())
    *_, last = engine.build(recipe, cast("BuildContext", nothing))
    assert isinstance(last, BuildFinished)

    def traces(handle: str) -> bytes:
        files = [path for path in (folder / "runs" / handle).rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files if path.name != "output")

    return World(engine=engine, image=last.image_id, again=lambda: ProcessEngine(folder), traces=traces)


def docker_world(folder: Path, url: str = "") -> World:
    from mlstudio.engines.docker import DockerEngine
    from mlstudio.engines.docker_host import Endpoint, find_endpoint

    def find() -> Endpoint:
        return Endpoint(url, "the test") if url else find_endpoint()

    def again() -> Engine:
        return DockerEngine(locks=folder / "locks", find=find)

    def traces(handle: str) -> bytes:
        words = ["docker", *(["-H", url] if url else [])]
        shown = subprocess.run([*words, "inspect", handle], capture_output=True, check=True).stdout
        contents = []
        for path in ("/mlstudio", "/run"):
            copied = subprocess.run([*words, "cp", f"{handle}:{path}", "-"], capture_output=True, check=True)
            with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
                files = [archive.extractfile(entry) for entry in archive if entry.isfile()]
                contents += [file.read() for file in files if file is not None]
        return json.dumps(json.loads(shown)).encode() + b"\n".join(contents)

    engine = again()
    assert engine.check().usable, engine.check()
    return World(engine=engine, image=STAND_IN, again=again, traces=traces)
