"""The recorder: one detached process a home that brings what live runs say into the history, and sees how they end.

``mlstudio recorder --home H`` is started by `RecorderControl` and ends by itself when nothing has been live for a
while. It may be killed at any moment: the next one goes on from the history (`mlstudio.services.recording`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from mlstudio.model.errors import EngineAway, StudioError, WorldError
from mlstudio.model.run import RunState
from mlstudio.services.engine_table import Engines
from mlstudio.services.recorder_control import LOCK_ENVIRONMENT, lock_path
from mlstudio.services.recording.committer import Committer
from mlstudio.services.recording.follower import Follower
from mlstudio.services.recording.owner import is_alive
from mlstudio.store import History, LiveRun

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.3
_LOOK_ANYWAY_S = 2.0
_IDLE_S = 30.0
_USUAL_GRACE_S = 10.0
_STOP_MARGIN_S = 5.0
_STOP_AGAIN_S = 10.0
_OWNERLESS_S = 60.0
_LOG_BYTES = 1024 * 1024


class Recorder:
    """Watches the history for live runs and has each followed by a thread.

    A stop that was asked for is carried out by who asked; the recorder does it where that did not happen: the engine
    was away, who asked has died, or the container started only afterwards.
    """

    def __init__(
        self,
        history: History,
        engines: Engines,
        *,
        idle_s: float = _IDLE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._engines = engines
        self._idle_s = idle_s
        self._clock = clock
        self._began = clock()
        self._followers: dict[str, Follower] = {}
        self._stopping: dict[str, tuple[threading.Thread, float]] = {}
        self._committer = Committer(history, clock=clock)

    def run(self, stop: threading.Event) -> None:
        """Record until `stop` is set or nothing has been live for a while. Raises WorldError if the history fails."""
        ending = threading.Event()
        self._committer.start()
        try:
            self._watch(stop, ending)
        finally:
            ending.set()
            for follower in self._followers.values():
                follower.join()
            self._committer.close()
        if self._committer.failure is not None:
            raise self._committer.failure

    def _watch(self, stop: threading.Event, ending: threading.Event) -> None:
        version = -1
        looked_at = 0.0
        idle_since = time.monotonic()
        is_first = True
        while not stop.is_set() and self._committer.failure is None:
            now = time.monotonic()
            current = self._history.data_version()
            if current != version or now - looked_at >= _LOOK_ANYWAY_S:
                version, looked_at = current, now
                live = self._look(ending, with_lost=is_first)
                is_first = False
                if live or any(follower.is_alive for follower in self._followers.values()):
                    idle_since = now
            if now - idle_since >= self._idle_s:
                return
            stop.wait(_LOOK_EVERY_S)

    def _look(self, ending: threading.Event, *, with_lost: bool) -> bool:
        """See to every live run; whether there is any."""
        self._followers = {run_id: found for run_id, found in self._followers.items() if found.is_alive}
        is_any = False
        for live in self._history.live():
            if live.state is not RunState.LOST:
                is_any = True
            follower = self._followers.get(live.id)
            if follower is not None:
                follower.live = live
            elif self._is_due(live, with_lost=with_lost):
                follower = Follower(
                    live,
                    history=self._history,
                    engines=self._engines,
                    committer=self._committer,
                    stop=ending,
                    clock=self._clock,
                )
                self._followers[live.id] = follower
                follower.start()
            if follower is not None and live.desired == "stopped" and live.handle:
                self._stop_if_due(live, follower)
        return is_any

    def _is_due(self, live: LiveRun, *, with_lost: bool) -> bool:
        """Whether there is something to follow: a container, or a launch that nobody carries out any more."""
        if live.state is RunState.LOST:
            return with_lost and bool(live.handle)
        if live.handle:
            return True
        if not live.owner:
            return self._clock() - live.created > _OWNERLESS_S
        return not is_alive(live.owner)

    # -- stopping -------------------------------------------------------------------------------------------------

    def _stop_if_due(self, live: LiveRun, follower: Follower) -> None:
        if live.id in self._stopping:
            thread, since = self._stopping[live.id]
            if thread.is_alive() or time.monotonic() - since < _STOP_AGAIN_S:
                return
        grace_s = live.stop_grace_s if live.stop_grace_s is not None else _USUAL_GRACE_S
        asked = live.desired_at if live.desired_at is not None else self._began
        nobody_did = (
            asked < self._began
            or follower.asked_itself
            or (follower.last_away is not None and follower.last_away >= asked - 1.0)
            or (follower.container_started is not None and follower.container_started >= asked - 1.0)
        )
        if not nobody_did and self._clock() - asked < grace_s + _STOP_MARGIN_S:
            return
        thread = threading.Thread(
            target=self._stop_run, args=(live, grace_s), name=f"stop-{live.id[:8]}", daemon=True
        )
        self._stopping[live.id] = (thread, time.monotonic())
        thread.start()

    def _stop_run(self, live: LiveRun, grace_s: float) -> None:
        try:
            self._history.observe(live.id, phase="stopping")
            self._engines.get(live.engine).stop(live.handle, grace_s=grace_s)
        except EngineAway:
            pass  # tried again; its follower says that the engine is away
        except StudioError as error:
            _log.warning("The run %s could not be stopped: %s", live.id, error)


def main(home: Path) -> int:
    """The recorder's process: returns its exit code, at once if another one records for this home."""
    home = home.expanduser().absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _adopted_lock(home)
    if lock is None:
        lock = _take_lock(home)
    if lock is None:
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    handler = _log_to(home / "recorder.log")
    try:
        return _record(home, lock, stop)
    except WorldError as error:
        _log.error("Recording ended: %s", error)
        return 3
    except Exception:
        _log.exception("Recording ended by a defect.")
        raise
    finally:
        logging.getLogger("mlstudio").removeHandler(handler)
        handler.close()


def _record(home: Path, lock: int, stop: threading.Event) -> int:
    # The client libraries are heavy and belong to this process alone.
    from mlstudio.engines.registry import EngineRegistry

    _log.info("Recording for %s as process %d", home, os.getpid())
    history = History(home / "history.db")
    engines = EngineRegistry(home)
    try:
        while True:
            Recorder(history, engines).run(stop)
            os.close(lock)
            # A run that was added while the lock was still held saw a recorder: it must not be left alone.
            if stop.is_set() or not any(live.state is not RunState.LOST for live in history.live()):
                return 0
            again = _take_lock(home)
            if again is None:
                return 0
            lock = again
    finally:
        engines.close()
        history.close()
        _log.info("Nothing left to record")


def _take_lock(home: Path) -> int | None:
    descriptor = os.open(lock_path(home), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _adopted_lock(home: Path) -> int | None:
    """The lock that who started us holds for us, if it is that."""
    text = os.environ.pop(LOCK_ENVIRONMENT, "")
    if not text.isdigit():
        return None
    descriptor = int(text)
    try:
        mine, wanted = os.fstat(descriptor), os.stat(lock_path(home))
        if (mine.st_dev, mine.st_ino) != (wanted.st_dev, wanted.st_ino):
            return None
        os.set_inheritable(descriptor, False)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return descriptor


def _log_to(path: Path) -> logging.Handler:
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(message)s"))
    logger = logging.getLogger("mlstudio")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler
