"""The Docker engine, over docker-py; what never ends by itself (output, builds, stdin) over `docker_stream`.

A run's container is called ``mlstudio-<run id>``: Docker refuses a second one of that name, which makes launching the
same run twice harmless. Its handle is the container's full ID.

The probe is the container's first process where the image has a Python (`docker_translate.PROBE_LABEL` = 1); without
one the command runs plainly, as with `docker run`. Which program is Python is found by trying, once for each image.
"""

from __future__ import annotations

import io
import json
import logging
import os
import posixpath
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker.errors

import docker
from mlstudio.engines.buildkit import BuildKit
from mlstudio.engines.docker_check import gpu_runtime, uses_cdi
from mlstudio.engines.docker_check import status_of as status_from
from mlstudio.engines.docker_client import make_client
from mlstudio.engines.docker_host import Endpoint, Unreachable, find_endpoint
from mlstudio.engines.docker_images import DockerImages
from mlstudio.engines.docker_output import Mark, OutputReader
from mlstudio.engines.docker_stream import Refused, Stream
from mlstudio.engines.docker_translate import (
    HostFacts,
    check_request,
    container_config,
    image_of,
    missing_program,
    observation_of,
    probe_archive,
    refusal,
    translating,
    uid_of,
    user_for,
    words_of,
)
from mlstudio.engines.engine import RUN_LABEL, BuildContext
from mlstudio.engines.local_gpus import read_gpus
from mlstudio.model.errors import EngineAway, NotFound, RequestError, WorldError
from mlstudio.model.host import EngineKind, EngineStatus, EngineTrouble, Gpu
from mlstudio.model.image import BuildEvent, LayerForecast, Package, Recipe
from mlstudio.model.launch import Chunk, EngineImage, LaunchSpec, Observation, Phase

_log = logging.getLogger(__name__)

_TIMEOUT_S = 60.0
_CHECK_TIMEOUT_S = 2.0
_FACTS_KEPT_S = 30.0
_LOOK_EVERY_S = 0.25
"""How soon a follower notices that it shall end."""
_IDLE_S = 1.0
_PYTHONS = ("python3", "python")
_KILL_MARGIN_S = 3.0
"""The probe kills the command itself after its own grace and then writes its last frame."""
_MAX_FILE_BYTES = 256 * 1024 * 1024
_MAX_LINKS = 8
_OTHER_LAUNCH_S = 10.0
"""How long another launch of the same run may take to start its container."""


