"""Launching: what is written, what the engine is given, and how every way of failing is kept."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlstudio.engines.fake import FakeEngine
from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.errors import BuildFailed, Cancelled, EngineAway, RequestError, WorldError
from mlstudio.model.image import BuildStep, Diagnosis, ImageSpec
from mlstudio.model.run import ExitReason, GpuRequest, Limits, RunSpec, RunState
from mlstudio.services.images import Plan
from mlstudio.services.launcher import owner_of_this_process, redacted
from mlstudio.services.studio import Studio
from mlstudio.store import History
from tests.conftest import wait_until

SpecFor = Callable[..., RunSpec]


def test_a_launch_builds_starts_and_records(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    phases: list[str] = []
    spec = spec_for("--lr", "0.1", "--amp")
    summary = studio.launcher.launch(spec, on_phase=phases.append)

    assert summary.name == "project-1"
    assert summary.state is RunState.QUEUED  # What it became, the recorder says.
    assert dict(summary.parameters) == {"lr": "0.1", "amp": "true"}
    assert summary.image_id.startswith("sha256:")
    assert summary.tree_hash.startswith("sha256:")
    assert phases[0] == "taking the snapshot"
    assert phases[-1] == "starting"
    assert any(phase.startswith("building image, step") for phase in phases)

    detail = studio.runs.detail(summary.id)
    assert detail.handle == f"fake-{summary.id}"
    assert detail.dockerfile.startswith("#")
    assert detail.code_files == ("requirements.txt", "train.py")
    assert detail.spec.command == spec.command

    launched = fake.launched[-1]
    assert launched.run_id == summary.id
    assert launched.workdir == "/work"
    assert launched.code_mount is None
    config = json.loads(launched.probe_config)
    assert config["command"] == ["python", "train.py", "--lr", "0.1", "--amp"]
    assert config["workdir"] == "/work"
    assert launched.probe.startswith(b"PK") or b"PK" in launched.probe[:200]


def test_the_second_launch_builds_nothing(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    events: list[object] = []
    first = studio.launcher.launch(spec_for())
    second = studio.launcher.launch(spec_for(), on_event=events.append)
    assert (first.number, second.number) == (1, 2)
    assert second.name == "project-2"
    assert first.image_id == second.image_id
    assert len(fake.builds.built) == 1
    assert events == []


def test_names_that_were_chosen_are_kept(studio: Studio, spec_for: SpecFor) -> None:
    assert studio.launcher.submit(spec_for(name="  my run ")).name == "my run"


def test_secrets_are_hidden_in_what_is_written(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    token = "hf_" + "a1B2c3D4" * 4
    spec = spec_for(
        "--api-key",
        "open-sesame",
        "--lr",
        "1",
        env=(("HF_TOKEN", token), ("MODE", "fast")),
        note=f"used {token}",
    )
    summary = studio.launcher.launch(spec)
    written = repr(studio.runs.detail(summary.id)) + repr(summary)
    assert "open-sesame" not in written
    assert token not in written
    assert ("MODE", "fast") in studio.runs.detail(summary.id).spec.env
    assert dict(summary.parameters)["api_key"] == "[redacted]"
    # The run itself gets what was asked for.
    assert dict(fake.launched[-1].env)["HF_TOKEN"] == token
    assert "open-sesame" in json.loads(fake.launched[-1].probe_config)["command"]
    database = b"".join(path.read_bytes() for path in studio.home.glob("history.db*"))
    assert b"open-sesame" not in database
    assert token.encode() not in database


def test_a_hidden_value_is_asked_for_again(studio: Studio, spec_for: SpecFor) -> None:
    summary = studio.launcher.launch(spec_for("--token", "s3cr3t-value"))
    spec = studio.launcher.again(summary.id)
    with pytest.raises(RequestError, match="hidden") as caught:
        studio.launcher.submit(spec)
    assert caught.value.field == "command"


def test_a_secret_variable_of_the_image_is_refused(studio: Studio, spec_for: SpecFor) -> None:
    spec = replace(spec_for(), image=ImageSpec(env=(("API_TOKEN", "abc"),)))
    with pytest.raises(RequestError) as caught:
        studio.launcher.submit(spec)
    assert caught.value.field == "image.env"


def test_a_run_is_run_again_as_it_was(studio: Studio, spec_for: SpecFor) -> None:
    spec = spec_for("--lr", "0.1", tags=("a", "b"), limits=Limits(memory_bytes=2**30))
    again = studio.launcher.again(studio.launcher.launch(spec).id)
    assert again == replace(spec, parameters=(("lr", "0.1"),))


def test_no_command_is_refused_before_anything_is_written(studio: Studio, spec_for: SpecFor) -> None:
    with pytest.raises(RequestError):
        studio.launcher.submit(replace(spec_for(), command=()))
    assert studio.runs.count() == 0


def test_mounted_code_is_bound_and_not_built_in(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor, code: Path
) -> None:
    spec = replace(spec_for(), code=CodeSource(folder=str(code), travel=Travel.MOUNTED))
    first = studio.launcher.launch(spec)
    launched = fake.launched[-1]
    assert launched.code_mount is not None
    assert (launched.code_mount.source, launched.code_mount.target) == (str(code.resolve()), "/work")
    (code / "train.py").write_text("print(2)\n")
    second = studio.launcher.launch(spec)
    assert len(fake.builds.built) == 1
    assert first.tree_hash != second.tree_hash


def test_the_hash_of_the_code_is_the_same_for_all_ways(studio: Studio, spec_for: SpecFor, code: Path) -> None:
    hashes = {
        studio.launcher.launch(
            replace(spec_for(), code=CodeSource(folder=str(code), travel=travel))
        ).tree_hash
        for travel in (Travel.BAKED, Travel.MOUNTED)
    }
    assert len(hashes) == 1


def test_code_without_a_remote_cannot_be_cloned(studio: Studio, spec_for: SpecFor, code: Path) -> None:
    spec = replace(spec_for(), code=CodeSource(folder=str(code), travel=Travel.CLONED))
    with pytest.raises(RequestError) as caught:
        studio.launcher.launch(spec)
    assert caught.value.field == "code.travel"


def test_an_existing_image_gets_the_code_mounted(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor, code: Path
) -> None:
    from mlstudio.model.launch import EngineImage

    fake.add_image(EngineImage(id="sha256:mine", tags=("mine:1",), size_bytes=1, created=1))
    studio.launcher.launch(replace(spec_for(), image=ImageSpec(image="mine:1")))
    launched = fake.launched[-1]
    assert launched.image == "sha256:mine"
    assert launched.code_mount is not None
    assert fake.builds.built == []


def test_a_failed_build_is_kept_and_explained(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    fake.builds.fails_at = 1
    fake.builds.log = "ERROR: No matching distribution found for numpy==2.1.0\n"
    with pytest.raises(BuildFailed) as caught:
        studio.launcher.launch(spec_for())
    assert isinstance(caught.value.diagnosis, Diagnosis)
    (run,) = studio.runs.list()
    assert run.state is RunState.FAILED
    assert run.exit is not None
    assert run.exit.reason is ExitReason.BUILD_FAILED
    assert run.exit.message
    assert run.exit.try_this
    assert run.phase == ""
    assert fake.launched == []


def test_an_engine_that_is_away_is_kept_as_the_reason(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor
) -> None:
    fake.go_away()
    with pytest.raises(EngineAway):
        studio.launcher.launch(spec_for())
    (run,) = studio.runs.list()
    assert run.exit is not None
    assert (run.state, run.exit.reason) == (RunState.FAILED, ExitReason.NOT_STARTED)
    assert "away" in run.exit.message


def test_a_missing_secret_is_named_and_no_value_is_told(
    studio: Studio, spec_for: SpecFor, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_A", raising=False)
    with pytest.raises(RequestError, match="KEY_A") as caught:
        studio.launcher.launch(spec_for(secrets=("KEY_A",)))
    assert caught.value.field == "secrets"
    monkeypatch.setenv("KEY_A", "from-the-environment")
    studio.launcher.launch(spec_for(secrets=("KEY_A", "KEY_B")), secret_values={"KEY_B": "given"})
    launched = fake.launched[-1]
    assert [(secret.name, secret.value) for secret in launched.secrets] == [
        ("KEY_A", "from-the-environment"),
        ("KEY_B", "given"),
    ]
    assert "given" not in launched.probe_config
    assert "given" not in repr(launched)


def test_a_cancelled_build_leaves_a_stopped_run(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    fake.builds.seconds = 20
    building = threading.Event()
    with pytest.raises(Cancelled):
        studio.launcher.launch(spec_for(), on_event=lambda event: building.set(), cancelled=building.is_set)
    (run,) = studio.runs.list()
    assert run.exit is not None
    assert (run.state, run.exit.reason) == (RunState.STOPPED, ExitReason.STOPPED)
    assert fake.launched == []


def test_a_stop_from_elsewhere_ends_the_build(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    fake.builds.seconds = 20
    queued = studio.launcher.submit(spec_for())

    def stop(event: object) -> None:
        if isinstance(event, BuildStep) and studio.runs.get(queued.id).desired == "running":
            studio.runs.stop(queued.id)

    with pytest.raises(Cancelled):
        studio.launcher.carry_out(queued.id, spec_for(), on_event=stop)
    assert studio.runs.get(queued.id).state is RunState.STOPPED


def test_two_launches_at_once(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    ready = threading.Barrier(2)
    names: list[str] = []

    def launch(step: int) -> None:
        ready.wait()
        names.append(studio.launcher.launch(spec_for("--step", str(step))).name)

    threads = [threading.Thread(target=launch, args=(step,)) for step in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == ["project-1", "project-2"]
    assert len({spec.run_id for spec in fake.launched if not spec.run_id.startswith("smoke-")}) == 2


def test_a_defect_is_kept_too(studio: Studio, spec_for: SpecFor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(studio.images, "build", broken)
    with pytest.raises(ZeroDivisionError):
        studio.launcher.launch(spec_for())
    (run,) = studio.runs.list()
    assert run.state is RunState.FAILED
    assert run.exit is not None
    assert "oh" in run.exit.message


def test_a_container_that_runs_is_not_called_failed(
    studio: Studio, spec_for: SpecFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise OSError("locked")

    monkeypatch.setattr(studio.history, "set_handle", locked)
    with pytest.raises(OSError, match="locked"):
        studio.launcher.launch(spec_for())
    assert studio.runs.list()[0].state is RunState.QUEUED  # The recorder finds it by its label.


def test_the_owner_is_this_process() -> None:
    pid, _, started = owner_of_this_process().partition(":")
    assert int(pid) > 0
    assert float(started) > 0


def test_a_git_url_with_a_password_is_refused(studio: Studio, spec_for: SpecFor) -> None:
    spec = replace(spec_for(), code=CodeSource(url="https://me:pw@example.org/x.git"))
    with pytest.raises(RequestError) as caught:
        studio.launcher.submit(spec)
    assert caught.value.field == "code.url"
    assert "pw@" not in str(caught.value)


def test_redaction_keeps_everything_else(spec_for: SpecFor) -> None:
    spec = spec_for("--lr", "0.1", name="n", tags=("t",))
    assert replace(redacted(spec), parameters=()) == spec


def test_what_cannot_run_is_refused_before_it_is_built(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor, code: Path
) -> None:
    for spec, field in (
        (replace(spec_for(), command=("python", "nonesuch.py")), "command"),
        (replace(spec_for(), gpus=GpuRequest(count=2)), "gpus"),
    ):
        with pytest.raises(RequestError) as caught:
            studio.launcher.launch(spec)
        assert caught.value.field == field
    assert fake.builds.built == []
    assert {run.state for run in studio.runs.list()} == {RunState.FAILED}


def test_a_repository_of_this_machine_cannot_be_cloned_by_a_container(
    studio: Studio, spec_for: SpecFor, code: Path
) -> None:
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=code, check=True)
    plans: list[Plan] = []
    source = CodeSource(url=code.as_uri(), travel=Travel.CLONED)
    with pytest.raises(RequestError) as caught:
        studio.launcher.launch(replace(spec_for(), code=source), on_plan=plans.append)
    assert caught.value.field == "code.travel"
    assert len(plans) == 1
    baked = studio.launcher.launch(replace(spec_for(), code=replace(source, travel=Travel.BAKED)))
    assert len(baked.commit) == 40


def test_a_launch_that_met_a_full_disk_is_put_down_once_there_is_room(
    studio: Studio, home: Path, spec_for: SpecFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where reading fails on it, and its caller has closed everything and goes on with other things."""
    is_full = threading.Event()

    def fails_when_full(name: str) -> None:
        real = getattr(History, name)

        def asked(self: History, *words: object, **more: object) -> object:
            if is_full.is_set():
                raise WorldError("The history could not be written: the disk is full.", can_retry=True)
            return real(self, *words, **more)

        monkeypatch.setattr(History, name, asked)

    for name in ("observe", "set_phase", "set_handle", "summary"):
        fails_when_full(name)
    submitted = studio.launcher.submit(spec_for())
    is_full.set()
    with pytest.raises(WorldError):
        studio.launcher.carry_out(submitted.id, spec_for())
    studio.history.close()
    is_full.clear()
    with contextlib.closing(History(studio.history.path)) as history:
        assert wait_until(lambda: history.summary(submitted.id).state is RunState.FAILED, deadline_s=10)
        found = history.summary(submitted.id).exit
    assert found is not None
    assert found.reason is ExitReason.NOT_STARTED
    assert "the disk is full" in found.message
