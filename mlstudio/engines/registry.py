"""The engines there are, by name. An engine is added with one line here."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from mlstudio.engines.engine import Engine
from mlstudio.model.errors import NotFound


class EngineRegistry:
    """Engines by name, made when they are first asked for. Thread-safe; connects to nothing by itself.

    ``local`` is Docker as the `docker` command would find it; ``process`` runs commands as plain processes of this
    machine, for those who have no container engine.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._makers: dict[str, Callable[[], Engine]] = {"local": self._docker, "process": self._process}
        self._made: dict[str, Engine] = {}

    def names(self) -> Sequence[str]:
        return tuple(self._makers)

    def get(self, name: str) -> Engine:
        """The engine called `name`. Raises NotFound."""
        with self._lock:
            if name not in self._makers:
                raise NotFound(
                    f"There is no engine called “{name}”.",
                    field="engine",
                    try_this="Known: " + ", ".join(self._makers) + ".",
                )
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]

    def close(self) -> None:
        with self._lock:
            engines = list(self._made.values())
            self._made.clear()
        for engine in engines:
            engine.close()

    # Imported here: the client library is heavy, and most commands need no engine.

    def _docker(self) -> Engine:
        from mlstudio.engines.docker import DockerEngine

        return DockerEngine(locks=_lock_folder() or self._home / "locks")

    def _process(self) -> Engine:
        from mlstudio.engines.process import ProcessEngine

        return ProcessEngine(self._home / "processes")


def _lock_folder() -> Path | None:
    """A folder of this user's for locks, which all homes share as they share the engine; None if it is not ours alone."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime else Path(tempfile.gettempdir())
    folder = base / f"mlstudio-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    return folder if is_ours else None
