"""Seeing to it that a recorder runs while there is something to record."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from pathlib import Path

from mlstudio.model.errors import WorldError
from mlstudio.store import has_live_runs

LOCK_ENVIRONMENT = "MLSTUDIO_RECORDER_LOCK"
"""Number of the descriptor on which a new recorder finds its lock, taken for it before it was started."""

_AGAIN_AFTER_S = 2.0
_LONGEST_PAUSE_S = 60.0


def lock_path(home: Path) -> Path:
    """The file whose lock says that a recorder runs for `home`."""
    return home / "recorder.lock"


class RecorderControl:
    """Starts the recorder of a home where there is none and runs are live. Thread-safe, cheap to ask often."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._mutex = threading.Lock()
        self._started_at = 0.0
        self._pause_s = _AGAIN_AFTER_S

    def is_running(self) -> bool:
        """Whether a recorder records for this home now."""
        descriptor = self._lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def ensure(self) -> bool:
        """Start a recorder if runs are live and none records; whether one was started. Raises WorldError.

        One that ends at once is not started again and again: the pauses grow.
        """
        with self._mutex:
            if time.monotonic() - self._started_at < self._pause_s and self._started_at:
                return False
            if not has_live_runs(self._home / "history.db"):
                return False
            descriptor = self._lock()
            if descriptor is None:
                self._pause_s = _AGAIN_AFTER_S
                self._started_at = 0.0
                return False
            try:
                # The lock goes to the new process, so that nobody else can start a second one meanwhile.
                self._start(descriptor)
            finally:
                os.close(descriptor)
            if self._started_at:
                self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
            self._started_at = time.monotonic()
            return True

    def _lock(self) -> int | None:
        try:
            descriptor = os.open(lock_path(self._home), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WorldError(
                "Recording cannot begin.",
                why=f"{lock_path(self._home)}: {error.strerror}.",
                try_this="Check who may write to that folder.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _start(self, descriptor: int) -> None:
        """Start a process that is nobody's child and has none of our descriptors but the lock."""
        command = (
            [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-P", "-m", "mlstudio"]
        )
        command += ["recorder", "--home", str(self._home)]
        errors = os.open(
            self._home / "recorder.err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # Not below 10: a shell keeps those for itself.
        kept = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
        environment = {**os.environ, LOCK_ENVIRONMENT: str(kept)}
        try:
            # The shell starts it in the background and ends at once, which makes it an orphan; no fork of this
            # process, whose other threads (Qt's) would not survive one.
            shell = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", 'cd /; "$@" &', "sh", *command],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, null, 1),
                    (os.POSIX_SPAWN_DUP2, errors, 2),
                ],
                setsid=True,
            )
            os.waitpid(shell, 0)
        except OSError as error:
            raise WorldError(
                "The recorder could not be started.",
                why=f"{error.strerror or error}.",
                try_this="Runs go on; what they say is recorded once it can be started.",
                can_retry=True,
            ) from error
        finally:
            for number in (kept, errors, null):
                os.close(number)