class DockerEngine:
    """A Docker engine that is reached through a socket. Connects when it is first used."""

    def __init__(
        self,
        name: str = "local",
        *,
        locks: Path,
        find: Callable[[], Endpoint] = find_endpoint,
    ) -> None:
        """`locks`: a folder for lock files, which keep two builds from using or removing the same mount at once."""
        self._name = name
        self._find = find
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._endpoint: Endpoint | None = None
        self._facts: tuple[float, HostFacts] | None = None
        self._pythons: dict[str, str] = {}
        self._closed = threading.Event()
        self._images = DockerImages(self._connected)
        self._builder = BuildKit(
            self._connected, images=self._images, locks=locks, closed=self._closed.is_set
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> EngineKind:
        return EngineKind.DOCKER

    # -- the connection -----------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self, what: str) -> Iterator[tuple[docker.APIClient, Endpoint]]:
        """A client whose errors become ours; `what` says what could not be done."""
        client, endpoint = self._open()
        try:
            with translating(what):
                yield client, endpoint
        except EngineAway as error:
            self._forget(client)
            if not isinstance(error, Unreachable):
                # The connection broke; if there is nobody any more, that says more than how it broke.
                endpoint.connect(_CHECK_TIMEOUT_S).close()
            raise

    def _open(self) -> tuple[docker.APIClient, Endpoint]:
        with self._lock:
            if self._closed.is_set():
                raise EngineAway("The engine was closed.")
            if self._client is not None and self._endpoint is not None:
                return self._client, self._endpoint
            endpoint = self._find()
            version = _api_version(endpoint)
            with translating("It could not be connected to."):
                client = make_client(endpoint, version=version, timeout_s=int(_TIMEOUT_S))
            self._client, self._endpoint = client, endpoint
            return client, endpoint

    def _forget(self, client: docker.APIClient) -> None:
        """Connect anew the next time: the engine may come back as another version or elsewhere."""
        with self._lock:
            if self._client is client:
                self._client = self._endpoint = self._facts = None
        client.close()

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- how it stands ------------------------------------------------------------------------------------------

    def check(self) -> EngineStatus:
        try:
            endpoint = self._find()
            began = time.monotonic()
            version = _api_version(endpoint)
            latency = time.monotonic() - began
            client = make_client(endpoint, version=version, timeout_s=int(_CHECK_TIMEOUT_S))
            try:
                with translating("It did not say how it is."):
                    found = client.version()
                    info = client.info()
            finally:
                client.close()
        except Unreachable as error:
            return EngineStatus(
                name=self._name,
                kind=self.kind,
                trouble=error.trouble,
                why=f"{error.what} {error.why}",
                try_this=error.try_this,
            )
        except (EngineAway, WorldError) as error:
            return EngineStatus(
                name=self._name,
                kind=self.kind,
                trouble=EngineTrouble.UNREACHABLE,
                why=f"{error.what} {error.why}".strip(),
                try_this=error.try_this or "Look at its log: journalctl -u docker -n 50",
            )
        return status_from(
            self._name, version=found, info=info, latency_s=latency, is_local=endpoint.is_local
        )

    def gpus(self) -> Sequence[Gpu]:
        """GPUs of this machine, where the engine is on it and can give them to containers."""
        with self._connected("It did not say which GPUs it has.") as (client, endpoint):
            if not endpoint.is_local or gpu_runtime(client.info(), is_local=True) is False:
                return ()
        return read_gpus()

    def _host_facts(self) -> HostFacts:
        with self._lock:
            if self._facts is not None and time.monotonic() - self._facts[0] < _FACTS_KEPT_S:
                return self._facts[1]
        with self._connected("It did not say what it can do.") as (client, endpoint):
            info = client.info()
        facts = HostFacts(
            is_local=endpoint.is_local,
            is_rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
            log_driver=str(info.get("LoggingDriver") or "json-file"),
            nvidia_is_default=info.get("DefaultRuntime") == "nvidia",
            uses_cdi=uses_cdi(info, is_local=endpoint.is_local),
            caller_uid=os.getuid(),
            caller_gid=os.getgid(),
        )
        with self._lock:
            self._facts = (time.monotonic(), facts)
        return facts

    # -- launching ----------------------------------------------------------------------------------------------

    def launch(self, spec: LaunchSpec) -> str:
        image = self._image_for(spec)
        facts = self._host_facts()
        check_request(spec, image, facts)
        for python in self._pythons_to_try(spec, image):
            handle = None
            deadline = time.monotonic() + _OTHER_LAUNCH_S
            while handle is None:
                handle = self._create(spec, image, facts, python=python)
                if handle is None:
                    found = self._launched_by_another(spec.run_id)
                    if found is not None:
                        return found
                    if time.monotonic() > deadline:
                        raise WorldError("The run's container neither starts nor goes away.", can_retry=True)
            try:
                self._start(handle, spec, image, facts, python=python)
            except _NoPython:
                self.remove(handle)
                continue
            except BaseException:
                self._remove_quietly(handle)
                raise
            if spec.probe:
                with self._lock:
                    self._pythons[image.id] = python
            return handle
        raise AssertionError("The last way to start a container does without Python.")

    def _launched_by_another(self, run_id: str) -> str | None:
        """The container that another launch of this run made, once it is started; None if that came to nothing.

        Docker gives the name away before it lists the container.
        """
        deadline = time.monotonic() + _OTHER_LAUNCH_S
        handle = None
        pause = 0.02
        while time.monotonic() < deadline:
            handle = self.find(run_id)
            if handle is not None and self.inspect(handle).phase not in (Phase.CREATED, Phase.GONE):
                return handle
            if handle is None and pause > 0.2:
                return None
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        return handle

    def _image_for(self, spec: LaunchSpec) -> EngineImage:
        with self._connected("The image could not be looked at.") as (client, _):
            try:
                return image_of(client.inspect_image(spec.image))  # type: ignore[no-untyped-call]
            except (docker.errors.APIError, docker.errors.NullResource) as error:
                if isinstance(error, docker.errors.APIError) and error.status_code not in (400, 404):
                    raise
                raise RequestError(
                    f"There is no image “{spec.image}” on the engine.",
                    field="image.image",
                    try_this="Build or pull it first; `mlstudio images --all` lists what is there.",
                ) from error

    def _pythons_to_try(self, spec: LaunchSpec, image: EngineImage) -> tuple[str, ...]:
        """Programs that may start the probe, and last the empty one: without the probe."""
        if not spec.probe:
            if spec.secrets:
                raise _cannot_take_secrets("The run has no probe.")
            return ("",)
        with self._lock:
            known = self._pythons.get(image.id)
        return (*_PYTHONS, "") if known is None else (known,)

    def _create(self, spec: LaunchSpec, image: EngineImage, facts: HostFacts, *, python: str) -> str | None:
        """Create the container and put the probe in. None if the run has one already."""
        if spec.secrets and not python:
            raise _cannot_take_secrets("There is no Python in the image, so nothing inside can receive them.")
        with self._connected("The container could not be created.") as (client, _):
            config = container_config(spec, image, facts, python=python)
            try:
                made = client.create_container_from_config(  # type: ignore[no-untyped-call]
                    config, f"mlstudio-{spec.run_id}"
                )
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    return None
                raise
            handle = str(made["Id"])
            if python:
                uid = uid_of(user_for(spec, image, facts), image)
                try:
                    client.put_archive(handle, "/", probe_archive(spec, image, uid=uid))
                except BaseException:
                    self._remove_quietly(handle)
                    raise
        return handle

    def _start(
        self, handle: str, spec: LaunchSpec, image: EngineImage, facts: HostFacts, *, python: str
    ) -> None:
        with self._connected("The container could not be started.") as (client, endpoint):
            stdin = self._attach(client, endpoint, handle) if spec.secrets else None
            try:
                client.start(handle)
                if stdin is not None:
                    _hand_over(stdin, spec)
            except docker.errors.APIError as error:
                words = words_of(error)
                program = missing_program(words)
                if python and program == python:
                    raise _NoPython from error
                if program is not None:
                    raise RequestError(
                        f"There is no program “{program}” in the image.",
                        field="command",
                        why="The command's first word is looked for in the container's PATH.",
                        try_this="Check its spelling, or give its whole path.",
                        details=words,
                    ) from error
                if not python and "permission denied" in words and "exec" in words:
                    raise RequestError(
                        f"“{(spec.command or image.command)[0]}” may not be executed in the container.",
                        field="command",
                        why="The file is not marked as executable, or its folder is closed to the container's user.",
                        try_this="Start it through its interpreter, as in: python train.py",
                        details=words,
                    ) from error
                raise refusal("The container could not be started.", words) from error
            finally:
                if stdin is not None:
                    stdin.close()

    @staticmethod
    def _attach(client: docker.APIClient, endpoint: Endpoint, handle: str) -> Stream:
        """The container's standard input. It ends with this connection, so no secret lies around waiting."""
        stream = Stream(
            endpoint,
            "POST",
            f"/v{client.api_version}/containers/{handle}/attach",
            query={"stream": "1", "stdin": "1"},
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        )
        try:
            stream.begin()
        except Refused as error:
            stream.close()
            raise refusal("The secrets could not be handed over.", error.message) from error
        except BaseException:
            stream.close()
            raise
        return stream

    def _remove_quietly(self, handle: str) -> None:
        """Clean up while another error is on its way."""
        try:
            self.remove(handle)
        except (EngineAway, WorldError) as error:
            _log.warning("A container that did not start is left behind (%s): %s", handle[:12], error)

    # -- observing ----------------------------------------------------------------------------------------------

    def inspect(self, handle: str) -> Observation:
        with self._connected("The container could not be looked at.") as (client, _):
            try:
                return observation_of(client.inspect_container(handle))
            except docker.errors.NotFound:
                return Observation(phase=Phase.GONE)

    def find(self, run_id: str) -> str | None:
        with self._connected("The containers could not be listed.") as (client, _):
            found = client.containers(all=True, filters={"label": f"{RUN_LABEL}={run_id}"})
        return str(found[0]["Id"]) if found else None

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        def shall_end() -> bool:
            return self._closed.is_set() or should_stop()

        mark, search, is_last, is_unsure = Mark.parse(position), True, False, False
        while not shall_end():
            reader = OutputReader(mark, search=search)
            follow = not (is_last or is_unsure)
            try:
                for chunk in self._output(handle, reader, mark, follow=follow, shall_end=shall_end):
                    mark, search = Mark.parse(chunk.position), True
                    yield chunk
            except _NoMark:
                # A busy engine may only be slow to find it: an answer that has an end decides. If the marked record is
                # not in that one either, it is no longer kept, and what is there now is all newer.
                search, is_unsure = follow, follow
                continue
            if is_unsure:
                is_unsure = False
                continue
            if is_last or shall_end():
                return
            phase = self.inspect(handle).phase
            if phase is Phase.GONE:
                return
            if phase is Phase.EXITED:
                # The engine ends a followed answer a moment before the last of the output is readable.
                is_last = True
            else:
                self._closed.wait(_LOOK_EVERY_S / 2)

    def _output(
        self,
        handle: str,
        reader: OutputReader,
        mark: Mark | None,
        *,
        follow: bool,
        shall_end: Callable[[], bool],
    ) -> Iterator[Chunk]:
        """What one connection delivers. Raises _NoMark where the mark does not come."""
        query = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "tail": "all",
            "follow": "1" if follow else "0",
        }
        if mark is not None:
            query["since"] = mark.since
        with (
            self._connected("The output could not be read.") as (client, endpoint),
            Stream(
                endpoint, "GET", f"/v{client.api_version}/containers/{handle}/logs", query=query
            ) as stream,
        ):
            try:
                stream.begin()
            except Refused as error:
                if error.status == 404:
                    return
                raise refusal("The output could not be read.", error.message) from error
            idle_since = time.monotonic()
            while not shall_end():
                data = stream.read(_LOOK_EVERY_S)
                if data:
                    yield from reader.feed(data)
                    idle_since = time.monotonic()
                is_idle = follow and time.monotonic() - idle_since > _IDLE_S
                if reader.is_searching and (data == b"" or reader.has_passed or is_idle):
                    raise _NoMark
                if data == b"":
                    return

    # -- ending -------------------------------------------------------------------------------------------------

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        with self._connected("The container could not be stopped.") as (client, _):
            try:
                found = client.inspect_container(handle)
                if observation_of(found).phase is not Phase.RUNNING:
                    return
                if (found.get("State") or {}).get("Paused"):
                    client.unpause(handle)
                client.kill(handle, "SIGTERM")
                margin = _KILL_MARGIN_S if observation_of(found).has_probe else 0.0
                if self._has_ended_within(grace_s + margin, handle):
                    return
                client.kill(handle, "SIGKILL")
            except docker.errors.APIError as error:
                # Gone, or ended in this very moment.
                if error.status_code not in (404, 409):
                    raise
        if not self._has_ended_within(_TIMEOUT_S, handle):
            raise WorldError(
                "The container does not end.",
                why="It was killed, but the engine still calls it running; a process may hang in the kernel.",
                try_this="Look at docker logs and dmesg; restarting Docker may help.",
                can_retry=True,
            )

    def _has_ended_within(self, seconds: float, handle: str) -> bool:
        deadline = time.monotonic() + seconds
        pause = 0.02
        while self.inspect(handle).phase is Phase.RUNNING:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(0.25, pause * 1.5)
        return True

    def remove(self, handle: str) -> None:
        with self._connected("The container could not be removed.") as (client, _):
            try:
                client.remove_container(handle, v=True, force=True)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                # Another removal is under way: its end is ours.
                if error.status_code != 409 or "in progress" not in words_of(error):
                    raise
            deadline = time.monotonic() + _TIMEOUT_S
            while time.monotonic() < deadline:
                try:
                    client.inspect_container(handle)
                except docker.errors.NotFound:
                    return
                time.sleep(0.05)

    def read_file(self, handle: str, path: str) -> bytes:
        with self._connected("The file could not be read.") as (client, _):
            for _ in range(_MAX_LINKS):
                try:
                    stream, _ = client.get_archive(handle, path)
                except docker.errors.APIError as error:
                    if error.status_code == 404 or "too many links" in words_of(error):
                        raise NotFound(f"There is no file {path} in the container.", field="path") from error
                    raise
                link, data = _first_file(stream, path)
                if not link:
                    return data
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        raise NotFound(f"{path} is a link that leads in circles.", field="path")

    # -- images: see docker_images and buildkit -----------------------------------------------------------------

    def build(
        self,
        recipe: Recipe,
        context: BuildContext,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        no_cache: bool = False,
    ) -> Iterator[BuildEvent]:
        return self._builder.build(recipe, context, cancelled=cancelled, no_cache=no_cache)

    def forecast(self, recipe: Recipe) -> tuple[LayerForecast, ...]:
        return self._builder.forecast(recipe)

    def images(self, *, all_of_them: bool = False) -> Sequence[EngineImage]:
        return self._images.list(all_of_them=all_of_them)

    def image(self, reference: str) -> EngineImage | None:
        return self._images.get(reference)

    def pull(self, reference: str) -> Iterator[BuildEvent]:
        return self._images.pull(reference)

    def remove_image(self, reference: str) -> None:
        self._images.remove(reference)

    def packages(self, image_id: str) -> tuple[Package, ...]:
        return self._images.packages(image_id)


