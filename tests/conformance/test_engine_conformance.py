"""What `mlstudio.engines.engine` promises, asked of every engine there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlstudio.engines.engine import CanBuild, Engine
from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.host import EngineKind
from mlstudio.model.launch import Chunk, Observation, Phase, SecretValue
from tests.conformance.worlds import (
    FILE_CONTENT,
    HANG,
    KILL_ITSELF,
    LEAVE_FILE,
    LONG_LINE,
    LONG_LINE_BYTES,
    SAY_AND_END,
    SLEEP,
    TWO_STREAMS,
    World,
    docker_world,
    exits_with,
    fake_world,
    process_world,
    tells_secret,
    tiny_probe,
)
from tests.conftest import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def process_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: making a virtual environment takes seconds."""
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.engine), "process", "fake"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "docker":
        made = docker_world(tmp_path)
    elif request.param == "process":
        made = process_world(request.getfixturevalue("process_folder"))
    else:
        made = fake_world()
    yield made
    made.clean()


def ended(world: World, handle: str) -> Observation:
    """How the container stands once it has ended."""
    assert wait_until(lambda: world.engine.inspect(handle).phase is Phase.EXITED, deadline_s=20)
    return world.engine.inspect(handle)


def wait_for_output(world: World, handle: str) -> Chunk:
    """The first output, while the container runs."""
    first = next(iter(world.engine.follow(handle)))
    assert world.engine.inspect(handle).phase is Phase.RUNNING
    return first


def test_it_says_who_it_is(world: World) -> None:
    engine = world.engine
    assert isinstance(engine, Engine)
    status = engine.check()
    assert status.usable
    assert (status.name, status.kind) == (engine.name, engine.kind)
    assert engine.kind in EngineKind


def test_a_run_from_launch_to_end(world: World) -> None:
    before = time.time()
    handle = world.launch(SAY_AND_END)
    assert world.output(handle) == b"hello\n"
    seen = ended(world, handle)
    assert seen.exit_code == 0
    assert not seen.oom_killed
    assert seen.started is not None
    assert seen.ended is not None
    assert before - 1 < seen.started <= seen.ended < time.time() + 1
    assert seen.has_probe is False


@pytest.mark.parametrize("code", [0, 1, 3, 255])
@pytest.mark.parametrize("probe", [b"", tiny_probe()], ids=["plain", "probe"])
def test_exit_codes(world: World, code: int, probe: bytes) -> None:
    handle = world.launch(exits_with(code), probe=probe)
    seen = ended(world, handle)
    assert seen.exit_code == code
    assert seen.has_probe is bool(probe)


def test_a_command_that_is_killed(world: World) -> None:
    assert ended(world, world.launch(KILL_ITSELF, probe=tiny_probe())).exit_code == 137


def test_output_comes_live_and_whole(world: World) -> None:
    handle = world.launch(TWO_STREAMS)
    chunks = []
    was_running = False
    for chunk in world.engine.follow(handle):
        chunks.append(chunk)
        was_running = was_running or world.engine.inspect(handle).phase is Phase.RUNNING
    assert was_running, "Nothing came before the end."
    out = b"".join(chunk.data for chunk in chunks)
    assert sorted(out.splitlines()) == sorted(
        b"%b %d" % (name, number) for number in range(40) for name in (b"out", b"err")
    )
    if any(chunk.is_error_stream for chunk in chunks):
        for flag, name in ((False, b"out"), (True, b"err")):
            data = b"".join(chunk.data for chunk in chunks if chunk.is_error_stream is flag)
            assert data == b"".join(b"%b %d\n" % (name, number) for number in range(40))
    times = [chunk.time for chunk in chunks]
    assert all(abs(moment - time.time()) < 120 for moment in times)


