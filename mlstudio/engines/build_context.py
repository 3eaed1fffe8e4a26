"""The tar files that builds read: the build's context, and the files of a mount. The same files, the same bytes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from mlstudio.engines.engine import BuildContext, BuildMount
from mlstudio.model.errors import WorldError

DOCKERFILE = "Dockerfile"
_BLOCK = 256 * 1024


class Sink(Protocol):
    """Where a tar file goes."""

    def write(self, data: bytes, /) -> int: ...


def write_context(
    sink: Sink, dockerfile: str, context: BuildContext, *, stop: Callable[[], None] = lambda: None
) -> None:
    """Write the context: the Dockerfile, our own files, and the code under ``code/``.

    A context with an attribute ``code_prefix`` has its code there instead (the user's own Dockerfile expects it at the
    top). `stop` is called before each file and may raise. Raises WorldError for a file that cannot be read.
    """
    prefix = str(getattr(context, "code_prefix", "code"))
    extra = {DOCKERFILE: dockerfile.encode(), **dict(context.extra)}
    with _tar(sink) as archive:
        folders: set[str] = set()
        names: set[str] = set()
        for name, content in extra.items():
            _add_folders(archive, name, folders)
            _add_bytes(archive, name, content)
            names.add(name)
        if context.root is not None and prefix:
            # Also where there is no file in it, so that it can be copied from.
            _add_folders(archive, f"{prefix}/file", folders)
        for path in context.files:
            stop()
            name = str(PurePosixPath(prefix) / path) if prefix else path
            if context.root is None or name in names:
                continue
            _add_folders(archive, name, folders)
            _add_file(archive, name, context.root / path, root=context.root)


def write_mount(sink: Sink, mount: BuildMount, *, stop: Callable[[], None] = lambda: None) -> None:
    """Write the files of a mount."""
    with _tar(sink) as archive:
        folders: set[str] = set()
        for name, path in sorted(mount.files, key=lambda entry: entry[0]):
            stop()
            _add_folders(archive, name, folders)
            _add_file(archive, name, path)


class _Blocks:
    """Collects what is written into blocks. (tarfile's own stream mode copies its buffer with every write.)"""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parts: list[bytes] = []
        self._held = 0
        self._written = 0

    def tell(self) -> int:
        return self._written

    def write(self, data: bytes) -> int:
        self._parts.append(data)
        self._held += len(data)
        self._written += len(data)
        if self._held >= _BLOCK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._parts:
            self._sink.write(b"".join(self._parts))
            self._parts, self._held = [], 0


@contextmanager
def _tar(sink: Sink) -> Iterator[tarfile.TarFile]:
    blocks = _Blocks(sink)
    # GNU's format: BuildKit of Engine 20.10 stumbles over the headers of the POSIX one.
    with tarfile.open(fileobj=cast("IO[bytes]", blocks), mode="w", format=tarfile.GNU_FORMAT) as archive:
        yield archive
    blocks.flush()


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    """An entry that says nothing of this machine: root's, at the epoch."""
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.mode = mode
    return entry


def _add_folders(archive: tarfile.TarFile, name: str, known: set[str]) -> None:
    for folder in reversed(PurePosixPath(name.lstrip("/")).parents):
        text = str(folder)
        if text != "." and text not in known:
            known.add(text)
            entry = _entry(text, 0o755)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = _entry(name, 0o644)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add_file(archive: tarfile.TarFile, name: str, path: Path, *, root: Path | None = None) -> None:
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            entry = _entry(name, 0o777)
            entry.type, entry.linkname = tarfile.SYMTYPE, _target(path, root)
            archive.addfile(entry)
            return
        if not stat.S_ISREG(found.st_mode):
            return
        with path.open("rb") as file:
            entry = _entry(name, 0o755 if found.st_mode & stat.S_IXUSR else 0o644)
            entry.size = os.fstat(file.fileno()).st_size
            archive.addfile(entry, file)
    except OSError as error:
        raise WorldError(
            f"The file {path} could not be sent to the builder.",
            why=error.strerror or f"It changed while it was read ({error}).",
            try_this="Make it readable, or leave it out with a line in .dockerignore.",
            can_retry=True,
        ) from error


def _target(link: Path, root: Path | None) -> str:
    """Where a link leads; a full path into `root` as seen from the link, because the folder is elsewhere in the image."""
    target = os.readlink(link)
    if root is None or not os.path.isabs(target) or not Path(target).is_relative_to(root):
        return target
    return os.path.relpath(target, link.parent)


def total_bytes(files: Sequence[tuple[str, Path]]) -> int:
    """How much a mount's files hold together; what cannot be read counts as nothing."""
    total = 0
    for _, path in files:
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
