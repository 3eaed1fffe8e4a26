"""Builds on the real engine: live, cached, cancelled, failed, two at once; and what must not stay."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import docker
from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.buildkit import base_images, short_key
from mlstudio.engines.docker import DockerEngine
from mlstudio.engines.docker_images import MOUNT_LABEL
from mlstudio.model.errors import Cancelled, WorldError
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
from tests.conformance.worlds import STAND_IN
from tests.conftest import wait_until

TOKEN = "password-3f9a"
OURS = f"mlstudio-test/build-{uuid.uuid4().hex[:8]}"
"""Names of images begin with this: other processes that run tests at the same time have another one."""


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
    code_prefix: str = "code"


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[DockerEngine]:
    """The engine; images of the test's own are removed again."""
    engine = DockerEngine(locks=tmp_path / "locks")
    yield engine
    for image in engine.images(all_of_them=True):
        for tag in image.tags:
            if tag.startswith(OURS):
                engine.remove_image(tag)
    engine.close()


def recipe(*lines: str, salt: str = "", keys: Sequence[str] = ()) -> Recipe:
    """A recipe on the stand-in base. `salt` keeps it from being cached by an earlier run of the test."""
    text = "\n".join([f"FROM {STAND_IN}", *([f"ENV SALT={salt}"] if salt else []), *lines]) + "\n"
    layers = tuple(
        Layer(kind=kind, text=line, why="because", key=f"sha256:{key}")
        for kind, line, key in zip(
            (LayerKind.BASE, LayerKind.SYSTEM, LayerKind.DEPENDENCIES, LayerKind.CODE),
            text.splitlines(),
            keys,
            strict=False,
        )
    )
    name = uuid.uuid4().hex[:12]
    return Recipe(
        dockerfile=text, layers=layers, spec=ImageSpec(), base=STAND_IN, tag=f"{OURS}-{name}:1",
        digest=f"sha256:{name}", labels=(("mlstudio.test", "1"),),
    )  # fmt: skip


def states(events: Sequence[BuildEvent], part: str) -> StepState:
    """The last state of the step whose name holds `part`."""
    return [event.state for event in events if isinstance(event, BuildStep) and part in event.name][-1]


def finished(events: Sequence[BuildEvent]) -> BuildFinished:
    last = events[-1]
    assert isinstance(last, BuildFinished)
    return last


