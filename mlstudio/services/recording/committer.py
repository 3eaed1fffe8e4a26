"""Writing for all live runs in few transactions: a commit costs the same for one run as for sixty."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mlstudio.model.errors import DefectError, NotFound, WorldError
from mlstudio.model.record import Batch
from mlstudio.services.recording.transcript import Transcript
from mlstudio.store import History

_log = logging.getLogger(__name__)

_EVERY_S = 0.2
_MOST_WAITING_BYTES = 8 * 1024 * 1024
_AGAIN_AFTER_S = (0.5, 1.0, 2.0, 5.0, 10.0)


class Slot:
    """One run on its way into the history. `lock` guards `transcript`."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.lock = threading.Lock()
        self.transcript: Transcript | None = None
        self.is_removed = False
        """The run is not in the history any more."""
        self.error: DefectError | None = None
        """Its last batch could not be written and never will be."""


class Committer:
    """A thread that takes what is new from all slots and writes it: at once after a pause, else a few times a second.

    What cannot be written now (a full disk) is tried again until it can. `failure` is set when the history cannot be
    used any more; then nothing is written.
    """

    def __init__(self, history: History, *, clock: Callable[[], float] = time.time) -> None:
        self.failure: WorldError | None = None
        self._history = history
        self._clock = clock
        self._condition = threading.Condition()
        self._dirty: dict[Slot, None] = {}
        self._closing = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what is there and end. What cannot be written now is left: it will be read again."""
        with self._condition:
            self._closing.set()
            self._condition.notify_all()
        self._thread.join()

    def notify(self, slot: Slot) -> None:
        """There is something new in the slot."""
        with self._condition:
            if slot not in self._dirty:
                self._dirty[slot] = None
                self._condition.notify_all()

    def make_room(self, slot: Slot) -> None:
        """Called by whoever feeds: blocks while too much of this run waits to be written."""
        transcript = slot.transcript
        if transcript is not None and transcript.size > _MOST_WAITING_BYTES:
            self.flush(slot)

    def flush(self, slot: Slot) -> None:
        """Write everything of this run that can be taken now."""
        with self._writing:
            # Whoever takes writes before anybody else takes: batches of a run stay in order.
            batch = self._take(slot)
            if batch is not None:
                self._write([(slot, batch)])

    def _run(self) -> None:
        written_at = 0.0
        while True:
            with self._condition:
                while not self._dirty and not self._closing.is_set():
                    self._condition.wait()
                if not self._dirty or self.failure is not None:
                    return
                pause = written_at + _EVERY_S - time.monotonic()
                if pause > 0 and not self._closing.is_set():
                    self._condition.wait_for(self._closing.is_set, timeout=pause)
                slots = list(self._dirty)
                self._dirty.clear()
            written_at = time.monotonic()
            again = []
            with self._writing:
                batches = []
                for slot in slots:
                    # Who feeds may be busy reading the spool; the other runs do not wait for that.
                    if not slot.lock.acquire(blocking=False):
                        again.append(slot)
                        continue
                    try:
                        if slot.transcript is None:
                            continue
                        batch = slot.transcript.take(now=self._clock())
                        if slot.transcript.waits:
                            again.append(slot)
                    finally:
                        slot.lock.release()
                    if batch is not None:
                        batches.append((slot, batch))
                if batches:
                    self._write(batches)
            if again and not self._closing.is_set():
                with self._condition:
                    self._dirty.update(dict.fromkeys(again))

    def _take(self, slot: Slot) -> Batch | None:
        with slot.lock:
            return slot.transcript.take(now=self._clock()) if slot.transcript is not None else None

    def _write(self, batches: list[tuple[Slot, Batch]]) -> None:
        tries = 0
        while True:
            try:
                self._history.apply_many([(slot.run_id, batch) for slot, batch in batches])
                return
            except (NotFound, DefectError):
                self._write_each(batches)
                return
            except WorldError as error:
                if not error.can_retry:
                    _log.error("The history cannot be written any more: %s", error)
                    self.failure = error
                    return
                if tries == 0:
                    _log.warning("Recording waits: %s", error)
                if self._closing.wait(_AGAIN_AFTER_S[min(tries, len(_AGAIN_AFTER_S) - 1)]):
                    return
                tries += 1

    def _write_each(self, batches: list[tuple[Slot, Batch]]) -> None:
        """One of them is at fault: the others shall not suffer."""
        for slot, batch in batches:
            try:
                self._history.apply(slot.run_id, batch)
            except NotFound:
                slot.is_removed = True
            except DefectError as error:
                _log.exception("A batch of the run %s cannot be written.", slot.run_id)
                slot.error = error
            except WorldError as error:
                # Rare, and harmless: nothing of this run was written, and its follower begins again.
                slot.error = DefectError("A batch was not written.", details=str(error))
