"""Answers that are good for a few seconds: what an engine said, what a remote's branch points to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Recent(Generic[Answer]):
    """Keeps answers by key for `seconds`, so that planning on every keystroke does not ask the engine each time.

    Thread-safe. Two threads that ask for the same missing key may both make it; the later answer is kept.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, Answer]] = {}

    def get(self, key: Hashable, make: Callable[[], Answer]) -> Answer:
        """The answer for `key`, made anew if it is older than allowed. Errors of `make` are not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None and self._clock() - found[0] < self._seconds:
                return found[1]
        answer = make()
        with self._lock:
            if len(self._kept) > 64:
                self._kept.clear()
            self._kept[key] = (self._clock(), answer)
        return answer

    def forget(self) -> None:
        """Ask again next time."""
        with self._lock:
            self._kept.clear()
