"""Images: what would be built (`plan`), building it, and what is kept of it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.engine import CanBuild, CanListGpus, Engine
from mlstudio.images.catalogue import Catalogue, load_catalogue
from mlstudio.images.context import make_context
from mlstudio.images.dependencies import find_dependencies
from mlstudio.images.diagnosis import diagnose
from mlstudio.images.recipe import write_recipe
from mlstudio.model.code import CodeSnapshot
from mlstudio.model.errors import (
    BuildFailed,
    Cancelled,
    EngineAway,
    NotFound,
    RequestError,
    WorldError,
)
from mlstudio.model.host import EngineKind, EngineStatus, Gpu
from mlstudio.model.image import (
    BuildEvent,
    BuildStep,
    Cached,
    Dependencies,
    DependencySource,
    Diagnosis,
    ImageRecord,
    LayerForecast,
    LayerKind,
    Package,
    PipSettings,
    Recipe,
    Variant,
)
from mlstudio.model.launch import EngineImage, LaunchSpec
from mlstudio.model.run import Network, RunSpec
from mlstudio.services.arguments import script_of
from mlstudio.services.build_watch import BuildWatch, takes_no_time, text_key, titled
from mlstudio.services.checks import Check, Level
from mlstudio.services.code import CodeService, project_name
from mlstudio.services.engine_table import Builder, Engines
from mlstudio.services.plan_checks import Facts, checks_for
from mlstudio.services.recent import Recent
from mlstudio.services.secret_scan import Finding, find_secrets
from mlstudio.services.settings import Settings
from mlstudio.store import History

BASE_LABEL = "mlstudio.base.for"
"""Label of an image that stands in for a base of the catalogue: its value is the reference that it replaces."""

RECIPE_LABEL = "mlstudio.recipe"
_LONGEST_IMPORT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be built and run for a `RunSpec`, and what is to be said about it beforehand."""

    spec: RunSpec
    recipe: Recipe
    snapshot: CodeSnapshot | None
    checks: tuple[Check, ...]
    forecast: tuple[LayerForecast, ...]
    source_root: Path | None
    """The code's folder on this machine; None if no code travels."""
    variant: Variant | None = None
    """The catalogue's variant, where the image is made from the catalogue."""
    image: EngineImage | None = None
    """The finished image, if the engine has it already: nothing needs to be built."""
    pip: PipSettings = field(default_factory=PipSettings, repr=False)

    @property
    def builds(self) -> bool:
        """Whether there is a Dockerfile to build (not an existing image)."""
        return bool(self.recipe.dockerfile)

    @property
    def cached_layers(self) -> int:
        return sum(entry.cached is Cached.YES for entry in self.forecast)

    @property
    def seconds(self) -> float | None:
        """How long the layers that must be built took the last time; None if one of them is not known."""
        if self.image is not None or not self.builds:
            return 0.0
        todo = [entry.seconds for entry in self.forecast if entry.cached is not Cached.YES]
        known = [seconds for seconds in todo if seconds is not None]
        return sum(known) if len(known) == len(todo) else None


