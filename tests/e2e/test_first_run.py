"""The main job, from nothing: an example's folder in, a trained model's curves out."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

import pytest

from mlstudio.engines.engine import CanBuild, Engine
from mlstudio.images.context import make_context
from mlstudio.model.code import CodeSource
from mlstudio.model.errors import WorldError
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import RunSpec
from mlstudio.services.build_watch import BuildWatch
from mlstudio.services.studio import Studio
from tests.e2e.conftest import EXAMPLES, Program

# A first build installs a framework.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

PICTURES, BATCH, EPOCHS = 1347, 32, 5


def test_digits_from_nothing(program: Program) -> None:
    """Built by the real engine, run in a container, exit 0, and every logged point is in the history, once."""
    done = program("run", EXAMPLES / "digits-cnn", "--", "--epochs", str(EPOCHS))
    assert f"epoch {EPOCHS}/{EPOCHS}" in done.stdout

    run = program.run()
    assert run["state"] == "succeeded"
    assert run["exit"]["code"] == 0
    assert run["image_id"].startswith("sha256:")

    points = program.points()
    batches = EPOCHS * -(-PICTURES // BATCH)
    steps, losses = points["train/loss"]
    assert steps == list(range(1, batches + 1))
    val_steps, val_losses = points["val/loss"]
    assert val_steps == [batches // EPOCHS * epoch for epoch in range(1, EPOCHS + 1)]
    assert len(points["val/accuracy"][1]) == EPOCHS
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert val_losses[-1] < 0.5 * val_losses[0]

    shown = program.json("show", "1")
    assert "torch" in {package["name"] for package in shown["packages"]}
    assert shown["dockerfile"].startswith("#") or shown["dockerfile"].startswith("FROM")
    system = program.json("metrics", "1", "--system")["series"]
    assert any(entry["name"] == "cpu.percent" and entry["values"] for entry in system)


def test_an_example_that_only_prints_has_curves(program: Program) -> None:
    program("run", EXAMPLES / "char-lm", "--", "--epochs", "2", "--steps-per-epoch", "20")
    points = program.points()
    assert points["loss"][0] == list(range(5, 41, 5))
    assert len(points["val_loss"][1]) == 2
    assert points["loss"][1][-1] < points["loss"][1][0]


def test_boosted_trees(program: Program) -> None:
    program("run", EXAMPLES / "gbm-tabular", "--", "--num-boost-round", "30")
    points = program.points()
    for name in ("train/loss", "val/loss"):
        steps, losses = points[name]
        assert steps == list(range(1, 31))
        assert losses[-1] < losses[0]
    assert all(later < earlier for earlier, later in pairwise(points["train/loss"][1]))


def test_the_same_spec_gives_the_same_dockerfile_and_a_second_build_is_all_cached(
    program: Program, engine: Engine, home: Path
) -> None:
    folder = EXAMPLES / "gbm-tabular"
    first = program("build", folder, "--print").stdout
    # Another process with another hash seed, so that no set's order can hide.
    second = program("build", folder, "--print", PYTHONHASHSEED="1").stdout
    assert first.encode() == second.encode()

    with Studio(home) as studio:
        spec = RunSpec(
            command=("python", "train.py"),
            code=CodeSource(folder=str(folder)),
            image=ImageSpec(framework="lightgbm"),
        )
        plan = studio.images.plan(spec)
        record = studio.images.build(plan)
        # Past the service, which would see that the image is there and build nothing at all.
        assert isinstance(engine, CanBuild)
        watch = BuildWatch()
        for event in engine.build(
            plan.recipe, make_context(plan.recipe, plan.source_root, plan.snapshot, plan.pip)
        ):
            watch.see(event)
        assert watch.finished
        assert watch.finished.image_id == record.id
        assert watch.numbered
        # FROM has nothing to build, and some builders do not call it cached.
        built = [step.name for step in watch.numbered if step.state != "cached" and " FROM " not in step.name]
        assert not built
        assert {entry.cached for entry in studio.images.plan(spec).forecast} == {"cached"}
        # Somebody's containers may hold it.
        with contextlib.suppress(WorldError):
            studio.images.remove(record.tag)
