"""Keeps one process of the process engine: starts it, waits for it, writes down how it ended.

This file runs by itself (``python -I -S process_keeper.py JOB``) in the environment's own Python, standard library only,
3.8 and newer. It outlives whoever started it. What it says at start, one JSON object, goes to standard output.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)
_NEW_NETWORK, _NEW_USERS = 0x40000000, 0x10000000  # clone(2)
_GET_FLAGS, _SET_FLAGS, _IS_UP = 0x8913, 0x8914, 0x1  # netdevice(7)


def main(job_path: str) -> int:
    """Start the job's command and stay until it has ended."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    # Twice forked: nobody's child, in a session of its own.
    if os.fork():
        return 0
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        with open(job["output"], "ab") as output:
            child = subprocess.Popen(
                job["argv"],
                cwd=job["cwd"],
                env=job["env"],
                stdin=0,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _prepare(job),
            )
    except (OSError, subprocess.SubprocessError) as error:
        said = {"error": str(error), "program": getattr(error, "filename", None) or ""}
        _write(job["exit"], {"code": None, "ended": time.time(), "error": str(error)})
        os.write(answer, json.dumps(said).encode())
        return 1
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    state: dict[str, object] = {
        "pid": child.pid,
        "ticks": start_ticks(child.pid),
        "keeper": os.getpid(),
        "keeper_ticks": start_ticks(os.getpid()),
        "started": time.time(),
    }
    _write(job["started"], state)
    os.write(answer, b"{}")
    os.close(answer)
    code = child.wait()
    ended = time.time()
    _end_orphans()
    if job["secrets"]:
        shutil.rmtree(job["secrets"], ignore_errors=True)
    _write(job["exit"], {"code": code, "ended": ended, "error": ""})
    return 0


def _prepare(job: dict[str, object]) -> None:
    """In the child, before its program: limits, and no network where none is wanted."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    memory = job["memory_bytes"]
    if isinstance(memory, int):
        # Not the address space: CUDA and memory-mapped files reserve far more of it than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    cpus = job["cpus"]
    if isinstance(cpus, int):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:cpus])
    if job["no_network"]:
        leave_network()


def leave_network() -> None:
    """Give this process an empty network with a loopback only (unshare(2)). Raises OSError where that is not allowed."""
    uid, gid = os.getuid(), os.getgid()
    flags = _NEW_NETWORK if uid == 0 else _NEW_NETWORK | _NEW_USERS
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if uid:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = bytearray(struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(control, _GET_FLAGS, request)
        (now,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", now | _IS_UP))


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)); 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if rest[0] in (b"Z", b"X") else int(rest[19])


def _end_orphans() -> None:
    """Kill what the command left behind, as a container's end does. Orphans become children of this process."""
    while True:
        mine = [pid for pid in _processes() if _parent(pid) == os.getpid()]
        for pid in mine:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _write(path: str, content: dict[str, object]) -> None:
    """Write a file so that it is either not there or whole."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