@pytest.mark.parametrize("is_over", [True, False], ids=["ended", "running"])
def test_following_resumes_at_every_position(world: World, is_over: bool) -> None:
    handle = world.launch(TWO_STREAMS)
    chunks = list(world.engine.follow(handle)) if is_over else []
    if not is_over:
        for chunk in world.engine.follow(handle):
            chunks.append(chunk)
            if len(chunks) == 3:
                break
    other = world.again()
    whole = b"".join(chunk.data for chunk in other.follow(handle))
    for index, chunk in enumerate(chunks):
        read = sum(len(earlier.data) for earlier in chunks[: index + 1])
        tail = b"".join(later.data for later in other.follow(handle, chunk.position))
        # Nothing is missing; what was read already may come once more.
        assert whole.endswith(tail)
        assert len(tail) >= len(whole) - read
    if other is not world.engine:
        other.close()


def test_a_position_that_means_nothing_is_the_beginning(world: World) -> None:
    handle = world.launch(SAY_AND_END)
    assert b"".join(chunk.data for chunk in world.engine.follow(handle, "not a mark")) == b"hello\n"


def test_a_long_line_without_an_end(world: World) -> None:
    handle = world.launch(LONG_LINE)
    assert world.output(handle) == b"x" * LONG_LINE_BYTES
    assert ended(world, handle).exit_code == 0


def test_a_follower_ends_soon_when_asked_to(world: World) -> None:
    handle = world.launch(SLEEP)
    asked: list[float] = []

    def follow() -> float:
        for _ in world.engine.follow(handle, should_stop=lambda: bool(asked)):
            pass
        return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        wait_for_output(world, handle)
        asked.append(time.monotonic())
        assert following.result(timeout=5) - asked[0] < 1.0


def test_closing_ends_followers_and_touches_no_container(world: World) -> None:
    handle = world.launch(SLEEP)
    done = threading.Event()

    def follow() -> None:
        for _ in world.engine.follow(handle):
            pass
        done.set()

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for_output(world, handle)
    world.engine.close()
    assert done.wait(2)
    thread.join()
    other = world.again()
    # What is in memory ends with the engine; everything else goes on.
    expected = Phase.EXITED if other is world.engine else Phase.RUNNING
    assert other.inspect(handle).phase is expected
    if other is not world.engine:
        other.close()


@pytest.mark.parametrize("probe", [b"", tiny_probe()], ids=["plain", "probe"])
def test_stopping(world: World, probe: bytes) -> None:
    handle = world.launch(SLEEP, probe=probe)
    wait_for_output(world, handle)
    began = time.monotonic()
    world.engine.stop(handle, grace_s=20)
    assert time.monotonic() - began < 10, "It was killed, not asked."
    seen = world.engine.inspect(handle)
    assert seen.phase is Phase.EXITED
    assert seen.exit_code == 143
    world.engine.stop(handle)
    assert world.engine.inspect(handle).exit_code == 143


def test_stopping_what_does_not_want_to(world: World) -> None:
    handle = world.launch(HANG)
    wait_for_output(world, handle)
    began = time.monotonic()
    world.engine.stop(handle, grace_s=0.5)
    took = time.monotonic() - began
    assert 0.5 <= took < 10
    seen = world.engine.inspect(handle)
    assert seen.phase is Phase.EXITED
    assert seen.exit_code == 137


def test_two_stops_at_once(world: World) -> None:
    handle = world.launch(SLEEP)
    wait_for_output(world, handle)
    with ThreadPoolExecutor(2) as pool:
        for stopping in [pool.submit(world.engine.stop, handle) for _ in range(2)]:
            stopping.result(timeout=20)
    assert world.engine.inspect(handle).phase is Phase.EXITED


def test_removing(world: World) -> None:
    handle = world.launch(SAY_AND_END)
    ended(world, handle)
    world.engine.remove(handle)
    assert world.engine.inspect(handle).phase is Phase.GONE
    world.engine.remove(handle)


def test_removing_what_runs(world: World) -> None:
    handle = world.launch(HANG)
    wait_for_output(world, handle)
    world.engine.remove(handle)
    assert world.engine.inspect(handle).phase is Phase.GONE


