"""Images on a Docker engine: which there are, what is in them, fetching and removing them."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from email.parser import HeaderParser
from typing import Any

import docker.errors

import docker
from mlstudio.engines.docker_host import Endpoint
from mlstudio.engines.docker_translate import image_of, listed_image, missing_program, refusal, words_of
from mlstudio.engines.engine import MANAGED_LABEL
from mlstudio.model.errors import NotFound, WorldError
from mlstudio.model.image import BuildEvent, BuildFinished, BuildOutput, BuildStep, Package, StepState
from mlstudio.model.launch import EngineImage

Connect = Callable[[str], AbstractContextManager[tuple[docker.APIClient, Endpoint]]]
"""Gives a client whose errors are ours; the argument says what could not be done."""

MOUNT_LABEL = "mlstudio.mount"
"""On the images that only carry files into builds."""

_LOOK_TIMEOUT_S = 60.0
_DPKG_STATUS = "/var/lib/dpkg/status"
_MAX_STATUS_BYTES = 64 * 1024 * 1024
_LIST_PACKAGES = """
import json
try:
    from importlib.metadata import distributions
except ImportError:
    from pkg_resources import working_set
    found = [(d.project_name, d.version) for d in working_set]
else:
    found = [(d.metadata["Name"], d.version) for d in distributions()]
print("PACKAGES " + json.dumps(sorted({(str(n), str(v)) for n, v in found if n})))
"""


class DockerImages:
    """Images of one engine. Thread-safe."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def list(self, *, all_of_them: bool) -> Sequence[EngineImage]:
        """Our images (label `MANAGED_LABEL`), or all; newest first, without those that only carry files."""
        with self._connect("The images could not be listed.") as (client, _):
            filters = {} if all_of_them else {"label": f"{MANAGED_LABEL}=1"}
            found = [listed_image(entry) for entry in client.images(filters=filters)]
        shown = [image for image in found if MOUNT_LABEL not in dict(image.labels)]
        return sorted(shown, key=lambda image: -image.created)

    def get(self, reference: str) -> EngineImage | None:
        """The image of that ID, tag or digest."""
        if not reference:
            return None
        with self._connect("The image could not be looked at.") as (client, _):
            try:
                return image_of(client.inspect_image(reference))  # type: ignore[no-untyped-call]
            except docker.errors.APIError as error:
                # 400: no reference at all, such as one with capital letters.
                if error.status_code in (400, 404):
                    return None
                raise

    def remove(self, reference: str) -> None:
        """Remove an image, or one of its tags if it has several. Raises NotFound, WorldError if it is in use."""
        with self._connect("The image could not be removed.") as (client, _):
            try:
                client.remove_image(reference)
            except docker.errors.APIError as error:
                words = words_of(error)
                if error.status_code in (400, 404):
                    raise NotFound(
                        f"There is no image “{reference}” on the engine.", field="image"
                    ) from error
                if error.status_code == 409:
                    raise WorldError(
                        f"The image “{reference}” is in use.",
                        why=f"Docker says: {words}",
                        try_this="Remove the runs that use it first: mlstudio rm",
                    ) from error
                raise refusal("The image could not be removed.", words) from error

    def pull(self, reference: str) -> Iterator[BuildEvent]:
        """Fetch an image from its registry, with the user's Docker logins; a step for each layer."""
        if "@" in reference:
            repository, tag = reference, None
        else:
            head, _, last = reference.rpartition("/")
            name, _, tag = last.partition(":")
            repository, tag = (f"{head}/{name}" if head else name), tag or "latest"
        progress = _PullProgress(reference)
        yield progress.whole(StepState.RUNNING)
        with self._connect(f"The image “{reference}” could not be fetched.") as (client, _):
            try:
                for entry in client.pull(repository, tag=tag, stream=True, decode=True):
                    if "error" in entry:
                        raise _not_pulled(reference, str(entry["error"]))
                    yield from progress.see(entry)
            except docker.errors.APIError as error:
                raise _not_pulled(reference, words_of(error)) from error
        yield progress.whole(StepState.DONE)
        found = self.get(reference)
        if found is None:
            raise WorldError(
                f"The image “{reference}” was fetched, but the engine does not hold it.", can_retry=True
            )
        yield BuildFinished(image_id=found.id, size_bytes=found.size_bytes)

    def packages(self, image_id: str) -> tuple[Package, ...]:
        """Python's packages as the image's own Python lists them, and Debian's as its package manager wrote them."""
        for python in ("python3", "python"):
            config = {
                "Image": image_id,
                "Entrypoint": [python, "-c", _LIST_PACKAGES],
                "Cmd": [],
                "User": "65534:65534",
                "Env": ["HOME=/tmp", "NVIDIA_VISIBLE_DEVICES=void"],
                "NetworkDisabled": True,
                "Healthcheck": {"Test": ["NONE"]},
                "Labels": {"mlstudio.look": "1"},
                "HostConfig": {
                    "NetworkMode": "none",
                    "CapDrop": ["ALL"],
                    "SecurityOpt": ["no-new-privileges:true"],
                    "LogConfig": {"Type": "json-file", "Config": {}},
                },
            }
            with self._connect("The image's packages could not be listed.") as (client, _):
                made = client.create_container_from_config(config)  # type: ignore[no-untyped-call]
                handle = str(made["Id"])
                try:
                    debian = _debian_packages(client, handle)
                    output = _run(client, handle)
                finally:
                    client.remove_container(handle, v=True, force=True)
            if output is not None:
                return (*_python_packages(output), *debian)
        return debian


