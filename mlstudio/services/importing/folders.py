"""Walking folders that others filled: never through a symbolic link, never without end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MAX_DEPTH = 40
MAX_ARTIFACTS = 10_000


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name; nothing where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """A folder and no link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """A regular file and no link, pipe or device."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def files_below(folder: Path, *, most: int) -> Iterator[tuple[str, Path, int]]:
    """(POSIX path relative to `folder`, path, size) of at most so many files below a folder, by name."""
    if folder.is_symlink():
        return
    waiting = [(folder, "", 0)]
    while waiting:
        here, prefix, depth = waiting.pop()
        below = []
        for entry in entries(here):
            if is_folder(entry) and depth < MAX_DEPTH:
                below.append((Path(entry.path), f"{prefix}{entry.name}/", depth + 1))
            elif is_file(entry):
                try:
                    size = entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
                yield prefix + entry.name, Path(entry.path), size
                most -= 1
                if most <= 0:
                    return
        waiting.extend(reversed(below))


def is_inside(path: Path, root: Path) -> bool:
    """Whether `path`, with every link followed, lies in `root`."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False


def read_small(path: Path, *, most: int = 1024 * 1024) -> bytes:
    """The file's bytes, at most so many; nothing where it cannot be read or is no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(most)
        except OSError:
            return b""


def read_text(path: Path, *, most: int = 1024 * 1024) -> str:
    return read_small(path, most=most).decode("utf-8", "replace")
