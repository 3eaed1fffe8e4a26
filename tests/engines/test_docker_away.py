"""The engine is stopped, killed, absent, closed to us: what is said, and that nothing of a run is lost."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from mlstudio.engines.docker_host import find_endpoint
from mlstudio.engines.engine import BuildContext
from mlstudio.model.errors import EngineAway, StudioError
from mlstudio.model.host import EngineTrouble
from mlstudio.model.image import BuildOutput, ImageSpec, Recipe
from mlstudio.model.launch import Chunk, Phase
from mlstudio.model.run import Network
from tests.conformance.worlds import SLEEP, STAND_IN, Behaviour, World, docker_world
from tests.conftest import wait_until
from tests.engines.conftest import engine_at
from tests.engines.cut_off import Way
from tests.engines.second_engine import SecondEngine

COUNT = Behaviour(
    """
import time
for number in range(400):
    print("line", number, flush=True)
    time.sleep(0.01)
""",
    lambda container: 0,
)


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_the_engine_is_killed_while_output_is_followed(
    second_engine: SecondEngine, killable: World, tmp_path: Path
) -> None:
    """The follower is told at once; with its last position it goes on when the engine is back. No line is lost."""
    handle = killable.launch(COUNT, network=Network.NONE)
    chunks: list[Chunk] = []

    def follow() -> None:
        for chunk in killable.engine.follow(handle):
            chunks.append(chunk)
            if len(chunks) == 20:
                second_engine.kill()

    with pytest.raises(EngineAway) as caught:
        follow()
    assert caught.value.can_retry
    assert caught.value.try_this
    with pytest.raises(EngineAway):
        killable.engine.inspect(handle)
    with pytest.raises(EngineAway):
        killable.engine.launch(killable.spec(SLEEP))
    assert killable.engine.check().trouble in (EngineTrouble.STOPPED, EngineTrouble.ABSENT)

    second_engine.start()
    # The same engine object finds it again. (A killed dockerd takes its containers along when it starts again.)
    assert killable.engine.check().usable
    chunks += killable.engine.follow(handle, chunks[-1].position)
    assert killable.engine.inspect(handle).phase is Phase.EXITED
    again = docker_world(tmp_path, second_engine.url).engine
    whole = b"".join(chunk.data for chunk in again.follow(handle))
    again.close()
    lines = b"".join(chunk.data for chunk in chunks)
    assert lines == whole
    assert whole.startswith(b"line 0\nline 1\n")


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_the_engine_is_stopped_in_good_order_while_output_is_followed(
    second_engine: SecondEngine, killable: World
) -> None:
    handle = killable.launch(SLEEP, network=Network.NONE)
    stopper = threading.Thread(target=second_engine.stop)
    following = killable.engine.follow(handle)
    assert next(following).data == b"ready\n"
    stopper.start()
    with pytest.raises(EngineAway):
        next(following)
    stopper.join()
    second_engine.start()
    seen = killable.engine.inspect(handle)
    assert seen.phase is Phase.EXITED
    assert seen.exit_code == 143


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    """A way to this machine's engine that can be cut off."""
    made = Way(tmp_path / "way.sock", find_endpoint().socket_path)
    yield made
    made.cut()


class _Files(Sequence[str]):
    """A build context's files; something happens while they are read."""

    def __init__(self, names: Sequence[str], happens: Callable[[], None]) -> None:
        self._names = names
        self._happens = happens

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        if index == 1:
            self._happens()
        return self._names[index]


def _recipe(run: str) -> Recipe:
    return Recipe(
        dockerfile=f"FROM {STAND_IN}\nCOPY code/ /code/\nRUN {run}\n",
        layers=(),
        spec=ImageSpec(),
        base=STAND_IN,
        tag="mlstudio/cut-off:1",
        digest="sha256:cut-off",
    )


def _context(**words: object) -> BuildContext:
    given = {"root": None, "files": (), "extra": (), "mounts": (), "build_args": (), **words}
    return cast("BuildContext", SimpleNamespace(**given))


@pytest.mark.engine
def test_the_engine_goes_away_while_it_builds(way: Way, tmp_path: Path) -> None:
    engine = engine_at(way.url, tmp_path)
    # A time of its own: other tests' commands sleep at the same time.
    sleep = f"sleep 30.{time.time_ns()}"
    recipe = _recipe(f"echo begun && {sleep}")
    (tmp_path / "code").mkdir()
    context = _context(root=tmp_path / "code")
    cut_at = 0.0

    def build() -> None:
        nonlocal cut_at
        for event in engine.build(recipe, context):
            if isinstance(event, BuildOutput) and "begun" in event.text:
                way.cut()
                cut_at = time.monotonic()

    with pytest.raises(EngineAway) as caught:
        build()
    assert caught.value.try_this
    assert cut_at
    assert time.monotonic() - cut_at < 5
    # The engine gives up what nobody waits for.
    assert wait_until(lambda: not any(sleep in line for line in _processes()), deadline_s=15)
    engine.close()


