"""Recovering a home's damaged history, while nobody has it open."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from mlstudio.model.errors import NotFound, WorldError
from mlstudio.store.recovery import Recovered, looks_sound, recover

__all__ = ["Recovered", "recover_history", "what_is_wrong"]


def what_is_wrong(home: Path) -> str:
    """What SQLite finds wrong with the home's history, in its own words; empty if nothing. Raises NotFound."""
    return looks_sound(_path(home))


def recover_history(home: Path) -> Recovered:
    """Make a new history of what can be read of the damaged one, which stays beside it under another name.

    Raises NotFound where there is none, WorldError where it is open or nothing of it can be read; then nothing changed.
    """
    path = _path(home)
    users = _who_has_open(path)
    if users:
        raise WorldError(
            "The history is still open.",
            why=f"By {', '.join(users)}.",
            try_this="Close the window and stop what else uses it, then try again.",
        )
    return recover(path)


def _path(home: Path) -> Path:
    path = home / "history.db"
    if not path.is_file():
        raise NotFound(
            f"There is no history in {home}.", field="home", try_this="Choose the home with --home."
        )
    return path


def _who_has_open(path: Path) -> list[str]:
    """Other processes of this user that have the database open: ``python (process 4711)``."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for process in psutil.process_iter(["pid", "name"]):
        if process.pid == os.getpid():
            continue
        try:
            names = [file.path for file in process.open_files()]
        except (psutil.Error, OSError):
            continue
        for name in names:
            try:
                if os.path.samestat(os.stat(name), wanted):
                    found.append(f"{process.info['name']} (process {process.pid})")
                    break
            except OSError:
                continue
    return found
