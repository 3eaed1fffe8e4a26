"""The GPUs of this machine and who uses them, for engines that run on it."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from mlstudio.model.host import Gpu, GpuProcess
from mlstudio.probe.nvml import GpuReading, open_reader


def read_gpus() -> Sequence[Gpu]:
    """All NVIDIA GPUs as they are now; empty where there are none, or no driver to ask."""
    reader = open_reader()
    if reader is None:
        return ()
    try:
        return tuple(
            gpu_of(reading, driver=reader.driver, cuda=reader.cuda) for reading in reader.read(processes=True)
        )
    finally:
        reader.close()


def gpu_of(reading: GpuReading, *, driver: str, cuda: str) -> Gpu:
    """A GPU from the probe's reading of it."""
    return Gpu(
        index=reading["index"],
        uuid=reading["uuid"],
        name=reading["name"],
        memory_total_bytes=reading.get("memory_total_bytes"),
        memory_used_bytes=reading.get("memory_used_bytes"),
        utilisation_percent=reading.get("utilisation_percent"),
        power_w=reading.get("power_w"),
        power_limit_w=reading.get("power_limit_w"),
        temperature_c=reading.get("temperature_c"),
        driver=driver,
        cuda=cuda,
        compute_capability=reading.get("compute_capability") or "",
        processes=tuple(_process(pid, memory) for pid, memory in reading.get("processes") or ()),
    )


def _process(pid: int, memory_bytes: int | None) -> GpuProcess:
    name = user = ""
    try:
        process = psutil.Process(pid)
        name, user = process.name(), process.username()
    except psutil.Error:
        pass  # It has ended, or it is another user's and the system keeps it secret.
    return GpuProcess(pid=pid, memory_bytes=memory_bytes, name=name, user=user)
