"""Finding and following the files in which loggers write: TensorBoard's event files, Weights & Biases' run files.

Nothing is asked of the script. A file is found because a process of the run has it open (``/proc/<pid>/fd``), or because
it appeared in a folder where scripts write. It is read as it grows, every byte once; a file that was there before the run
is read from where it ended then. Only regular files are opened, and never through a link.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time

from mlstudio.probe.collectors import Collector

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

    from mlstudio.probe.config import ProbeConfig
    from mlstudio.probe.intake import Intake

READ_BYTES = 1024 * 1024
_LOOK_EVERY_S = 0.5
_WALK_EVERY_S = 3.0
_REST = 20
"""Between two walks lies at least so many times as long as a walk took."""
_MAX_FOLDERS = 5000
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 8
_MAX_OPEN = 200
_MAX_FILES = 5000
_MAX_TOLD = 20
_SKIPPED = frozenset(
    {".git", ".hg", ".svn", "node_modules", "__pycache__", "site-packages", "dist-packages", ".venv", "venv",
     ".cache", ".mypy_cache", ".pytest_cache", ".ipynb_checkpoints"}
)  # fmt: skip
_WRITER = re.compile(r"events\.out\.tfevents\.\d+\.(.+?)(?:\.(\d+)\.\d+)?(?:\.v2)?")
"""How writers name their files: time, host, and mostly the process."""
_NEVER = ("/proc", "/sys", "/dev")


class FileCollector(Collector):
    """Follows what loggers write to files."""

    name = "files"

    def __init__(self, config: ProbeConfig, intake: Intake, root: str) -> None:
        super().__init__(config, intake, root)
        self._thread: Optional[threading.Thread] = None
        self._ending = threading.Event()
        self._deadline = 0.0
        self._started_at = 0.0
        self._pid = 0
        self._roots: List[str] = []

    def prepare(self, environment: Dict[str, str]) -> None:
        if not environment.get("WANDB_MODE") and not environment.get("WANDB_API_KEY"):
            # Without a key it would ask for one. Who gives one means to be online; the file is written all the same.
            environment["WANDB_MODE"] = "offline"
        # Its usual 15 s make a poor live curve.
        environment.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
        folders = [os.getcwd(), environment.get("TMPDIR", ""), "/tmp", environment.get("HOME", "")]
        folders.extend(
            environment.get(name, "") for name in ("WANDB_DIR", "TENSORBOARD_LOGDIR", "OUTPUT_DIR")
        )
        self._roots = _distinct(folders)
        self._started_at = time.time()

    def started(self, pid: int) -> None:
        self._pid = pid

    def tick(self) -> None:
        if self._thread is None and self._pid:
            self._thread = threading.Thread(target=self._run, name="files", daemon=True)
            self._thread.start()

    def finish(self, deadline: float) -> None:
        self._deadline = deadline
        self._ending.set()
        if self._thread is None:
            self.tick()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()) + 0.5)

    def _run(self) -> None:
        try:
            Following(self).run()
        except Exception as error:  # noqa: BLE001 — a thread's edge: a defect here must not end a training
            self.intake.event(
                {
                    "type": "lacks",
                    "what": "tensorboard, wandb",
                    "why": "The files of TensorBoard and Weights & Biases are not read any more: %s: %s."
                    % (type(error).__name__, error),
                }
            )

    # What the thread needs to know.

    @property
    def roots(self) -> List[str]:
        return self._roots

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def started_at(self) -> float:
        return self._started_at

    @property
    def is_ending(self) -> bool:
        return self._ending.is_set()

    @property
    def deadline(self) -> float:
        return self._deadline

    def pause(self, seconds: float) -> None:
        self._ending.wait(seconds)


class _File:
    """One file that is followed."""

    def __init__(self, path: str, reader: Any, offset: int) -> None:
        self.path = path
        self.reader = reader
        self.offset = offset
        self.descriptor: Optional[int] = None


class Following:
    """The thread's work: looks for files, and reads what they have got since."""

    def __init__(self, collector: FileCollector) -> None:
        # Here, not above: a run that logs nothing to files does not pay for it before its command runs.
        from mlstudio.probe.event_files import TagNames
        from mlstudio.probe.wandb_runs import RunNames

        self._collector = collector
        self._intake = collector.intake
        self._tags = TagNames()
        self._runs = RunNames()
        self._files: Dict[Tuple[int, int], _File] = {}
        self._old: Dict[Tuple[int, int], int] = {}
        """Files that were there before the run: their sizes."""
        self._folders: Dict[str, Tuple[int, List[str]]] = {}
        """Folders that were looked through: when they had changed, and what folders are in them."""
        self._walk_at = 0.0
        self._told = 0
        self._left_out = False
        self._is_alone = os.getpid() == 1
        """Whether all processes are the run's, as in a container."""
        self._host = os.uname().nodename
        self._pids_seen: Set[str] = {str(collector.pid)}

    def run(self) -> None:
        collector = self._collector
        while not collector.is_ending:
            self._look(walk=time.monotonic() >= self._walk_at)
            self._read()
            collector.pause(_LOOK_EVERY_S)
        self._look(walk=True)
        while self._read() and time.monotonic() < collector.deadline:
            pass
        left = self._unread()
        if left:
            words = "There was no time to read the last %.1f MB of what TensorBoard or W&B wrote." % (
                left / 1e6
            )
            self._intake.event({"type": "warning", "message": words})
        for file in self._files.values():
            file.reader.end()

    # -- finding --------------------------------------------------------------------------------------------------

    def _look(self, *, walk: bool) -> None:
        for path in self._open_ones():
            self._take(path, is_open=True)
        if walk:
            began = time.monotonic()
            for root in self._collector.roots:
                self._walk(root, 0, [0])
            took = time.monotonic() - began
            self._walk_at = began + took + max(_WALK_EVERY_S, _REST * took)

    def _open_ones(self) -> Iterator[str]:
        """Files that processes of the run have open and whose names say what they are."""
        for pid in self._pids():
            folder = "/proc/%s/fd" % pid
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for name in names:
                try:
                    path = os.readlink("%s/%s" % (folder, name))
                except OSError:
                    continue
                if path.startswith("/") and _kind(os.path.basename(path)):
                    yield path

    def _pids(self) -> List[str]:
        if self._is_alone:
            return [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        from mlstudio.probe.sampler import descendants

        found = [str(pid) for pid in descendants(os.getpid())]
        self._pids_seen.update(found)
        return found

    def _walk(self, folder: str, depth: int, seen: List[int]) -> None:
        """Look through a folder and those in it, as far as they changed since the last time."""
        if depth > _MAX_DEPTH or seen[0] > _MAX_ENTRIES or folder in _NEVER:
            return
        try:
            about = os.lstat(folder)
        except OSError:
            return
        if not stat.S_ISDIR(about.st_mode):
            return
        known = self._folders.get(folder)
        # A folder that changed just now may change again without its time telling.
        if known is not None and known[0] == about.st_mtime_ns and time.time() - about.st_mtime > 2.0:
            inner = known[1]
        else:
            inner = []
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        seen[0] += 1
                        if seen[0] > _MAX_ENTRIES:
                            break
                        if entry.is_dir(follow_symlinks=False):
                            if entry.name not in _SKIPPED:
                                inner.append(entry.path)
                        elif _kind(entry.name):
                            self._take(entry.path, is_open=False)
            except OSError:
                return
            # Where these are too many, the others are looked through each time.
            if known is not None or len(self._folders) < _MAX_FOLDERS:
                self._folders[folder] = (about.st_mtime_ns, inner)
        for path in inner:
            if path != self._collector.root:
                self._walk(path, depth + 1, seen)

    def _take(self, path: str, *, is_open: bool) -> None:
        """Follow the file at `path` from now on, if it belongs to this run."""
        try:
            about = os.lstat(path)
        except OSError:
            return
        key = (about.st_dev, about.st_ino)
        if key in self._files or not stat.S_ISREG(about.st_mode):
            return
        is_old = about.st_mtime < self._collector.started_at - 1.0
        if is_old and not is_open:
            # It was there before. Should it grow, the new part is this run's.
            if len(self._old) < _MAX_ENTRIES:
                self._old.setdefault(key, about.st_size)
            self._forget_folder(path)
            return
        if not is_open and not self._may_be_ours(os.path.basename(path)):
            return
        if len(self._files) >= _MAX_FILES:
            if not self._left_out:
                self._left_out = True
                words = "More than %d files of TensorBoard or W&B: further ones are not read." % _MAX_FILES
                self._intake.event({"type": "warning", "message": words})
            return
        kind = _kind(os.path.basename(path))
        offset = self._old.get(key, 0)
        if kind == "wandb":
            from mlstudio.probe.wandb_runs import WandbFile

            if offset:
                return
            reader: Any = WandbFile(path, self._intake, self._runs)
        else:
            from mlstudio.probe.event_files import EventFile

            reader = EventFile(path, self._intake, self._tags)
            if self._told < _MAX_TOLD:
                self._told += 1
                self._intake.event(
                    {"type": "logger", "logger": "tensorboard", "what": path, "how": "event file"}
                )
        self._files[key] = _File(path, reader, offset)

    def _may_be_ours(self, name: str) -> bool:
        """Whether a file that none of the run's processes has open can be the run's: other runs may share the folder."""
        found = _WRITER.fullmatch(name)
        if found is None:
            return self._is_alone
        return found.group(1) == self._host and (
            self._is_alone or found.group(2) is None or found.group(2) in self._pids_seen
        )

    def _forget_folder(self, path: str) -> None:
        """Let the folder of an old file be looked through each time: that a file grows does not change its folder."""
        self._folders.pop(os.path.dirname(path), None)

    # -- reading --------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Read what is new in all files; whether there was anything."""
        found = False
        for file in list(self._files.values()):
            while True:
                data = self._next(file)
                if not data:
                    break
                found = True
                file.reader.feed(data)
                if self._collector.is_ending and time.monotonic() > self._collector.deadline:
                    return found
        return found

    def _next(self, file: _File) -> bytes:
        descriptor = file.descriptor
        try:
            if descriptor is None:
                descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                about = os.fstat(descriptor)
                if self._files.get((about.st_dev, about.st_ino)) is not file:
                    os.close(descriptor)
                    return b""
                if sum(other.descriptor is not None for other in self._files.values()) < _MAX_OPEN:
                    file.descriptor = descriptor
            data = os.pread(descriptor, READ_BYTES, file.offset)
            if file.descriptor is None:
                os.close(descriptor)
        except OSError:
            return b""
        file.offset += len(data)
        return data

    def _unread(self) -> int:
        left = 0
        for file in self._files.values():
            try:
                size = (
                    os.fstat(file.descriptor).st_size
                    if file.descriptor is not None
                    else os.stat(file.path).st_size
                )
            except OSError:
                continue
            left += max(0, size - file.offset)
        return left


def _kind(name: str) -> str:
    """Whose file it is, by its name; empty: nobody's."""
    if ".tfevents." in name and not name.endswith(".profile-empty"):
        return "tensorboard"
    if name.endswith(".wandb") and name.startswith("run-"):
        return "wandb"
    return ""


def _distinct(folders: List[str]) -> List[str]:
    """Existing folders, none inside an earlier one, the root left out. One that lies in a later one comes first all the
    same: the later one may hold more than can be looked through."""
    found: List[str] = []
    for folder in folders:
        real = os.path.realpath(folder) if folder else "/"
        inside = any(real == other or real.startswith(other + "/") for other in found)
        if real != "/" and os.path.isdir(real) and not inside:
            found.append(real)
    return found
