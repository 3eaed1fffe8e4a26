"""Where threads meet the window: history reads, slow calls, and one queued signal that brings their results in.

The interface thread never waits. It asks with `Bridge.read` (one thread that reads the history, in order) or
`Bridge.call` (a small pool for engines and other slow things) and is answered by a callback on the interface thread.
Whatever finished since the last time is drained by one queued signal, however much it is. `Bridge.changed` brings one
immutable `ChangeSet` per tick, and none while nothing changes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import shiboken6
from PySide6.QtCore import QObject, Qt, QTimer, Signal

from mlstudio.gui.launches import Launches
from mlstudio.model.errors import HistoryDamaged
from mlstudio.model.host import EngineStatus
from mlstudio.model.run import RunSummary

if TYPE_CHECKING:
    from mlstudio.services.studio import Studio
    from mlstudio.store import History

T = TypeVar("T")

TICK_MS = 100
RECORDER_MS = 2000
ENGINES_MS = 10_000
FIRST_LOOK_MS = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """What became known since the last tick. Empty parts mean "nothing new"."""

    revision: int = 0
    runs: tuple[RunSummary, ...] = ()
    """Runs that were added or changed, as they are now."""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """How engines and the history stand; for the status strip."""

    engines: tuple[EngineStatus, ...] = ()
    history_bytes: int | None = None


class Ticket(Generic[T]):
    """A question that was asked. `cancel` makes its answer fall on the floor."""

    def __init__(
        self,
        work: Callable[[], T],
        then: Callable[[T], None] | None,
        failed: Callable[[Exception], None] | None,
        owner: QObject | None,
    ) -> None:
        self.work = work
        self._then = then
        self._failed = failed
        self._owner = owner
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def answer(self, result: T) -> None:
        if self._wanted() and self._then is not None:
            self._then(result)

    def fail(self, error: Exception) -> bool:
        """False if nobody took the error."""
        if not self._wanted():
            return True
        if self._failed is None:
            return False
        self._failed(error)
        return True

    def _wanted(self) -> bool:
        return not self.cancelled and (self._owner is None or shiboken6.isValid(self._owner))


class _Lane:
    """Threads that work off questions in order. A waiting question with the same key is replaced by the newer one."""

    def __init__(
        self, name: str, threads: int, done: Callable[[Ticket[object], object, Exception | None], None]
    ) -> None:
        self._done = done
        self._waiting: deque[tuple[str, Ticket[object]]] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, ticket: Ticket[object], key: str) -> None:
        with self._condition:
            if self._closed:
                return
            if key:
                for index, (other, old) in enumerate(self._waiting):
                    if other == key:
                        old.cancel()
                        self._waiting[index] = (key, ticket)
                        return
            self._waiting.append((key, ticket))
            self._condition.notify()

    def close(self, deadline: float) -> None:
        """Begin nothing new and wait for what is being done until `deadline` (time.monotonic)."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                _, ticket = self._waiting.popleft()
            if ticket.cancelled:
                continue
            try:
                result = ticket.work()
            except Exception as error:  # noqa: BLE001 - the edge of a thread: whoever asked is told on the other side
                self._done(ticket, None, error)
            else:
                self._done(ticket, result, None)


