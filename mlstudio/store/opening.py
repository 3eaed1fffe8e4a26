"""Whether a file may be opened as a history: looked at without SQLite and without writing a byte."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from mlstudio.model.errors import HistoryDamaged, WorldError
from mlstudio.store.schema import APPLICATION_ID, SCHEMA_NUMBER

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100

# SQLite's write-ahead log needs memory shared between all who use the file, which these do not give:
# https://www.sqlite.org/wal.html ("does not work over a network filesystem").
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "afpfs", "coda", "ceph", "glusterfs",
        "lustre", "gpfs", "beegfs", "ocfs2", "gfs2", "pvfs2", "9p", "davfs", "vboxsf", "prl_fs",
        "fuse.sshfs", "fuse.glusterfs", "fuse.cephfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
        "fuse.davfs", "fuse.davfs2", "fuse.smbnetfs", "fuse.curlftpfs", "fuse.juicefs", "fuse.goofys", "fuse.nfs",
        "fuse.vmhgfs-fuse", "fuse.blobfuse", "fuse.blobfuse2", "fuse.beegfs", "fuse.lustre",
    }
)  # fmt: skip


class BrokenPacking(Exception):
    """Bytes that we packed do not unpack any more: the file was changed from outside."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a database say. `schema` is 0 for a database that is still empty."""

    schema: int
    is_ours: bool


def read_header(path: Path) -> Header | None:
    """The header of the database, or None if there is no file yet (or an empty one).

    Raises WorldError for a file that is not a sound database, or one from a newer ML Studio. Reads only.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorldError(
            f"The history {path} cannot be read.",
            why=f"{error.strerror or error}.",
            try_this="Check who may read the file, or choose another home with MLSTUDIO_HOME.",
        ) from error
    if not head:
        return None
    # https://www.sqlite.org/fileformat2.html#the_database_header
    if len(head) < _HEADER_BYTES or not head.startswith(_MAGIC):
        raise damaged(path, "It does not begin like a database.")
    page_bytes = struct.unpack(">H", head[16:18])[0]
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    if page_bytes < 512 or page_bytes & (page_bytes - 1):
        raise damaged(path, "Its header names an impossible page size.")
    changes, pages = struct.unpack(">II", head[24:32])
    valid_for = struct.unpack(">I", head[92:96])[0]
    schema, application = struct.unpack(">I", head[60:64])[0], struct.unpack(">I", head[68:72])[0]
    has_log = path.with_name(path.name + "-wal").exists()
    if not has_log and pages and valid_for == changes and size < pages * page_bytes:
        raise damaged(path, f"It is cut short: {size} of {pages * page_bytes} bytes are there.")
    if application not in (0, APPLICATION_ID):
        raise WorldError(
            f"{path} is the database of another program.",
            try_this="Choose another home with MLSTUDIO_HOME.",
        )
    if schema > SCHEMA_NUMBER:
        raise from_the_future(path, schema)
    return Header(schema=schema, is_ours=application == APPLICATION_ID)


def refuse_network(path: Path, *, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise WorldError if `path` lies on a network file system. Where mounts are unknown nothing is refused."""
    found = file_system_of(path, mounts=mounts)
    if found is None or found[1] not in _NETWORK_FILE_SYSTEMS:
        return
    folder, kind = found
    raise WorldError(
        f"The history cannot lie in {path.parent}.",
        why=f"{folder} is a network file system ({kind}), on which databases of this kind get damaged "
        "when two programs write at once.",
        try_this="Choose a folder on a local disk with MLSTUDIO_HOME; the code and the data may stay where they are.",
    )


def file_system_of(path: Path, *, mounts: Path = Path("/proc/mounts")) -> tuple[str, str] | None:
    """(mount point, type) of the file system that holds `path` or will hold it; None if that cannot be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best: tuple[str, str] | None = None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        folder = _plain(fields[1])
        inside = real == folder or real.startswith(folder.rstrip("/") + "/")
        # The last of equally long ones lies on top.
        if inside and (best is None or len(folder) >= len(best[0])):
            best = (folder, fields[2])
    return best


def damaged(path: Path, why: str) -> HistoryDamaged:
    """The error for a database that cannot be read any more."""
    return HistoryDamaged(
        f"The history {path} is damaged.",
        why=why,
        try_this="ML Studio has not changed it. `mlstudio recover` makes a new history of all that can still be read, "
        "and keeps the damaged file; or put a backup in its place.",
    )


def from_the_future(path: Path, schema: int) -> WorldError:
    """The error for a database whose schema we do not know yet."""
    return WorldError(
        f"The history {path} was written by a newer ML Studio.",
        why=f"It has schema {schema}; this version knows up to {SCHEMA_NUMBER}.",
        try_this="Update ML Studio, or choose another home with MLSTUDIO_HOME. The history was not touched.",
    )


def _plain(field: str) -> str:
    """A field of /proc/mounts with its octal escapes (space, tab, newline, backslash) undone."""
    if "\\" not in field:
        return field
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
