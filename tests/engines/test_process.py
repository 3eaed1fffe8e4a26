"""The process engine: environments, plain processes, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.process import ProcessEngine
from mlstudio.model.errors import Cancelled, RequestError
from mlstudio.model.image import (
    BuildEvent,
    BuildFinished,
    BuildOutput,
    BuildStep,
    Cached,
    ImageSpec,
    Layer,
    LayerKind,
    Recipe,
    StepState,
)
from mlstudio.model.launch import CodeMount, LaunchSpec, Phase, SecretValue
from mlstudio.model.run import GpuRequest, Limits, Mount, Network
from tests.conformance.worlds import tiny_probe
from tests.conftest import wait_until


@dataclass
class Mounted:
    image: str
    files: Sequence[tuple[str, Path]]


@dataclass
class Context:
    root: Path | None = None
    files: Sequence[str] = ()
    extra: Sequence[tuple[str, bytes]] = ()
    mounts: Sequence[Mounted] = ()
    build_args: Sequence[tuple[str, str]] = ()


RECIPE = Recipe(
    dockerfile="FROM x\n",
    layers=tuple(
        Layer(kind=kind, text=kind.value, why="because", key=kind.value)
        for kind in (LayerKind.BASE, LayerKind.DEPENDENCIES, LayerKind.CODE)
    ),
    spec=ImageSpec(env=(("BAKED", "yes"),)),
    base="x",
    tag="mlstudio/process-test:1",
    digest="sha256:process-test",
    code_in_context=True,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("process")


@pytest.fixture
def engine(folder: Path) -> Iterator[ProcessEngine]:
    made = ProcessEngine(folder)
    yield made
    again = ProcessEngine(folder)
    runs = folder / "runs"
    for run in list(runs.iterdir()) if runs.is_dir() else []:
        again.remove(run.name)
    made.close()


@pytest.fixture
def image(engine: ProcessEngine, folder: Path) -> str:
    code = folder / "code"
    code.mkdir(exist_ok=True)
    (code / "train.py").write_text("print('trained')\n")
    found = engine.image(RECIPE.tag)
    return found.id if found is not None else build(engine, RECIPE, Context(root=code, files=("train.py",)))


def build(engine: ProcessEngine, recipe: Recipe, context: Context) -> str:
    *_, last = engine.build(recipe, context)
    assert isinstance(last, BuildFinished)
    return last.image_id


def launch(engine: ProcessEngine, image: str, *command: str, **words: Any) -> str:
    return engine.launch(LaunchSpec(run_id=uuid.uuid4().hex, image=image, command=command, **words))


def output(engine: ProcessEngine, handle: str) -> str:
    return b"".join(chunk.data for chunk in engine.follow(handle)).decode()


def wheel(folder: Path, name: str) -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "VALUE = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def test_the_code_is_a_copy_and_the_environment_its_own(engine: ProcessEngine, image: str) -> None:
    assert output(engine, launch(engine, image, "python", "train.py", workdir="/work")) == "trained\n"
    where = output(engine, launch(engine, image, "python", "-c", "import sys; print(sys.prefix)"))
    assert "environments" in where
    assert output(engine, launch(engine, image, "python", "/work/train.py", workdir="/work")) == "trained\n"
    # What a run writes beside its code is its own.
    handle = launch(engine, image, "sh", "-c", "echo changed > train.py; cat train.py")
    assert output(engine, handle) == "changed\n"
    assert output(engine, launch(engine, image, "cat", "train.py")) == "print('trained')\n"
    assert engine.read_file(handle, "/work/train.py") == b"changed\n"


def test_mounted_code_is_used_where_it_lies(engine: ProcessEngine, image: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import os; print(os.getcwd())")
    mount = CodeMount(source=str(tmp_path), target="/work")
    handle = launch(engine, image, "python", "train.py", code_mount=mount, workdir="/work")
    assert output(engine, handle).strip() == str(tmp_path.resolve())


def test_the_users_environment_stays_outside(
    engine: ProcessEngine, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hush-73")
    shown = output(engine, launch(engine, image, "env", env=(("GIVEN", "by the run"),)))
    assert "hush-73" not in shown
    assert "BAKED=yes" in shown
    assert "GIVEN=by the run" in shown
    assert "CUDA_VISIBLE_DEVICES=\n" in shown


def test_secrets_lie_in_memory_and_go_with_the_run(engine: ProcessEngine, image: str) -> None:
    secret = SecretValue(name="TOKEN", value="hush-74")
    handle = launch(
        engine, image, "sh", "-c", 'echo "$TOKEN_FILE"; stat -f -c %T "$TOKEN_FILE"',
        secrets=(secret,), probe=tiny_probe(),
    )  # fmt: skip
    path, kind = output(engine, handle).splitlines()
    assert kind == "tmpfs"
    assert wait_until(lambda: not Path(path).exists())


def test_memory_is_limited(engine: ProcessEngine, image: str) -> None:
    handle = launch(
        engine, image, "python", "-c", "x = bytes(400_000_000)", limits=Limits(memory_bytes=200_000_000)
    )
    assert "MemoryError" in output(engine, handle)
    assert engine.inspect(handle).exit_code == 1


def test_cpus_are_limited(engine: ProcessEngine, image: str) -> None:
    script = "import os; print(len(os.sched_getaffinity(0)))"
    assert output(engine, launch(engine, image, "python", "-c", script, limits=Limits(cpus=0.5))) == "1\n"


def test_the_network_is_switched_off(engine: ProcessEngine, image: str) -> None:
    try:
        handle = launch(engine, image, "cat", "/proc/net/dev", network=Network.NONE, probe=tiny_probe())
    except RequestError as error:
        # Not every machine lets a user make a network of its own; then it is refused, not ignored.
        assert error.field == "network"  # noqa: PT017
        return
    interfaces = [line.split(":")[0].strip() for line in output(engine, handle).splitlines()[2:]]
    assert interfaces == ["lo"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"mounts": (Mount(source="/tmp", target="/data"),)}, "mounts"),
        ({"mounts": (Mount(source="/no/such", target="/no/such"),)}, "mounts"),
        ({"code_mount": CodeMount(source="/no/such", target="/work")}, "code.folder"),
        ({"limits": Limits(cpus=0)}, "limits.cpus"),
        ({"gpus": GpuRequest(uuids=("GPU-none",))}, "gpus"),
        ({"image": "no-such-image"}, "image.image"),
        ({"command": ("no-such-program",)}, "command"),
        ({"run_id": "../x"}, "run_id"),
    ],
)
def test_what_a_plain_process_cannot_do(
    engine: ProcessEngine, image: str, words: dict[str, Any], field: str
) -> None:
    given = {"run_id": uuid.uuid4().hex, "image": image, "command": ("true",), **words}
    with pytest.raises(RequestError) as caught:
        engine.launch(LaunchSpec(**given))
    assert caught.value.field == field
    assert engine.find(given["run_id"]) is None


def test_nothing_of_a_run_goes_on_after_its_end(engine: ProcessEngine, image: str) -> None:
    """As in a container, which ends with its first process."""
    mark = f"{30_000 + uuid.uuid4().int % 10_000}"
    handle = launch(engine, image, "sh", "-c", f"setsid sleep {mark} & sleep 0.2; echo done")
    assert output(engine, handle) == "done\n"
    assert not any(mark in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


def test_stopping_ends_what_hides_in_other_sessions(engine: ProcessEngine, image: str) -> None:
    mark = f"{40_000 + uuid.uuid4().int % 10_000}"
    line = f"trap '' TERM; setsid sleep {mark} & echo ready; while :; do sleep 0.1; done"
    handle = launch(engine, image, "sh", "-c", line, probe=tiny_probe())
    assert next(iter(engine.follow(handle))).data == b"ready\n"
    engine.stop(handle, grace_s=0.0)
    assert engine.inspect(handle).phase is Phase.EXITED
    assert not any(mark in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


def test_a_run_whose_processes_vanished(engine: ProcessEngine, image: str, folder: Path) -> None:
    """As after a power cut: nobody wrote down how it ended."""
    handle = launch(engine, image, "sleep", "60")
    started = json.loads((folder / "runs" / handle / "started.json").read_text())
    os.kill(started["keeper"], signal.SIGKILL)
    os.kill(started["pid"], signal.SIGKILL)
    assert wait_until(lambda: engine.inspect(handle).phase is Phase.EXITED)
    seen = engine.inspect(handle)
    assert seen.exit_code is None
    assert seen.error
    assert list(engine.follow(handle)) == []
    # A process that was given the same number since then is not ours.
    (folder / "runs" / handle / "started.json").write_text(json.dumps({**started, "pid": os.getpid()}))
    engine.stop(handle)
    assert engine.inspect(handle).phase is Phase.EXITED


def test_a_launch_that_died_half_way(engine: ProcessEngine, folder: Path) -> None:
    (folder / "runs" / "half").mkdir(parents=True)
    (folder / "runs" / "half" / "launching").touch()
    assert engine.inspect("half").phase is Phase.EXITED
    assert engine.inspect("half").error


def test_a_run_outlives_who_started_it(engine: ProcessEngine, image: str, folder: Path) -> None:
    script = f"""