@pytest.mark.parametrize("handle", ["0" * 64, "no-such-container"])
def test_a_container_that_is_not_there(world: World, handle: str) -> None:
    engine = world.engine
    assert engine.inspect(handle).phase is Phase.GONE
    assert list(engine.follow(handle)) == []
    engine.stop(handle)
    engine.remove(handle)
    assert engine.find(handle) is None
    with pytest.raises(NotFound):
        engine.read_file(handle, "/etc/hostname")


def test_a_container_that_is_removed_under_its_follower(world: World) -> None:
    handle = world.launch(SLEEP)
    following = world.engine.follow(handle)
    assert next(following).data
    world.engine.remove(handle)
    assert b"".join(chunk.data for chunk in following) == b""


def test_launching_twice_at_once_makes_one_container(world: World) -> None:
    spec = world.spec(SLEEP)
    start = threading.Barrier(2)

    def launch() -> str:
        start.wait()
        return world.engine.launch(spec)

    with ThreadPoolExecutor(2) as pool:
        handles = {launching.result() for launching in [pool.submit(launch) for _ in range(2)]}
    world.handles.extend(handles)
    assert len(handles) == 1
    assert handles == {world.engine.launch(spec)}
    assert handles == {world.engine.find(spec.run_id)}


def test_a_run_is_found_again_after_a_restart_of_everything(world: World) -> None:
    spec = world.spec(SLEEP)
    handle = world.engine.launch(spec)
    world.handles.append(handle)
    wait_for_output(world, handle)
    other = world.again()
    assert other.find(spec.run_id) == handle
    assert other.find("never-launched") is None
    assert other.inspect(handle).phase is Phase.RUNNING
    other.stop(handle)
    assert other.inspect(handle).phase is Phase.EXITED
    if other is not world.engine:
        other.close()


def test_an_image_that_is_not_there(world: World) -> None:
    with pytest.raises(RequestError) as caught:
        world.launch(SAY_AND_END, image="mlstudio/no-such-image:1")
    assert caught.value.field == "image.image"
    assert "no-such-image" in str(caught.value)


def test_a_launch_that_fails_leaves_nothing(world: World) -> None:
    spec = world.spec(SAY_AND_END, secrets=(SecretValue(name="TOKEN", value="abc"),))
    # Secrets need a probe to receive them.
    with pytest.raises(RequestError) as caught:
        world.engine.launch(spec)
    assert caught.value.field == "secrets"
    assert "abc" not in str(caught.value)
    assert world.engine.find(spec.run_id) is None


def test_reading_files(world: World) -> None:
    handle = world.launch(LEAVE_FILE)
    wait_for_output(world, handle)
    assert world.engine.read_file(handle, "/tmp/result.bin") == FILE_CONTENT
    with pytest.raises(NotFound):
        world.engine.read_file(handle, "/tmp/no-such-file")
    world.engine.stop(handle, grace_s=0.1)
    assert world.engine.read_file(handle, "/tmp/result.bin") == FILE_CONTENT


def test_secrets_reach_the_command_and_nothing_else(world: World) -> None:
    value = "Träumerei \"quoted\" $HOME 'x' 91b7"
    secret = SecretValue(name="TOKEN", value=value)
    handle = world.launch(tells_secret("TOKEN"), probe=tiny_probe(), secrets=(secret,))
    assert world.output(handle).decode() == value[::-1] + "\n"
    assert ended(world, handle).exit_code == 0
    kept = world.traces(handle)
    assert kept
    assert b"91b7" not in kept
    assert b"91b7" not in repr(world.engine.inspect(handle)).encode()


def test_images_are_listed_and_found(world: World) -> None:
    assert isinstance(world.engine, CanBuild)
    found = world.engine.image(world.image)
    assert found is not None
    assert found.id.startswith("sha256:")
    assert world.engine.image(found.id) == found
    assert found.id in {image.id for image in world.engine.images(all_of_them=True)}
    assert world.engine.image("mlstudio/no-such-image:1") is None
    with pytest.raises(NotFound):
        world.engine.remove_image("mlstudio/no-such-image:1")
    with pytest.raises((NotFound, RequestError)):
        world.engine.launch(world.spec(SAY_AND_END, image=""))
