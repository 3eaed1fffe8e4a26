"""The writing end of the channel, in the user's processes: see `mlstudio.log`.

A call to `Client.log` packs one record into mapped memory: no thread, no system call, nothing to flush.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import struct
import threading
import time
import warnings

from mlstudio.probe.channel import (
    EVENT,
    HEADER_BYTES,
    MAGIC,
    MAX_LOGGER,
    NAMES,
    OFFSET,
    POINT_HEAD,
    POINTS,
    RECORD,
    SEGMENT_BYTES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every script 5 ms.
    from typing import Any, Dict, List, Optional, Tuple

MAX_NAME = 1000
MAX_TEXT = 60 * 1024
"""Characters of one text; also in four bytes each they fit into a segment."""
MAX_WAITING_SEGMENTS = 1024
"""Segments that a process leaves unread at most (256 MiB): then points are dropped, with a warning."""


MAX_UNSAVED_SEGMENTS = 64
"""Where no file can be made (a full disk), so many wait in memory (16 MiB); then points are dropped, with a warning."""
_SAVE_AGAIN_S = 0.5
_SAVE_AT_EXIT_S = 5.0


class Nothing:
    """Outside a run: all calls do nothing."""

    def log(self, step: Optional[int], metrics: Dict[str, Any]) -> None:
        pass

    def log_as(
        self, logger: str, step: Optional[int], metrics: Dict[str, Any], *, time: Optional[float] = None
    ) -> None:
        pass

    def param(self, parameters: Dict[str, Any], *, logger: str = "") -> None:
        pass

    def event(self, event: Dict[str, Any]) -> None:
        pass

    def artifact(self, path: Any) -> None:
        pass


class _Names:
    """A set of metric names as it is known to the segment: its record's layout and the next step."""

    __slots__ = ("id", "pack_into", "size", "step")

    def __init__(self, names_id: int, count: int) -> None:
        self.id = names_id
        self.size = POINT_HEAD.size + 8 * count
        self.pack_into = struct.Struct("<IIIIqd%dd" % count).pack_into
        self.step = 0


