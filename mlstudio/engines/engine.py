"""The engine seam: the one small protocol behind which containers run, and the capabilities beside it.

An engine is added with one module, one line in `mlstudio.engines.registry`, and a green run of `tests/conformance`.

Contract, for every engine and every method:

- Methods block and are called from worker threads, several at once; an engine is thread-safe.
- A handle is a plain string that is kept in the run's row and means the same after a restart of everything.
- `launch` labels what it starts with ``mlstudio.run=<run id>``; a second `launch` for the same run id finds that
  container and returns its handle instead of starting another (two launches at once: exactly one container).
- `stop` and `remove` are idempotent: for a container that has ended or is gone they return quietly.
- Errors are `mlstudio.model.errors`: `EngineAway` if the engine does not answer, `RequestError` if the request is wrong
  (with the field), `WorldError` otherwise. Nothing else escapes; client libraries' errors are translated here.
- A container never gets more than `LaunchSpec` says: no-new-privileges, all capabilities dropped, a user other than
  root where the image has one and `run_as_root` is False, no host network or PID namespace, code read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from mlstudio.model.host import EngineKind, EngineStatus, Gpu
from mlstudio.model.image import BuildEvent, LayerForecast, Package, Recipe
from mlstudio.model.launch import Chunk, EngineImage, LaunchSpec, Observation

RUN_LABEL = "mlstudio.run"
MANAGED_LABEL = "mlstudio.managed"


@runtime_checkable
class Engine(Protocol):
    """What every engine can do."""

    @property
    def name(self) -> str:
        """How the user calls it: ``local``."""
        ...

    @property
    def kind(self) -> EngineKind: ...

    def check(self) -> EngineStatus:
        """How it stands now. Never raises; answers within 5 seconds."""
        ...

    def launch(self, spec: LaunchSpec) -> str:
        """Create the container, put the probe and its configuration in, start it, hand over secrets; return its handle.

        Raises RequestError (no such image, GPU, mount source), WorldError (the engine refused: its words in `why`).
        A container that was created but could not be started is removed again before the error is raised.
        """
        ...

    def inspect(self, handle: str) -> Observation:
        """How the container stands. An unknown handle is `Phase.GONE`, not an error."""
        ...

    def find(self, run_id: str) -> str | None:
        """The handle of the container that carries the run's label, or None."""
        ...

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        """The container's output from `position` (empty: the beginning) until it has ended and all was delivered.

        At-least-once: chunks before `position` may come again, chunks after it never miss (unless the engine rotated
        them away). Returns soon (under 1 s) after `should_stop()` turned true, also when nothing is printed.
        Raises EngineAway when the connection breaks; the caller calls again with its last position.
        """
        ...

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        """Ask the command to end (SIGTERM) and kill it after `grace_s`. Returns when it has ended."""
        ...

    def remove(self, handle: str) -> None:
        """Remove the ended container with its writable layer. A running one is killed first."""
        ...

    def read_file(self, handle: str, path: str) -> bytes:
        """Content of a file in the container, running or ended. Raises NotFound. Used for the spool and artifacts."""
        ...

    def close(self) -> None:
        """Drop connections; running containers are not touched. Ends pending `follow` calls."""
        ...


@runtime_checkable
class CanBuild(Protocol):
    """Engines that build images."""

    def build(
        self,
        recipe: Recipe,
        context: BuildContext,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        no_cache: bool = False,
    ) -> Iterator[BuildEvent]:
        """Build the recipe with live steps; the last event is `BuildFinished`.

        Raises BuildFailed (with a diagnosis), Cancelled, EngineAway. Partial work stays in the builder's cache only.
        """
        ...

    def forecast(self, recipe: Recipe) -> tuple[LayerForecast, ...]:
        """Which layers are known to be cached, without building."""
        ...

    def images(self, *, all_of_them: bool = False) -> Sequence[EngineImage]:
        """Images on the engine: ours (label `MANAGED_LABEL`), or all."""
        ...

    def image(self, reference: str) -> EngineImage | None:
        """The image of that ID, tag or digest, or None if it is not on this engine."""
        ...

    def pull(self, reference: str) -> Iterator[BuildEvent]:
        """Fetch an image, with progress. Raises NotFound, WorldError."""
        ...

    def remove_image(self, reference: str) -> None: ...

    def packages(self, image_id: str) -> tuple[Package, ...]:
        """pip and apt packages inside the image, read by running it without a network. Empty where it cannot tell."""
        ...


@runtime_checkable
class CanListGpus(Protocol):
    """Engines that can tell which GPUs they have."""

    def gpus(self) -> Sequence[Gpu]: ...


class BuildContext(Protocol):
    """What a build reads, made by `mlstudio.images.context`."""

    @property
    def root(self) -> Path | None:
        """The code's folder; None if no code travels in the image."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """POSIX paths below `root` that go into the context under ``code/``."""
        ...

    @property
    def extra(self) -> Sequence[tuple[str, bytes]]:
        """`Recipe.context_files`."""
        ...

    @property
    def mounts(self) -> Sequence[BuildMount]:
        """Folders and files that the build may read but that never stay in a layer."""
        ...

    @property
    def build_args(self) -> Sequence[tuple[str, str]]:
        """Predefined proxy arguments (``HTTP_PROXY``, …), which Docker keeps out of the history."""
        ...


class BuildMount(Protocol):
    """A folder of this machine that a build step sees through ``RUN --mount=type=bind,from=<image>``.

    The engine imports it as a scratch image under the tag that the Dockerfile names, and removes that after the build.
    """

    @property
    def image(self) -> str: ...

    @property
    def files(self) -> Sequence[tuple[str, Path]]:
        """(POSIX path inside the mount, file on this machine)."""
        ...
