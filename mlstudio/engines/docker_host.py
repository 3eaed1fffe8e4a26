"""Where the Docker engine listens: found as the `docker` command finds it, and what it means when nobody answers there.

Order (https://docs.docker.com/engine/manage-resources/contexts/): DOCKER_HOST, DOCKER_CONTEXT, the current context of
the user's configuration, the default socket; then the sockets of a rootless engine and of Docker Desktop.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlstudio.model.errors import EngineAway
from mlstudio.model.host import EngineTrouble

DEFAULT_SOCKET = "/var/run/docker.sock"
_DEFAULT_PORT = 2375


class Unreachable(EngineAway):
    """Nobody answers at an endpoint; `trouble` says which of the usual reasons it is."""

    def __init__(self, what: str, *, trouble: EngineTrouble, why: str, try_this: str) -> None:
        super().__init__(what, why=why, try_this=try_this, can_retry=trouble is EngineTrouble.STOPPED)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of an engine, such as ``unix:///var/run/docker.sock`` or ``tcp://10.0.0.5:2375``."""

    url: str
    origin: str = ""
    """Where the address was found, in words: "DOCKER_HOST", "the context “work”"."""

    @property
    def socket_path(self) -> str:
        """The socket's path for ``unix://``, else empty."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def is_local(self) -> bool:
        """Whether the engine sees this machine's files."""
        return bool(self.socket_path)

    def connect(self, timeout_s: float) -> socket.socket:
        """A connected socket. Raises Unreachable with the reason in plain words."""
        path = self.socket_path
        try:
            if path:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    connection.settimeout(timeout_s)
                    connection.connect(path)
                except BaseException:
                    connection.close()
                    raise
                return connection
            parts = urlsplit(self.url)
            if parts.scheme not in ("tcp", "http") or os.environ.get("DOCKER_TLS_VERIFY"):
                raise Unreachable(
                    f"The engine at {_shown(self.url)} cannot be reached.",
                    trouble=EngineTrouble.UNREACHABLE,
                    why=f"The address comes from {self.origin}; ML Studio speaks to local sockets and plain tcp:// only.",
                    try_this="Forward its socket and point DOCKER_HOST to it: "
                    "ssh -N -L /tmp/engine.sock:/var/run/docker.sock HOST & export DOCKER_HOST=unix:///tmp/engine.sock",
                )
            return socket.create_connection(
                (parts.hostname or "", parts.port or _DEFAULT_PORT), timeout=timeout_s
            )
        except OSError as error:
            raise self.explain(error) from error

    def explain(self, error: OSError) -> Unreachable:
        """Why a connection failed, and how to mend it."""
        path = self.socket_path
        if not path:
            return Unreachable(
                f"The engine at {_shown(self.url)} does not answer.",
                trouble=EngineTrouble.UNREACHABLE,
                why=f"The address comes from {self.origin}; the system says: {error.strerror or error}.",
                try_this="Check that the machine is up and the address is right.",
            )
        if isinstance(error, PermissionError):
            return Unreachable(
                "Docker runs, but you may not use it.",
                trouble=EngineTrouble.NOT_PERMITTED,
                why=f"The socket {path} belongs to the group docker, and you are not in it.",
                try_this="sudo usermod -aG docker $USER   then log out and in again "
                "(members of this group have the rights of root).",
            )
        if isinstance(error, TimeoutError | BlockingIOError):
            return Unreachable(
                "Docker does not answer.",
                trouble=EngineTrouble.UNREACHABLE,
                why=f"Something listens at {path} but is too busy or hangs.",
                try_this="Look at its log: journalctl -u docker -n 50",
            )
        if self.origin and self.origin != "the default socket":
            return Unreachable(
                "Docker does not answer.",
                trouble=EngineTrouble.STOPPED,
                why=f"Nobody listens at {path}; the address comes from {self.origin}.",
                try_this="Start that engine, or clear the setting to use the default socket.",
            )
        if isinstance(error, FileNotFoundError) and not _is_installed():
            return Unreachable(
                "Docker is not installed.",
                trouble=EngineTrouble.ABSENT,
                why=f"There is neither a docker program nor a socket at {path}.",
                try_this="sudo apt install docker.io   (or https://docs.docker.com/engine/install/)",
            )
        return Unreachable(
            "Docker is installed but not running.",
            trouble=EngineTrouble.STOPPED,
            why=f"Nobody listens at {path}.",
            try_this="sudo systemctl start docker",
        )


def find_endpoint(environment: Mapping[str, str] | None = None) -> Endpoint:
    """The engine that the `docker` command would speak to. Connects to nothing."""
    env = os.environ if environment is None else environment
    host = env.get("DOCKER_HOST", "").strip()
    if host:
        return Endpoint(host, "DOCKER_HOST")
    home = Path(env.get("HOME", "") or Path.home())
    folder = Path(env.get("DOCKER_CONFIG", "") or home / ".docker")
    context = env.get("DOCKER_CONTEXT", "").strip() or _current_context(folder)
    if context and context != "default":
        url = _context_host(folder, context)
        if url:
            return Endpoint(url, f"the Docker context “{context}”")
    candidates = [Path(DEFAULT_SOCKET)]
    if env.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(env["XDG_RUNTIME_DIR"]) / "docker.sock")
    candidates += [home / ".docker/desktop/docker.sock", home / ".docker/run/docker.sock"]
    for candidate in candidates:
        if candidate.exists():
            return Endpoint(f"unix://{candidate}", "the default socket")
    return Endpoint(f"unix://{DEFAULT_SOCKET}", "the default socket")


def _current_context(folder: Path) -> str:
    found = _read_json(folder / "config.json").get("currentContext")
    return found if isinstance(found, str) else ""


def _context_host(folder: Path, name: str) -> str:
    """The address that a context's metadata holds: its folder is named after the hash of the context's name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    endpoints = _read_json(folder / "contexts" / "meta" / digest / "meta.json").get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    return host if isinstance(host, str) else ""


def _read_json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_installed() -> bool:
    return any(shutil.which(program) for program in ("dockerd", "docker", "com.docker.cli"))


def _shown(url: str) -> str:
    """The address without a user's password."""
    parts = urlsplit(url)
    return url.replace(f"{parts.username}:{parts.password}@", "") if parts.password else url
