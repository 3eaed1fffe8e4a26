"""Putting files and folders where they belong: whole or not at all, and over nothing that is there already."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlstudio.model.errors import RequestError, WorldError


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """A file to write, which takes its place at `path` in the end. Raises RequestError if something is there already and
    `force` does not allow for it; WorldError if it cannot be written."""
    with new_path(path, force=force) as made, made.open("xb") as file:
        yield file


@contextmanager
def new_path(path: Path, *, force: bool, is_folder: bool = False) -> Iterator[Path]:
    """A path to write a file or folder at; what was written takes its place at `path` in the end."""
    refuse_taken(path, force=force, is_folder=is_folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place: a name is given to it in one step only within one file system.
        folder = Path(tempfile.mkdtemp(prefix=".mlstudio-export-", dir=path.parent))
    except OSError as error:
        raise not_written(path, error) from error
    try:
        yield folder / path.name
        _put(folder / path.name, path, folder / "replaced")
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_taken(path: Path, *, force: bool, is_folder: bool = False) -> None:
    """Raises RequestError if `path` may not be written."""
    if not os.path.lexists(path):
        return
    if path.is_dir() != is_folder or path.is_symlink():
        kind = "a file" if is_folder else "a folder"
        raise RequestError(
            f"{path} is {kind if not path.is_symlink() else 'a link'}.",
            field="path",
            try_this="Choose another name.",
        )
    if not force:
        raise RequestError(
            f"{path} is there already.",
            field="path",
            try_this="Choose another name, or say --force to replace it.",
        )


def _put(made: Path, path: Path, aside: Path) -> None:
    if path.is_dir():
        os.replace(path, aside)  # it goes with the rest
    umask = os.umask(0)
    os.umask(umask)
    made.chmod((0o777 if made.is_dir() else 0o666) & ~umask)
    os.replace(made, path)


def not_written(path: Path, error: OSError) -> WorldError:
    return WorldError(
        f"{path} could not be written.",
        why=f"{error.strerror or error}.",
        try_this="Check the disk, and who may write there.",
        can_retry=True,
    )
