"""A snapshot of a folder of code: exactly which files travel, what they hash to, and how they stand to Git."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from mlstudio.images.git import run_git, without_filters
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
    root = _root(source)
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


def _root(source: CodeSource) -> Path:
    try:
        top = Path(source.folder).expanduser().resolve()
        root = (top / source.subfolder).resolve()
        if root.is_dir() and root.is_relative_to(top):
            return root
    except (OSError, ValueError, RuntimeError):
        # A name that is too long or holds a null, a user who is none, links that lead round.
        raise RequestError(f"There is no folder {source.folder[:300]!r}.", field="code.folder") from None
    if root.is_relative_to(top):
        raise RequestError(f"There is no folder {root}.", field="code.folder")
    raise RequestError(
        f"The folder {source.subfolder} leads out of {top}.",
        field="code.subfolder",
        try_this="Choose a folder inside the code, or its own folder as the code.",
    )


def _hash(path: Path) -> tuple[str, int, bool]:
    # Not to be held up where the file has become a pipe since it was listed.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no file any more")
        content = hashlib.file_digest(file, "sha256").hexdigest()
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
    if head.returncode != 0 or len(lines) != 2 or not root.resolve().is_relative_to(Path(lines[0]).resolve()):
        return {}
    try:
        silenced = without_filters(root)
        branch = _line(root, "symbolic-ref", "--short", "-q", "HEAD")
        remote = _line(root, "config", "--get", "remote.origin.url")
        status = run_git(
            "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=all", "--", ".",
            folder=root, timeout_s=30, settings=silenced,
        )  # fmt: skip
        patch = run_git(
            "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--binary", "--ignore-submodules=all",
            "HEAD", "--", ".",
            folder=root, timeout_s=30, settings=silenced,
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
    """A remote's URL without user name, password and query; empty where it is too odd to tell which part is which."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    user = f"{parts.username}@" if parts.scheme == "ssh" and parts.username else ""
    return f"{parts.scheme}://{user}{host}{port}{parts.path}"