class Client:
    """One per process; thread-safe; a forked child begins its own segment."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._warned: set[str] = set()
        self._steps: Dict[Tuple[str, ...], int] = {}
        self._segments: List[str] = []
        self._saves_at_exit = False
        self._forget_segment()
        os.register_at_fork(after_in_child=self._forget_segment)

    def _forget_segment(self) -> None:
        self._lock = threading.RLock()
        self._map: Any = None
        self._offset = 0
        self._count = 0
        self._broken_until = 0.0
        self._names: Dict[Tuple[str, ...], _Names] = {}
        self._others: Dict[Tuple[str, Tuple[str, ...]], _Names] = {}
        self._segments = []
        self._unsaved: List[Tuple[str, Any]] = []
        """(path, memory) of segments for which there was no room on the disk."""
        self._stem = "%d-%d" % (os.getpid(), time.time_ns())

    def log(self, step: Optional[int], metrics: Dict[str, Any]) -> None:
        """Record `metrics` at `step`; see `mlstudio.log`."""
        names = tuple(metrics)
        with self._lock:
            try:
                known = self._names[names]
                offset = self._offset
                end = offset + 8 + known.size
                if end <= SEGMENT_BYTES:
                    # `d` takes whatever has __float__: NumPy and torch scalars too. What it refuses goes the slow way.
                    known.pack_into(
                        self._map,
                        offset,
                        POINTS,
                        known.size,
                        known.id,
                        0,
                        known.step if step is None else step,
                        time.time(),
                        *metrics.values(),
                    )
                    OFFSET.pack_into(self._map, 8, end)
                    self._offset = end
                    if step is None:
                        known.step += 1
                    return
            except Exception:  # noqa: BLE001 — a name not met before, or whatever a value's __float__ raises
                pass
            try:
                self._log_slowly(step, names, metrics)
            except Exception as error:  # noqa: BLE001 — training goes on whatever a value does
                self._warn("log", "a call of mlstudio.log was not recorded: %r" % (error,))

    def log_as(
        self, logger: str, step: Optional[int], metrics: Dict[str, Any], *, time: Optional[float] = None
    ) -> None:
        """Record `metrics` as another logger's: a framework's callback. `time` in UTC seconds; without it, now."""
        with self._lock:
            try:
                self._log_slowly(step, tuple(metrics), metrics, logger=logger[:MAX_LOGGER], at=time)
            except Exception as error:  # noqa: BLE001 — training goes on whatever a value does
                self._warn("log", "values of %s were not recorded: %r" % (logger, error))

    def event(self, event: Dict[str, Any]) -> None:
        """Record something that happened, as it will stand in a frame."""
        self._event(event)

    def param(self, parameters: Dict[str, Any], *, logger: str = "") -> None:
        """Record settings; see `mlstudio.param`. `logger`: who said them, where it was not the script."""
        said = {"logger": logger} if logger else {}
        try:
            for name, value in _flat(parameters):
                self._event({"type": "param", "name": _name(name), "value": _plain(value), **said})
        except Exception as error:  # noqa: BLE001 — whatever a name's __str__ raises
            self._warn("param", "a call of mlstudio.param was not recorded: %r" % (error,))

    def artifact(self, path: Any) -> None:
        """Record a file; see `mlstudio.artifact`."""
        try:
            full = os.path.abspath(os.fsdecode(path))
        except (TypeError, ValueError):
            self._warn("artifact", "mlstudio.artifact takes a path, not %s" % type(path).__name__)
            return
        try:
            size = _size(full)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._warn("artifact", "mlstudio.artifact: %s is not there (%s)" % (_clean(full), why))
            return
        self._event({"type": "artifact", "path": _clean(full)[:4096], "size_bytes": size})

    # -- the slow way -------------------------------------------------------------------------------------------

    def _log_slowly(
        self,
        step: Optional[int],
        names: Tuple[str, ...],
        metrics: Dict[str, Any],
        *,
        logger: str = "",
        at: Optional[float] = None,
    ) -> None:
        if step is not None:
            step = _whole(step)
        if step is None:
            step = self._next_step(names if not logger else (logger, *names))
        numbers: Dict[str, float] = {}
        is_plain = True
        for name, value in _flat(metrics):
            number = as_number(value)
            if number is not None:
                is_plain = is_plain and type(name) is str and name in metrics
                numbers[_name(name)] = number
            elif isinstance(value, (str, bytes)):
                is_plain = False
                text = value if isinstance(value, str) else value.decode("utf-8", "replace")
                said = {"type": "text", "name": _name(name), "value": _clean(text)[:MAX_TEXT], "step": step}
                if logger:
                    said["logger"] = logger
                self._event(said)
            else:
                is_plain = False
                if value is not None:
                    self._warn(
                        "value",
                        "%s: %r is a %s, not a number, and was left out"
                        % (logger or "mlstudio.log", _name(name)[:80], type(value).__name__),
                    )
        if numbers:
            is_plain = is_plain and not logger and len(names) == len(numbers)
            known = self._known(tuple(numbers), also=names if is_plain else None, logger=logger)
            if known is not None:
                payload = struct.pack(
                    "<IIqd%dd" % len(numbers),
                    known.id,
                    0,
                    step,
                    time.time() if at is None else at,
                    *numbers.values(),
                )
                self._write(POINTS, payload)

    def _next_step(self, names: Tuple[str, ...]) -> int:
        known = self._names.get(names)
        if known is not None:
            step = known.step
            known.step += 1
            return step
        step = self._steps.get(names, 0)
        self._steps[names] = step + 1
        return step

    def _known(
        self, clean: Tuple[str, ...], also: Optional[Tuple[str, ...]], logger: str
    ) -> Optional[_Names]:
        """The names' number in this segment, made known first where they are new to it."""
        for attempt in range(2):
            known = self._others.get((logger, clean)) if logger else self._names.get(clean)
            if known is None:
                known = _Names(len(self._names) + len(self._others) + 1, len(clean))
                said = {"names": clean, "logger": logger} if logger else clean
                if not self._write(NAMES, struct.pack("<I", known.id) + json.dumps(said).encode("ascii")):
                    return None
                if logger:
                    self._others[logger, clean] = known
                else:
                    known.step = self._steps.get(clean, 0)
                    self._names[clean] = known
            if self._room(known.size):
                break
            # A new segment knows no names: remember the steps and begin again.
            if attempt or not self._begin_segment():
                return None
        if known is not None and also is not None and also != clean:
            alias = _Names(known.id, len(clean))
            alias.step = self._steps.get(also, known.step)
            self._names[also] = alias
        return known

    def _event(self, event: Dict[str, Any]) -> None:
        event["time"] = time.time()
        with self._lock:
            try:
                self._write(EVENT, json.dumps(event, allow_nan=False, ensure_ascii=False).encode("utf-8"))
            except Exception as error:  # noqa: BLE001 — training goes on whatever a value does
                self._warn("event", "mlstudio: %s was not recorded: %r" % (event.get("type"), error))

    def _room(self, size: int) -> bool:
        return self._map is not None and self._offset + 8 + size + 8 <= SEGMENT_BYTES

    def _write(self, kind: int, payload: bytes) -> bool:
        """Append a record; False if it had to be dropped."""
        size = len(payload)
        if size + 8 + HEADER_BYTES + 8 > SEGMENT_BYTES:
            self._warn("size", "mlstudio: a record of %d bytes is too large and was left out" % size)
            return False
        if not self._room(size) and not self._begin_segment():
            return False
        offset = self._offset
        RECORD.pack_into(self._map, offset, kind, size)
        self._map[offset + 8 : offset + 8 + size] = payload
        self._offset = offset + 8 + size + (-size % 8)
        OFFSET.pack_into(self._map, 8, self._offset)
        return True

    def _begin_segment(self) -> bool:
        if time.monotonic() < self._broken_until:
            return False
        for names, known in self._names.items():
            self._steps[names] = known.step
        self._names = {}
        self._others = {}
        self._map = None
        self._segments = [path for path in self._segments if os.path.exists(path)]
        if len(self._segments) >= MAX_WAITING_SEGMENTS:
            self._pause("nothing reads them: %d files wait in %s" % (len(self._segments), self._folder))
            return False
        self._count += 1
        path = os.path.join(self._folder, "%s-%06d.seg" % (self._stem, self._count))
        try:
            # What waits for room comes before what comes now.
            mapped = self._in_memory(path) if self._unsaved else self._make(path, b"")
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EMFILE,
                errno.ENFILE,
            ):
                self._warn("room", "mlstudio: values wait in memory until there is room for them: %s" % error)
                mapped = self._in_memory(path)
            else:
                self._pause(str(error))
                return False
        if mapped is None:
            return False
        self._map = mapped
        self._offset = HEADER_BYTES
        return True

    def _make(self, path: str, data: bytes) -> Any:
        """A new segment that the probe will find, with `data` in it. Raises OSError."""
        made = path + ".new"
        try:
            file = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                # Reserved, not sparse: writing into a mapped hole on a full disk would kill the process.
                os.posix_fallocate(file, 0, SEGMENT_BYTES)
                mapped = mmap.mmap(file, SEGMENT_BYTES)
            finally:
                os.close(file)
            mapped[0:HEADER_BYTES] = MAGIC + OFFSET.pack(HEADER_BYTES)
            if data:
                mapped[0 : len(data)] = data
            os.rename(made, path)
        except (OSError, ValueError):
            try:
                os.unlink(made)
            except OSError:
                pass
            raise
        self._segments.append(path)
        return mapped

    # -- without room on the disk -------------------------------------------------------------------------------

    def _in_memory(self, path: str) -> Any:
        """A segment that becomes a file later; None if too many wait already."""
        if len(self._unsaved) >= MAX_UNSAVED_SEGMENTS:
            self._pause("there is no room for them, and too many wait in memory")
            return None
        mapped = mmap.mmap(-1, SEGMENT_BYTES)
        mapped[0:HEADER_BYTES] = MAGIC + OFFSET.pack(HEADER_BYTES)
        self._unsaved.append((path, mapped))
        if len(self._unsaved) == 1:
            if not self._saves_at_exit:
                import atexit

                self._saves_at_exit = True
                atexit.register(self._save_at_exit)
            # The only thread that we ever start in the user's process, and only until there is room again.
            threading.Thread(target=self._save_later, name="mlstudio", daemon=True).start()
        return mapped

    def _save_later(self) -> None:
        while not self._save():
            time.sleep(_SAVE_AGAIN_S)

    def _save_at_exit(self) -> None:
        deadline = time.monotonic() + _SAVE_AT_EXIT_S
        while not self._save() and time.monotonic() < deadline:
            time.sleep(_SAVE_AGAIN_S / 5)

    def _save(self) -> bool:
        """Make files of the segments that wait; whether none waits any more."""
        with self._lock:
            while self._unsaved:
                path, kept = self._unsaved[0]
                try:
                    mapped = self._make(path, kept[:])
                except (OSError, ValueError):
                    return False
                if self._map is kept:
                    # What is written from now on goes into the file.
                    self._map = mapped
                self._unsaved.pop(0)
            return True

    def _pause(self, why: str) -> None:
        self._broken_until = time.monotonic() + 1.0
        self._warn("channel", "mlstudio: values cannot be recorded for now: %s" % why)

    def _warn(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            try:
                warnings.warn(message, RuntimeWarning, stacklevel=4)
            except Exception:  # noqa: BLE001 — with warnings as errors a value would end the training
                os.write(2, (message + "\n").encode("utf-8", "replace"))


def as_number(value: Any) -> Optional[float]:
    """The value as a float; None if it is no number. Arrays and tensors of one element count as one."""
    if isinstance(value, (str, bytes)) or value is None:
        return None
    try:
        return float(value)
    except OverflowError:
        try:
            return math.inf if value > 0 else -math.inf
        except Exception:  # noqa: BLE001 — a type that overflows and cannot be compared
            return None
    except Exception:  # noqa: BLE001 — whatever an unknown type's __float__ raises
        pass
    try:
        return float(value.item())
    except Exception:  # noqa: BLE001 — whatever an unknown type's item() raises
        return None


def _whole(step: Any) -> Optional[int]:
    number = as_number(step)
    if number is None or not math.isfinite(number) or abs(number) >= 2**63:
        return None
    return int(number)


def _flat(values: Dict[Any, Any], prefix: str = "", depth: int = 0) -> List[Tuple[str, Any]]:
    flat: List[Tuple[str, Any]] = []
    for name, value in values.items():
        full = prefix + name if type(name) is str else prefix + str(name)
        if isinstance(value, dict) and depth < 8:
            flat.extend(_flat(value, full + "/", depth + 1))
        else:
            flat.append((full, value))
    return flat


def _name(name: str) -> str:
    """A name that fits a line: control characters become spaces, what is too long keeps its beginning and a hash."""
    clean = _clean(name)
    clean = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in clean).strip() or "unnamed"
    if len(clean) > MAX_NAME:
        import hashlib  # Rarely needed, and OpenSSL is slow to load.

        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        clean = clean[: MAX_NAME - 17] + "…" + digest
    return clean


def _clean(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def _plain(value: Any) -> Any:
    """A parameter's value as a JSON scalar."""
    if value is None or isinstance(value, (bool, int)):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _clean(value)[:MAX_TEXT]
    number = as_number(value)
    if number is not None and math.isfinite(number):
        return int(number) if number.is_integer() and "int" in type(value).__name__ else number
    try:
        return _clean(str(value))[:MAX_TEXT]
    except Exception:  # noqa: BLE001 — whatever an unknown type's __str__ raises
        return "(%s)" % type(value).__name__


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.stat(path).st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
