"""Building images with the engine's own BuildKit, over its raw API: live steps, cancelling, mounts, a forecast.

`POST /build?version=2` takes the context as a tar file and answers with JSON lines; those with the id
``moby.buildkit.trace`` carry BuildKit's progress (`buildkit_trace`). Without a client session BuildKit cannot log in to
registries nor be given secrets: base images are fetched beforehand, and what a build may read but not keep comes as
small images (`BuildMount`) that are imported before and removed after.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mlstudio.engines.build_context import total_bytes, write_context, write_mount
from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.buildkit_trace import MalformedTrace, TraceReader
from mlstudio.engines.docker_images import MOUNT_LABEL, Connect, DockerImages
from mlstudio.engines.docker_stream import Refused, Stream
from mlstudio.engines.docker_translate import refusal
from mlstudio.engines.engine import MANAGED_LABEL, BuildContext, BuildMount
from mlstudio.model.errors import Cancelled, EngineAway, NotFound, WorldError
from mlstudio.model.image import (
    BuildEvent,
    BuildFinished,
    BuildOutput,
    BuildStep,
    Cached,
    LayerForecast,
    Recipe,
    StepState,
)

_log = logging.getLogger(__name__)

RECIPE_LABEL = "mlstudio.recipe"
LAYERS_LABEL = "mlstudio.layers"
"""The keys of an image's layers, shortened, in order: what later builds need not build again."""
_KEPT_MOUNT = "wheels"
"""Mounts of this kind are big and hold nothing private: they stay for the next build."""
_LEFT_BEHIND_S = 6 * 3600.0
_LOOK_EVERY_S = 0.2
_FIRST_ANSWER_S = 600.0
"""The engine begins to answer when it has read the whole context."""
_CACHE_LOOK_KEPT_S = 20.0
_KEY_LENGTH = 16
_TAIL_LINES = 40
_FROM = re.compile(
    r"^\s*FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?", re.IGNORECASE | re.MULTILINE
)
_COPY_FROM = re.compile(r"^\s*COPY\s+(?:--\S+\s+)*?--from=(?P<image>\S+)", re.IGNORECASE | re.MULTILINE)
_ARG = re.compile(r"^\s*ARG\s+(\w+)=(\S+)", re.IGNORECASE | re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")


class BuildKit:
    """Builds on one engine. Thread-safe; several builds may run at once."""

    def __init__(
        self, connect: Connect, *, images: DockerImages, locks: Path, closed: Callable[[], bool]
    ) -> None:
        self._connect = connect
        self._images = images
        self._locks = locks
        self._closed = closed
        self._cache: tuple[float, bool | None] = (0.0, None)

    # -- building -----------------------------------------------------------------------------------------------

    def build(
        self,
        recipe: Recipe,
        context: BuildContext,
        *,
        cancelled: Callable[[], bool],
        no_cache: bool,
    ) -> Iterator[BuildEvent]:
        """See `CanBuild.build`."""

        def stop_if_cancelled() -> None:
            if cancelled() or self._closed():
                raise Cancelled("The build was cancelled.")

        stop_if_cancelled()
        yield from self._fetch_bases(recipe, stop_if_cancelled)
        with ExitStack() as held:
            for mount in context.mounts:
                yield from self._provide(mount, held, stop_if_cancelled)
            yield from self._run(recipe, context, no_cache=no_cache, stop=stop_if_cancelled)

    def _run(
        self, recipe: Recipe, context: BuildContext, *, no_cache: bool, stop: Callable[[], None]
    ) -> Iterator[BuildEvent]:
        build_id = uuid.uuid4().hex
        trace = TraceReader()
        image_id = ""
        with self._connect("The image could not be built.") as (client, endpoint):
            stream = Stream(
                endpoint,
                "POST",
                f"/v{client.api_version}/build",
                query=_query(recipe, context, build_id=build_id, no_cache=no_cache),
                headers={"Content-Type": "application/x-tar"},
                has_body=True,
                timeout_s=_FIRST_ANSWER_S,
            )
            try:
                with stream:
                    broken = self._send(stream, recipe, context, stop)
                    for entry in _entries(stream, stop):
                        if entry.get("error"):
                            raise _failure(str(entry["error"]), trace)
                        aux = entry.get("aux")
                        if entry.get("id") == "moby.buildkit.trace" and isinstance(aux, str):
                            yield from _traced(trace, aux)
                        elif isinstance(aux, dict) and aux.get("ID"):
                            image_id = str(aux["ID"])
                    if broken is not None:
                        raise broken
            except Cancelled:
                # Closing the connection already ends the build; this says so to an engine that has not noticed.
                path = f"/v{client.api_version}/build/cancel"
                with (
                    suppress(EngineAway, Refused),
                    Stream(endpoint, "POST", path, query={"id": build_id}) as end,
                ):
                    end.begin()
                for step in trace.unfinished():
                    yield replace(step, state=StepState.CANCELLED, ended=time.time())
                raise
        if not image_id:
            raise EngineAway(
                "The build broke off.", why="Docker closed the connection without a result.", can_retry=True
            )
        image = self._images.get(image_id)
        yield BuildFinished(image_id=image_id, size_bytes=image.size_bytes if image is not None else 0)

    @staticmethod
    def _send(
        stream: Stream, recipe: Recipe, context: BuildContext, stop: Callable[[], None]
    ) -> EngineAway | None:
        """Send the context and read the head of the answer.

        An engine that refuses, or that has no room for it, stops reading before the end: then the error of sending is
        returned, and what the engine says in its answer goes before it.
        """
        broken = None
        try:
            try:
                write_context(stream, recipe.dockerfile, context, stop=stop)
                stream.end_body()
            except EngineAway as error:
                broken = error
            stream.begin()
        except Refused as error:
            raise refusal("The engine refused to build.", error.message) from error
        except EngineAway as error:
            raise (broken or error) from error
        return broken

    # -- base images --------------------------------------------------------------------------------------------

    def _fetch_bases(self, recipe: Recipe, stop: Callable[[], None]) -> Iterator[BuildEvent]:
        own = bool(recipe.spec.dockerfile)
        for reference in base_images(recipe.dockerfile):
            if self._images.get(reference) is not None:
                continue
            step = BuildStep(
                id=f"pull {reference}",
                name=f"fetch {reference}",
                state=StepState.RUNNING,
                started=time.time(),
            )
            try:
                for event in self._images.pull(reference):
                    stop()
                    if not isinstance(event, BuildFinished):
                        yield event
            except EngineAway:
                raise
            except (NotFound, WorldError) as error:
                yield replace(step, state=StepState.FAILED, ended=time.time(), error=error.why)
                if own:
                    # What looks like a base image in someone's own file may be none. BuildKit knows.
                    yield BuildOutput(step_id=step.id, text=f"{error}\n")
                    continue
                raise StepFailed(
                    f"The base image {reference} could not be fetched.",
                    step=step.name,
                    log=error.why,
                    exit_text=error.why,
                    try_this=error.try_this,
                ) from error

    # -- mounts -------------------------------------------------------------------------------------------------

    def _provide(self, mount: BuildMount, held: ExitStack, stop: Callable[[], None]) -> Iterator[BuildEvent]:
        """Import a mount's image unless it is there; it stays for as long as `held`, then goes if it is private."""
        lock = held.enter_context(self._lock_file(mount.image))
        if _kind(mount.image) != _KEPT_MOUNT:
            held.callback(self._withdraw, mount.image, lock)
        while True:
            # Alone while importing, together with other builds while using it.
            while not _locked(lock, fcntl.LOCK_EX):
                stop()
                time.sleep(_LOOK_EVERY_S / 4)
            if self._images.get(mount.image) is None:
                yield from self._import(mount, stop)
            fcntl.flock(lock, fcntl.LOCK_SH)
            # Between the two locks another build may have ended and removed it.
            if self._images.get(mount.image) is not None:
                return

    def _import(self, mount: BuildMount, stop: Callable[[], None]) -> Iterator[BuildEvent]:
        kind = _kind(mount.image)
        title = "hand over the wheels" if kind == _KEPT_MOUNT else "hand over the package settings"
        step = BuildStep(
            id=f"mount {mount.image}",
            name=title,
            state=StepState.RUNNING,
            started=time.time(),
            total_bytes=total_bytes(mount.files),
        )
        yield step
        repository, _, tag = mount.image.rpartition(":")
        with self._connect("The build's files could not be handed over.") as (client, endpoint):
            stream = Stream(
                endpoint,
                "POST",
                f"/v{client.api_version}/images/create",
                query={
                    "fromSrc": "-",
                    "repo": repository,
                    "tag": tag,
                    "changes": f"LABEL {MOUNT_LABEL}={kind}",
                },
                headers={"Content-Type": "application/x-tar"},
                has_body=True,
                timeout_s=_FIRST_ANSWER_S,
            )
            with stream:
                try:
                    write_mount(stream, mount, stop=stop)
                    stream.end_body()
                    stream.begin()
                    for entry in _entries(stream, stop):
                        if entry.get("error"):
                            raise refusal("The build's files could not be handed over.", str(entry["error"]))
                except Refused as error:
                    raise refusal("The build's files could not be handed over.", error.message) from error
        yield replace(step, state=StepState.DONE, ended=time.time(), done_bytes=step.total_bytes)

    def _withdraw(self, image: str, lock: IO[bytes]) -> None:
        """Remove a private mount, and those that builds which died left behind; not while another build uses one."""
        try:
            for name in {image, *self._left_behind()}:
                with ExitStack() as held:
                    other = lock if name == image else held.enter_context(self._lock_file(name))
                    if _locked(other, fcntl.LOCK_EX):
                        with suppress(NotFound):
                            self._images.remove(name)
        except (EngineAway, WorldError) as error:
            _log.warning("The package settings of a build are still on the engine (%s): %s", image, error)

    def _left_behind(self) -> list[str]:
        """Private mounts that are so old that their builds must be dead (a build elsewhere may be using a young one)."""
        with self._connect("The images could not be listed.") as (client, _):
            found = client.images(filters={"label": MOUNT_LABEL})
        old = [entry for entry in found if time.time() - float(entry.get("Created") or 0) > _LEFT_BEHIND_S]
        names = [name for entry in old for name in entry.get("RepoTags") or ()]
        return [name for name in names if _kind(name) != _KEPT_MOUNT]

    def _lock_file(self, image: str) -> IO[bytes]:
        self._locks.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", image)
        return os.fdopen(
            os.open(self._locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b"
        )

    # -- what a build would do ----------------------------------------------------------------------------------

    def forecast(self, recipe: Recipe) -> tuple[LayerForecast, ...]:
        """See `CanBuild.forecast`: by the layers of the images that were built here and are still there.

        A layer of an earlier image is cached unless the builder's cache was emptied; then nothing but the base is.
        """
        known, is_finished = self._known_layers(recipe)
        if is_finished:
            return tuple(LayerForecast(layer=layer, cached=Cached.YES) for layer in recipe.layers)
        has_cache = self._has_cache() if known else None
        entries: list[LayerForecast] = []
        broken = False
        for index, layer in enumerate(recipe.layers):
            if index == 0 and self._images.get(recipe.base) is not None:
                entries.append(LayerForecast(layer=layer, cached=Cached.YES))
                continue
            if not layer.key:
                entries.append(LayerForecast(layer=layer, cached=Cached.UNKNOWN))
                continue
            is_known = not broken and short_key(layer.key) in known
            if is_known and has_cache is not False:
                cached, because = (Cached.YES, "") if has_cache else (Cached.UNKNOWN, "")
            elif is_known:
                cached, because = Cached.NO, "the builder's cache was emptied"
            else:
                because = f"{layer.kind.value} changed" if known and not broken else ""
                because = because or ("a layer before it changed" if broken and known else "first build")
                cached, broken = Cached.NO, True
            entries.append(LayerForecast(layer=layer, cached=cached, because=because))
        return tuple(entries)

    def _known_layers(self, recipe: Recipe) -> tuple[set[str], bool]:
        """Short keys of all layers that were built here, and whether the very image is there."""
        known: set[str] = set()
        for image in self._images.list(all_of_them=False):
            labels = dict(image.labels)
            if recipe.digest and labels.get(RECIPE_LABEL) == recipe.digest and recipe.tag in image.tags:
                return known, True
            known.update(filter(None, labels.get(LAYERS_LABEL, "").split(",")))
        return known, False

    def _has_cache(self) -> bool | None:
        """Whether the builder keeps anything; None if the engine does not say."""
        looked, found = self._cache
        if time.monotonic() - looked < _CACHE_LOOK_KEPT_S:
            return found
        with self._connect("The builder's cache could not be looked at.") as (client, _):
            cache = client.df().get("BuildCache")
        found = None if cache is None else bool(cache)
        self._cache = (time.monotonic(), found)
        return found


def short_key(key: str) -> str:
    """A layer's key as it stands in `LAYERS_LABEL`."""
    return key.removeprefix("sha256:")[:_KEY_LENGTH]


def base_images(dockerfile: str) -> tuple[str, ...]:
    """The images that a Dockerfile builds on or copies from, in order; stages, ``scratch`` and mounts are none."""
    arguments = dict(_ARG.findall(dockerfile))
    stages: set[str] = {"scratch"}
    found: list[str] = []
    for match in _FROM.finditer(dockerfile):
        found.append(match["image"])
        if match["stage"]:
            stages.add(match["stage"].lower())
    found += [match["image"] for match in _COPY_FROM.finditer(dockerfile)]
    names = []
    for name in found:
        value = _VARIABLE.sub(
            lambda hit: str(arguments.get(hit[1] or hit[3], hit[2] or "")).strip("\"'"), name
        )
        if value and value.lower() not in stages and not value.isdigit() and value not in names:
            names.append(value)
    return tuple(names)


def _query(recipe: Recipe, context: BuildContext, *, build_id: str, no_cache: bool) -> dict[str, str]:
    labels = {
        **dict(recipe.labels),
        MANAGED_LABEL: "1",
        RECIPE_LABEL: recipe.digest,
        LAYERS_LABEL: ",".join(short_key(layer.key) for layer in recipe.layers if layer.key),
    }
    return {
        "version": "2",
        "dockerfile": "Dockerfile",
        "t": recipe.tag,
        "buildargs": json.dumps(dict(context.build_args)),
        "labels": json.dumps(labels),
        "nocache": "1" if no_cache else "0",
        "rm": "1",
        "forcerm": "1",
        "buildid": build_id,
    }


def _entries(stream: Stream, stop: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer as they come."""
    pending = b""
    while True:
        stop()
        data = stream.read(_LOOK_EVERY_S)
        if data is None:
            continue
        *lines, pending = (pending + data).split(b"\n")
        if data == b"":
            lines, pending = [*lines, pending], b""
        for line in lines:
            if line.strip():
                try:
                    entry = json.loads(line)
                except ValueError:
                    _log.warning("The builder sent a line that is not JSON: %r", line[:200])
                    continue
                if isinstance(entry, dict):
                    yield entry
        if data == b"":
            return


def _traced(trace: TraceReader, aux: str) -> Sequence[BuildEvent]:
    try:
        return trace.feed(base64.b64decode(aux))
    except (MalformedTrace, ValueError) as error:
        _log.warning("The builder sent progress that could not be read: %s", error)
        return ()


def _failure(words: str, trace: TraceReader) -> StepFailed:
    """The error for a failed build, with the failing step and its last lines."""
    step = trace.failed
    if step is None:
        return StepFailed("The image could not be built.", step="", log="", exit_text=words)
    log = "\n".join(trace.text(step.id).splitlines()[-_TAIL_LINES:])
    return StepFailed(
        f"The step “{step.name}” failed.", step=step.name, log=log, exit_text=step.error or words
    )


def _kind(image: str) -> str:
    """``pip`` or ``wheels``: what a mount is for, from its name."""
    return image.rpartition(":")[0].rpartition("/")[2]


def _locked(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
