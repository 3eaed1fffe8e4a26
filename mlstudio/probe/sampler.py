"""Sampling what the run uses: the control group (v1 and v2) or the process tree, the network, the GPUs.

`Sampler` runs in a thread of its own, so that a driver that hangs stops neither output nor metrics. It begins a moment
after the command: looking for GPUs and packages costs more than a command that ends at once.
"""

from __future__ import annotations

import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

    from mlstudio.probe.nvml import Reader

    Sample = Tuple[int, float, Dict[str, float]]
    """(counter, wall time, reading by series name)"""

_FIRST_AFTER_S = 0.1

_NO_LIMIT = 1 << 60
_GPU_NAMES = (
    ("utilisation_percent", "utilisation_percent"),
    ("memory_used_bytes", "memory_bytes"),
    ("memory_total_bytes", "memory_total_bytes"),
    ("power_w", "power_w"),
    ("power_limit_w", "power_limit_w"),
    ("temperature_c", "temperature_c"),
    ("sm_clock_mhz", "sm_clock_mhz"),
    ("mem_clock_mhz", "mem_clock_mhz"),
    ("throttle_reasons", "throttle_reasons"),
    ("pcie_rx_bytes_per_s", "pcie_rx_bytes_per_s"),
    ("pcie_tx_bytes_per_s", "pcie_tx_bytes_per_s"),
)