class _NoPython(Exception):
    """The program that should start the probe is not in the image."""


class _NoMark(Exception):
    """The record that a mark names did not come."""


def _hand_over(stdin: Stream, spec: LaunchSpec) -> None:
    """Send the secrets as the one line that the probe waits for."""
    line = json.dumps({secret.name: secret.value for secret in spec.secrets}).encode() + b"\n"
    try:
        stdin.send_raw(line)
    except EngineAway:
        # The container runs, or has ended already. Without the line the probe ends the run and says why.
        _log.warning("The secrets of the run %s could not be handed over.", spec.run_id)


def _cannot_take_secrets(why: str) -> RequestError:
    return RequestError(
        "The secrets cannot be handed over.",
        field="secrets",
        why=why,
        try_this="Use an image with Python 3.8 or newer, or run without secrets.",
    )


def _api_version(endpoint: Endpoint) -> str:
    """The newest version of the API that the engine speaks."""
    with Stream(endpoint, "GET", "/_ping", timeout_s=_CHECK_TIMEOUT_S) as stream:
        try:
            stream.begin()
        except Refused as error:
            raise refusal("Docker does not answer properly.", error.message) from error
        return stream.headers.get("api-version", "1.41")


def _first_file(stream: Iterator[bytes], path: str) -> tuple[str, bytes]:
    """(where it leads to, "") for a link, or ("", content): of the first entry of a tar stream."""
    data = io.BytesIO()
    size = 0
    for part in stream:
        size += len(part)
        if size > _MAX_FILE_BYTES:
            raise WorldError(
                f"{path} is too big to be read.", why=f"It is over {_MAX_FILE_BYTES // 2**20} MB."
            )
        data.write(part)
    data.seek(0)
    with tarfile.open(fileobj=data) as archive:
        entry = archive.next()
        if entry is None or entry.isdir():
            raise NotFound(f"{path} is a folder, not a file.", field="path")
        if entry.issym():
            return entry.linkname, b""
        content = archive.extractfile(entry)
        return "", content.read() if content is not None else b""
