"""What is to be said about a plan before it is built: one function a subject, each from facts alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from packaging.version import InvalidVersion, Version

from mlstudio.model.code import CodeSnapshot, Travel
from mlstudio.model.host import EngineKind, EngineStatus, Gpu
from mlstudio.model.image import Cached, DependencySource, LayerForecast, LayerKind, Recipe, Variant
from mlstudio.model.launch import EngineImage
from mlstudio.model.run import RunSpec
from mlstudio.services.arguments import script_of
from mlstudio.services.checks import Check, Level
from mlstudio.services.secret_scan import Finding
from mlstudio.services.words import bytes_text, count_text, seconds_text

_HEAVY_CODE_BYTES = 500 * 10**6
_LITTLE_SPACE_BYTES = 10 * 10**9
_NO_SPACE_BYTES = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the checks look at."""

    spec: RunSpec
    status: EngineStatus
    gpus: tuple[Gpu, ...] | None
    recipe: Recipe
    snapshot: CodeSnapshot | None
    variant: Variant | None
    forecast: tuple[LayerForecast, ...]
    image: EngineImage | None
    present: tuple[EngineImage, ...]
    secrets: tuple[Finding, ...]
    can_build: bool
    last_size_bytes: int = 0


def checks_for(facts: Facts) -> tuple[Check, ...]:
    """All findings, most serious first within the order of the subjects."""
    subjects: tuple[Callable[[Facts], Iterator[Check]], ...] = (
        _engine,
        _script,
        _reach,
        _gpu,
        _driver,
        _base,
        _dependencies,
        _code_size,
        _changes,
        _secrets,
        _disk,
        _cache,
    )
    order = [Level.ERROR, Level.WARNING, Level.INFO, Level.OK]
    found = [check for subject in subjects for check in subject(facts)]
    return tuple(sorted(found, key=lambda check: order.index(check.level)))


def _engine(facts: Facts) -> Iterator[Check]:
    status = facts.status
    if not status.usable:
        yield Check(
            name="engine",
            level=Level.ERROR,
            message=status.why or "The engine cannot be used.",
            try_this=status.try_this,
            field="engine",
        )
    elif status.kind is EngineKind.PROCESS:
        yield Check(
            name="engine",
            level=Level.INFO,
            message="The run is a plain process in a private virtual environment, not a container.",
            field="engine",
        )
    else:
        version = f" {status.version}" if status.version else ""
        yield Check(name="engine", level=Level.OK, message=f"Engine{version} answers.", field="engine")
    if status.usable and facts.recipe.dockerfile and not facts.can_build:
        yield Check(
            name="engine",
            level=Level.ERROR,
            message="This engine builds no images.",
            try_this="Choose an existing image, or another engine.",
            field="engine",
        )


def _script(facts: Facts) -> Iterator[Check]:
    if not facts.spec.command:
        yield Check(
            name="command",
            level=Level.ERROR,
            message="There is no command to run.",
            try_this="For example: python train.py",
            field="command",
        )
        return
    if facts.snapshot is None or facts.spec.image.dockerfile:
        return  # Where one's own Dockerfile puts the code, only it knows.
    script = script_of(facts.spec.command)
    if not script.endswith(".py") or PurePosixPath(script).is_absolute():
        return
    path = str(PurePosixPath(script))
    if path not in facts.snapshot.files:
        same_name = [
            name for name in facts.snapshot.files if PurePosixPath(name).name == PurePosixPath(path).name
        ]
        yield Check(
            name="command",
            level=Level.ERROR,
            message=f"The code holds no file “{script}”.",
            try_this=f"Did you mean {same_name[0]}?"
            if same_name
            else "Check its name, and that no ignore file leaves it out.",
            field="command",
        )


def _reach(facts: Facts) -> Iterator[Check]:
    url = facts.spec.code.url
    is_local = url.startswith(("file:", "/"))
    if facts.spec.travel is Travel.CLONED and is_local and facts.status.kind is not EngineKind.PROCESS:
        yield Check(
            name="travel",
            level=Level.ERROR,
            message=f"A container cannot clone {url}: the repository lies on this machine.",
            try_this="Let the code travel baked in or mounted, or use the repository's network address.",
            field="code.travel",
        )


