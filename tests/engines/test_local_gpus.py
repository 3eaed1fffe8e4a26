"""GPUs of this machine, from the probe's readings."""

from __future__ import annotations

import os

from mlstudio.engines.local_gpus import gpu_of, read_gpus


def test_a_reading_becomes_a_gpu() -> None:
    found = gpu_of(
        {
            "index": 1, "uuid": "GPU-a", "name": "NVIDIA X", "memory_total_bytes": 100, "memory_used_bytes": None,
            "utilisation_percent": 5.0, "processes": [(os.getpid(), 7), (2**22 + 1, None)],
        },
        driver="550.1", cuda="12.4",
    )  # fmt: skip
    assert (found.index, found.uuid, found.driver, found.cuda) == (1, "GPU-a", "550.1", "12.4")
    assert found.memory_used_bytes is None
    assert found.power_w is None
    mine, gone = found.processes
    assert (mine.pid, mine.memory_bytes) == (os.getpid(), 7)
    assert mine.name
    assert mine.user
    assert (gone.name, gone.user, gone.memory_bytes) == ("", "", None)


def test_reading_never_fails() -> None:
    assert all(gpu.uuid for gpu in read_gpus())
