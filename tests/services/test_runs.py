"""Stopping and removing runs, and waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mlstudio.engines.fake import FakeEngine
from mlstudio.model.errors import EngineAway, NotFound, RequestError
from mlstudio.model.launch import Phase
from mlstudio.model.run import Exit, ExitReason, RunSpec, RunState
from mlstudio.services.studio import Studio

SpecFor = Callable[..., RunSpec]


def end(studio: Studio, run_id: str) -> None:
    """What the recorder writes."""
    studio.history.observe(
        run_id, state=RunState.SUCCEEDED, ended=time.time(), exit=Exit(reason=ExitReason.COMPLETED, code=0)
    )


def test_a_stop_is_wished_and_carried_out_but_not_claimed(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor
) -> None:
    run = studio.launcher.launch(spec_for())
    summary = studio.runs.stop(run.id, 5)
    assert summary.desired == "stopped"
    assert summary.state is RunState.QUEUED
    assert fake.inspect(f"fake-{run.id}").phase is Phase.EXITED
    studio.runs.stop(run.id)
    end(studio, run.id)
    assert studio.runs.stop(run.id).state is RunState.SUCCEEDED


def test_a_stop_of_an_engine_that_is_away_is_not_forgotten(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor
) -> None:
    run = studio.launcher.launch(spec_for())
    fake.go_away()
    with pytest.raises(EngineAway, match="as soon as the engine answers"):
        studio.runs.stop(run.id)
    assert studio.runs.get(run.id).desired == "stopped"


def test_a_live_run_is_removed_only_by_force(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    run = studio.launcher.launch(spec_for())
    with pytest.raises(RequestError, match="still queued"):
        studio.runs.remove(run.id)
    studio.runs.remove(run.id, force=True)
    assert fake.find(run.id) is None
    with pytest.raises(NotFound):
        studio.runs.get(run.id)


def test_an_ended_run_goes_with_its_container(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    run = studio.launcher.launch(spec_for())
    studio.runs.stop(run.id, 1)
    end(studio, run.id)
    fake.go_away()
    with pytest.raises(EngineAway):
        studio.runs.remove(run.id)
    fake.come_back()
    studio.runs.remove(run.id)
    assert fake.find(run.id) is None
    assert studio.runs.count() == 0


def test_waiting_ends_with_the_run_or_the_time(studio: Studio, spec_for: SpecFor) -> None:
    run = studio.launcher.launch(spec_for())
    assert studio.runs.wait(run.id, timeout=0.05).state is RunState.QUEUED
    end(studio, run.id)
    assert studio.runs.wait(run.id).state is RunState.SUCCEEDED


def test_names_tags_and_notes(studio: Studio, spec_for: SpecFor) -> None:
    run = studio.launcher.submit(spec_for())
    studio.runs.rename(run.id, " new name ")
    studio.runs.tag(run.id, ["a", " a ", "", "b"])
    studio.runs.note(run.id, "good")
    studio.runs.archive(run.id)
    found = studio.runs.get(run.id)
    assert (found.name, found.tags, found.note, found.archived) == ("new name", ("a", "b"), "good", True)
    assert studio.runs.resolve("new name") == run.id
    assert studio.runs.resolve("1") == run.id
    assert studio.runs.resolve(run.id[:8]) == run.id
    assert studio.runs.list() == []
    assert len(studio.runs.list(archived=True)) == 1
    with pytest.raises(RequestError):
        studio.runs.rename(run.id, "  ")


def test_the_image_of_a_run_is_known(studio: Studio, spec_for: SpecFor) -> None:
    run = studio.launcher.launch(spec_for())
    image = studio.runs.image_of(run.id)
    assert image is not None
    assert image.id == run.image_id
    assert studio.runs.image_of(studio.launcher.submit(spec_for()).id) is None