def _gpu(facts: Facts) -> Iterator[Check]:
    request = facts.spec.gpus
    if not request.wants_any or not facts.status.usable:
        return
    if facts.status.gpu_runtime is False:
        yield Check(
            name="gpu",
            level=Level.ERROR,
            message="The engine cannot give GPUs to containers.",
            try_this="Install the NVIDIA Container Toolkit and restart the engine, or ask for no GPU.",
            field="gpus",
        )
    if facts.gpus is None:
        return
    known = {gpu.uuid for gpu in facts.gpus}
    missing = [uuid for uuid in request.uuids if uuid not in known]
    if missing:
        yield Check(
            name="gpu",
            level=Level.ERROR,
            message=f"There is no GPU {missing[0]} on this engine.",
            try_this="`mlstudio doctor` lists the GPUs.",
            field="gpus.uuids",
        )
    if request.count > len(facts.gpus) or (request.count == -1 and not facts.gpus):
        yield Check(
            name="gpu",
            level=Level.ERROR,
            message=f"{count_text(max(request.count, 1), 'GPU')} asked for, {len(facts.gpus) or 'none'} there.",
            try_this="Ask for fewer, or choose another engine.",
            field="gpus.count",
        )


def _driver(facts: Facts) -> Iterator[Check]:
    variant = facts.variant
    if variant is None:
        return
    if not variant.cuda:
        if facts.spec.gpus.wants_any:
            yield Check(
                name="driver",
                level=Level.WARNING,
                message="A GPU is asked for, but the image is made for the CPU.",
                try_this="Choose a CUDA variant of the framework.",
                field="image.variant",
            )
        return
    if not facts.spec.gpus.wants_any:
        yield Check(
            name="driver",
            level=Level.INFO,
            message=f"The image is made for {variant.title}, but the run asks for no GPU.",
            try_this="Ask for a GPU, or choose the CPU variant: it is much smaller.",
            field="gpus",
        )
    driver = next((gpu.driver for gpu in facts.gpus or () if gpu.driver), "")
    if not driver or not variant.min_driver:
        return
    try:
        is_enough = Version(driver) >= Version(variant.min_driver)
    except InvalidVersion:
        return
    if is_enough:
        yield Check(
            name="driver",
            level=Level.OK,
            message=f"Driver {driver} runs {variant.title} (needs {variant.min_driver} or newer).",
            field="image.variant",
        )
    else:
        yield Check(
            name="driver",
            level=Level.ERROR,
            message=f"{variant.title} needs NVIDIA driver {variant.min_driver} or newer; this machine has {driver}.",
            try_this="Choose an older CUDA variant, or update the driver.",
            field="image.variant",
        )


def _base(facts: Facts) -> Iterator[Check]:
    recipe = facts.recipe
    if not recipe.base or not facts.status.usable or facts.status.kind is EngineKind.PROCESS:
        return
    if not recipe.dockerfile:
        if facts.image is None:
            yield Check(
                name="base",
                level=Level.INFO,
                message=f"The image {recipe.base} is not on the engine: it will be pulled first.",
                field="image.image",
            )
        return
    tags = {tag for image in facts.present for tag in (*image.tags, *image.repo_digests, image.id)}
    if recipe.base_replaces:
        yield Check(
            name="base",
            level=Level.INFO,
            message=f"The base image {recipe.base} stands in for {recipe.base_replaces}.",
        )
    elif (
        facts.image is None and recipe.base not in tags and facts.present and recipe.base.lower() != "scratch"
    ):
        yield Check(
            name="base",
            level=Level.INFO,
            message=f"The base image {recipe.base} is not on the engine: it will be pulled first.",
            try_this="Without a network, name a local one in the setting base_images.",
        )


def _dependencies(facts: Facts) -> Iterator[Check]:
    for problem in dict.fromkeys((*facts.recipe.problems, *facts.recipe.dependencies.problems)):
        place = f"{problem.file}, line {problem.line}: " if problem.file and problem.line else ""
        place = place or (f"{problem.file}: " if problem.file else "")
        check = Check(
            name="dependencies",
            level=Level.ERROR if problem.is_error else Level.WARNING,
            message=place + problem.message,
            try_this=problem.try_this,
            field="image.requirements",
        )
        yield check
    dependencies = facts.recipe.dependencies
    if not facts.recipe.dockerfile or facts.recipe.spec.dockerfile:
        return
    count = len(dependencies.requirements)
    if dependencies.source is DependencySource.IMPORTS:
        yield Check(
            name="lock",
            level=Level.INFO,
            message=f"{count_text(count, 'package')} guessed from the imports, without versions.",
            try_this="A requirements.txt with versions makes the image the same tomorrow.",
            field="image.requirements",
        )
    elif (
        count and not dependencies.locked and any(not _is_pinned(line) for line in dependencies.requirements)
    ):
        loose = sum(not _is_pinned(line) for line in dependencies.requirements)
        yield Check(
            name="lock",
            level=Level.INFO,
            message=f"{loose} of {count_text(count, 'package')} "
            f"{'has' if loose == 1 else 'have'} no fixed version: a later build may get another.",
            try_this="Pin them (name==version), or add a lock file such as uv.lock.",
            field="image.requirements",
        )


