"""What the command runs in: Python, packages, CUDA, driver, kernel, processor. Read once, at the start."""

from __future__ import annotations

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, List, Optional

    from mlstudio.probe.nvml import Reader

MAX_PACKAGES = 5000


def describe_environment(reader: Optional[Reader]) -> Dict[str, Any]:
    """The ``environment`` event. What cannot be told is absent."""
    event = describe_machine()
    event["packages"] = _packages()
    for name, version in event["packages"]:
        # The wheels that bring CUDA with them: nvidia-cuda-runtime-cu12, nvidia-cudnn-cu12, nvidia-nccl-cu12.
        found = re.match(r"nvidia-(cuda-runtime|cudnn|nccl)(?:-cu\d+)?$", name)
        if found:
            event.setdefault({"cuda-runtime": "cuda"}.get(found.group(1), found.group(1)), version)
    if reader is not None:
        event["driver_cuda"] = reader.cuda
        event["gpu_source"] = reader.source
        event["gpus"] = [
            {
                "index": gpu["index"],
                "uuid": gpu["uuid"],
                "name": gpu["name"],
                "memory_bytes": gpu.get("memory_total_bytes"),
                "compute_capability": gpu.get("compute_capability", ""),
            }
            for gpu in reader.read()
        ]
        event["driver"] = reader.driver
    return event


def describe_machine() -> Dict[str, Any]:
    """The event without packages and GPUs, which take long to list: for a command that ended before they were."""
    system = os.uname()
    event: Dict[str, Any] = {
        "type": "environment",
        "python": "%d.%d.%d" % sys.version_info[:3],
        "implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(
            sys.implementation.name, sys.implementation.name
        ),
        "kernel": system.release,
        "machine": system.machine,
        "os": _os_name(),
        "cpus": len(os.sched_getaffinity(0)),
    }
    model = _cpu_model()
    if model:
        event["cpu_model"] = model
    try:
        event["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass
    for name, variable in (
        ("cuda", "CUDA_VERSION"),
        ("cudnn", "NV_CUDNN_VERSION"),
        ("nccl", "NV_LIBNCCL_PACKAGE_VERSION"),
    ):
        if os.environ.get(variable):
            event[name] = os.environ[variable]
    return event


def _packages() -> List[List[str]]:
    """Installed distributions of this Python: [name, version], sorted."""
    from importlib import metadata

    found: Dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name = distribution.metadata["Name"]
            version = distribution.version
        except Exception:  # noqa: BLE001 — a broken installation of one package
            continue
        # A package whose metadata is damaged has neither, whatever the annotations say.
        if name and version:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
        if len(found) >= MAX_PACKAGES:
            break
    return [[name, found[name]] for name in sorted(found)]


def _os_name() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip("\"'")
    except OSError:
        pass
    return os.uname().sysname


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.lower().startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""
