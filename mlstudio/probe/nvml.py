"""Reading NVIDIA GPUs: nvidia-ml-py where it is installed, else NVML through ctypes, else the nvidia-smi program.

A reading that a device does not support is None, and one unsupported reading never costs the others. Names and units
follow NVML's API reference (https://docs.nvidia.com/deploy/nvml-api/).
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from typing import Any, Callable, Dict, List, Optional, Tuple

LIBRARY_VARIABLE = "MLSTUDIO_NVML_LIBRARY"
"""Environment variable that names another library file than ``libnvidia-ml.so.1``."""

GpuReading = Dict[str, Any]
"""Keys: index, uuid, name, memory_total_bytes, memory_used_bytes, utilisation_percent, power_w, power_limit_w,
temperature_c, sm_clock_mhz, mem_clock_mhz, throttle_reasons, pcie_rx_bytes_per_s, pcie_tx_bytes_per_s,
compute_capability, processes [(pid, memory_bytes or None)]."""


class Reader:
    """One way to read GPUs. Not thread-safe. `driver` and `cuda` are version strings, empty where unknown."""

    driver = ""
    cuda = ""
    source = ""

    def read(self, *, processes: bool = False) -> List[GpuReading]:
        """All devices now. Never raises."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the library."""


def open_reader() -> Optional[Reader]:
    """The best reader that works here; None where there is no NVIDIA GPU (or no way to read it)."""
    for make in (_open_pynvml, _open_ctypes, _open_smi):
        try:
            reader = make()
        except Exception:  # noqa: BLE001 — a broken driver raises whatever it likes; the next way may work
            reader = None
        if reader is not None:
            return reader
    return None


def _cuda_text(number: int) -> str:
    return "%d.%d" % (number // 1000, number % 1000 // 10) if number > 0 else ""


def _quietly(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception:  # noqa: BLE001 — unsupported readings raise an error class of each binding's own
        return None


# -- nvidia-ml-py -----------------------------------------------------------------------------------------------------


def _open_pynvml() -> Optional[Reader]:
    if os.environ.get(LIBRARY_VARIABLE):
        import pynvml

        # The binding looks for the library under fixed names; this is the variable that tests use.
        pynvml.nvmlLib = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
    else:
        import pynvml
    pynvml.nvmlInit()
    return _Pynvml(pynvml)


class _Pynvml(Reader):
    source = "nvidia-ml-py"

    def __init__(self, pynvml: Any) -> None:
        self._nvml = pynvml
        self.driver = _text(_quietly(pynvml.nvmlSystemGetDriverVersion))
        self.cuda = _cuda_text(_quietly(pynvml.nvmlSystemGetCudaDriverVersion) or 0)
        count = _quietly(pynvml.nvmlDeviceGetCount) or 0
        self._devices = [
            handle
            for handle in (
                _quietly(functools.partial(pynvml.nvmlDeviceGetHandleByIndex, i)) for i in range(count)
            )
            if handle is not None
        ]

    def read(self, *, processes: bool = False) -> List[GpuReading]:
        return [self._device(index, handle, processes) for index, handle in enumerate(self._devices)]

    def _device(self, index: int, handle: Any, processes: bool) -> GpuReading:
        n = self._nvml
        memory = _quietly(lambda: n.nvmlDeviceGetMemoryInfo(handle))
        rates = _quietly(lambda: n.nvmlDeviceGetUtilizationRates(handle))
        capability = _quietly(lambda: n.nvmlDeviceGetCudaComputeCapability(handle))
        reading: GpuReading = {
            "index": index,
            "uuid": _text(_quietly(lambda: n.nvmlDeviceGetUUID(handle))),
            "name": _text(_quietly(lambda: n.nvmlDeviceGetName(handle))),
            "memory_total_bytes": getattr(memory, "total", None),
            "memory_used_bytes": getattr(memory, "used", None),
            "utilisation_percent": getattr(rates, "gpu", None),
            "power_w": _scaled(_quietly(lambda: n.nvmlDeviceGetPowerUsage(handle)), 1e-3),
            "power_limit_w": _scaled(_quietly(lambda: n.nvmlDeviceGetEnforcedPowerLimit(handle)), 1e-3),
            "temperature_c": _quietly(lambda: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU)),
            "sm_clock_mhz": _quietly(lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_SM)),
            "mem_clock_mhz": _quietly(lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_MEM)),
            "throttle_reasons": _quietly(lambda: n.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
            "pcie_rx_bytes_per_s": _scaled(
                _quietly(lambda: n.nvmlDeviceGetPcieThroughput(handle, n.NVML_PCIE_UTIL_RX_BYTES)), 1024
            ),
            "pcie_tx_bytes_per_s": _scaled(
                _quietly(lambda: n.nvmlDeviceGetPcieThroughput(handle, n.NVML_PCIE_UTIL_TX_BYTES)), 1024
            ),
            "compute_capability": "%d.%d" % tuple(capability) if capability else "",
        }
        if processes:
            found = _quietly(lambda: n.nvmlDeviceGetComputeRunningProcesses(handle)) or []
            reading["processes"] = [(entry.pid, entry.usedGpuMemory) for entry in found]
        return reading

    def close(self) -> None:
        _quietly(self._nvml.nvmlShutdown)


