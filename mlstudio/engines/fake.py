"""An engine in memory, for tests and demonstrations: what its containers print, and what befalls them, is scripted.

Containers are driven from outside (`FakeEngine.container`), or play a `Program` of their own in a thread. The engine can
go away and come back, lose containers, rotate their output away, deliver it slowly, and fail builds.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.engine import MANAGED_LABEL, BuildContext
from mlstudio.model.errors import Cancelled, EngineAway, NotFound, RequestError, WorldError
from mlstudio.model.host import EngineKind, EngineStatus, EngineTrouble, Gpu
from mlstudio.model.image import (
    BuildEvent,
    BuildFinished,
    BuildOutput,
    BuildStep,
    Cached,
    LayerForecast,
    Package,
    Recipe,
    StepState,
)
from mlstudio.model.launch import Chunk, EngineImage, LaunchSpec, Observation, Phase
from mlstudio.probe.wire import encode_frame

Clock = Callable[[], float]
Program = Callable[["FakeContainer"], int]
"""What a container does: it writes, waits, and returns its exit code."""

_LOOK_EVERY_S = 0.05
_KILLED = 137


@dataclass(frozen=True, slots=True)
class _Record:
    """A stored piece of output. Its number counts from the container's start, whatever was rotated away."""

    number: int
    data: bytes
    time: float
    is_error_stream: bool


class FakeContainer:
    """One container. Thread-safe; every change wakes its followers."""

    def __init__(self, spec: LaunchSpec, *, clock: Clock, changed: threading.Condition) -> None:
        self.spec = spec
        self.files: dict[str, bytes] = {}
        """Content by path, for `read_file`."""
        self.ignores_stop = False
        """Whether it goes on after SIGTERM, as a program that hangs does."""
        self.stop_requests = 0
        self._clock = clock
        self._changed = changed
        self._records: list[_Record] = []
        self._written = 0
        self._next_frame = 0
        self._phase = Phase.RUNNING
        self._started = clock()
        self._ended: float | None = None
        self._exit_code: int | None = None
        self._oom_killed = False
        self._error = ""

    def write(self, data: bytes, *, is_error_stream: bool = False) -> None:
        """Print something."""
        with self._changed:
            if self._phase is Phase.RUNNING:
                self._records.append(_Record(self._written, data, self._clock(), is_error_stream))
                self._written += 1
                self._changed.notify_all()

    def write_frame(self, body: Mapping[str, object] | None = None, *, log: bytes = b"") -> int:
        """Print `log` and then a frame about it, as the probe does; returns the frame's number."""
        with self._changed:
            seq = self._next_frame
            self._next_frame += 1
            is_open = bool(log) and not log.endswith(b"\n")
            about = {"n": len(log), "open": is_open, "spans": [[0, len(log), self._clock()]] if log else []}
            frame = encode_frame(seq, {"t": self._clock(), "log": about, **dict(body or {})})
            self.write(log + (b"\n" if is_open else b"") + frame)
            return seq

    def skip_frame(self) -> int:
        """Use up a frame's number without printing it: a hole for the reader. Returns the number."""
        with self._changed:
            self._next_frame += 1
            return self._next_frame - 1

    def rotate(self, *, keep: int) -> None:
        """Forget all stored output but the last `keep` pieces."""
        with self._changed:
            self._records = self._records[len(self._records) - keep :] if keep else []

    def finish(self, exit_code: int = 0, *, oom_killed: bool = False, error: str = "") -> None:
        """End. Only the first end counts."""
        with self._changed:
            if self._phase is Phase.RUNNING:
                self._phase = Phase.EXITED
                self._exit_code, self._oom_killed, self._error = exit_code, oom_killed, error
                self._ended = self._clock()
                self._changed.notify_all()

    def wait_for_stop(self, timeout_s: float) -> bool:
        """Wait until somebody asked for its end, or it has ended; False if the time was over first."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.stop_requests > 0 or self._phase is not Phase.RUNNING, timeout_s
            )

    @property
    def observation(self) -> Observation:
        with self._changed:
            return Observation(
                phase=self._phase,
                started=self._started,
                ended=self._ended,
                exit_code=self._exit_code,
                oom_killed=self._oom_killed,
                error=self._error,
                image_id=self.spec.image,
                has_probe=bool(self.spec.probe),
            )

    def records_from(self, number: int) -> Sequence[_Record]:
        """What is stored from that number on; the caller holds the lock."""
        first = self._records[0].number if self._records else self._written
        return self._records[max(0, number - first) :]

    def ask_to_stop(self) -> None:
        with self._changed:
            self.stop_requests += 1
            self._changed.notify_all()


@dataclass(slots=True)
class FakeBuild:
    """How builds go. `fails_at` is a layer's index; `seconds` passes for each layer that is not cached."""

    fails_at: int | None = None
    log: str = ""
    exit_text: str = "exit code: 1"
    seconds: float = 0.0
    built: list[Recipe] = field(default_factory=list)


