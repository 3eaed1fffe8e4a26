"""What an engine's own words about itself mean: its version, what it can do, and known traps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlstudio.model.host import EngineKind, EngineStatus, EngineTrouble

OLDEST_API = (1, 41)
_HOOKS = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")


def status_of(
    name: str,
    *,
    version: Mapping[str, Any],
    info: Mapping[str, Any],
    latency_s: float,
    is_local: bool,
) -> EngineStatus:
    """The status of an engine that answered "version" and "info"."""
    api = str(version.get("ApiVersion") or "")
    trouble, why, try_this = EngineTrouble.NONE, "", ""
    if _numbers(api) < OLDEST_API:
        trouble = EngineTrouble.TOO_OLD
        why = (
            f"Docker {version.get('Version') or 'of unknown version'} (API {api or 'unknown'}) is too old: "
            f"API {'.'.join(map(str, OLDEST_API))} is needed."
        )
        try_this = "Install Docker 20.10 or newer: sudo apt install docker.io"
    elif str(info.get("OSType") or "linux") != "linux":
        trouble = EngineTrouble.TOO_OLD
        why = "The engine runs Windows containers."
        try_this = "Switch it to Linux containers."
    elif is_snap(info):
        why = "Docker comes from Snap, which keeps it from giving GPUs to containers and from seeing most folders."
        try_this = "sudo snap remove docker && sudo apt install docker.io"
    return EngineStatus(
        name=name,
        kind=EngineKind.DOCKER,
        trouble=trouble,
        version=str(version.get("Version") or ""),
        api_version=api,
        why=why,
        try_this=try_this,
        latency_s=latency_s,
        cpus=_positive(info.get("NCPU")),
        memory_bytes=_positive(info.get("MemTotal")),
        gpu_runtime=gpu_runtime(info, is_local=is_local),
        buildkit=not _is_podman(version) and _numbers(api) >= (1, 39),
        storage_free_bytes=_free(info, is_local=is_local),
    )


def gpu_runtime(info: Mapping[str, Any], *, is_local: bool) -> bool | None:
    """Whether containers can be given NVIDIA GPUs, as far as that can be told without trying; None if it cannot."""
    if is_snap(info):
        return False
    if "nvidia" in (info.get("Runtimes") or {}) or uses_cdi(info, is_local=is_local):
        return True
    if not is_local:
        return None
    # Device requests need only this program in the engine's PATH.
    return any(shutil.which(hook) for hook in _HOOKS)


def uses_cdi(info: Mapping[str, Any], *, is_local: bool) -> bool:
    """Whether NVIDIA GPUs are to be asked for by the Container Device Interface: no runtime, but a list of devices."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return False
    discovered = info.get("DiscoveredDevices") or ()
    if any(
        "nvidia.com/gpu" in str(device.get("ID", "")) for device in discovered if isinstance(device, dict)
    ):
        return True
    folders = info.get("CDISpecDirs") or ()
    return is_local and any(
        any(Path(folder).glob("*nvidia*"))
        for folder in folders
        if str(folder) in _CDI_FOLDERS and Path(folder).is_dir()
    )


def is_snap(info: Mapping[str, Any]) -> bool:
    return str(info.get("DockerRootDir") or "").startswith("/var/snap/")


def _is_podman(version: Mapping[str, Any]) -> bool:
    return any("podman" in str(part.get("Name", "")).lower() for part in version.get("Components") or ())


def _free(info: Mapping[str, Any], *, is_local: bool) -> int | None:
    if not is_local:
        return None
    # The engine's own folder is closed to ordinary users; what holds it lies on the same disk, as a rule.
    folder = Path(str(info.get("DockerRootDir") or "/var/lib/docker"))
    for candidate in (folder, *folder.parents):
        try:
            return shutil.disk_usage(candidate).free
        except OSError:
            continue
    return None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _numbers(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        return ()
