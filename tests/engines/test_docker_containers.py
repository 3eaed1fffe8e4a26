"""Docker's containers: what they are given, what they are kept from, and what becomes of their output."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlstudio.engines.engine import BuildContext, CanBuild
from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.image import BuildFinished, ImageSpec, Recipe
from mlstudio.model.launch import CodeMount, LaunchSpec, Phase, SecretValue
from mlstudio.model.run import GpuRequest, Limits, Mount, Network
from tests.conformance.worlds import SAY_AND_END, STAND_IN, Behaviour, World, tiny_probe
from tests.conftest import wait_until
from tests.engines.second_engine import SecondEngine

pytestmark = pytest.mark.engine


def run(world: World, script: str, **words: Any) -> tuple[str, int | None]:
    """(output, exit code) of a Python script in a container."""
    handle = world.launch(Behaviour(script, lambda container: 0), **words)
    text = world.output(handle).decode()
    assert wait_until(lambda: world.engine.inspect(handle).phase is Phase.EXITED)
    return text, world.engine.inspect(handle).exit_code


def shell(world: World, line: str, **words: Any) -> str:
    """Output of a shell line in a container."""
    spec = LaunchSpec(run_id=uuid.uuid4().hex, image=world.image, command=("sh", "-c", line), **words)
    handle = world.engine.launch(spec)
    world.handles.append(handle)
    return world.output(handle).decode()


def inspected(handle: str) -> dict[str, Any]:
    done = subprocess.run(["docker", "inspect", handle], capture_output=True, check=True)
    return cast("dict[str, Any]", json.loads(done.stdout)[0])


@pytest.mark.parametrize("probe", [b"", tiny_probe()], ids=["plain", "probe"])
def test_a_container_gets_no_rights(docker: World, probe: bytes) -> None:
    status = shell(docker, "cat /proc/self/status; id -u", probe=probe)
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert status.endswith("1000\n")
    found = inspected(docker.handles[-1])
    host = found["HostConfig"]
    assert not host["Privileged"]
    assert host["PidMode"] == ""
    assert host["IpcMode"] == "private"
    assert host["NetworkMode"] == "bridge"
    assert not host["PortBindings"]
    assert not host["PublishAllPorts"]


def test_root_only_when_asked_for(docker: World) -> None:
    assert shell(docker, "id -u", run_as_root=True) == "0\n"
    assert "CapEff:\t0000000000000000" in shell(docker, "cat /proc/self/status", run_as_root=True)


def test_a_user_without_a_name_has_a_home(docker: World) -> None:
    text, code = run(docker, "import getpass, os; print(getpass.getuser(), os.path.expanduser('~'))")
    assert (text, code) == ("user /tmp\n", 0)
    assert shell(docker, "echo $HOME", env=(("HOME", "/data"),)) == "/data\n"


def test_no_network(docker: World) -> None:
    assert shell(docker, "cat /proc/net/dev | grep -c eth0", network=Network.NONE) == "0\n"


def test_mounts(docker: World, tmp_path: Path) -> None:
    for name in ("code", "data", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
        (tmp_path / name / "file").write_text(name)
    output = shell(
        docker,
        "cat file /data/file /out/file; for p in /work /data /out; do touch $p/new 2>&1; done",
        workdir="/work",
        code_mount=CodeMount(source=str(tmp_path / "code"), target="/work"),
        mounts=(
            Mount(source=str(tmp_path / "data"), target="/data"),
            Mount(source=str(tmp_path / "out"), target="/out", read_only=False),
        ),
    )
    assert output.startswith("codedataout")
    assert output.count("Read-only file system") == 2
    assert [(tmp_path / name / "new").exists() for name in ("code", "data", "out")] == [False, False, True]


@pytest.mark.parametrize(
    ("source", "target", "field"),
    [
        ("/no/such/folder", "/data", "mounts"),
        ("relative", "/data", "mounts"),
        ("/tmp", "data", "mounts"),
        ("/tmp", "/data/../etc", "mounts"),
        ("/tmp", "/", "mounts"),
        ("/tmp", "/mlstudio/run", "mounts"),
        ("/tmp", "/run/secrets", "mounts"),
        ("/tmp", "/proc", "mounts"),
    ],
)
def test_mounts_that_cannot_be(docker: World, source: str, target: str, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        docker.launch(SAY_AND_END, mounts=(Mount(source=source, target=target),))
    assert caught.value.field == field
    assert str(caught.value)


def test_a_folder_that_only_its_owner_may_read(docker: World, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(RequestError) as caught:
        docker.launch(SAY_AND_END, code_mount=CodeMount(source=str(private), target="/work"))
    assert caught.value.field == "code.folder"
    assert "chmod" in caught.value.try_this


def test_limits(docker: World) -> None:
    limits = Limits(cpus=0.5, memory_bytes=256 * 2**20, shm_bytes=128 * 2**20, pids=50)
    assert "128M" in shell(docker, "df -h /dev/shm", limits=limits)
    host = inspected(docker.handles[-1])["HostConfig"]
    assert host["NanoCpus"] == 500_000_000
    assert host["Memory"] == host["MemorySwap"] == 256 * 2**20
    assert host["PidsLimit"] == 50


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (Limits(cpus=4096), "limits.cpus"),
        (Limits(cpus=0), "limits.cpus"),
        (Limits(memory_bytes=1000), "limits.memory_bytes"),
    ],
)
def test_limits_that_cannot_be(docker: World, limits: Limits, field: str) -> None:
    spec = docker.spec(SAY_AND_END, limits=limits)
    with pytest.raises(RequestError) as caught:
        docker.engine.launch(spec)
    assert caught.value.field == field
    assert docker.engine.find(spec.run_id) is None


@pytest.mark.parametrize("probe", [b"", tiny_probe()], ids=["plain", "probe"])
def test_killed_for_memory(docker: World, probe: bytes) -> None:
    handle = docker.launch(
        Behaviour("x = [bytes(10_000_000) + b'1' * 10_000_000 for _ in range(100)]", lambda container: 137),
        limits=Limits(memory_bytes=64 * 2**20),
        probe=probe,
    )
    assert wait_until(lambda: docker.engine.inspect(handle).phase is Phase.EXITED, deadline_s=30)
    seen = docker.engine.inspect(handle)
    assert seen.exit_code == 137
    assert seen.oom_killed


def test_gpus_where_there_are_none(docker: World) -> None:
    if docker.engine.check().gpu_runtime:
        assert "GPU" in shell(docker, "nvidia-smi -L", gpus=GpuRequest(count=1))
        return
    for gpus in (GpuRequest(count=1), GpuRequest(count=-1), GpuRequest(uuids=("GPU-1",))):
        spec = docker.spec(SAY_AND_END, gpus=gpus)
        with pytest.raises(RequestError) as caught:
            docker.engine.launch(spec)
        assert caught.value.field == "gpus"
        assert "NVIDIA Container Toolkit" in caught.value.try_this
        assert docker.engine.find(spec.run_id) is None


def test_a_program_that_is_not_there(docker: World) -> None:
    spec = LaunchSpec(run_id=uuid.uuid4().hex, image=docker.image, command=("no-such-program", "x"))
    with pytest.raises(RequestError) as caught:
        docker.engine.launch(spec)
    assert caught.value.field == "command"
    assert "no-such-program" in str(caught.value)
    assert docker.engine.find(spec.run_id) is None


def test_a_file_that_may_not_be_executed(docker: World) -> None:
    spec = LaunchSpec(run_id=uuid.uuid4().hex, image=docker.image, command=("/etc/hostname",))
    with pytest.raises(RequestError) as caught:
        docker.engine.launch(spec)
    assert caught.value.field == "command"


def test_a_million_lines_at_once_arrive_exactly(docker: World) -> None:
    script = "import sys; sys.stdout.write(''.join('%d\\n' % i for i in range(1_000_000)))"
    began = time.monotonic()
    text, code = run(docker, script)
    assert code == 0
    assert text == "".join(f"{number}\n" for number in range(1_000_000))
    assert time.monotonic() - began < 60


def test_invalid_utf_8_arrives_as_it_is(docker: World) -> None:
    handle = docker.launch(
        Behaviour("import os; os.write(1, bytes(range(1, 256)) + b'\\n')", lambda container: 0)
    )
    data = docker.output(handle)
    # Docker's own json-file stores text: what is not UTF-8 comes back as U+FFFD. The ASCII half is untouched.
    assert data.startswith(bytes(range(1, 128)))
    assert data.endswith(b"\n")


def test_the_probes_folder(docker: World) -> None:
    line = "cd /mlstudio; stat -c '%n %a %u' . run probe.pyz; touch run/x && echo ok"
    output = shell(docker, line, probe=tiny_probe())
    assert output == ". 755 0\nrun 1777 0\nprobe.pyz 644 0\nok\n"


def test_the_probe_is_told_what_to_run(docker: World, image_with_entrypoint: str) -> None:
    spec = LaunchSpec(
        run_id="run-1" + uuid.uuid4().hex, image=image_with_entrypoint, command=("one", "two words"),
        probe=tiny_probe(), probe_config=json.dumps({"batch_s": 0.5}), env=(("NAME", "value"),),
    )  # fmt: skip
    handle = docker.engine.launch(spec)
    docker.handles.append(handle)
    # The image's entry point stands before the command, in the image's folder, as Docker has it.
    assert docker.output(handle).decode() == "entry one two words|/srv\n"
    config = json.loads(docker.engine.read_file(handle, "/mlstudio/config.json"))
    assert config["command"] == ["sh", "-c", 'echo "entry $*|$PWD"', "name", "one", "two words"]
    assert config["batch_s"] == 0.5
    assert config["workdir"] == "/srv"
    plain = LaunchSpec(run_id=uuid.uuid4().hex, image=image_with_entrypoint, command=("one", "two words"))
    handle = docker.engine.launch(plain)
    docker.handles.append(handle)
    assert docker.output(handle).decode() == "entry one two words|/srv\n"


def _built(docker: World, dockerfile: str, tag: str) -> Iterator[str]:
    assert isinstance(docker.engine, CanBuild)
    recipe = Recipe(
        dockerfile=dockerfile, layers=(), spec=ImageSpec(), base=STAND_IN, tag=tag, digest=f"sha256:{tag}"
    )
    nothing = SimpleNamespace(root=None, files=(), extra=(), mounts=(), build_args=())
    *_, last = docker.engine.build(recipe, cast("BuildContext", nothing))
    assert isinstance(last, BuildFinished)
    yield last.image_id
    docker.clean()
    again = docker.again()
    assert isinstance(again, CanBuild)
    again.remove_image(tag)
    again.close()


@pytest.fixture
def image_with_entrypoint(docker: World) -> Iterator[str]:
    entry = json.dumps(["sh", "-c", 'echo "entry $*|$PWD"', "name"])
    yield from _built(docker, f"FROM {STAND_IN}\nWORKDIR /srv\nENTRYPOINT {entry}\n", "mlstudio-test/entry:1")


@pytest.fixture
def image_without_python(docker: World) -> Iterator[str]:
    lines = f"FROM {STAND_IN}\nRUN rm -f /usr/bin/python*\nVOLUME /cache\n"
    yield from _built(docker, lines, "mlstudio-test/no-python:1")


@pytest.fixture
def image_with_python_only(docker: World) -> Iterator[str]:
    """``python`` is there, ``python3`` is not."""
    rename = "cd /usr/bin && mv python3.11 py && rm -f python* && mv py python"
    lines = f"FROM {STAND_IN}\nRUN {rename}\n"
    yield from _built(docker, lines, "mlstudio-test/python:1")


def test_an_image_without_python_still_runs(docker: World, image_without_python: str) -> None:
    for _ in range(2):  # The second time it is known beforehand.
        spec = LaunchSpec(
            run_id=uuid.uuid4().hex,
            image=image_without_python,
            command=("sh", "-c", "echo hello; exit 3"),
            probe=tiny_probe(),
        )
        handle = docker.engine.launch(spec)
        docker.handles.append(handle)
        assert docker.output(handle) == b"hello\n"
        assert wait_until(lambda handle=handle: docker.engine.inspect(handle).phase is Phase.EXITED)  # type: ignore[misc]
        seen = docker.engine.inspect(handle)
        assert seen.exit_code == 3
        assert seen.has_probe is False
    secret = SecretValue(name="TOKEN", value="hush")
    spec = LaunchSpec(
        run_id=uuid.uuid4().hex,
        image=image_without_python,
        command=("true",),
        probe=tiny_probe(),
        secrets=(secret,),
    )
    with pytest.raises(RequestError) as caught:
        docker.engine.launch(spec)
    assert caught.value.field == "secrets"
    assert docker.engine.find(spec.run_id) is None
    assert isinstance(docker.engine, CanBuild)
    packages = docker.engine.packages(image_without_python)
    assert {package.manager for package in packages} == {"apt"}


def test_removing_takes_the_containers_volumes_along(docker: World, image_without_python: str) -> None:
    spec = LaunchSpec(run_id=uuid.uuid4().hex, image=image_without_python, command=("true",))
    handle = docker.engine.launch(spec)
    (volume,) = [mount["Name"] for mount in inspected(handle)["Mounts"]]
    docker.engine.remove(handle)
    assert subprocess.run(
        ["docker", "volume", "inspect", volume], capture_output=True, check=False
    ).returncode


def test_python_under_its_other_name(docker: World, image_with_python_only: str) -> None:
    spec = LaunchSpec(
        run_id=uuid.uuid4().hex, image=image_with_python_only, command=("echo", "hello"), probe=tiny_probe()
    )
    handle = docker.engine.launch(spec)
    docker.handles.append(handle)
    assert docker.output(handle) == b"hello\n"
    assert docker.engine.inspect(handle).has_probe is True


def test_reading_through_links(docker: World) -> None:
    handle = docker.launch(
        Behaviour(
            "import os; open('/tmp/real', 'w').write('text'); os.symlink('real', '/tmp/link'); "
            "os.symlink('/tmp/circle', '/tmp/circle')",
            lambda container: 0,
        )
    )
    docker.output(handle)
    assert docker.engine.read_file(handle, "/tmp/link") == b"text"
    for path in ("/tmp/circle", "/tmp", "/nowhere"):
        with pytest.raises(NotFound):
            docker.engine.read_file(handle, path)


def test_a_paused_container_is_stopped_too(docker: World) -> None:
    script = "import time; print('ready', flush=True); time.sleep(60)"
    handle = docker.launch(Behaviour(script, lambda container: 0), probe=tiny_probe())
    next(iter(docker.engine.follow(handle)))
    subprocess.run(["docker", "pause", handle], check=True, capture_output=True)
    assert docker.engine.inspect(handle).phase is Phase.RUNNING
    docker.engine.stop(handle, grace_s=10)
    assert docker.engine.inspect(handle).exit_code == 143


def test_packages(docker: World) -> None:
    assert isinstance(docker.engine, CanBuild)
    found = {
        (package.manager, package.name): package.version for package in docker.engine.packages(docker.image)
    }
    assert found["pip", "pip"]
    assert found["apt", "bash"].startswith("5.")
    assert not [line for line in _containers() if "mlstudio.look" in line]


def _containers() -> list[str]:
    done = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Labels}}"], capture_output=True, check=True, text=True
    )
    return done.stdout.splitlines()


def test_many_followers_at_once(docker: World) -> None:
    script = "import time\nfor i in range(100):\n    print(i, flush=True)\n    time.sleep(0.02)"
    handle = docker.launch(Behaviour(script, lambda container: 0))
    followers = [docker.engine.follow(handle) for _ in range(20)]
    firsts = [next(follower).data for follower in followers]
    wholes = [
        first + b"".join(chunk.data for chunk in rest) for first, rest in zip(firsts, followers, strict=True)
    ]
    assert set(wholes) == {b"".join(b"%d\n" % i for i in range(100))}


@pytest.mark.timeout(180)
def test_output_that_was_rotated_away(second_engine: SecondEngine, killable: World) -> None:
    """The engine keeps two files of 1 MB. What is left comes, without a long wait, and ends as it should."""
    script = """
import time
print("first", flush=True)
time.sleep(1)
for number in range(100_000):
    print("line %099d" % number)
print("last", flush=True)
"""
    handle = killable.launch(Behaviour(script, lambda container: 0), network=Network.NONE)
    following = killable.engine.follow(handle)
    first = next(following)
    assert first.data == b"first\n"
    following.close()  # type: ignore[attr-defined]
    assert wait_until(lambda: killable.engine.inspect(handle).phase is Phase.EXITED, deadline_s=60)
    began = time.monotonic()
    rest = b"".join(chunk.data for chunk in killable.engine.follow(handle, first.position))
    assert time.monotonic() - began < 10
    assert rest.endswith(b"last\n")
    lines = rest.splitlines()
    assert 1000 < len(lines) < 100_000
    numbers = [int(line.split()[1]) for line in lines if line.startswith(b"line ") and len(line) == 104]
    assert numbers == list(range(numbers[0], 100_000))