# -- ctypes -----------------------------------------------------------------------------------------------------------


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Rates(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Process(ctypes.Structure):
    # nvmlProcessInfo_v2_t, which nvmlDeviceGetComputeRunningProcesses_v2 and _v3 fill
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


def _open_ctypes() -> Optional[Reader]:
    library = ctypes.CDLL(os.environ.get(LIBRARY_VARIABLE) or "libnvidia-ml.so.1")
    if library.nvmlInit_v2() != 0:
        return None
    return _Ctypes(library)


class _Ctypes(Reader):
    source = "NVML"

    def __init__(self, library: Any) -> None:
        self._lib = library
        text = ctypes.create_string_buffer(96)
        self.driver = _text(text.value) if self._ok("nvmlSystemGetDriverVersion", text, 96) else ""
        number = ctypes.c_int()
        self.cuda = (
            _cuda_text(number.value)
            if self._ok("nvmlSystemGetCudaDriverVersion", ctypes.byref(number))
            else ""
        )
        count = ctypes.c_uint()
        self._devices: List[Any] = []
        if self._ok("nvmlDeviceGetCount_v2", ctypes.byref(count)):
            for index in range(count.value):
                handle = ctypes.c_void_p()
                if self._ok("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)):
                    self._devices.append(handle)

    def _ok(self, function: str, *arguments: Any) -> bool:
        try:
            return bool(getattr(self._lib, function)(*arguments) == 0)
        except AttributeError:  # an older driver lacks it
            return False

    def _number(
        self, function: str, handle: Any, *arguments: Any, kind: Any = ctypes.c_uint
    ) -> Optional[int]:
        value = kind()
        return value.value if self._ok(function, handle, *arguments, ctypes.byref(value)) else None

    def _string(self, function: str, handle: Any) -> str:
        text = ctypes.create_string_buffer(96)
        return _text(text.value) if self._ok(function, handle, text, 96) else ""

    def read(self, *, processes: bool = False) -> List[GpuReading]:
        return [self._device(index, handle, processes) for index, handle in enumerate(self._devices)]

    def _device(self, index: int, handle: Any, processes: bool) -> GpuReading:
        memory, rates = _Memory(), _Rates()
        has_memory = self._ok("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        has_rates = self._ok("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(rates))
        major, minor = ctypes.c_int(), ctypes.c_int()
        capability = self._ok(
            "nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor)
        )
        number = self._number
        reading: GpuReading = {
            "index": index,
            "uuid": self._string("nvmlDeviceGetUUID", handle),
            "name": self._string("nvmlDeviceGetName", handle),
            "memory_total_bytes": memory.total if has_memory else None,
            "memory_used_bytes": memory.used if has_memory else None,
            "utilisation_percent": rates.gpu if has_rates else None,
            "power_w": _scaled(number("nvmlDeviceGetPowerUsage", handle), 1e-3),
            "power_limit_w": _scaled(number("nvmlDeviceGetEnforcedPowerLimit", handle), 1e-3),
            "temperature_c": number("nvmlDeviceGetTemperature", handle, ctypes.c_uint(0)),
            "sm_clock_mhz": number("nvmlDeviceGetClockInfo", handle, ctypes.c_uint(1)),
            "mem_clock_mhz": number("nvmlDeviceGetClockInfo", handle, ctypes.c_uint(2)),
            "throttle_reasons": number(
                "nvmlDeviceGetCurrentClocksThrottleReasons", handle, kind=ctypes.c_ulonglong
            ),
            "pcie_rx_bytes_per_s": _scaled(
                number("nvmlDeviceGetPcieThroughput", handle, ctypes.c_uint(1)), 1024
            ),
            "pcie_tx_bytes_per_s": _scaled(
                number("nvmlDeviceGetPcieThroughput", handle, ctypes.c_uint(0)), 1024
            ),
            "compute_capability": "%d.%d" % (major.value, minor.value) if capability else "",
        }
        if processes:
            reading["processes"] = self._processes(handle)
        return reading

    def _processes(self, handle: Any) -> List[Tuple[int, Optional[int]]]:
        for function in (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetComputeRunningProcesses_v2",
        ):
            count = ctypes.c_uint(256)
            entries = (_Process * 256)()
            if self._ok(function, handle, ctypes.byref(count), entries):
                unknown = ctypes.c_ulonglong(-1).value
                return [
                    (e.pid, None if e.used == unknown else e.used) for e in entries[: min(256, count.value)]
                ]
        return []

    def close(self) -> None:
        self._ok("nvmlShutdown")


# -- nvidia-smi -------------------------------------------------------------------------------------------------------

_SMI_FIELDS = (
    ("index", "index", 1.0),
    ("uuid", "uuid", None),
    ("name", "name", None),
    ("memory.total", "memory_total_bytes", 1024.0 * 1024),
    ("memory.used", "memory_used_bytes", 1024.0 * 1024),
    ("utilization.gpu", "utilisation_percent", 1.0),
    ("power.draw", "power_w", 1.0),
    ("enforced.power.limit", "power_limit_w", 1.0),
    ("temperature.gpu", "temperature_c", 1.0),
    ("clocks.sm", "sm_clock_mhz", 1.0),
    ("clocks.mem", "mem_clock_mhz", 1.0),
    ("driver_version", "driver", None),
)


def _open_smi() -> Optional[Reader]:
    reader = _Smi()
    return reader if reader.read() else None


class _Smi(Reader):
    source = "nvidia-smi"

    def read(self, *, processes: bool = False) -> List[GpuReading]:
        query = ",".join(field for field, _, _ in _SMI_FIELDS)
        try:
            answer = subprocess.run(
                ["nvidia-smi", "--query-gpu=" + query, "--format=csv,noheader,nounits"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=10,
                check=True,
            ).stdout.decode("utf-8", "replace")
        except (OSError, subprocess.SubprocessError):
            return []
        found = []
        for line in answer.splitlines():
            words = [word.strip() for word in line.split(",")]
            if len(words) != len(_SMI_FIELDS):
                continue
            reading: GpuReading = {"compute_capability": ""}
            for word, (_, name, scale) in zip(words, _SMI_FIELDS):
                reading[name] = (
                    word if scale is None else _scaled(_quietly(functools.partial(float, word)), scale)
                )
            reading["index"] = int(reading["index"] or 0)
            self.driver = reading.pop("driver")
            found.append(reading)
        return found


def _scaled(value: Optional[float], scale: float) -> Optional[float]:
    return None if value is None else value * scale


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
