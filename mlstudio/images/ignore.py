"""Which files of a folder are code: .gitignore, .dockerignore and a short list of our own decide what stays behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec, Pattern, RegexPattern

OURS = (
    ".git",
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


def _ignored(path: str, is_folder: bool, specs: Sequence[tuple[str, GitIgnoreSpec]]) -> bool:
    """As Git decides: the deepest file with a matching pattern has the last word. Git's own folder never is code."""
    if path == ".git" or path.endswith("/.git"):
        return True
    for folder, spec in reversed(specs):
        relative = path[len(folder) + 1 :] if folder else path
        for pattern in reversed(spec.patterns):
            if pattern.include is not None and _matches(pattern, relative, is_folder):
                if pattern.include or not _means_everything(pattern):
                    return pattern.include
                # "*", "!*/", "!*.py" is how one lists what stays: it asks for no environment or cache.
                return len(specs) > 1 and _ignored(path, is_folder, specs[:1])
    return False


def _means_everything(pattern: Pattern) -> bool:
    """Whether it is ``*``, ``!*/``, ``**/`` and the like."""
    return isinstance(pattern, RegexPattern) and not str(pattern.pattern).strip("*/!")


def _matches(pattern: Pattern, path: str, is_folder: bool) -> bool:
    """Whether `pattern` means this very file or folder.

    The library's own check asks for the folders above too, so that ``!*/`` would bring every file of every folder back.
    Git does not, and the folders above were asked on the way down.
    """
    if isinstance(pattern, RegexPattern) and pattern.regex and pattern.regex.pattern == "(?P<ps_d>/)":
        path = path.rpartition("/")[2]  # "**/" finds its first slash, and the last one counts
    match = pattern.match_file(path + "/" if is_folder else path)
    if match is None:
        return False
    found: re.Match[str] = match.match
    folder_ends = found.end("ps_d") if "ps_d" in found.re.groupindex else -1
    if folder_ends >= 0:
        return is_folder and folder_ends == len(path) + 1
    # "a/**" means what is in the folder, not the folder.
    return not is_folder or pattern.match_file(path) is not None


def _read_spec(path: Path) -> GitIgnoreSpec | None:
    lines = _lines(path)
    try:
        return GitIgnoreSpec.from_lines(lines) if lines is not None else None
    except ValueError:
        return None


def _lines(path: Path) -> list[str] | None:
    """The lines of a file of rules; None where there is none to read, such as a pipe."""
    try:
        return path.read_text("utf-8-sig", "replace").splitlines() if path.is_file() else None
    except OSError:
        return None


def _docker_spec(root: Path) -> GitIgnoreSpec | None:
    """.dockerignore: its patterns are relative to the root, so that each gets a leading slash."""
    lines = _lines(root / ".dockerignore")
    if lines is None:
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
