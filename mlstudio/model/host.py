"""Hosts: an engine's state, what it can do, and the GPUs it can reach."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EngineKind(StrEnum):
    DOCKER = "docker"
    PROCESS = "process"
    """The embedded engine: a virtual environment and a subprocess. Not a container."""
    KUBERNETES = "kubernetes"
    FAKE = "fake"
    IMPORTED = "imported"
    """No engine: another tool recorded the run, and it was imported."""


class EngineTrouble(StrEnum):
    """Why an engine cannot be used."""

    NONE = ""
    ABSENT = "absent"
    """Not installed."""
    STOPPED = "stopped"
    NOT_PERMITTED = "not-permitted"
    UNREACHABLE = "unreachable"
    TOO_OLD = "too-old"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """An engine as it answered just now. Never an exception: what is wrong is told in `trouble`, `why` and `try_this`."""

    name: str
    kind: EngineKind
    trouble: EngineTrouble = EngineTrouble.NONE
    version: str = ""
    api_version: str = ""
    why: str = ""
    try_this: str = ""
    latency_s: float | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    gpu_runtime: bool | None = None
    """Whether containers can be given NVIDIA GPUs (runtime or CDI); None if unknown."""
    buildkit: bool | None = None
    storage_free_bytes: int | None = None

    @property
    def usable(self) -> bool:
        return self.trouble is EngineTrouble.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    pid: int
    memory_bytes: int | None = None
    name: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as NVML sees it now. A reading that the device does not support is None."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation_percent: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    driver: str = ""
    cuda: str = ""
    """Newest CUDA release that the driver runs."""
    compute_capability: str = ""
    processes: tuple[GpuProcess, ...] = ()