from pathlib import Path
from mlstudio.engines.process import ProcessEngine
from mlstudio.model.launch import LaunchSpec
engine = ProcessEngine(Path({str(folder)!r}))
spec = LaunchSpec(run_id="outlives", image={image!r}, command=("sh", "-c", "echo one; sleep 1; echo two; exit 5"))
engine.launch(spec)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
    handle = engine.find("outlives")
    assert handle is not None
    assert output(engine, handle) == "one\ntwo\n"
    assert engine.inspect(handle).exit_code == 5


def test_building(folder: Path, tmp_path: Path) -> None:
    """From settings and wheels as a build's mounts hold them; live; cached the next time; removed with its last image."""
    engine = ProcessEngine(tmp_path / "engine")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "mlsprocesstest")
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = http://user:hush-75@127.0.0.1:1/simple\nfind-links = /in/the/container\nretries = 0\n"
    )
    (tmp_path / "train.py").write_text("import mlsprocesstest; print(mlsprocesstest.VALUE)")
    context = Context(
        root=tmp_path,
        files=("train.py",),
        mounts=(
            Mounted("mlstudio-mount/pip:1", [("pip.conf", settings)]),
            Mounted("mlstudio-mount/wheels:1", [(path.name, path) for path in wheels.iterdir()]),
        ),
    )
    recipe = replace(
        RECIPE, requirements=("mlsprocesstest",), digest="sha256:process-build", tag="mlstudio/pb:1"
    )
    assert [entry.cached for entry in engine.forecast(recipe)] == [Cached.YES, Cached.NO, Cached.NO]
    events = list(engine.build(recipe, context))
    assert isinstance(events[-1], BuildFinished)
    said = "".join(event.text for event in events if isinstance(event, BuildOutput))
    assert "Successfully installed mlsprocesstest-1.0" in said
    assert states(events) == [StepState.DONE] * 3
    assert {entry.cached for entry in engine.forecast(recipe)} == {Cached.YES}
    image = events[-1].image_id
    assert output(engine, launch(engine, image, "python", "train.py")) == "42\n"
    assert ("mlsprocesstest", "1.0") in {
        (package.name, package.version) for package in engine.packages(image)
    }
    assert states(list(engine.build(recipe, context))) == [StepState.CACHED] * 3

    # An edit of the code makes another image in the same environment.
    other = replace(recipe, digest="sha256:process-build-2", tag="mlstudio/pb:2")
    assert states(list(engine.build(other, context))) == [StepState.CACHED, StepState.CACHED, StepState.DONE]
    assert len(engine.images()) == 2
    engine.remove_image("mlstudio/pb:1")
    assert environments(tmp_path)
    engine.remove_image("mlstudio/pb:2")
    assert not environments(tmp_path)
    assert not engine.images()
    assert b"hush-75" not in b"".join(p.read_bytes() for p in (tmp_path / "engine").rglob("*") if p.is_file())


