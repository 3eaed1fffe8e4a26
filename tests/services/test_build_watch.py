"""A build's events add up to a phase in words, times for the next forecast, and the failing step."""

from __future__ import annotations

from mlstudio.model.image import (
    BuildFinished,
    BuildOutput,
    BuildStep,
    ImageSpec,
    Layer,
    LayerKind,
    Recipe,
    StepState,
)
from mlstudio.services.build_watch import BuildWatch, text_key

PIP = "RUN --mount=type=cache,target=/root/.cache \\\n    pip install numpy"
RECIPE = Recipe(
    dockerfile="FROM x\n" + PIP,
    layers=(
        Layer(kind=LayerKind.BASE, text="FROM x", why="", key="base"),
        Layer(kind=LayerKind.DEPENDENCIES, text=PIP, why="", key="pip"),
        Layer(kind=LayerKind.CODE, text="COPY code/ /work/", why="", key="code"),
    ),
    spec=ImageSpec(),
    base="x",
)


def test_the_phase_names_the_running_step() -> None:
    watch = BuildWatch()
    assert watch.phase() == "building image"
    watch.see(BuildStep(id="0", name="[internal] load build definition", state=StepState.RUNNING))
    assert "load build definition" in watch.phase()
    watch.see(
        BuildStep(
            id="2",
            name="[2/3] RUN --mount=type=cache,target=/root/.cache     pip install numpy",
            state=StepState.RUNNING,
        )
    )
    assert watch.phase() == "building image, step 2 of 3: pip install"
    watch.see(BuildStep(id="3", name="[stage-1 3/3] COPY code/ /work/", state=StepState.RUNNING))
    assert watch.phase() == "building image, step 3 of 3: copying files"


def test_times_belong_to_the_layers_that_were_really_built() -> None:
    watch = BuildWatch()
    watch.see(BuildStep(id="1", name="[1/3] FROM x", state=StepState.CACHED, started=1.0, ended=1.0))
    watch.see(
        BuildStep(
            id="2",
            name="[2/3] RUN --mount=type=cache,target=/root/.cache     pip install numpy",
            state=StepState.DONE,
            started=1.0,
            ended=13.5,
        )
    )
    assert watch.layer_seconds(RECIPE) == {"pip": 12.5, text_key(RECIPE.layers[1]): 12.5}
    assert watch.cached == 1
    assert len(watch.numbered) == 2


def test_the_failing_steps_output_is_kept_in_lines() -> None:
    watch = BuildWatch()
    for text in ("one\ntw", "o\n", "three"):
        watch.see(BuildOutput(step_id="2", text=text))
    watch.see(BuildOutput(step_id="9", text="else"))
    watch.see(BuildStep(id="2", name="[2/3] RUN x", state=StepState.FAILED, error="exit code: 1"))
    failed = watch.failed()
    assert failed is not None
    assert watch.output(failed.id) == "one\ntwo\nthree"
    for number in range(1000):
        watch.see(BuildOutput(step_id="2", text=f"\n{number}"))
    assert len(watch.output("2").splitlines()) <= 200
    assert watch.output("2").endswith("999")
    watch.see(BuildFinished(image_id="sha256:1"))
    assert watch.finished is not None