@pytest.mark.engine
def test_the_engine_goes_away_while_it_is_given_the_context(way: Way, tmp_path: Path) -> None:
    engine = engine_at(way.url, tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 5_000_000)
    files = _Files(["a", "b"], way.cut)
    with pytest.raises(EngineAway):
        list(engine.build(_recipe("true"), _context(root=tmp_path, files=files)))
    engine.close()


@pytest.mark.engine
def test_the_connection_breaks_while_output_is_followed(way: Way, tmp_path: Path) -> None:
    world = docker_world(tmp_path, way.url)
    direct = docker_world(tmp_path)
    handle = world.launch(COUNT)
    chunks: list[Chunk] = []

    def follow() -> None:
        for chunk in world.engine.follow(handle):
            chunks.append(chunk)
            if len(chunks) == 20:
                way.cut()

    with pytest.raises(EngineAway):
        follow()
    chunks += direct.engine.follow(handle, chunks[-1].position)
    assert b"".join(chunk.data for chunk in chunks) == b"".join(
        b"line %d\n" % number for number in range(400)
    )
    direct.handles.append(handle)
    direct.clean()
    world.engine.close()


def _processes() -> list[str]:
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


def test_nobody_listens(tmp_path: Path) -> None:
    engine = engine_at(f"unix://{tmp_path}/docker.sock", tmp_path)
    status = engine.check()
    assert status.trouble is EngineTrouble.STOPPED
    assert str(tmp_path) in status.why
    assert status.try_this
    for call in (lambda: engine.inspect("x"), lambda: engine.find("x"), lambda: list(engine.follow("x"))):
        with pytest.raises(EngineAway):
            call()
    engine.close()


class _Answers(http.server.BaseHTTPRequestHandler):
    """An engine that says what the test wants."""

    api = "1.41"
    hang = threading.Event()
    version: dict[str, object]
    info: dict[str, object]

    def do_GET(self) -> None:
        if self.path.endswith("/_ping"):
            self._say(b"OK")
        elif self.path.endswith("/version"):
            self._say(json.dumps(self.version).encode())
        else:
            self._say(json.dumps(self.info).encode())

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Api-Version", self.api)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            return  # Who pings does not wait for the body.

    def address_string(self) -> str:
        return "test"

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def pretender(tmp_path: Path) -> Iterator[tuple[str, type[_Answers]]]:
    """Something on a socket that answers as the test says: (its address, its words)."""
    answers = type("Answers", (_Answers,), {"version": {}, "info": {}})
    path = tmp_path / "docker.sock"
    server = _Listener(str(path), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"unix://{path}", answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_engine_that_is_too_old(pretender: tuple[str, type[_Answers]], tmp_path: Path) -> None:
    url, answers = pretender
    answers.api = "1.40"
    answers.version = {"Version": "19.03.15", "ApiVersion": "1.40"}
    answers.info = {"OSType": "linux", "NCPU": 4}
    status = engine_at(url, tmp_path).check()
    assert status.trouble is EngineTrouble.TOO_OLD
    assert "19.03.15" in status.why
    assert "20.10" in status.try_this


def test_docker_from_snap(pretender: tuple[str, type[_Answers]], tmp_path: Path) -> None:
    url, answers = pretender
    answers.version = {"Version": "24.0.5", "ApiVersion": "1.43"}
    answers.info = {"OSType": "linux", "DockerRootDir": "/var/snap/docker/common/var-lib-docker"}
    status = engine_at(url, tmp_path).check()
    assert status.usable
    assert status.gpu_runtime is False
    assert "Snap" in status.why


def test_something_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socketserver.UnixStreamServer(str(path), socketserver.BaseRequestHandler):
        began = time.monotonic()
        status = engine_at(f"unix://{path}", tmp_path).check()
        assert time.monotonic() - began < 5
    assert status.trouble is EngineTrouble.UNREACHABLE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_permission(pretender: tuple[str, type[_Answers]], tmp_path: Path) -> None:
    """In a child that is no longer root: nobody may use root's socket."""
    url, _ = pretender
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/") and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    Path(url.removeprefix("unix://")).chmod(0o600)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            engine = engine_at(url, tmp_path)
            status = engine.check()
            os.write(writing, f"{status.trouble}|{status.why}|{status.try_this}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        trouble, why, try_this = answer.read().split("|")
    os.waitpid(child, 0)
    assert trouble == EngineTrouble.NOT_PERMITTED
    assert "group docker" in why
    assert "sudo usermod -aG docker $USER" in try_this


def test_a_remote_engine_that_we_cannot_speak_to(tmp_path: Path) -> None:
    engine = engine_at("ssh://user:password@host", tmp_path)
    status = engine.check()
    assert status.trouble is EngineTrouble.UNREACHABLE
    assert "password" not in f"{status.why} {status.try_this}"
    with pytest.raises(StudioError) as caught:
        engine.inspect("x")
    assert "password" not in str(caught.value)
