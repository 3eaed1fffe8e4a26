"""A snapshot of a folder of code: exactly which files travel, what they hash to, and how they stand to Git."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit, urlunsplit

from mlstudio.images.git import run_git
from mlstudio.images.ignore import MAX_FILES, TooManyFiles, list_files
from mlstudio.model.code import CodeSnapshot, CodeSource, LargeEntry
from mlstudio.model.errors import RequestError, WorldError

LARGE_BYTES = 500 * 1000 * 1000
"""Code larger than this is worth a warning."""
MAX_PATCH_BYTES = 5 * 1024 * 1024


def take_snapshot(
    source: CodeSource, *, on_progress: Callable[[int, int], None] | None = None
) -> CodeSnapshot:
    """Hash every file of `source.folder` that is not ignored. `on_progress` hears (files, bytes) now and then.

    Raises RequestError(field="code.folder") where there is no such folder, or far too much in it.
    """
    root = Path(source.folder).expanduser().resolve()
    if source.subfolder:
        root = root / source.subfolder
    if not root.is_dir():
        raise RequestError(f"There is no folder {root}.", field="code.folder")
    unreadable: list[str] = []
    files: list[str] = []
    sizes: dict[str, int] = {}
    total = 0
    digest = hashlib.sha256()
    try:
        listed = sorted(list_files(root, on_unreadable=unreadable.append))
    except TooManyFiles as error:
        raise RequestError(
            f"The folder {root} holds more than {MAX_FILES:,} files.",
            field="code.folder",
            why=f"Counting stopped at {error}.",
            try_this="Choose the folder of the code alone, or leave data out with a .dockerignore file.",
        ) from error
    for path in listed:
        try:
            content, size, executable = _hash(root / path)
        except OSError:
            unreadable.append(path)
            continue
        digest.update(f"{path}\0{int(executable)}\0{content}\n".encode("utf-8", "surrogateescape"))
        files.append(path)
        total += size
        sizes[path] = size
        if on_progress is not None and len(files) % 256 == 0:
            on_progress(len(files), total)
    largest = _largest(sizes)
    return CodeSnapshot(
        tree_hash=f"sha256:{digest.hexdigest()}",
        files=tuple(files),
        size_bytes=total,
        largest=largest,
        unreadable=tuple(unreadable),
        warnings=_warnings(total, largest, unreadable),
        **_git_facts(root),
    )


def _hash(path: Path) -> tuple[str, int, bool]:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
        status = os.fstat(file.fileno())
    return content, status.st_size, bool(status.st_mode & 0o100)


def _largest(sizes: dict[str, int]) -> tuple[LargeEntry, ...]:
    """The heaviest top-level folders and files."""
    weight: dict[str, int] = {}
    for path, size in sizes.items():
        top, slash, _ = path.partition("/")
        weight[top + slash] = weight.get(top + slash, 0) + size
    heavy = sorted(weight.items(), key=lambda entry: (-entry[1], entry[0]))[:5]
    return tuple(LargeEntry(path=path, size_bytes=size) for path, size in heavy)


def _warnings(total: int, largest: tuple[LargeEntry, ...], unreadable: list[str]) -> tuple[str, ...]:
    found = []
    if total > LARGE_BYTES:
        names = ", ".join(f"{entry.path} ({_size(entry.size_bytes)})" for entry in largest[:3])
        found.append(
            f"The code holds {_size(total)}; the largest are {names}. "
            "Mount data sets instead, or leave them out with a .dockerignore file."
        )
    if unreadable:
        names = ", ".join(unreadable[:3]) + (" and others" if len(unreadable) > 3 else "")
        found.append(f"{len(unreadable)} of the files and folders cannot be read and stay behind: {names}.")
    return tuple(found)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


class _GitFacts(TypedDict, total=False):
    commit: str
    branch: str
    remote: str
    changed_files: tuple[str, ...]
    patch: str


def _git_facts(root: Path) -> _GitFacts:
    """How the folder stands to Git; empty where it is in no work tree or Git cannot tell."""
    try:
        head = run_git("rev-parse", "--show-toplevel", "HEAD", folder=root, timeout_s=15)
    except WorldError:
        return {}
    lines = head.stdout.decode("utf-8", "surrogateescape").splitlines()
    if head.returncode != 0 or len(lines) != 2:
        return {}
    try:
        branch = _line(root, "symbolic-ref", "--short", "-q", "HEAD")
        remote = _line(root, "config", "--get", "remote.origin.url")
        status = run_git(
            "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=all", "--", ".",
            folder=root, timeout_s=30,
        )  # fmt: skip
        patch = run_git(
            "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--binary", "--ignore-submodules=all",
            "HEAD", "--", ".",
            folder=root, timeout_s=30,
        )  # fmt: skip
    except WorldError:
        return {"commit": lines[1]}
    changed = _changed(status.stdout.decode("utf-8", "surrogateescape"), root, Path(lines[0]))
    text = patch.stdout[:MAX_PATCH_BYTES].decode("utf-8", "replace")
    if len(patch.stdout) > MAX_PATCH_BYTES:
        text += "\n# Cut here: the patch is larger than 5 MB.\n"
    return {
        "commit": lines[1],
        "branch": branch,
        "remote": without_password(remote),
        "changed_files": changed,
        "patch": text,
    }


def _line(root: Path, *arguments: str) -> str:
    done = run_git(*arguments, folder=root, timeout_s=15)
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def _changed(porcelain: str, root: Path, top: Path) -> tuple[str, ...]:
    prefix = root.resolve().relative_to(top.resolve()).as_posix() if root.resolve() != top.resolve() else ""
    found: list[str] = []
    entries = iter(porcelain.split("\0"))
    for entry in entries:
        if len(entry) < 4:
            continue
        path = entry[3:]
        if entry[0] in "RC":
            next(entries, None)  # where it came from
        if prefix and path.startswith(prefix + "/"):
            path = path[len(prefix) + 1 :]
        found.append(path)
    return tuple(sorted(found))


def without_password(url: str) -> str:
    """A remote's URL without user name and password."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.username is None and parts.password is None:
        return url
    host = parts.hostname or ""
    user = f"{parts.username}@" if parts.scheme == "ssh" and parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, parts.query, parts.fragment))