class ImageService:
    """Plans, builds and keeps images. Thread-safe; every method may be called from any worker thread."""

    def __init__(self, *, engines: Engines, settings: Settings, history: History, code: CodeService) -> None:
        self._engines = engines
        self._settings = settings
        self._history = history
        self._code = code
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._status: Recent[EngineStatus] = Recent(5.0)
        self._gpus: Recent[tuple[Gpu, ...]] = Recent(5.0)
        self._present: Recent[tuple[EngineImage, ...]] = Recent(3.0)
        self._dependencies: Recent[Dependencies] = Recent(300.0)
        self._secrets: Recent[tuple[Finding, ...]] = Recent(300.0)

    @property
    def catalogue(self) -> Catalogue:
        """The frameworks that ship with the program."""
        with self._lock:
            if self._catalogue is None:
                self._catalogue = load_catalogue()
            return self._catalogue

    def status(self, name: str) -> EngineStatus:
        """How an engine stands; a good answer may be five seconds old."""
        check = self._engines.get(name).check
        status = self._status.get(name, check)
        if not status.usable:
            self._status.forget()
            status = self._status.get(name, check)
        return status

    # -- planning -----------------------------------------------------------------------------------------------

    def plan(self, spec: RunSpec, *, pip: PipSettings | None = None) -> Plan:
        """What building and launching `spec` would do. Quick enough to be called while the user types.

        Raises RequestError for what cannot be planned at all (no such folder, framework, Dockerfile); everything
        milder, an engine that is away included, is a check of the plan.
        """
        engine = self._engines.get(spec.engine)
        status = self._status.get(spec.engine, engine.check)
        settings = self._settings.pip(pip)
        root, snapshot = self._code_of(spec)
        dependencies = self._dependencies_of(spec, root, snapshot)
        present = self._images_on(spec.engine, engine, status)
        recipe = self._recipe(spec, root, snapshot, dependencies, settings, present)
        variant = self._variant(recipe, spec)
        image = self._finished(engine, status, recipe)
        forecast = self._forecast(engine, status, recipe, is_there=image is not None)
        secrets = self._secrets_in(root, snapshot)
        facts = Facts(
            spec=spec,
            status=status,
            gpus=self._gpus_of(spec, engine, status),
            recipe=recipe,
            snapshot=snapshot,
            variant=variant,
            forecast=forecast,
            image=image,
            present=present,
            secrets=secrets,
            can_build=isinstance(engine, CanBuild),
            last_size_bytes=self._last_size(recipe),
        )
        return Plan(
            spec=spec,
            recipe=recipe,
            snapshot=snapshot,
            checks=checks_for(facts),
            forecast=forecast,
            source_root=root,
            variant=variant,
            image=image,
            pip=settings,
        )

    def _code_of(self, spec: RunSpec) -> tuple[Path | None, CodeSnapshot | None]:
        if spec.image.image and not (spec.code.folder or spec.code.url):
            return None, None
        root = self._code.fetch(spec.code)
        return root, self._code.snapshot(spec.code)

    def _dependencies_of(
        self, spec: RunSpec, root: Path | None, snapshot: CodeSnapshot | None
    ) -> Dependencies:
        if spec.image.image or spec.image.dockerfile or root is None or snapshot is None:
            return Dependencies()
        if spec.image.requirements is not None:
            return Dependencies(requirements=spec.image.requirements, source=DependencySource.USER)
        script = script_of(spec.command)
        return self._dependencies.get(
            (root, snapshot.tree_hash, script),
            lambda: find_dependencies(root, files=snapshot.files, script=script),
        )

    def _recipe(
        self,
        spec: RunSpec,
        root: Path | None,
        snapshot: CodeSnapshot | None,
        dependencies: Dependencies,
        pip: PipSettings,
        present: tuple[EngineImage, ...],
    ) -> Recipe:
        if spec.image.image:
            return Recipe(
                dockerfile="", layers=(), spec=spec.image, base=spec.image.image, tag=spec.image.image
            )
        return write_recipe(
            spec.image,
            spec.code,
            snapshot,
            catalogue=self.catalogue,
            dependencies=dependencies,
            pip=pip,
            base_map=self.base_map(present),
            name=project_name(spec.code) or (root.name if root is not None else "") or "project",
            dockerfile_text=_own_dockerfile(root, spec.image.dockerfile),
        )

    def base_map(self, present: tuple[EngineImage, ...] = ()) -> Mapping[str, str]:
        """Which base images stand in for which: labelled images of the engine, and the settings over them.

        A labelled stand-in is left out where the engine holds the real base.
        """
        tags = {tag for image in present for tag in image.tags}
        found: dict[str, str] = {}
        for image in present:
            labels = dict(image.labels)
            replaces = labels.get(BASE_LABEL, "")
            # An image that was built on a stand-in inherits its label.
            if RECIPE_LABEL not in labels and replaces and replaces not in tags and image.tags:
                found.setdefault(replaces, image.tags[0])
        return {**found, **self._settings.mapping("base_images")}

    def _variant(self, recipe: Recipe, spec: RunSpec) -> Variant | None:
        if spec.image.image or spec.image.dockerfile:
            return None
        framework = self.catalogue.get(recipe.spec.framework)
        version = self.catalogue.version(framework, recipe.spec.version)
        return (
            self.catalogue.variant(framework, version, recipe.spec.variant) if version is not None else None
        )

    def _images_on(self, name: str, engine: Engine, status: EngineStatus) -> tuple[EngineImage, ...]:
        if not status.usable or not isinstance(engine, CanBuild):
            return ()
        try:
            return self._present.get(name, lambda: tuple(engine.images(all_of_them=True)))
        except WorldError:
            return ()

    def _finished(self, engine: Engine, status: EngineStatus, recipe: Recipe) -> EngineImage | None:
        """The image that this very recipe (or reference) made, if the engine has it."""
        if not status.usable or not isinstance(engine, CanBuild):
            return None
        try:
            if not recipe.dockerfile:
                return engine.image(recipe.tag)
            found = engine.image(recipe.tag)
        except WorldError:
            return None
        if found is None or dict(found.labels).get(RECIPE_LABEL, recipe.digest) != recipe.digest:
            return None
        return found

    def _forecast(
        self, engine: Engine, status: EngineStatus, recipe: Recipe, *, is_there: bool
    ) -> tuple[LayerForecast, ...]:
        if is_there:
            entries = tuple(LayerForecast(layer=layer, cached=Cached.YES) for layer in recipe.layers)
        elif status.usable and isinstance(engine, CanBuild) and recipe.layers:
            try:
                entries = engine.forecast(recipe)
            except WorldError:
                entries = tuple(LayerForecast(layer=layer, cached=Cached.UNKNOWN) for layer in recipe.layers)
        else:
            entries = tuple(LayerForecast(layer=layer, cached=Cached.UNKNOWN) for layer in recipe.layers)
        return tuple(replace(entry, seconds=self._seconds(entry)) for entry in entries)

    def _seconds(self, entry: LayerForecast) -> float | None:
        """What the layer took the last time; with other content, if this content was never built."""
        if entry.seconds is not None or not entry.layer.key:
            return entry.seconds
        if takes_no_time(entry.layer):
            return 0.0
        known = self._history.layer_seconds(entry.layer.key)
        return known if known is not None else self._history.layer_seconds(text_key(entry.layer))

    def _gpus_of(self, spec: RunSpec, engine: Engine, status: EngineStatus) -> tuple[Gpu, ...] | None:
        """The engine's GPUs; None where nobody can tell."""
        wants = spec.gpus.wants_any or spec.image.variant not in ("", "cpu")
        if not wants or not status.usable or not isinstance(engine, CanListGpus):
            return None
        try:
            return self._gpus.get(spec.engine, lambda: tuple(engine.gpus()))
        except WorldError:
            return None

    def _secrets_in(self, root: Path | None, snapshot: CodeSnapshot | None) -> tuple[Finding, ...]:
        if root is None or snapshot is None:
            return ()
        return self._secrets.get((root, snapshot.tree_hash), lambda: find_secrets(root, snapshot.files))

    def _last_size(self, recipe: Recipe) -> int:
        if not recipe.dockerfile:
            return 0
        known = self._history.image_for_recipe(recipe.digest)
        return known.size_bytes if known is not None else 0

    # -- building -----------------------------------------------------------------------------------------------

    def build(
        self,
        plan: Plan,
        *,
        engine: str = "local",
        on_event: Callable[[BuildEvent], None] = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
        no_cache: bool = False,
    ) -> ImageRecord:
        """Build what `plan` describes, with live events, and keep a record of it.

        An image that the engine already holds for this very recipe is used as it is, unless `no_cache`. Raises
        BuildFailed (with a `Diagnosis`), Cancelled, EngineAway, RequestError.
        """
        for check in plan.checks:
            if check.level is Level.ERROR and check.name == "dependencies":
                # Building without a line that cannot be read would make another image than the one asked for.
                raise RequestError(check.message, field=check.field, try_this=check.try_this)
        builder = self._builder(engine)
        if not plan.builds:
            return self._existing(builder, plan, on_event=on_event)
        if not no_cache:
            ready = self._ready(builder, plan)
            if ready is not None:
                return ready
        watch = BuildWatch()

        def see(event: BuildEvent) -> None:
            watch.see(event)
            on_event(titled(event, plan.recipe) if isinstance(event, BuildStep) else event)

        began = time.time()
        context = make_context(plan.recipe, plan.source_root, plan.snapshot, plan.pip)
        try:
            for event in builder.build(plan.recipe, context, cancelled=cancelled, no_cache=no_cache):
                see(event)
        except BuildFailed as error:
            if isinstance(error.diagnosis, Diagnosis):
                raise
            raise self._explained(error, watch, plan.recipe) from error
        finally:
            for key, seconds in watch.layer_seconds(plan.recipe).items():
                self._history.record_layer(key, seconds)
        if watch.finished is None:
            raise WorldError(
                "The build ended without an image.", why="The engine did not say why.", can_retry=True
            )
        self._present.forget()
        return self._keep(builder, plan, watch, seconds=time.time() - began, cancelled=cancelled)

    def _ready(self, builder: Builder, plan: Plan) -> ImageRecord | None:
        image = plan.image or self._finished(builder, self.status(builder.name), plan.recipe)
        if image is None:
            return None
        known = self._history.image_for_recipe(plan.recipe.digest)
        if known is not None and known.id == image.id:
            return known
        record = self._record(plan, image, seconds=0.0, packages=builder.packages(image.id))
        self._history.add_image(record)
        return record

    def _keep(
        self,
        builder: Builder,
        plan: Plan,
        watch: BuildWatch,
        *,
        seconds: float,
        cancelled: Callable[[], bool],
    ) -> ImageRecord:
        """Look into the finished image and keep what is found; the smoke import runs in a newly made image only."""
        assert watch.finished is not None
        known = self._history.image_for_recipe(plan.recipe.digest)
        if known is not None and known.id == watch.finished.image_id:
            return known
        image = builder.image(watch.finished.image_id) or EngineImage(
            id=watch.finished.image_id,
            tags=(plan.recipe.tag,),
            size_bytes=watch.finished.size_bytes,
            created=time.time(),
        )
        twin = self._with_other_code(builder, plan, image)
        if twin is not None:
            packages = twin.packages
        else:
            if plan.recipe.smoke_import and self._settings.flag("build.smoke_import"):
                self._try_import(builder, image.id, plan.recipe, cancelled=cancelled)
            packages = builder.packages(image.id)
        record = replace(
            self._record(plan, image, seconds=seconds, packages=packages),
            cached_steps=watch.cached,
            steps=len(watch.numbered),
        )
        self._history.add_image(record)
        return record

    def _with_other_code(self, builder: Builder, plan: Plan, image: EngineImage) -> ImageRecord | None:
        """An earlier image that differs in nothing but the code, so that what was found in it holds for this one too.

        Judged by the layers themselves and not by what should be in them: a list of packages without versions may
        give others today.
        """
        recipe = plan.recipe
        code = [layer.text for layer in recipe.layers if layer.kind is LayerKind.CODE]
        if recipe.spec.dockerfile or not image.layers or not all(text.startswith("COPY ") for text in code):
            return None
        known = self._history.image_with_dockerfile(recipe.dockerfile)
        other = builder.image(known.id) if known is not None else None
        end = len(image.layers) - len(code)
        if (
            other is None
            or len(other.layers) != len(image.layers)
            or other.layers[:end] != image.layers[:end]
        ):
            return None
        return known

    @staticmethod
    def _record(
        plan: Plan, image: EngineImage, *, seconds: float, packages: tuple[Package, ...]
    ) -> ImageRecord:
        return ImageRecord(
            id=image.id,
            tag=plan.recipe.tag,
            recipe_digest=plan.recipe.digest,
            dockerfile=plan.recipe.dockerfile,
            spec_json=json.dumps(asdict(plan.recipe.spec), sort_keys=True),
            base=plan.recipe.base,
            created=image.created or time.time(),
            size_bytes=image.size_bytes,
            build_seconds=seconds,
            packages=packages,
            repo_digest=image.repo_digests[0] if image.repo_digests else "",
        )

    def _existing(
        self, builder: Builder, plan: Plan, *, on_event: Callable[[BuildEvent], None]
    ) -> ImageRecord:
        reference = plan.recipe.tag
        image = builder.image(reference)
        if image is None:
            for event in builder.pull(reference):
                on_event(event)
            image = builder.image(reference)
        if image is None:
            raise NotFound(
                f"There is no image “{reference}” on the engine.",
                field="image.image",
                try_this="Check its name and tag; `mlstudio images --all` lists what is there.",
            )
        known = self._history.image(image.id)
        if known is not None:
            return known
        record = self._record(plan, image, seconds=0.0, packages=builder.packages(image.id))
        self._history.add_image(record)
        return record

    @staticmethod
    def _try_import(
        builder: Builder, image_id: str, recipe: Recipe, *, cancelled: Callable[[], bool]
    ) -> None:
        """Import the framework once, without a network. Raises BuildFailed with what Python said, and Cancelled.

        One that takes longer than a slow disk explains is left alone: the run itself will show.
        """
        deadline = time.monotonic() + _LONGEST_IMPORT_S
        handle = builder.launch(
            LaunchSpec(
                run_id=f"smoke-{uuid.uuid4().hex}",
                image=image_id,
                command=("python3", "-c", recipe.smoke_import),
                network=Network.NONE,
            )
        )
        try:
            output = b"".join(
                chunk.data
                for chunk in builder.follow(
                    handle, should_stop=lambda: cancelled() or time.monotonic() > deadline
                )
            )
            code = builder.inspect(handle).exit_code
            if cancelled():
                raise Cancelled("The build was cancelled.")
        finally:
            builder.remove(handle)
        if code in (0, None):
            return
        text = output.decode("utf-8", "replace")
        lines = tuple(line for line in text.splitlines() if line.strip())[-12:]
        diagnosis = Diagnosis(
            rule="smoke-import",
            title=f"The image was built, but “{recipe.smoke_import}” fails in it.",
            why=lines[-1] if lines else f"Python ended with exit code {code}.",
            try_this="A package of the list may be incompatible with the framework or lack a system library; "
            "the last lines name it.",
            step="import check",
            last_lines=lines,
        )
        raise BuildFailed(
            diagnosis.title,
            diagnosis=diagnosis,
            why=diagnosis.why,
            try_this=diagnosis.try_this,
            details=text[-4000:],
        )

    @staticmethod
    def _explained(error: BuildFailed, watch: BuildWatch, recipe: Recipe) -> BuildFailed:
        """The same failure with the likely cause in words."""
        if isinstance(error, StepFailed):
            step, text, said = error.step, error.log, error.exit_text
        else:
            failed = watch.failed()
            step, text = (failed.name, watch.output(failed.id)) if failed is not None else ("", watch.tail())
            said = failed.error if failed is not None else ""
        diagnosis = diagnose(
            step, text or error.details, said or " ".join((error.what, error.why)), recipe.dockerfile
        )
        return BuildFailed(
            diagnosis.title,
            diagnosis=diagnosis,
            why=diagnosis.why,
            try_this=diagnosis.try_this,
            details=text[-4000:],
        )

    # -- what is there ------------------------------------------------------------------------------------------

    def list(self, *, engine: str = "local", all_of_them: bool = False) -> tuple[ImageRecord, ...]:
        """Images that are on the engine, newest first, with what the history knows of them."""
        builder = self._builder(engine)
        known = {record.id: record for record in self._history.images()}
        records = []
        for image in builder.images(all_of_them=all_of_them):
            tag = image.tags[0] if image.tags else ""
            found = known.get(image.id)
            records.append(
                replace(found, tag=found.tag or tag, size_bytes=image.size_bytes or found.size_bytes)
                if found is not None
                else ImageRecord(id=image.id, tag=tag, created=image.created, size_bytes=image.size_bytes)
            )
        return tuple(sorted(records, key=lambda record: -record.created))

    def remove(self, ref: str, *, engine: str = "local") -> None:
        """Remove an image from the engine; runs that used it keep its record. Raises NotFound, WorldError."""
        self._builder(engine).remove_image(ref)
        self._present.forget()

    def _builder(self, name: str) -> Builder:
        engine = self._engines.get(name)
        if not isinstance(engine, Builder):
            raise RequestError(f"The engine “{name}” builds no images.", field="engine")
        status = self.status(name)
        if not status.usable:
            raise away(status)
        return engine


def away(status: EngineStatus) -> EngineAway:
    """The error for an engine that cannot be used, in its own words."""
    names = {EngineKind.DOCKER: "Docker", EngineKind.PROCESS: "The process engine"}
    return EngineAway(
        f"{names.get(status.kind, f'The engine “{status.name}”')} cannot be used.",
        why=status.why,
        try_this=status.try_this,
        can_retry=True,
    )


def _own_dockerfile(root: Path | None, name: str) -> str | None:
    """The text of the user's own Dockerfile; None where there is none to read. Raises RequestError."""
    if not name or root is None:
        return None
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise RequestError(f"{name} lies outside the code.", field="image.dockerfile")
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"The Dockerfile {name} cannot be read.",
            field="image.dockerfile",
            why=str(getattr(error, "strerror", None) or "It is not UTF-8 text") + ".",
            try_this="Name a Dockerfile in the folder of the code.",
        ) from error
