"""The probe's main part: starts the user's command, minds it as an init process would, and tells how it ended.

Every run waits for what is imported here, so what only some of them need is imported where they need it.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import sys
import threading
import time
from collections import deque

from mlstudio.probe.channel import ChannelReader
from mlstudio.probe.collectors import FINISH_WITHIN_S, STOPPING_WITHIN_S, make_collectors
from mlstudio.probe.config import ProbeConfig
from mlstudio.probe.intake import Intake
from mlstudio.probe.output import POINTS_A_FRAME, Outlet, Spool, Stream
from mlstudio.probe.redactor import Redactor
from mlstudio.probe.sampler import Sampler, descendants, open_usage

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Deque, Dict, List, Optional, Set, Tuple

    from mlstudio.probe.channel import Series
    from mlstudio.probe.sampler import Sample, Usage

READ_BYTES = 64 * 1024
LEFTOVER_GRACE_S = 2.0
_DESCRIBED_WITHIN_S = 1.0
"""A command that took longer than this is worth a wait for the description of what it ran in."""
_DESCRIPTION_WAIT_S = 0.5
_ROOM_WITHIN_S = 10.0
"""A start waits so long for a full disk to have room again: without it there is no second copy of what is said."""
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_PR_SET_CHILD_SUBREAPER = 36
COULD_NOT_START = 127


class StartFailed(Exception):
    """The command could not be started: what is wrong, in a sentence for the user."""


def main(config_path: str) -> int:
    """Run the command that the configuration names; returns the exit code for the probe itself."""
    with open(config_path, encoding="utf-8") as file:
        config = ProbeConfig.from_json(file.read())
    root = os.path.dirname(os.path.abspath(config_path))
    return Supervisor(config, root).run()


class _Child:
    """The started command; `stdout` and `stderr` are descriptors of the reading ends."""

    def __init__(self, pid: int, stdout: int, stderr: int, popen: Any = None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.popen = popen


class Supervisor:
    """One command from start to end. `root` is the folder that holds the probe's own files."""

    def __init__(self, config: ProbeConfig, root: str) -> None:
        self._config = config
        self._root = root
        self._is_init = os.getpid() == 1
        self._samples: Deque[Sample] = deque(maxlen=4096)
        self._secrets: Dict[str, str] = {}
        self._child: Optional[_Child] = None
        self._status: Optional[int] = None
        self._asked_at: Optional[float] = None
        self._asked_with = 0
        self._kill_sent = False
        self._usage: Usage = open_usage()
        self._intake = Intake()
        self._collectors = make_collectors(config, self._intake, root)

    def run(self) -> int:
        """See `main`."""
        lacks = []
        channel = os.path.join(self._root, "run", "channel")
        try:
            _make_folder(channel)
            _make_folder(os.path.join(self._root, "run", "spool"))
            spool: Optional[Spool] = Spool(
                os.path.join(self._root, "run", "spool"), limit_bytes=self._config.spool_limit_bytes
            )
        except OSError as error:
            spool = None
            lacks.append(
                {
                    "type": "lacks",
                    "what": "metrics",
                    "why": "The folder %s/run cannot be written (%s): values logged by the script and the second copy of "
                    "the output are missing." % (self._root, error.strerror),
                }
            )
        self._outlet = Outlet(1, spool=spool, clock=time.time)
        self._channel = ChannelReader(channel)
        for event in lacks:
            self._outlet.event(event)
        wake = self._catch_signals()
        oom_before = self._usage.oom_kills()
        try:
            self._secrets = self._take_secrets()
            if self._secrets:
                self._intake.hide = Redactor(self._secrets).hide
            self._prepare()
            environment = self._environment(channel if spool is not None else "")
            self._collectors.prepare(environment)
            self._start(environment)
        except StartFailed as error:
            return self._never_started(str(error))
        assert self._child is not None
        self._collectors.started(self._child.pid)
        sampler = Sampler(
            every_s=self._config.sample_s,
            deliver=self._samples.append,
            tree_of=None if self._is_init else os.getpid(),
        )
        sampler.start()
        self._outlet.event(
            {
                "type": "start",
                "pid": self._child.pid,
                "hostname": os.uname().nodename,
                "python": "%d.%d.%d" % sys.version_info[:3],
                "gpu_source": "",
            }
        )
        leftovers = self._mind(wake, sampler)
        sampler.stop()
        return self._finish(leftovers, oom_before)

    # -- before the command --------------------------------------------------------------------------------------

    def _catch_signals(self) -> int:
        """Signals wake the main loop through a pipe instead of interrupting whatever is done."""
        wake, waker = os.pipe()
        for end in (wake, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (*_FORWARDED, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if not self._is_init:
            import ctypes

            try:
                # prctl(2): orphaned descendants come to us, as they come to the first process of a container.
                ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            except (OSError, AttributeError):
                pass
        return wake

    def _take_secrets(self) -> Dict[str, str]:
        """Read the secrets from standard input and lay them down as files."""
        names = self._config.secrets
        if not names:
            return {}
        data = bytearray()
        while not data.endswith(b"\n"):
            try:
                piece = os.read(0, 65536)
            except OSError as error:
                raise StartFailed("The secrets did not arrive: %s." % error.strerror) from None
            if not piece:
                break
            data += piece
        try:
            values = json.loads(bytes(data))
            found = {name: str(values[name]) for name in names}
        except (ValueError, KeyError, TypeError):
            raise StartFailed("The secrets did not arrive.") from None
        folder = self._config.secrets_dir
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            for name, value in found.items():
                path = os.path.join(folder, os.path.basename(name))
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
                with os.fdopen(file, "w", encoding="utf-8") as out:
                    out.write(value)
        except OSError as error:
            raise StartFailed("The secrets cannot be written to %s: %s." % (folder, error.strerror)) from None
        return found

    def _prepare(self) -> None:
        clone = self._config.clone
        if clone:
            self._clone(clone["url"], clone["commit"], clone["target"])
        if self._config.workdir:
            try:
                os.chdir(self._config.workdir)
            except OSError as error:
                raise StartFailed(
                    "The folder %s cannot be entered: %s." % (self._config.workdir, error.strerror)
                ) from None

    def _clone(self, url: str, commit: str, target: str) -> None:
        """Fetch the code at exactly one commit; what Git says goes to the output."""
        import shutil

        if shutil.which("git") is None:
            raise StartFailed("The code cannot be cloned: there is no git in the image.")
        environment = dict(os.environ, GIT_TERMINAL_PROMPT="0", GIT_CONFIG_NOSYSTEM="1", HOME=self._home())
        git = ["git", "-c", "advice.detachedHead=false", "-c", "safe.directory=*", "-C", target]
        steps: List[Tuple[List[str], bool]] = [
            (["init", "--quiet"], True),
            (["fetch", "--quiet", "--depth=1", "--", url, commit], False),
        ]
        stream = Stream(True, Redactor(self._secrets))
        try:
            os.makedirs(target, exist_ok=True)
        except OSError as error:
            raise StartFailed("The code cannot be cloned into %s: %s." % (target, error.strerror)) from None
        ok = True
        for arguments, needed in steps:
            ok = self._git([*git, *arguments], environment, stream)
            if not ok and needed:
                raise StartFailed("The code cannot be cloned into %s: see the output." % target)
        if not ok:
            # Some servers give no single commits: fetch all branches and tags.
            refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
            if not self._git([*git, "fetch", "--quiet", "--", url, *refs], environment, stream):
                raise StartFailed("The code cannot be fetched from %s: see the output." % url)
        if not self._git([*git, "checkout", "--quiet", "--force", commit, "--"], environment, stream):
            raise StartFailed("The commit %s is not in %s." % (commit[:12], url))
        self._outlet.event({"type": "cloned", "url": url, "commit": commit})

    def _git(self, command: List[str], environment: Dict[str, str], stream: Stream) -> bool:
        import subprocess

        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._outlet.write(stream.clean(done.stdout, final=True), True)
        return done.returncode == 0

    def _home(self) -> str:
        home = os.environ.get("HOME", "")
        return home if home and os.access(home, os.W_OK) else "/tmp"

    def _environment(self, channel: str) -> Dict[str, str]:
        environment = dict(os.environ)
        environment.setdefault("PYTHONUNBUFFERED", "1")
        environment["HOME"] = self._home()
        environment["MLSTUDIO_RUN_ID"] = self._config.run_id
        if channel:
            environment["MLSTUDIO_CHANNEL"] = channel
        environment.update(self._config.env)
        probe = os.path.join(self._root, "probe.pyz")
        before = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = probe + os.pathsep + before if before else probe
        for name, value in self._secrets.items():
            environment[name] = value
            environment[name + "_FILE"] = os.path.join(self._config.secrets_dir, os.path.basename(name))
        return environment

    def _start(self, environment: Dict[str, str]) -> None:
        command = self._config.command
        # Only the first process of a container starts with nothing open that a command must not have.
        start = _spawn if self._is_init else _fork
        try:
            self._child = start(command, environment)
        except FileNotFoundError:
            raise StartFailed("There is no program “%s” in the image." % command[0]) from None
        except PermissionError:
            raise StartFailed("The program “%s” may not be executed." % command[0]) from None
        except (OSError, ValueError) as error:
            raise StartFailed(
                "“%s” cannot be started: %s." % (command[0], getattr(error, "strerror", error))
            ) from None

    def _never_started(self, message: str) -> int:
        self._outlet.write(("ML Studio: %s\n" % message).encode("utf-8", "replace"), True)
        self._outlet.event(
            {
                "type": "exit",
                "code": COULD_NOT_START,
                "signal": None,
                "oom": False,
                "message": message,
                "started": False,
            }
        )
        self._outlet.flush(final=True)
        return COULD_NOT_START

    # -- while it runs -------------------------------------------------------------------------------------------

    def _mind(self, wake: int, sampler: Sampler) -> Set[int]:
        """Pass output on, gather points, forward signals, reap, until the command has ended; returns the leftovers."""
        child = self._child
        assert child is not None
        streams = {
            child.stdout: Stream(False, Redactor(self._secrets)),
            child.stderr: Stream(True, Redactor(self._secrets)),
        }
        selector = selectors.DefaultSelector()
        selector.register(wake, selectors.EVENT_READ)
        for descriptor in streams:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        batch_due = time.monotonic() + self._config.batch_s
        started = time.monotonic()
        stop_at = started + self._config.stop_after_s if self._config.stop_after_s else None
        described = False
        ended_at: Optional[float] = None
        leftovers: Set[int] = set()
        leftovers_killed = False
        while True:
            now = time.monotonic()
            if ended_at is None and self._status is not None:
                ended_at = now
                leftovers = self._leftovers()
                self._signal_all(leftovers, signal.SIGTERM)
            if ended_at is not None:
                open_streams = len(selector.get_map()) > 1
                alive = self._leftovers()
                if not alive or now - ended_at > LEFTOVER_GRACE_S + 1.0:
                    break
                if now - ended_at > LEFTOVER_GRACE_S and not leftovers_killed:
                    leftovers_killed = True
                    self._signal_all(alive, signal.SIGKILL)
                if not open_streams and not alive:
                    break
            timeout = max(0.0, min(batch_due - now, 0.05 if ended_at is not None else 1.0))
            for key, _ in selector.select(timeout):
                if key.fd == wake:
                    self._on_wake(wake)
                else:
                    self._pass_on(key.fd, streams, selector)
            self._reap()
            self._enforce(stop_at)
            now = time.monotonic()
            if self._outlet.is_full or self._intake.is_full or now >= batch_due:
                self._collectors.tick()
                self._gather()
                if not described and sampler.ready.is_set():
                    described = True
                    if sampler.environment is not None:
                        self._outlet.event(sampler.environment)
                self._outlet.flush()
                batch_due = now + self._config.batch_s
        for descriptor in list(streams):
            self._drain(descriptor, streams, selector)
        selector.close()
        for descriptor in (child.stdout, child.stderr):
            os.close(descriptor)
        if not described:
            self._describe_late(sampler, took=time.monotonic() - started)
        return leftovers

    def _describe_late(self, sampler: Sampler, *, took: float) -> None:
        """A short run is told what it ran on, too; its packages are those of its image."""
        sampler.ready.wait(_DESCRIPTION_WAIT_S if took > _DESCRIBED_WITHIN_S else 0.0)
        event = sampler.environment
        if event is None:
            from mlstudio.probe.environment import describe_machine

            event = describe_machine()
        self._outlet.event(event)

    def _on_wake(self, wake: int) -> None:
        try:
            numbers = os.read(wake, 4096)
        except OSError:
            return
        for number in numbers:
            if number in _FORWARDED:
                self._ask_to_end(number)

    def _ask_to_end(self, number: int, why: str = "") -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._asked_with = number
            self._outlet.event(
                {"type": "stopping", "signal": number, "grace_s": self._config.grace_s, "why": why}
            )
        self._signal_group(number)

    def _enforce(self, stop_at: Optional[float]) -> None:
        now = time.monotonic()
        if stop_at is not None and now >= stop_at and self._asked_at is None and self._status is None:
            self._ask_to_end(signal.SIGTERM, why="time limit")
        if (
            self._asked_at is not None
            and not self._kill_sent
            and now - self._asked_at >= self._config.grace_s
        ):
            self._kill_sent = True
            if self._status is None:
                self._outlet.event({"type": "killing", "after_s": self._config.grace_s})
                self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        if self._child is not None and self._status is None:
            try:
                os.killpg(self._child.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def _signal_all(self, pids: Set[int], number: int) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def _leftovers(self) -> Set[int]:
        """Processes that outlived the command: all others in a container, our own descendants elsewhere."""
        me = os.getpid()
        if self._is_init:
            found = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {me}
        else:
            found = set(descendants(me))
        return {pid for pid in found if _is_running(pid)}

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            except InterruptedError:
                continue
            if pid == 0:
                return
            if self._child is not None and pid == self._child.pid:
                self._status = status
                if self._child.popen is not None:
                    # Popen must not wait for it again.
                    self._child.popen.returncode = (
                        -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                    )

    def _pass_on(self, descriptor: int, streams: Dict[int, Stream], selector: selectors.BaseSelector) -> bool:
        """Pass on what can be read now; False at the end of the stream or when there is nothing."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        stream = streams.get(descriptor)
        if stream is None:
            return False
        self._outlet.write(stream.clean(data, final=not data), stream.is_error)
        if not data:
            selector.unregister(descriptor)
            del streams[descriptor]
            return False
        return True

    def _drain(self, descriptor: int, streams: Dict[int, Stream], selector: selectors.BaseSelector) -> None:
        """What is left in a pipe after the end; a process that could not be killed may hold it open."""
        for _ in range(4096):
            if not self._pass_on(descriptor, streams, selector):
                break
            if self._outlet.is_full:
                self._outlet.flush()
        stream = streams.get(descriptor)
        if stream is not None:
            self._outlet.write(stream.clean(b"", final=True), stream.is_error)

    def _gather(self, *, last: bool = False) -> None:
        self._keep(*self._channel.read(last=last))
        self._keep(*self._intake.take())
        while self._samples:
            self._outlet.system(*self._samples.popleft())

    def _keep(self, points: Dict[Tuple[str, str], Series], events: List[Dict[str, Any]]) -> None:
        """Points by (logger, name) and events for the next frame."""
        if self._secrets:
            # What is logged is kept with the run, as its output is.
            hide = Redactor(self._secrets).hide
            for event in events:
                # The data of a medium was hidden before it was packed.
                event.update(
                    {
                        key: hide(value)
                        for key, value in event.items()
                        if isinstance(value, str) and (key != "data" or event.get("type") != "media")
                    }
                )
            for (logger, name), series in points.items():
                self._outlet.points({(logger, hide(name)): series})
        else:
            self._outlet.points(points)
        for event in events:
            self._outlet.event(event)

    # -- the end -------------------------------------------------------------------------------------------------

    def _finish_collectors(self) -> None:
        """Have what is left read, and pass it on meanwhile: whoever reads may have to wait until there is room."""
        within_s = STOPPING_WITHIN_S if self._asked_at is not None else FINISH_WITHIN_S
        done = threading.Event()
        give_up_at = time.monotonic() + within_s + 1.0

        def finish() -> None:
            self._collectors.finish(within_s)
            done.set()

        threading.Thread(target=finish, name="finish", daemon=True).start()
        while not done.wait(0.002) and time.monotonic() < give_up_at:
            self._keep(*self._intake.take())
            if self._outlet.is_full or self._outlet.points_waiting >= POINTS_A_FRAME:
                self._outlet.flush()
        self._intake.close()

    def _finish(self, leftovers: Set[int], oom_before: int) -> int:
        self._finish_collectors()
        self._gather(last=True)
        status = self._status if self._status is not None else 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = 128 + number if number is not None else os.WEXITSTATUS(status)
        oom = self._usage.oom_kills() > oom_before and code != 0
        event: Dict[str, Any] = {
            "type": "exit",
            "code": code,
            "signal": number,
            "oom": oom,
            "stopped": self._asked_at is not None,
            "killed": self._kill_sent,
            "message": _end_in_words(code, number, oom),
            "started": True,
        }
        if leftovers:
            event["leftover_pids"] = sorted(leftovers)[:100]
            self._outlet.event(
                {
                    "type": "warning",
                    "message": "The command left %d process%s behind, which %s ended with it."
                    % ((1, "", "was") if len(leftovers) == 1 else (len(leftovers), "es", "were")),
                }
            )
        self._outlet.event(event)
        self._outlet.flush(final=True)
        return code


def _spawn(command: List[str], environment: Dict[str, str]) -> _Child:
    """Start `command` in a session of its own, without what `subprocess` costs to import. Raises OSError, ValueError."""
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    try:
        pid = _spawned(
            command,
            environment,
            [
                (os.POSIX_SPAWN_DUP2, out_end, 1),
                (os.POSIX_SPAWN_DUP2, err_end, 2),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            ],
        )
    except NotImplementedError:
        # A C library that cannot begin a session for the child.
        for end in (out, err):
            os.close(end)
        return _fork(command, environment)
    except BaseException:
        for end in (out, err):
            os.close(end)
        raise
    finally:
        for end in (out_end, err_end):
            os.close(end)
    return _Child(pid, out, err)


def _spawned(command: List[str], environment: Dict[str, str], actions: List[Tuple[Any, ...]]) -> int:
    """The process ID. The program is looked for in the PATH of `environment`, as execvpe(3) would."""
    program = command[0]
    error: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    folders = [""] if "/" in program else os.get_exec_path(environment)
    for folder in folders if program else ():
        try:
            return os.posix_spawn(
                os.path.join(folder, program),
                command,
                environment,
                file_actions=actions,
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except (FileNotFoundError, NotADirectoryError) as missing:
            if "/" in program:
                error = missing
        except OSError as found:
            error = found
    raise error


def _fork(command: List[str], environment: Dict[str, str]) -> _Child:
    """Start `command` in a session of its own, with nothing open but its three streams. Raises OSError, ValueError."""
    import subprocess

    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        restore_signals=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    # Descriptors of our own: file objects would complain at the end, where warnings are on, that nobody closed them.
    ends = os.dup(child.stdout.fileno()), os.dup(child.stderr.fileno())
    child.stdout.close()
    child.stderr.close()
    return _Child(child.pid, *ends, child)


def _make_folder(path: str) -> None:
    """Raises OSError; with a full disk after some time only."""
    deadline = time.monotonic() + _ROOM_WITHIN_S
    while True:
        try:
            os.makedirs(path, exist_ok=True)
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or time.monotonic() >= deadline:
                raise
        time.sleep(0.1)


def _is_running(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _end_in_words(code: int, number: Optional[int], oom: bool) -> str:
    if oom:
        return "The kernel killed it because the memory was used up."
    if number is not None:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "signal %d" % number
        return "It was ended by %s." % name
    return "" if code == 0 else "It ended with exit code %d." % code