class Bridge(QObject):
    """Asks for the window and brings answers back. One per window; `close` before the studio is closed."""

    changed = Signal(object)
    """A `ChangeSet`, at most one a tick."""
    surroundings_changed = Signal(object)
    """`Surroundings`, when engines were asked again or the history grew."""
    failed = Signal(object)
    """An exception that nobody else took."""
    history_damaged = Signal(object)
    """A `HistoryDamaged`, once for each kind of damage; whoever asked is told it too."""
    noticed = Signal(str, str, object)
    """(text, level, acts) for the notice line."""
    _arrived = Signal()

    def __init__(self, studio: Studio, *, watch: bool = True, keep_recorder: bool = True) -> None:
        """`watch` False asks nothing by itself; `keep_recorder` False leaves the recorder to others."""
        super().__init__()
        self.studio = studio
        self.launches = Launches(studio)
        self.surroundings = Surroundings()
        self.has_read = False
        """Whether the history was any use yet: a page has read something of it."""
        self._watches = watch
        self._keeps_recorder = watch and keep_recorder
        self._answers: deque[tuple[Ticket[object], object, Exception | None]] = deque()
        self._announced = False
        self._lock = threading.Lock()
        self._closed = False
        self._revision: int | None = None
        self._watching = False
        self._ensuring = False
        self._told: dict[str, str] = {}
        self._arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)
        self._reader = _Lane("history-reader", 1, self._on_done)
        self._pool = _Lane("slow-call", 3, self._on_done)
        self._tick = QTimer(self, interval=TICK_MS)
        self._tick.timeout.connect(self._on_tick)
        self._recorder_timer = QTimer(self, interval=RECORDER_MS)
        self._recorder_timer.timeout.connect(self._on_recorder_due)
        self._engines_timer = QTimer(self, interval=ENGINES_MS)
        self._engines_timer.timeout.connect(self.look_around)
        if watch:
            self._tick.start()
            self._engines_timer.start()
            self._on_tick()
            # The first rows come first: what follows imports much, and threads take turns.
            QTimer.singleShot(FIRST_LOOK_MS, self, self.look_around)
            if keep_recorder:
                self._recorder_timer.start()
                QTimer.singleShot(FIRST_LOOK_MS // 2, self, self._on_recorder_due)

    def read(
        self,
        work: Callable[[History], T],
        then: Callable[[T], None],
        *,
        owner: QObject | None = None,
        failed: Callable[[Exception], None] | None = None,
        key: str = "",
    ) -> Ticket[T]:
        """Read the history on its thread, then call `then` with the result here.

        A question with a `key` replaces a waiting one of the same key. No answer comes once `owner` was deleted.
        Errors go to `failed`, or to the signal of that name.
        """

        def answer(result: T) -> None:
            self.has_read = True
            then(result)

        return self._ask(work, answer, owner=owner, failed=failed, key=key)

    def alone(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        *,
        owner: QObject | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> Ticket[T]:
        """Do something with the closed file of the history: nothing here reads it meanwhile, and whoever reads next
        opens it again."""

        def close_and_work() -> T:
            self.studio.close()
            return work()

        def begin_again() -> None:
            self._revision = None
            self._told.clear()
            if self._watches:
                self._tick.start()
                self._on_tick()
            if self._keeps_recorder:
                self._recorder_timer.start()

        def answer(result: T) -> None:
            begin_again()
            then(result)

        def fail(error: Exception) -> None:
            begin_again()
            (failed or self.failed.emit)(error)

        self._recorder_timer.stop()
        ticket = Ticket(close_and_work, answer, fail, owner)
        self._reader.ask(ticket, "")  # type: ignore[arg-type]
        return ticket

    def _ask(
        self,
        work: Callable[[History], T],
        then: Callable[[T], None],
        *,
        owner: QObject | None,
        failed: Callable[[Exception], None] | None,
        key: str = "",
    ) -> Ticket[T]:
        # The history is opened by whoever reads first, which must not be the interface thread.
        ticket = Ticket(lambda: work(self.studio.history), then, failed, owner)
        self._reader.ask(ticket, key)  # type: ignore[arg-type]
        return ticket

    def call(
        self,
        work: Callable[[], T],
        then: Callable[[T], None] | None = None,
        *,
        owner: QObject | None = None,
        failed: Callable[[Exception], None] | None = None,
        key: str = "",
    ) -> Ticket[T]:
        """Do something slow (an engine, Git, a folder) on the pool, then call `then` with the result here."""
        ticket = Ticket(work, then, failed, owner)
        self._pool.ask(ticket, key)  # type: ignore[arg-type]
        return ticket

    def look_around(self) -> None:
        """Ask all engines how they are."""
        self.call(
            self._look,
            self._on_looked,
            owner=self,
            failed=lambda error: self._tell_once("engines", error),
            key="look-around",
        )

    def notice(
        self, text: str, *, level: str = "info", acts: Sequence[tuple[str, Callable[[], None]]] = ()
    ) -> None:
        """Tell the user something on the line above the status strip; `acts` are at most two (words, callable)."""
        self.noticed.emit(text, level, tuple(acts))

    def close(self) -> None:
        """Stop asking. Waits for questions under way for a moment; never for a build."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._tick, self._recorder_timer, self._engines_timer):
            timer.stop()
        self.launches.close()
        deadline = time.monotonic() + 6.0
        self._reader.close(deadline)
        self._pool.close(deadline)
        self._answers.clear()

    # On worker threads

    def _on_done(self, ticket: Ticket[object], result: object, error: Exception | None) -> None:
        with self._lock:
            if self._closed:
                return
            self._answers.append((ticket, result, error))
            if self._announced:
                return
            self._announced = True
        self._arrived.emit()

    def _look(self) -> Surroundings:
        engines = self.studio.engines
        statuses = tuple(engines.get(name).check() for name in engines.names())
        return Surroundings(engines=statuses, history_bytes=_history_bytes(Path(self.studio.home)))

    def _watch(self, history: History) -> ChangeSet:
        if self._revision is None:
            self._revision = history.revision()
            return ChangeSet(revision=self._revision)
        if history.revision() == self._revision:
            return ChangeSet(revision=self._revision)
        changes = history.changed_since(self._revision)
        self._revision = changes.revision
        return ChangeSet(revision=changes.revision, runs=changes.runs, removed=changes.removed)

    # On the interface thread

    def _on_arrived(self) -> None:
        with self._lock:
            self._announced = False
            answers = list(self._answers)
            self._answers.clear()
        for ticket, result, error in answers:
            if self._closed:
                return
            if isinstance(error, HistoryDamaged) and self._told.get("damage") != str(error):
                self._told["damage"] = str(error)
                self.history_damaged.emit(error)
            if error is None:
                ticket.answer(result)
            elif not ticket.fail(error):
                self.failed.emit(error)

    def _on_tick(self) -> None:
        if not self._watching:
            self._watching = True
            self._ask(self._watch, self._on_watched, owner=self, failed=self._on_watch_failed)

    def _on_watched(self, changes: ChangeSet) -> None:
        self._watching = False
        self._told.pop("history", None)
        if changes.runs or changes.removed:
            self.changed.emit(changes)

    def _on_watch_failed(self, error: Exception) -> None:
        self._watching = False
        self._tick.stop()
        # A history that cannot be read now is asked again, but not ten times a second.
        QTimer.singleShot(5000, self, self._on_watch_again)
        self._tell_once("history", error)

    def _on_recorder_due(self) -> None:
        if not self._ensuring and not self._closed:
            self._ensuring = True
            self.call(
                self.studio.recorder.ensure, self._on_ensured, owner=self, failed=self._on_ensure_failed
            )

    def _on_watch_again(self) -> None:
        if not self._closed:
            self._tick.start()

    def _tell_once(self, what: str, error: Exception) -> None:
        """What is asked again and again fails again and again: its error is told when it is a new one."""
        if self._told.get(what) != str(error):
            self._told[what] = str(error)
            if isinstance(error, HistoryDamaged):
                return  # `history_damaged` tells it
            self.failed.emit(error)

    def _on_ensured(self, _: object) -> None:
        self._ensuring = False
        self._told.pop("recorder", None)

    def _on_ensure_failed(self, error: Exception) -> None:
        self._ensuring = False
        self._tell_once("recorder", error)

    def _on_looked(self, found: Surroundings) -> None:
        self._told.pop("engines", None)
        self.surroundings = found
        self.surroundings_changed.emit(found)


def _history_bytes(home: Path) -> int:
    total = 0
    for name in ("history.db", "history.db-wal"):
        try:
            total += (home / name).stat().st_size
        except OSError:
            continue
    return total
