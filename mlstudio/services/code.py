"""Code: the folder or repository that a run is made from, fetched, measured and understood."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from mlstudio.images.checkout import clone, resolve_ref
from mlstudio.images.detect import Suggestion, suggest
from mlstudio.images.ignore import TooManyFiles, list_files
from mlstudio.images.snapshot import take_snapshot
from mlstudio.model.code import CodeSnapshot, CodeSource
from mlstudio.model.errors import RequestError, WorldError
from mlstudio.services.recent import Recent

_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")


class CodeService:
    """What the user's code is: `fetch` gets it onto this machine, `snapshot` tells exactly what would travel.

    Thread-safe. A snapshot is taken again only when a file's size or time, or the repository's state, has changed.
    """

    def __init__(self, home: Path) -> None:
        self._checkouts = home / "checkouts"
        self._lock = threading.Lock()
        self._taken: dict[str, tuple[str, CodeSnapshot]] = {}
        self._refs: Recent[str] = Recent(60.0)

    def fetch(self, source: CodeSource) -> Path:
        """The folder that holds the code: the user's own, or a kept checkout of the Git commit.

        Raises RequestError (no such folder, URL or ref; a password in the URL), WorldError (the network).
        """
        if source.url and source.folder:
            raise RequestError("Give a folder or a Git URL, not both.", field="code.url")
        if source.url:
            return self._inside(self._checkout(source.url, self.commit_of(source)), source.subfolder)
        if not source.folder:
            raise RequestError(
                "No code was given.",
                field="code.folder",
                try_this="Choose the folder that holds your script, or a Git URL.",
            )
        try:
            folder = Path(source.folder).expanduser()
            is_there = folder.exists()
        except (OSError, RuntimeError, ValueError) as error:
            # A name that is too long, a folder in one that is closed, the home of nobody, a null character.
            shown = source.folder if len(source.folder) <= 80 else source.folder[:79] + "…"
            raise RequestError(
                f"The folder “{shown}” cannot be read.",
                field="code.folder",
                why=getattr(error, "strerror", None) or str(error),
            ) from error
        if not is_there:
            raise RequestError(f"There is no folder {folder}.", field="code.folder")
        if not folder.is_dir():
            raise RequestError(
                f"{folder} is a file.",
                field="code.folder",
                try_this=f"Choose its folder, {folder.parent}, and name the file in the command.",
            )
        if not os.access(folder, os.R_OK | os.X_OK):
            raise RequestError(
                f"The folder {folder} cannot be read.",
                field="code.folder",
                why="Your user has no permission for it.",
                try_this=f"Check it with `ls -ld {folder}`.",
            )
        return self._inside(folder.resolve(), source.subfolder)

    def commit_of(self, source: CodeSource) -> str:
        """The full commit that a Git source means now; the remote is asked at most once a minute."""
        refuse_password(source.url)
        if _FULL_COMMIT.fullmatch(source.ref):
            return source.ref
        return self._refs.get((source.url, source.ref), lambda: resolve_ref(source.url, source.ref))

    def snapshot(
        self, source: CodeSource, *, on_progress: Callable[[int, int], None] | None = None
    ) -> CodeSnapshot:
        """What exactly would travel now: every file's hash, the commit and the uncommitted changes."""
        root = self.fetch(source)
        commit = self.commit_of(source) if source.url else ""
        stamp = commit or _state_of(root)
        key = str(root)
        with self._lock:
            kept = self._taken.get(key)
        if kept is not None and stamp and kept[0] == stamp:
            return kept[1]
        local = replace(source, url="", ref="", subfolder="", folder=str(root))
        taken = take_snapshot(local, on_progress=on_progress)
        if source.url:
            taken = replace(taken, commit=commit, remote=source.url, changed_files=(), patch="")
        with self._lock:
            if len(self._taken) > 32:
                self._taken.clear()
            self._taken[key] = (stamp, taken)
        return taken

    def suggest(self, source: CodeSource) -> Suggestion:
        """Framework, dependencies, script and command as they can be read from the code."""
        return suggest(self.fetch(source), self.snapshot(source))

    def _checkout(self, url: str, commit: str) -> Path:
        """A kept clone of `commit`; made beside and moved into place, so that two at once do no harm."""
        folder = self._checkouts / hashlib.sha256(url.encode()).hexdigest()[:16] / commit
        if folder.is_dir():
            return folder
        partial = folder.with_name(f".{commit[:12]}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            clone(url, commit, partial)
            try:
                partial.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        except OSError as error:
            raise WorldError(
                "The repository could not be kept on this machine.",
                why=f"{folder}: {error.strerror or error}",
                try_this="Check the free space and the permissions of that folder.",
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return folder

    @staticmethod
    def _inside(root: Path, subfolder: str) -> Path:
        if not subfolder:
            return root
        inner = (root / subfolder).resolve()
        if not inner.is_relative_to(root.resolve()):
            raise RequestError(f"“{subfolder}” leads out of the code.", field="code.subfolder")
        if not inner.is_dir():
            raise RequestError(f"There is no folder “{subfolder}” in the code.", field="code.subfolder")
        return inner


def project_name(source: CodeSource) -> str:
    """What the code is called: its folder or its repository; empty where there is none."""
    if source.url:
        return source.url.rstrip("/").rpartition("/")[2].rpartition(":")[2].removesuffix(".git")
    return Path(source.folder).expanduser().absolute().name if source.folder else ""


def refuse_password(url: str) -> None:
    """A URL with a password would be kept with the run and shown: raises RequestError(field="code.url")."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return
    if password:
        raise RequestError(
            "The Git URL holds a password.",
            field="code.url",
            why="It would be kept with the run, where others may read it.",
            try_this="Use an SSH URL, or leave the password to Git's credential helper.",
        )


def _state_of(root: Path) -> str:
    """A stamp that changes with any file's size, time or mode and with the repository's state."""
    digest = hashlib.sha256()
    try:
        for name in list_files(root):
            status = os.lstat(root / name)
            digest.update(
                f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}\n".encode(
                    "utf-8", "surrogateescape"
                )
            )
        for folder in (root, *root.parents):
            git = folder / ".git"
            if git.exists():
                for part in ("HEAD", "index", "config", "logs/HEAD"):
                    if (git / part).exists():
                        digest.update(f"{part}{(git / part).stat().st_mtime_ns}\n".encode())
                break
    except (OSError, TooManyFiles):
        return ""
    return digest.hexdigest()
