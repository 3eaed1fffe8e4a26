"""Code: where the user's source is, how it travels into the container, and what exactly travelled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Travel(StrEnum):
    """How code gets into the container."""

    BAKED = "baked"
    """Copied into the image as its last layer: the image alone runs anywhere."""
    MOUNTED = "mounted"
    """Bound read-only into the container at launch: an edit needs no build."""
    CLONED = "cloned"
    """Fetched from Git by URL and commit when the image is built from it, or at the start of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSource:
    """The user's code: a `folder` on this machine, or a Git `url` with a `ref`. Exactly one of the two is set."""

    folder: str = ""
    url: str = ""
    ref: str = ""
    """Branch, tag or commit; empty means the remote's default branch."""
    subfolder: str = ""
    """Folder inside the repository that holds the script; POSIX path, no leading slash."""
    travel: Travel = Travel.BAKED


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeEntry:
    """A file or top-level folder that makes the code heavy. `path` is relative to the code's root."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSnapshot:
    """What exactly travels: the same for every way of travelling, so that runs can be told apart by `tree_hash`.

    `tree_hash` is ``sha256:`` over the sorted (path, executable bit, content hash) of every file that is not ignored.
    """

    tree_hash: str
    files: tuple[str, ...]
    """POSIX paths relative to the root, sorted."""
    size_bytes: int
    commit: str = ""
    """Full commit hash if the folder is in a Git work tree."""
    branch: str = ""
    remote: str = ""
    """Remote URL without credentials."""
    changed_files: tuple[str, ...] = ()
    """Tracked files that differ from `commit`, and untracked ones that are not ignored."""
    patch: str = ""
    """`git diff` of the tracked changes against `commit`; kept with the run (untracked files are in the snapshot)."""
    largest: tuple[LargeEntry, ...] = ()
    warnings: tuple[str, ...] = ()
    """Sentences for the user, such as "The code holds 1.2 GB …"."""
    unreadable: tuple[str, ...] = ()