class FakeEngine:
    """See the module. `program` is what containers do; None: tests drive them by hand."""

    def __init__(
        self,
        name: str = "fake",
        *,
        program: Program | None = None,
        clock: Clock = time.time,
        images: Sequence[EngineImage] = (),
        gpus: Sequence[Gpu] = (),
        any_image: bool = True,
    ) -> None:
        """`any_image`: whether containers start from images that are not there."""
        self._name = name
        self._program = program
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._containers: dict[str, FakeContainer] = {}
        self._images = {image.id: image for image in images}
        self._layers: set[str] = set()
        self._gpus = tuple(gpus)
        self._any_image = any_image
        self._away: EngineTrouble = EngineTrouble.NONE
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self.rate_bytes_per_s: float | None = None
        """How fast followers get output; None: at once."""
        self.builds = FakeBuild()
        self.launched: list[LaunchSpec] = []
        """Every spec that made a container."""
        self.image_packages: tuple[Package, ...] = ()

    # -- what befalls it ----------------------------------------------------------------------------------------

    def go_away(self, trouble: EngineTrouble = EngineTrouble.STOPPED) -> None:
        """Answer nobody from now on; followers get EngineAway. Containers go on."""
        with self._changed:
            self._away = trouble
            self._changed.notify_all()

    def come_back(self) -> None:
        with self._changed:
            self._away = EngineTrouble.NONE
            self._changed.notify_all()

    def lose(self, handle: str) -> None:
        """Forget a container, as after somebody's `docker rm -f`."""
        with self._changed:
            lost = self._containers.pop(handle, None)
            if lost is not None:
                lost.finish(_KILLED)
            self._changed.notify_all()

    def container(self, handle: str) -> FakeContainer:
        """The container behind a handle. Raises KeyError."""
        with self._changed:
            return self._containers[handle]

    def add_image(self, image: EngineImage) -> None:
        with self._changed:
            self._images[image.id] = image

    # -- Engine -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> EngineKind:
        return EngineKind.FAKE

    def check(self) -> EngineStatus:
        with self._changed:
            away = self._away
        if away is EngineTrouble.NONE:
            return EngineStatus(
                name=self._name,
                kind=self.kind,
                version="1",
                latency_s=0.0,
                cpus=8,
                memory_bytes=32 * 2**30,
                gpu_runtime=bool(self._gpus),
                buildkit=True,
            )
        return EngineStatus(
            name=self._name, kind=self.kind, trouble=away, why="The engine is away.", try_this="Start it."
        )

    def launch(self, spec: LaunchSpec) -> str:
        with self._present():
            handle = f"fake-{spec.run_id}"
            if handle in self._containers:
                return handle
            if not self._any_image and self.image(spec.image) is None:
                raise RequestError(f"There is no image “{spec.image}” on the engine.", field="image.image")
            if spec.secrets and not spec.probe:
                raise RequestError("The secrets cannot be handed over.", field="secrets")
            made = FakeContainer(spec, clock=self._clock, changed=self._changed)
            self._containers[handle] = made
            self.launched.append(spec)
        if self._program is not None:
            thread = threading.Thread(target=self._play, args=(made, self._program), name=handle, daemon=True)
            self._threads.append(thread)
            thread.start()
        return handle

    @staticmethod
    def _play(container: FakeContainer, program: Program) -> None:
        container.finish(program(container))

    def inspect(self, handle: str) -> Observation:
        with self._present():
            found = self._containers.get(handle)
            return found.observation if found is not None else Observation(phase=Phase.GONE)

    def find(self, run_id: str) -> str | None:
        with self._present():
            handle = f"fake-{run_id}"
            return handle if handle in self._containers else None

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        def shall_end() -> bool:
            return self._is_closed or should_stop()

        number = int(position) if position.isdigit() else 0
        while not shall_end():
            with self._present():
                found = self._containers.get(handle)
                if found is None:
                    return
                records = found.records_from(number)
                if not records:
                    if found.observation.phase is Phase.EXITED:
                        return
                    self._changed.wait(_LOOK_EVERY_S)
                    continue
            for record in records:
                with self._present():
                    pass
                if shall_end():
                    return
                if self.rate_bytes_per_s:
                    time.sleep(len(record.data) / self.rate_bytes_per_s)
                number = record.number + 1
                yield Chunk(
                    data=record.data,
                    position=str(number),
                    time=record.time,
                    is_error_stream=record.is_error_stream,
                )

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        with self._present():
            found = self._containers.get(handle)
            if found is None or found.observation.phase is not Phase.RUNNING:
                return
            found.ask_to_stop()
            if self._program is None and not found.ignores_stop:
                found.finish(143)
            ended = self._changed.wait_for(lambda: found.observation.phase is not Phase.RUNNING, grace_s)
            if not ended:
                found.finish(_KILLED)

    def remove(self, handle: str) -> None:
        with self._present():
            self.lose(handle)

    def read_file(self, handle: str, path: str) -> bytes:
        with self._present():
            found = self._containers.get(handle)
            if found is None or path not in found.files:
                raise NotFound(f"There is no file {path} in the container.", field="path")
            return found.files[path]

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            for container in self._containers.values():
                container.finish(_KILLED)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    # -- CanBuild, CanListGpus ----------------------------------------------------------------------------------

    def build(
        self,
        recipe: Recipe,
        context: BuildContext,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        no_cache: bool = False,
    ) -> Iterator[BuildEvent]:
        plan = self.builds
        for index, layer in enumerate(recipe.layers):
            is_cached = layer.key in self._layers and not no_cache
            text = " ".join(layer.text.split())
            step = BuildStep(
                id=f"fake-{index}",
                name=f"[{index + 1}/{len(recipe.layers)}] {text}",
                state=StepState.CACHED if is_cached else StepState.RUNNING,
                started=self._clock(),
            )
            with self._present():
                pass
            yield step
            if not is_cached:
                end = time.monotonic() + plan.seconds
                while time.monotonic() < end and not cancelled():
                    time.sleep(min(_LOOK_EVERY_S, plan.seconds))
            if cancelled():
                yield replace(step, state=StepState.CANCELLED, ended=self._clock())
                raise Cancelled("The build was cancelled.")
            if plan.fails_at == index:
                yield BuildOutput(step_id=step.id, text=plan.log)
                yield replace(step, state=StepState.FAILED, ended=self._clock(), error=plan.exit_text)
                raise StepFailed(
                    f"The step “{step.name}” failed.", step=step.name, log=plan.log, exit_text=plan.exit_text
                )
            if not is_cached:
                yield replace(step, state=StepState.DONE, ended=self._clock())
                self._layers.add(layer.key)
        plan.built.append(recipe)
        image_id = "sha256:" + hashlib.sha256(f"fake {recipe.digest}".encode()).hexdigest()
        labels = (*recipe.labels, (MANAGED_LABEL, "1"), ("mlstudio.recipe", recipe.digest))
        self.add_image(
            EngineImage(
                id=image_id,
                tags=(recipe.tag,),
                size_bytes=1000,
                created=self._clock(),
                labels=tuple(dict(labels).items()),
                workdir=recipe.workdir,
                layers=tuple(
                    layer.key for layer in recipe.layers if layer.text.startswith(("FROM", "RUN", "COPY"))
                ),
            ),
        )
        yield BuildFinished(image_id=image_id, size_bytes=1000)

    def forecast(self, recipe: Recipe) -> tuple[LayerForecast, ...]:
        with self._present():
            return tuple(
                LayerForecast(layer=layer, cached=Cached.YES if layer.key in self._layers else Cached.NO)
                for layer in recipe.layers
            )

    def images(self, *, all_of_them: bool = False) -> Sequence[EngineImage]:
        with self._present():
            return [
                image for image in self._images.values() if all_of_them or MANAGED_LABEL in dict(image.labels)
            ]

    def image(self, reference: str) -> EngineImage | None:
        with self._present():
            for image in self._images.values():
                if reference == image.id or reference in image.tags or reference in image.repo_digests:
                    return image
            return None

    def pull(self, reference: str) -> Iterator[BuildEvent]:
        found = self.image(reference)
        if found is None:
            raise NotFound(f"There is no image “{reference}” that could be fetched.", field="image.image")
        yield BuildFinished(image_id=found.id, size_bytes=found.size_bytes)

    def remove_image(self, reference: str) -> None:
        with self._present():
            found = self.image(reference)
            if found is None:
                raise NotFound(f"There is no image “{reference}” on the engine.", field="image")
            if any(
                container.spec.image in (found.id, *found.tags) for container in self._containers.values()
            ):
                raise WorldError(
                    f"The image “{reference}” is in use.", try_this="Remove the runs that use it first."
                )
            del self._images[found.id]

    def packages(self, image_id: str) -> tuple[Package, ...]:
        with self._present():
            return self.image_packages

    def gpus(self) -> Sequence[Gpu]:
        with self._present():
            return self._gpus

    def _present(self) -> threading.Condition:
        """The lock, if the engine answers. Raises EngineAway."""
        with self._changed:
            if self._away is not EngineTrouble.NONE:
                raise EngineAway(
                    "The engine does not answer.", why="It is away.", try_this="Start it.", can_retry=True
                )
        return self._changed