@pytest.mark.engine
def test_a_build_is_live_and_the_next_one_cached(builder: DockerEngine, tmp_path: Path) -> None:
    salt = uuid.uuid4().hex
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "tool.sh").write_text("#!/bin/sh\necho from a file\n")
    (tmp_path / "sub" / "tool.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("sub/tool.sh")
    (tmp_path / "not-sent").write_text("x")
    context = Context(root=tmp_path, files=("link", "sub/tool.sh"), extra=(("ours/note.txt", b"note\n"),))
    wanted = recipe(
        "COPY code/ /work/",
        "COPY ours/note.txt /note",
        "RUN /work/link && cat /note && ls /work && sleep 0.5 && echo later",
        salt=salt,
    )
    events: list[BuildEvent] = []
    seen_at: dict[str, float] = {}
    for event in builder.build(wanted, context):
        events.append(event)
        if isinstance(event, BuildOutput):
            for word in ("from a file", "later"):
                if word in event.text:
                    seen_at[word] = time.monotonic()
    assert seen_at["later"] - seen_at["from a file"] > 0.3, "The output did not come live."
    text = "".join(event.text for event in events if isinstance(event, BuildOutput))
    assert text == "from a file\nnote\nlink\nsub\nlater\n"
    assert states(events, "RUN /work/link") is StepState.DONE
    image = builder.image(wanted.tag)
    assert image is not None
    assert finished(events).image_id == image.id
    assert finished(events).size_bytes == image.size_bytes > 0
    labels = dict(image.labels)
    assert labels["mlstudio.managed"] == labels["mlstudio.test"] == "1"
    assert labels["mlstudio.recipe"] == wanted.digest

    again = list(builder.build(wanted, context))
    assert finished(again).image_id == image.id
    for part in ("COPY code/", "COPY ours", "RUN /work/link"):
        assert states(again, part) is StepState.CACHED
    afresh = list(builder.build(wanted, context, no_cache=True))
    assert states(afresh, "RUN /work/link") is StepState.DONE
    builder.remove_image(image.id)  # It has lost its name to the newer one.


@pytest.mark.engine
def test_the_users_own_dockerfile_has_the_code_at_the_top(builder: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    wanted = recipe("COPY train.py /", "RUN python3 /train.py", salt=uuid.uuid4().hex)
    events = list(builder.build(wanted, Context(root=tmp_path, files=("train.py",), code_prefix="")))
    assert any(isinstance(event, BuildOutput) and event.text == "1\n" for event in events)


@pytest.mark.engine
def test_a_step_that_fails_is_named_with_its_last_lines(builder: DockerEngine) -> None:
    wanted = recipe("RUN echo before && echo the reason >&2 && exit 7", salt=uuid.uuid4().hex)
    events: list[BuildEvent] = []
    with pytest.raises(StepFailed) as caught:
        events.extend(builder.build(wanted, Context()))
    assert "exit 7" in caught.value.step
    # BuildKit passes the two streams on by two ways: which comes first is not said.
    assert sorted(caught.value.log.splitlines()) == ["before", "the reason"]
    assert "exit code: 7" in caught.value.exit_text
    assert builder.image(wanted.tag) is None


@pytest.mark.engine
@pytest.mark.parametrize("line", ["RUNN x", "COPY no-such-file /", "RUN --mount=type=nonsense true"])
def test_a_dockerfile_that_makes_no_sense(builder: DockerEngine, line: str) -> None:
    with pytest.raises(StepFailed) as caught:
        list(builder.build(recipe(line), Context()))
    assert caught.value.exit_text


@pytest.mark.engine
def test_cancelling_ends_the_build_at_once(builder: DockerEngine) -> None:
    wanted = recipe("RUN echo begun && sleep 47", salt=uuid.uuid4().hex)
    asked: list[float] = []
    events: list[BuildEvent] = []

    def build() -> None:
        for event in builder.build(wanted, Context(), cancelled=lambda: bool(asked)):
            events.append(event)
            if isinstance(event, BuildOutput):
                asked.append(time.monotonic())

    with pytest.raises(Cancelled):
        build()
    assert time.monotonic() - asked[0] < 2
    assert states(events, "sleep 47") is StepState.CANCELLED
    assert wait_until(
        lambda: (
            not any("sleep 47" in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
        )
    )


def _mounts(folder: Path) -> tuple[Mounted, Mounted]:
    settings, wheel = folder / "pip.conf", folder / "x-1.whl"
    settings.write_text(f"[global]\nindex-url = http://user:{TOKEN}@host/\n")
    wheel.write_bytes(b"wheel" * 1000)
    tag = uuid.uuid4().hex[:16]
    return (
        Mounted(f"mlstudio-mount/pip:{tag}", [("pip.conf", settings)]),
        Mounted(f"mlstudio-mount/wheels:{tag}", [("sub/x-1.whl", wheel)]),
    )


def _mounting(pip: Mounted, wheels: Mounted, run: str) -> Recipe:
    return recipe(
        f"RUN --mount=type=bind,from={pip.image},target=/m --mount=type=bind,from={wheels.image},target=/w {run}",
        salt=uuid.uuid4().hex,
    )


@pytest.mark.engine
@pytest.mark.parametrize("ends", ["success", "failure", "cancel"])
def test_what_a_build_may_see_but_not_keep(builder: DockerEngine, tmp_path: Path, ends: str) -> None:
    pip, wheels = _mounts(tmp_path)
    run = {"success": "", "failure": "&& false", "cancel": "&& sleep 30"}[ends]
    wanted = _mounting(pip, wheels, f"grep -c index-url /m/pip.conf && wc -c < /w/sub/x-1.whl {run}")
    context = Context(mounts=(pip, wheels), build_args=(("HTTP_PROXY", f"http://user:{TOKEN}@proxy:1"),))
    said: list[str] = []

    def build() -> None:
        for event in builder.build(wanted, context, cancelled=lambda: ends == "cancel" and bool(said)):
            if isinstance(event, BuildOutput):
                said.append(event.text)

    try:
        if ends == "success":
            build()
        else:
            with pytest.raises(StepFailed if ends == "failure" else Cancelled):
                build()
        assert "".join(said).startswith("1\n")
        assert builder.image(pip.image) is None, "The package settings are still on the engine."
        assert builder.image(wheels.image) is not None
        shown = {tag for image in builder.images(all_of_them=True) for tag in image.tags}
        assert wheels.image not in shown
        if ends == "success":
            kept = subprocess.run(["docker", "save", wanted.tag], capture_output=True, check=True).stdout
            assert TOKEN.encode() not in kept
            history = subprocess.run(
                ["docker", "history", "--no-trunc", wanted.tag], capture_output=True, check=False
            )
            assert history.returncode == 0, history.stderr
            assert TOKEN.encode() not in history.stdout
            # The wheels are there already: they are not handed over again.
            names = [event.name for event in builder.build(wanted, context) if isinstance(event, BuildStep)]
            assert "hand over the package settings" in names
            assert "hand over the wheels" not in names
            assert states(list(builder.build(wanted, context)), "RUN") is StepState.CACHED
    finally:
        builder.remove_image(wheels.image)


@pytest.mark.engine
def test_two_builds_at_once_share_a_mount(builder: DockerEngine, tmp_path: Path) -> None:
    pip, wheels = _mounts(tmp_path)
    context = Context(mounts=(pip, wheels))
    other = DockerEngine(locks=tmp_path / "locks")
    begun = threading.Event()

    def slow() -> BuildFinished:
        events = []
        for event in builder.build(_mounting(pip, wheels, "sleep 2 && cat /m/pip.conf"), context):
            events.append(event)
            begun.set()
        return finished(events)

    try:
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(slow)
            assert begun.wait(10)
            quick = finished(list(other.build(_mounting(pip, wheels, "cat /m/pip.conf"), context)))
            assert quick.image_id
            assert building.result(timeout=60).image_id
        assert builder.image(pip.image) is None
    finally:
        builder.remove_image(wheels.image)
        other.close()


@pytest.mark.engine
@pytest.mark.parametrize("is_old", [True, False])
def test_settings_that_a_dead_build_left_behind_go_with_the_next(
    builder: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    pip, _ = _mounts(tmp_path)
    left = f"mlstudio-mount/pip:{uuid.uuid4().hex[:16]}"
    tar = subprocess.run(
        ["tar", "-C", str(tmp_path), "-c", "pip.conf"], capture_output=True, check=True
    ).stdout
    label = ["--change", f"LABEL {MOUNT_LABEL}=pip"]
    subprocess.run(["docker", "import", *label, "-", left], input=tar, check=True, capture_output=True)
    looks_at = [left]
    own_list = docker.APIClient.images

    def only_ours(client: docker.APIClient, **words: Any) -> list[dict[str, Any]]:
        """Other builds' mounts are no business of this test; and its own is as old as the test says."""
        found = own_list(client, **words)
        ours = [entry for entry in found if set(entry.get("RepoTags") or ()) & set(looks_at)]
        return [{**entry, "Created": time.time() - 86_400 if is_old else time.time()} for entry in ours]

    monkeypatch.setattr(docker.APIClient, "images", only_ours)
    list(
        builder.build(
            recipe(f"RUN --mount=type=bind,from={pip.image},target=/m true"), Context(mounts=(pip,))
        )
    )
    monkeypatch.undo()
    assert (builder.image(left) is None) is is_old
    if not is_old:
        builder.remove_image(left)


@pytest.mark.engine
def test_a_base_image_that_is_nowhere(builder: DockerEngine) -> None:
    wanted = replace(recipe(), dockerfile="FROM localhost:1/no/such/base:1\n")
    with pytest.raises(StepFailed) as caught:
        list(builder.build(wanted, Context()))
    assert "localhost:1/no/such/base:1" in str(caught.value)
    assert caught.value.try_this
    with pytest.raises(WorldError):
        list(builder.pull("localhost:1/no/such/base:1"))


@pytest.mark.engine
def test_the_forecast_agrees_with_the_build(builder: DockerEngine, tmp_path: Path) -> None:
    salt = uuid.uuid4().hex
    keys = [f"{part}{salt}{salt}" for part in "abcd"]
    first = recipe("RUN echo dependencies", "COPY code/ /work/", salt=salt, keys=keys)
    before = builder.forecast(first)
    assert [entry.cached for entry in before] == [Cached.YES, Cached.NO, Cached.NO, Cached.NO]
    assert before[1].because
    (tmp_path / "train.py").write_text("1")
    context = Context(root=tmp_path, files=("train.py",))
    list(builder.build(first, context))
    assert {entry.cached for entry in builder.forecast(first)} == {Cached.YES}

    # As after an edit of the code: the last key is another.
    (tmp_path / "train.py").write_text("2")
    second = recipe("RUN echo dependencies", "COPY code/ /work/", salt=salt, keys=[*keys[:3], "e" + salt])
    forecast = builder.forecast(second)
    assert [entry.cached for entry in forecast] == [Cached.YES] * 3 + [Cached.NO]
    assert forecast[3].because == "code changed"
    events = list(builder.build(second, context))
    assert states(events, "RUN echo dependencies") is StepState.CACHED
    assert states(events, "COPY code/") is StepState.DONE

    # As after a change of the dependencies: everything behind them is built again.
    third = recipe(
        "RUN echo others", "COPY code/ /work/", salt=salt, keys=[*keys[:2], "f" + salt, "g" + salt]
    )
    assert [entry.cached for entry in builder.forecast(third)] == [Cached.YES] * 2 + [Cached.NO] * 2


@pytest.mark.engine
def test_a_file_that_cannot_be_sent(builder: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises(WorldError) as caught:
        list(builder.build(recipe("COPY code/ /w/"), Context(root=tmp_path, files=("gone.py",))))
    assert "gone.py" in str(caught.value)


@pytest.mark.engine
def test_an_image_in_use_is_not_removed(builder: DockerEngine) -> None:
    wanted = recipe("RUN true", salt=uuid.uuid4().hex)
    image = finished(list(builder.build(wanted, Context()))).image_id
    made = subprocess.run(
        ["docker", "create", image], capture_output=True, check=True, text=True
    ).stdout.strip()
    with pytest.raises(WorldError) as caught:
        builder.remove_image(image)
    assert "in use" in str(caught.value)
    subprocess.run(["docker", "rm", made], check=True, capture_output=True)
    builder.remove_image(wanted.tag)
    assert builder.image(image) is None


@pytest.mark.parametrize(
    ("dockerfile", "expected"),
    [
        ("FROM a:1\n", ("a:1",)),
        ("ARG V=2\nFROM --platform=linux/amd64 a:${V} AS one\nFROM one\nCOPY --from=one /x /\n", ("a:2",)),
        ("from a\nFROM scratch\nCOPY --chown=1:1 --from=b:1 /x /\nCOPY --from=0 /x /\n", ("a", "b:1")),
        ("FROM ${BASE:-c:3}\n", ("c:3",)),
        ("FROM $UNKNOWN\n", ()),
        ("# FROM no\nRUN echo FROM no\nFROM a\n", ("a",)),
    ],
)
def test_base_images(dockerfile: str, expected: tuple[str, ...]) -> None:
    assert base_images(dockerfile) == expected


def test_short_keys() -> None:
    assert short_key("sha256:" + "a" * 64) == "a" * 16
    assert json.dumps(short_key("")) == '""'