def _code_size(facts: Facts) -> Iterator[Check]:
    snapshot = facts.snapshot
    if snapshot is None:
        return
    if snapshot.size_bytes > _HEAVY_CODE_BYTES:
        largest = ", ".join(
            f"{entry.path} ({bytes_text(entry.size_bytes)})" for entry in snapshot.largest[:3]
        )
        yield Check(
            name="code size",
            level=Level.WARNING,
            message=f"The code holds {bytes_text(snapshot.size_bytes)}."
            + (f" The largest: {largest}." if largest else ""),
            try_this="Leave data out with a .dockerignore file and mount it as a data set.",
            field="code.folder",
        )
    else:
        for warning in snapshot.warnings:
            yield Check(name="code", level=Level.WARNING, message=warning, field="code.folder")
    if snapshot.unreadable:
        yield Check(
            name="code",
            level=Level.WARNING,
            message=f"{count_text(len(snapshot.unreadable), 'file')} cannot be read and "
            f"will be missing, such as {snapshot.unreadable[0]}.",
            try_this="Check the permissions.",
            field="code.folder",
        )


def _changes(facts: Facts) -> Iterator[Check]:
    snapshot = facts.snapshot
    if snapshot is None or not snapshot.changed_files:
        return
    count = count_text(len(snapshot.changed_files), "file")
    if facts.spec.travel is Travel.CLONED:
        yield Check(
            name="changes",
            level=Level.WARNING,
            message=f"{count} with uncommitted changes will not be in the run: it clones the commit.",
            try_this="Commit and push them, or let the code travel baked in or mounted.",
            field="code.travel",
        )
    else:
        yield Check(
            name="changes",
            level=Level.INFO,
            message=f"{count} with uncommitted changes; the difference is kept with the run.",
            field="code.folder",
        )


def _secrets(facts: Facts) -> Iterator[Check]:
    if not facts.secrets:
        return
    named = ", ".join(f"{finding.path} ({finding.kind})" for finding in facts.secrets[:3])
    more = f" and {len(facts.secrets) - 3} more" if len(facts.secrets) > 3 else ""
    into = "into the image" if facts.spec.travel is Travel.BAKED else "into the container"
    yield Check(
        name="secrets",
        level=Level.WARNING,
        message=f"Something that looks like a secret would go {into}: {named}{more}.",
        try_this="Leave the file out with .dockerignore and pass the value as a secret of the run.",
        field="code.folder",
    )


def _disk(facts: Facts) -> Iterator[Check]:
    free = facts.status.storage_free_bytes
    if free is None or facts.image is not None or not facts.recipe.dockerfile:
        return
    if free < _NO_SPACE_BYTES:
        yield Check(
            name="disk",
            level=Level.ERROR,
            message=f"Only {bytes_text(free)} are free where the engine keeps images.",
            try_this="Remove images that you no longer need: mlstudio images.",
        )
    elif free < _LITTLE_SPACE_BYTES:
        yield Check(
            name="disk",
            level=Level.WARNING,
            message=f"{bytes_text(free)} are free where the engine keeps images.",
        )


def _cache(facts: Facts) -> Iterator[Check]:
    if not facts.recipe.dockerfile:
        return
    if facts.image is not None:
        size = facts.image.size_bytes
        yield Check(
            name="image",
            level=Level.OK,
            message="The image is already built" + (f" ({bytes_text(size)})." if size else "."),
        )
        return
    cached = sum(entry.cached is Cached.YES for entry in facts.forecast)
    todo = [entry for entry in facts.forecast if entry.cached is not Cached.YES]
    known = [entry.seconds for entry in todo if entry.seconds is not None]
    parts = [f"{cached} of {count_text(len(facts.forecast), 'layer')} cached"]
    if todo and len(known) == len(todo):
        parts.append(f"about {seconds_text(sum(known))} to build")
    if facts.last_size_bytes:
        parts.append(f"{bytes_text(facts.last_size_bytes)} the last time")
    yield Check(name="image", level=Level.INFO, message=", ".join(parts) + ".")
    only_code = todo and all(entry.layer.kind is LayerKind.CODE for entry in todo)
    if only_code:
        yield Check(name="image", level=Level.OK, message="Only the code has changed.")


def _is_pinned(requirement: str) -> bool:
    return "==" in requirement or " @ " in requirement or "===" in requirement