class Sampler(threading.Thread):
    """Takes a sample every `every_s` seconds and gives it to `deliver` (called from this thread)."""

    def __init__(
        self,
        *,
        every_s: float,
        deliver: Callable[[Sample], None],
        tree_of: Optional[int] = None,
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self._every_s = max(0.1, every_s)
        self._deliver = deliver
        self._usage: Usage = Tree(tree_of) if tree_of is not None else open_usage()
        self._stopping = threading.Event()
        self._last: Dict[str, Tuple[float, float]] = {}
        self.gpu_reader: Optional[Reader] = None
        self.environment: Optional[Dict[str, Any]] = None
        """The ``environment`` event, once `ready` is set; None if it could not be made."""
        self.ready = threading.Event()

    def stop(self) -> None:
        """Take no more samples. Does not wait: a hanging driver is left to itself."""
        self._stopping.set()

    def run(self) -> None:
        if self._stopping.wait(_FIRST_AFTER_S):
            return
        from mlstudio.probe.nvml import open_reader

        self.gpu_reader = open_reader()
        counter = 0
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._deliver((counter, time.time(), self.sample()))
            except Exception as error:  # noqa: BLE001 — one odd reading must not end all sampling
                os.write(2, ("ML Studio: a system reading failed: %r\n" % (error,)).encode())
                return
            if counter == 0:
                self._describe()
            counter += 1
            due = max(due + self._every_s, time.monotonic())
            self._stopping.wait(due - time.monotonic())

    def _describe(self) -> None:
        from mlstudio.probe.environment import describe_environment

        try:
            self.environment = describe_environment(self.gpu_reader)
        except Exception as error:  # noqa: BLE001 — without a description the run is worth as much
            os.write(2, ("ML Studio: the environment could not be described: %r\n" % (error,)).encode())
        self.ready.set()

    def sample(self) -> Dict[str, float]:
        """The readings that are to be had now; rates since the last call."""
        found: Dict[str, float] = {}
        now = time.monotonic()
        usage = self._usage
        cpu = usage.cpu_seconds()
        if cpu is not None:
            self._rate(found, "cpu.percent", cpu * 100.0, now)
        memory = usage.memory_bytes()
        if memory is not None:
            found["memory.bytes"] = float(memory)
        limit = usage.memory_limit_bytes()
        if limit is not None:
            found["memory.limit_bytes"] = float(limit)
        for name, total in zip(("io.read_bytes_per_s", "io.write_bytes_per_s"), usage.io_bytes() or ()):
            self._rate(found, name, float(total), now)
        for name, total in zip(("net.rx_bytes_per_s", "net.tx_bytes_per_s"), usage.net_bytes() or ()):
            self._rate(found, name, float(total), now)
        if self.gpu_reader is not None:
            for gpu in self.gpu_reader.read():
                for key, name in _GPU_NAMES:
                    value = gpu.get(key)
                    if value is not None:
                        found["gpu.%d.%s" % (gpu["index"], name)] = float(value)
        return found

    def _rate(self, found: Dict[str, float], name: str, total: float, now: float) -> None:
        before = self._last.get(name)
        self._last[name] = (total, now)
        if before is not None and now > before[1] and total >= before[0]:
            found[name] = (total - before[0]) / (now - before[1])


class Usage:
    """What a group of processes uses. A reading that is not to be had is None."""

    def cpu_seconds(self) -> Optional[float]:
        """CPU time used since the beginning."""
        return None

    def memory_bytes(self) -> Optional[int]:
        """Memory in use, without file cache that could be given up at once."""
        return None

    def memory_limit_bytes(self) -> Optional[int]:
        return None

    def io_bytes(self) -> Optional[Tuple[int, int]]:
        """Bytes read from and written to block devices since the beginning."""
        return None

    def net_bytes(self) -> Optional[Tuple[int, int]]:
        """Bytes received and sent since the beginning, the loopback device left out."""
        return None

    def oom_kills(self) -> int:
        """How many processes the kernel killed for memory since the beginning."""
        return 0


def open_usage(root: str = "/sys/fs/cgroup") -> Usage:
    """The container's own control group: v2, v1, or, where neither is to be seen, all processes of this namespace."""
    if os.path.exists(os.path.join(root, "cpu.stat")) or os.path.exists(os.path.join(root, "memory.current")):
        return CgroupV2(root)
    if os.path.isdir(os.path.join(root, "memory")) or os.path.isdir(os.path.join(root, "cpuacct")):
        return CgroupV1(root)
    return Tree(None)


class _Container(Usage):
    def net_bytes(self) -> Optional[Tuple[int, int]]:
        received = sent = 0
        for line in _text("/proc/net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            words = rest.split()
            if name.strip() != "lo" and len(words) >= 9:
                received += int(words[0])
                sent += int(words[8])
        return received, sent


class CgroupV2(_Container):
    """https://docs.kernel.org/admin-guide/cgroup-v2.html"""

    def __init__(self, root: str) -> None:
        self._root = root

    def _read(self, name: str) -> str:
        return _text(os.path.join(self._root, name))

    def cpu_seconds(self) -> Optional[float]:
        usage = _field(self._read("cpu.stat"), "usage_usec")
        return None if usage is None else usage / 1e6

    def memory_bytes(self) -> Optional[int]:
        current = _whole(self._read("memory.current"))
        if current is None:
            return None
        return max(0, current - (_field(self._read("memory.stat"), "inactive_file") or 0))

    def memory_limit_bytes(self) -> Optional[int]:
        limit = _whole(self._read("memory.max"))
        return limit if limit is not None and limit < _NO_LIMIT else None

    def io_bytes(self) -> Optional[Tuple[int, int]]:
        text = self._read("io.stat")
        if not text:
            return None
        totals = {"rbytes": 0, "wbytes": 0}
        for word in text.split():
            name, _, value = word.partition("=")
            if name in totals and value.isdigit():
                totals[name] += int(value)
        return totals["rbytes"], totals["wbytes"]

    def oom_kills(self) -> int:
        return _field(self._read("memory.events"), "oom_kill") or 0


class CgroupV1(_Container):
    """https://docs.kernel.org/admin-guide/cgroup-v1/index.html"""

    def __init__(self, root: str) -> None:
        self._root = root

    def _read(self, *names: str) -> str:
        return _text(os.path.join(self._root, *names))

    def cpu_seconds(self) -> Optional[float]:
        for folder in ("cpuacct", "cpu,cpuacct"):
            usage = _whole(self._read(folder, "cpuacct.usage"))
            if usage is not None:
                return usage / 1e9
        return None

    def memory_bytes(self) -> Optional[int]:
        current = _whole(self._read("memory", "memory.usage_in_bytes"))
        if current is None:
            return None
        return max(0, current - (_field(self._read("memory", "memory.stat"), "total_inactive_file") or 0))

    def memory_limit_bytes(self) -> Optional[int]:
        limit = _whole(self._read("memory", "memory.limit_in_bytes"))
        return limit if limit is not None and limit < _NO_LIMIT else None

    def io_bytes(self) -> Optional[Tuple[int, int]]:
        text = self._read("blkio", "blkio.throttle.io_service_bytes")
        if not text:
            return None
        read = written = 0
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[2].isdigit():
                if words[1] == "Read":
                    read += int(words[2])
                elif words[1] == "Write":
                    written += int(words[2])
        return read, written

    def oom_kills(self) -> int:
        return _field(self._read("memory", "memory.oom_control"), "oom_kill") or 0


class Tree(Usage):
    """A process with all its descendants (None: every process that can be seen), from /proc."""

    def __init__(self, root: Optional[int]) -> None:
        self._root = root
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._ended_cpu: Dict[int, float] = {}
        self._seen_io: Dict[int, Tuple[int, int]] = {}

    def _pids(self) -> List[int]:
        if self._root is None:
            return [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [self._root, *descendants(self._root)]

    def cpu_seconds(self) -> Optional[float]:
        for pid in self._pids():
            words = _stat(pid)
            if words:
                self._ended_cpu[pid] = (int(words[11]) + int(words[12])) / self._ticks
        return sum(self._ended_cpu.values()) if self._ended_cpu else None

    def memory_bytes(self) -> Optional[int]:
        pages = 0
        for pid in self._pids():
            words = _text("/proc/%d/statm" % pid).split()
            if len(words) > 2:
                pages += int(words[1])
        return pages * self._page if pages else None

    def io_bytes(self) -> Optional[Tuple[int, int]]:
        for pid in self._pids():
            text = _text("/proc/%d/io" % pid)
            read, written = _field(text, "read_bytes:"), _field(text, "write_bytes:")
            if read is not None and written is not None:
                self._seen_io[pid] = (read, written)
        if not self._seen_io:
            return None
        return sum(r for r, _ in self._seen_io.values()), sum(w for _, w in self._seen_io.values())


def descendants(pid: int) -> Iterator[int]:
    """The processes below `pid`, as they are now."""
    children: Dict[int, List[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            words = _stat(int(name))
            if words:
                children.setdefault(int(words[1]), []).append(int(name))
    waiting = list(children.get(pid, ()))
    while waiting:
        child = waiting.pop()
        yield child
        waiting.extend(children.get(child, ()))


def _stat(pid: int) -> List[str]:
    """Fields of /proc/PID/stat from the state on: proc(5). The name before them may hold spaces and brackets."""
    return _text("/proc/%d/stat" % pid).rpartition(")")[2].split()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _whole(text: str) -> Optional[int]:
    text = text.strip()
    return int(text) if text.isdigit() else None


def _field(text: str, name: str) -> Optional[int]:
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None
