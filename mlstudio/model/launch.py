"""Launches: what an engine is given, and what it answers. Engine-neutral; see `mlstudio.engines.engine`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mlstudio.model.run import GpuRequest, Limits, Mount, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMount:
    """The user's folder, bound read-only at `target`."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SecretValue:
    """A secret on its way to a container. Never printed, never written, never in an environment of the container.

    Its `repr` shows the name only.
    """

    name: str
    value: str

    def __repr__(self) -> str:
        return f"SecretValue({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One container to start."""

    run_id: str
    image: str
    """Image ID or reference that exists on the engine."""
    command: tuple[str, ...]
    workdir: str = ""
    """Empty: the image's own."""
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[SecretValue, ...] = ()
    mounts: tuple[Mount, ...] = ()
    code_mount: CodeMount | None = None
    clone_url: str = ""
    """Clone this into `workdir` at `clone_commit` before the command starts (the probe does it with the image's git)."""
    clone_commit: str = ""
    limits: Limits = field(default_factory=Limits)
    gpus: GpuRequest = field(default_factory=GpuRequest)
    network: Network = Network.BRIDGE
    labels: tuple[tuple[str, str], ...] = ()
    run_as_root: bool = False
    probe: bytes = b""
    """The probe's zipapp; empty: run without one."""
    probe_config: str = "{}"
    """JSON for the probe (no secrets): see `mlstudio.probe.config`."""


class Phase(StrEnum):
    """How a container stands at the engine."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    GONE = "gone"
    """The engine does not know it (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an engine says of a container."""

    phase: Phase
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    """The engine's own words if the container could not be started."""
    image_id: str = ""
    has_probe: bool | None = None
    """Whether the probe runs in it; False: an image without Python, whose output is all there is. None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Bytes of a container's output in the order in which the engine stored them.

    `position` is the engine's own opaque resume mark for the *end* of this chunk: `follow` given it delivers
    everything after it, and may deliver some bytes before it again (at-least-once). Exactly-once is the reader's work,
    by the probe's frame numbers.
    """

    data: bytes
    position: str
    time: float
    is_error_stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """An image that an engine holds."""

    id: str
    tags: tuple[str, ...]
    size_bytes: int
    created: float
    labels: tuple[tuple[str, str], ...] = ()
    repo_digests: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    architecture: str = ""
    layers: tuple[str, ...] = ()
    """Digests of its file-system layers, lowest first; empty where the engine does not say."""
