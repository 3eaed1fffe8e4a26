"""Which files of a folder are code: .gitignore, .dockerignore and a short list of our own decide what stays behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

OURS = (
    ".git/",
    ".hg/",
    ".svn/",
    "__pycache__/",
    "*.py[cod]",
    ".venv/",
    "venv/",
    ".conda/",
    "node_modules/",
    ".ipynb_checkpoints/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".eggs/",
    "*.egg-info/",
    ".DS_Store",
    ".idea/",
    ".vscode/",
    "mlruns/",
    "wandb/",
    "lightning_logs/",
    ".env",
    ".netrc",
    "id_rsa",
    "id_ed25519",
)
"""What never is code: version control, environments, caches, other trackers' output, and files that hold secrets."""

MAX_FILES = 200_000


class TooManyFiles(Exception):
    """The folder holds more files than a project would."""


def list_files(root: Path, *, on_unreadable: Callable[[str], None] | None = None) -> Iterator[str]:
    """POSIX paths below `root` of every file that is not ignored, sorted folder by folder.

    Links are listed where they lead to a file inside `root`; linked folders are not entered. Raises TooManyFiles.
    """
    docker = _docker_spec(root)
    count = 0
    inside = root.resolve()

    def walk(folder: str, specs: list[tuple[str, GitIgnoreSpec]]) -> Iterator[str]:
        nonlocal count
        try:
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            if on_unreadable is not None:
                on_unreadable(folder or ".")
            return
        if any(entry.name == ".gitignore" for entry in entries):
            spec = _read_spec(root / folder / ".gitignore")
            if spec is not None:
                specs = [*specs, (folder, spec)]
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                is_link = entry.is_symlink()
                is_folder = entry.is_dir(follow_symlinks=False)
                is_file = entry.is_file()
            except OSError:
                continue
            if _ignored(path, is_folder, specs):
                continue
            if is_folder:
                # .dockerignore may bring files of an ignored folder back, so it is asked per file.
                yield from walk(path, specs)
            elif is_file and not (docker is not None and docker.match_file(path)):
                if is_link and not Path(os.path.realpath(root / path)).is_relative_to(inside):
                    if on_unreadable is not None:
                        on_unreadable(f"{path} (a link that leads out of the folder)")
                    continue
                count += 1
                if count > MAX_FILES:
                    raise TooManyFiles(path)
                yield path

    yield from walk("", [("", _ours())])


def _ours() -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(OURS)


def _ignored(path: str, is_folder: bool, specs: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """As Git decides: the deepest file with a matching pattern has the last word."""
    for folder, spec in reversed(specs):
        relative = path[len(folder) + 1 :] if folder else path
        result = spec.check_file(relative + "/" if is_folder else relative)
        if result.include is not None:
            return result.include
    return False


def _read_spec(path: Path) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(path.read_text("utf-8", "replace").splitlines())
    except (OSError, ValueError):
        return None


def _docker_spec(root: Path) -> GitIgnoreSpec | None:
    """.dockerignore: its patterns are relative to the root, so that each gets a leading slash."""
    try:
        lines = (root / ".dockerignore").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    patterns = []
    for line in lines:
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated = pattern.startswith("!")
        body = pattern.lstrip("!").strip().removeprefix("./").lstrip("/").rstrip("/")
        # Our own Dockerfile is written beside the code; one that is listed here is ignored for Docker's own reasons.
        if body in ("", ".", "Dockerfile", ".dockerignore"):
            continue
        patterns.append(("!" if negated else "") + "/" + body)
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError:
        return None