def _run(client: docker.APIClient, handle: str) -> bytes | None:
    """The output of a container that ends soon; None if its program is not in the image."""
    try:
        client.start(handle)
    except docker.errors.APIError as error:
        if missing_program(words_of(error)) is not None:
            return None
        raise
    deadline = time.monotonic() + _LOOK_TIMEOUT_S
    while client.inspect_container(handle)["State"]["Running"]:
        if time.monotonic() > deadline:
            return b""
        time.sleep(0.02)
    return bytes(client.logs(handle, stdout=True, stderr=False))


def _python_packages(output: bytes) -> tuple[Package, ...]:
    for line in output.decode("utf-8", "replace").splitlines():
        if line.startswith("PACKAGES "):
            try:
                found = json.loads(line.removeprefix("PACKAGES "))
            except ValueError:
                return ()
            return tuple(Package(name=str(name), version=str(version)) for name, version in found)
    return ()


def _debian_packages(client: docker.APIClient, handle: str) -> tuple[Package, ...]:
    """What Debian's package manager holds installed: paragraphs of its status file (deb822(5), dpkg(1))."""
    try:
        stream, _ = client.get_archive(handle, _DPKG_STATUS)
    except docker.errors.NotFound:
        return ()
    data = bytearray()
    for part in stream:
        data += part
        if len(data) > _MAX_STATUS_BYTES:
            return ()
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as archive:
        entry = archive.next()
        content = archive.extractfile(entry) if entry is not None and entry.isfile() else None
        text = content.read().decode("utf-8", "replace") if content is not None else ""
    return debian_packages(text)


def debian_packages(text: str) -> tuple[Package, ...]:
    """The installed packages of a dpkg status file."""
    parser = HeaderParser()
    found = []
    for paragraph in text.split("\n\n"):
        fields = parser.parsestr(paragraph.strip())
        if fields.get("Package") and str(fields.get("Status", "")).endswith(" installed"):
            found.append(
                Package(name=str(fields["Package"]), version=str(fields.get("Version", "")), manager="apt")
            )
    return tuple(sorted(found, key=lambda package: package.name))


def _not_pulled(reference: str, words: str) -> NotFound | WorldError:
    lower = words.lower()
    if any(sign in lower for sign in ("not found", "manifest unknown", "does not exist", "access denied")):
        return NotFound(
            f"There is no image “{reference}” that could be fetched.",
            field="image.image",
            why=f"Docker says: {words}",
            try_this="Check its name and tag; a private one needs `docker login` first.",
        )
    return WorldError(
        f"The image “{reference}” could not be fetched.",
        why=f"Docker says: {words}",
        try_this="Check the connection to the registry. Where none can be reached, `docker/engine bases` makes the base "
        "images, and the setting base_images names mirrors of your own.",
        can_retry=True,
    )


class _PullProgress:
    """Turns the engine's progress messages into steps."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._began = time.time()
        self._started: dict[str, float] = {}

    def whole(self, state: StepState) -> BuildStep:
        """The step for the fetch as a whole."""
        return BuildStep(
            id=f"pull {self._reference}",
            name=f"fetch {self._reference}",
            state=state,
            started=self._began,
            ended=time.time() if state is not StepState.RUNNING else None,
        )

    def see(self, entry: Mapping[str, Any]) -> Iterator[BuildEvent]:
        status, layer = str(entry.get("status") or ""), str(entry.get("id") or "")
        detail = entry.get("progressDetail") or {}
        if not layer or layer == self._reference.rpartition(":")[2]:
            if status:
                yield BuildOutput(step_id=f"pull {self._reference}", text=status + "\n")
            return
        now = time.time()
        started = self._started.setdefault(layer, now)
        is_over = status in ("Pull complete", "Already exists")
        if status == "Already exists":
            state = StepState.CACHED
        else:
            state = StepState.DONE if is_over else StepState.RUNNING
        yield BuildStep(
            id=f"layer {layer}",
            name=f"layer {layer}: {status}",
            state=state,
            started=started,
            ended=now if is_over else None,
            done_bytes=detail.get("current"),
            total_bytes=detail.get("total"),
        )