def states(events: Sequence[BuildEvent]) -> list[StepState]:
    """The last state of each step, in order."""
    last = {event.id: event.state for event in events if isinstance(event, BuildStep)}
    return list(last.values())


def environments(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "engine" / "environments").iterdir() if path.is_dir()]


def test_a_package_that_does_not_exist(tmp_path: Path) -> None:
    engine = ProcessEngine(tmp_path / "engine")
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nno-index = true\n")
    context = Context(mounts=(Mounted("mlstudio-mount/pip:1", [("pip.conf", settings)]),))
    recipe = replace(RECIPE, requirements=("mls-no-such-package==9",), digest="sha256:process-fails")
    events: list[BuildEvent] = []
    with pytest.raises(StepFailed) as caught:
        events.extend(engine.build(recipe, context))
    assert "mls-no-such-package" in caught.value.log
    assert "pip install" in caught.value.step
    assert not environments(tmp_path)
    assert engine.image(recipe.tag) is None


def test_cancelling(tmp_path: Path) -> None:
    engine = ProcessEngine(tmp_path / "engine")
    asked: list[bool] = []
    events: list[BuildEvent] = []

    def build_and_cancel() -> None:
        for event in engine.build(RECIPE, Context(), cancelled=lambda: bool(asked)):
            events.append(event)
            asked.append(True)

    with pytest.raises(Cancelled):
        build_and_cancel()
    assert states(events) == [StepState.CANCELLED]
    assert not environments(tmp_path)
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())
    ]


def test_what_is_no_environment(engine: ProcessEngine) -> None:
    for spec, field in (
        (ImageSpec(dockerfile="Dockerfile"), "image.dockerfile"),
        (ImageSpec(image="x:1"), "image.image"),
    ):
        with pytest.raises(RequestError) as caught:
            list(engine.build(replace(RECIPE, spec=spec), Context()))
        assert caught.value.field == field
    with pytest.raises(RequestError):
        engine.pull("x:1")
