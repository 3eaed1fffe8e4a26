"""What is said about a plan before it is built."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlstudio.model.code import CodeSnapshot, CodeSource, LargeEntry, Travel
from mlstudio.model.host import EngineKind, EngineStatus, EngineTrouble, Gpu
from mlstudio.model.image import (
    Cached,
    Dependencies,
    DependencySource,
    ImageSpec,
    Layer,
    LayerForecast,
    LayerKind,
    Problem,
    Recipe,
    Variant,
)
from mlstudio.model.launch import EngineImage
from mlstudio.model.run import GpuRequest, RunSpec
from mlstudio.services.checks import Check, Level, worst
from mlstudio.services.plan_checks import Facts, checks_for
from mlstudio.services.secret_scan import Finding

CUDA = Variant(name="cu126", title="CUDA 12.6", cuda="12.6", min_driver="560.28.03")
GPU = Gpu(index=0, uuid="GPU-1", name="H100", driver="550.54")
BASE = LayerForecast(layer=Layer(kind=LayerKind.BASE, text="FROM b", why=""), cached=Cached.YES)
CODE = LayerForecast(layer=Layer(kind=LayerKind.CODE, text="COPY", why=""), cached=Cached.NO, seconds=2.0)

GOOD = Facts(
    spec=RunSpec(command=("python", "train.py"), code=CodeSource(folder="/code")),
    status=EngineStatus(name="local", kind=EngineKind.DOCKER, version="20.10", storage_free_bytes=10**12),
    gpus=None,
    recipe=Recipe(dockerfile="FROM b\n", layers=(BASE.layer, CODE.layer), spec=ImageSpec(), base="b"),
    snapshot=CodeSnapshot(tree_hash="sha256:1", files=("src/other.py", "train.py"), size_bytes=10),
    variant=Variant(name="cpu", title="CPU"),
    forecast=(BASE, CODE),
    image=None,
    present=(EngineImage(id="sha256:b", tags=("b",), size_bytes=1, created=0),),
    secrets=(),
    can_build=True,
)


def named(facts: Facts, name: str) -> list[Check]:
    return [check for check in checks_for(facts) if check.name == name]


def test_a_good_plan_has_nothing_to_complain_of() -> None:
    assert worst(checks_for(GOOD)) is Level.INFO
    (image,) = [check for check in named(GOOD, "image") if check.level is Level.INFO]
    assert image.message == "1 of 2 layers cached, about 2.0 s to build."


def test_an_old_driver_is_an_error_beside_the_variant() -> None:
    facts = replace(GOOD, variant=CUDA, gpus=(GPU,), spec=replace(GOOD.spec, gpus=GpuRequest(count=1)))
    (check,) = named(facts, "driver")
    assert check.level is Level.ERROR
    assert check.field == "image.variant"
    assert "550.54" in check.message
    assert "560.28.03" in check.message
    newer = replace(facts, gpus=(replace(GPU, driver="570.1"),))
    assert [check.level for check in named(newer, "driver")] == [Level.OK]


def test_a_cpu_image_with_a_gpu_is_told() -> None:
    facts = replace(GOOD, gpus=(GPU,), spec=replace(GOOD.spec, gpus=GpuRequest(count=1)))
    assert [check.level for check in named(facts, "driver")] == [Level.WARNING]


@pytest.mark.parametrize(
    "request_",
    [GpuRequest(count=3), GpuRequest(uuids=("GPU-2",))],
    ids=["too many", "unknown"],
)
def test_gpus_that_are_not_there_are_errors(request_: GpuRequest) -> None:
    facts = replace(GOOD, variant=CUDA, gpus=(GPU,), spec=replace(GOOD.spec, gpus=request_))
    assert [check.level for check in named(facts, "gpu")] == [Level.ERROR]


def test_an_engine_without_the_gpu_runtime_is_an_error() -> None:
    facts = replace(
        GOOD,
        status=replace(GOOD.status, gpu_runtime=False),
        spec=replace(GOOD.spec, gpus=GpuRequest(count=1)),
    )
    (check,) = named(facts, "gpu")
    assert "Container Toolkit" in check.try_this


def test_an_absent_engine_says_how_to_mend_it() -> None:
    status = EngineStatus(
        name="local",
        kind=EngineKind.DOCKER,
        trouble=EngineTrouble.STOPPED,
        why="It is stopped.",
        try_this="Start it.",
    )
    check = checks_for(replace(GOOD, status=status))[0]
    assert (check.name, check.level, check.message, check.try_this) == (
        "engine",
        Level.ERROR,
        "It is stopped.",
        "Start it.",
    )


def test_a_missing_script_is_an_error_with_a_guess() -> None:
    facts = replace(GOOD, spec=replace(GOOD.spec, command=("python", "other.py")))
    (check,) = named(facts, "command")
    assert check.field == "command"
    assert "src/other.py" in check.try_this


def test_no_command_is_an_error() -> None:
    assert named(replace(GOOD, spec=replace(GOOD.spec, command=())), "command")[0].level is Level.ERROR


def test_a_base_that_must_be_pulled_or_is_replaced_is_told() -> None:
    assert "pulled" in named(replace(GOOD, recipe=replace(GOOD.recipe, base="other:1")), "base")[0].message
    replaced = replace(GOOD, recipe=replace(GOOD.recipe, base="mine", base_replaces="python:3.11"))
    assert "stands in for python:3.11" in named(replaced, "base")[0].message


def test_problems_of_the_dependencies_keep_their_place() -> None:
    dependencies = Dependencies(
        requirements=("numpy", "rich==1"),
        source=DependencySource.REQUIREMENTS,
        problems=(Problem(message="Not a requirement.", file="requirements.txt", line=3),),
    )
    facts = replace(GOOD, recipe=replace(GOOD.recipe, dependencies=dependencies))
    (problem,) = named(facts, "dependencies")
    assert problem.level is Level.ERROR
    assert problem.message == "requirements.txt, line 3: Not a requirement."
    (lock,) = named(facts, "lock")
    assert lock.message.startswith("1 of 2 packages has no fixed version")


def test_heavy_code_names_its_largest_entries() -> None:
    snapshot = replace(
        GOOD.snapshot or CodeSnapshot(tree_hash="", files=(), size_bytes=0),
        size_bytes=600 * 10**6,
        largest=(LargeEntry(path="data", size_bytes=590 * 10**6),),
    )
    (check,) = named(replace(GOOD, snapshot=snapshot), "code size")
    assert check.level is Level.WARNING
    assert "data (590 MB)" in check.message


def test_uncommitted_changes_matter_more_when_the_code_is_cloned() -> None:
    assert GOOD.snapshot is not None
    facts = replace(GOOD, snapshot=replace(GOOD.snapshot, changed_files=("train.py",)))
    assert named(facts, "changes")[0].level is Level.INFO
    cloned = replace(facts, spec=replace(GOOD.spec, code=CodeSource(folder="/code", travel=Travel.CLONED)))
    assert named(cloned, "changes")[0].level is Level.WARNING


def test_secrets_are_named_by_file() -> None:
    (check,) = named(replace(GOOD, secrets=(Finding(path=".env", kind="a file of credentials"),)), "secrets")
    assert check.level is Level.WARNING
    assert ".env" in check.message


def test_a_full_disk_is_an_error_before_it_happens() -> None:
    assert (
        named(replace(GOOD, status=replace(GOOD.status, storage_free_bytes=10**8)), "disk")[0].level
        is Level.ERROR
    )
    little = replace(GOOD, status=replace(GOOD.status, storage_free_bytes=5 * 10**9))
    assert named(little, "disk")[0].level is Level.WARNING


def test_the_most_serious_comes_first() -> None:
    levels = [
        check.level
        for check in checks_for(replace(GOOD, can_build=False, secrets=(Finding(path="a", kind="b"),)))
    ]
    order = [Level.ERROR, Level.WARNING, Level.INFO, Level.OK]
    assert levels == sorted(levels, key=order.index)
    assert levels[0] is Level.ERROR
