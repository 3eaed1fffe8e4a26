"""Plans and builds: what is said beforehand, what is kept afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlstudio.engines.fake import FakeContainer, FakeEngine
from mlstudio.model.code import CodeSource
from mlstudio.model.errors import BuildFailed, NotFound, RequestError
from mlstudio.model.image import Cached, Diagnosis, ImageSpec, Package
from mlstudio.model.launch import EngineImage
from mlstudio.model.run import RunSpec
from mlstudio.services.images import BASE_LABEL, Plan
from mlstudio.services.studio import Studio
from tests.services.conftest import BASE

SpecFor = Callable[..., RunSpec]


def names(plan: Plan) -> set[str]:
    return {check.name for check in plan.checks}


def test_a_plan_is_the_same_twice_and_quick(studio: Studio, spec_for: SpecFor) -> None:
    first = studio.images.plan(spec_for())
    began = time.perf_counter()
    second = studio.images.plan(spec_for())
    assert time.perf_counter() - began < 0.3
    assert first.recipe == second.recipe
    assert first.builds
    assert first.image is None
    assert {entry.cached for entry in first.forecast} == {Cached.NO}
    assert first.seconds is None


def test_a_build_is_kept_with_its_packages_and_forecasts_the_next(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor, code: Path
) -> None:
    fake.image_packages = (Package(name="numpy", version="2.1.0"),)
    fake.builds.seconds = 0.05
    record = studio.images.build(studio.images.plan(spec_for()))
    assert record.packages == fake.image_packages
    assert record.steps == len(studio.images.plan(spec_for()).recipe.layers)
    assert record.build_seconds > 0.05
    assert studio.history.image_for_recipe(record.recipe_digest) == record
    assert any(spec.run_id.startswith("smoke-") for spec in fake.launched) == bool(
        studio.images.plan(spec_for()).recipe.smoke_import
    )

    plan = studio.images.plan(spec_for())
    assert plan.image is not None
    assert plan.seconds == 0.0
    assert {entry.cached for entry in plan.forecast} == {Cached.YES}
    assert studio.images.build(plan) == record
    assert len(fake.builds.built) == 1

    (code / "train.py").write_text("print(2)\n")
    changed = studio.images.plan(spec_for())
    todo = [entry for entry in changed.forecast if entry.cached is not Cached.YES]
    assert changed.image is None
    assert todo
    assert all(entry.seconds is not None for entry in changed.forecast)
    assert changed.seconds is not None
    assert 0.0 < changed.seconds < record.build_seconds
    assert studio.images.build(changed).id != record.id


def test_packages_are_looked_up_anew_only_where_something_else_than_the_code_has_changed(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor, code: Path
) -> None:
    before, after = (Package(name="numpy", version="2.1.0"),), (Package(name="numpy", version="2.2.0"),)
    fake.image_packages = before
    studio.images.build(studio.images.plan(spec_for()))
    fake.image_packages = after  # What only a look into the image can tell.
    (code / "train.py").write_text("print(2)\n")
    started = len(fake.launched)
    record = studio.images.build(studio.images.plan(spec_for()))
    assert record.packages == before
    assert len(fake.launched) == started
    assert studio.history.image(record.id) == record

    (code / "requirements.txt").write_text("numpy\n")
    assert studio.images.build(studio.images.plan(spec_for())).packages == after


def test_every_layer_again_on_request(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    studio.images.build(studio.images.plan(spec_for()))
    studio.images.build(studio.images.plan(spec_for()), no_cache=True)
    assert len(fake.builds.built) == 2


def test_a_failed_step_is_diagnosed(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    fake.builds.fails_at = 3
    fake.builds.log = (
        "ERROR: Could not find a version that satisfies the requirement torhc (from versions: none)\n"
        "ERROR: No matching distribution found for torhc\n"
    )
    with pytest.raises(BuildFailed) as caught:
        studio.images.build(studio.images.plan(spec_for()))
    diagnosis = caught.value.diagnosis
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.rule == "no-such-package"
    assert diagnosis.step
    assert diagnosis.last_lines
    assert caught.value.what == diagnosis.title


def test_a_smoke_import_that_fails_is_a_failed_build(home: Path, code: Path, spec_for: SpecFor) -> None:
    def program(container: FakeContainer) -> int:
        container.write(b"Traceback\nImportError: libcublas.so.12: cannot open shared object file\n")
        return 1

    engine = FakeEngine("local", program=program)
    with Studio(home, engines={"local": engine}) as studio:
        studio.settings.set("pip.discover", False)
        plan = studio.images.plan(replace(spec_for(), image=ImageSpec(framework="pytorch", python="3.11")))
        with pytest.raises(BuildFailed) as caught:
            studio.images.build(plan)
        assert isinstance(caught.value.diagnosis, Diagnosis)
        assert caught.value.diagnosis.rule == "smoke-import"
        assert "libcublas" in caught.value.why
        assert studio.history.images() == []
        studio.settings.set("build.smoke_import", False)
        studio.images.build(plan)


def test_a_labelled_base_stands_in_unless_the_real_one_is_there(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor
) -> None:
    fake.add_image(
        EngineImage(
            id="sha256:s", tags=("stand-in:1",), size_bytes=1, created=1, labels=((BASE_LABEL, BASE),)
        )
    )
    plan = studio.images.plan(spec_for())
    assert (plan.recipe.base, plan.recipe.base_replaces) == ("stand-in:1", BASE)
    real = (EngineImage(id="sha256:r", tags=(BASE,), size_bytes=1, created=1),)
    assert studio.images.base_map((*fake.images(all_of_them=True), *real)) == {}
    studio.settings.set("base_images", f"{BASE}=mirror/python:1")
    assert studio.images.base_map(tuple(fake.images(all_of_them=True)))[BASE] == "mirror/python:1"


def test_an_engine_that_is_away_is_a_check_not_an_error(
    studio: Studio, fake: FakeEngine, spec_for: SpecFor
) -> None:
    fake.go_away()
    plan = studio.images.plan(spec_for())
    assert plan.recipe.dockerfile
    assert plan.checks[0].name == "engine"
    assert {entry.cached for entry in plan.forecast} == {Cached.UNKNOWN}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"framework": "nonesuch"}, "image.framework"),
        ({"framework": "pytorch", "version": "0.0.1"}, "image.version"),
        ({"framework": "pytorch", "variant": "cu1"}, "image.variant"),
        ({"dockerfile": "Dockerfile.missing"}, "image.dockerfile"),
        ({"dockerfile": "../outside"}, "image.dockerfile"),
    ],
)
def test_what_cannot_be_planned_names_its_field(
    studio: Studio, spec_for: SpecFor, change: dict[str, str], field: str
) -> None:
    with pytest.raises(RequestError) as caught:
        studio.images.plan(replace(spec_for(), image=ImageSpec(**change)))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_missing_folder_names_its_field(studio: Studio, spec_for: SpecFor, tmp_path: Path) -> None:
    for folder in (tmp_path / "gone", tmp_path / "project" / "train.py", ""):
        with pytest.raises(RequestError) as caught:
            studio.images.plan(replace(spec_for(), code=CodeSource(folder=str(folder))))
        assert caught.value.field == "code.folder"


def test_an_image_that_is_not_there_is_not_found(studio: Studio) -> None:
    plan = studio.images.plan(RunSpec(command=("true",), image=ImageSpec(image="gone:1")))
    assert "base" in names(plan)
    with pytest.raises(NotFound):
        studio.images.build(plan)


def test_listing_and_removing(studio: Studio, fake: FakeEngine, spec_for: SpecFor) -> None:
    record = studio.images.build(studio.images.plan(spec_for()))
    fake.add_image(EngineImage(id="sha256:x", tags=("other:1",), size_bytes=5, created=1))
    assert [image.id for image in studio.images.list()] == [record.id]
    assert len(studio.images.list(all_of_them=True)) == 2
    with pytest.raises(NotFound):
        studio.images.remove("nonesuch:1")
    for spec in fake.launched:
        fake.remove(f"fake-{spec.run_id}")
    studio.images.remove(record.tag)
    assert studio.images.list() == ()
