"""The doctor: whether this machine can do what ML Studio does, and how to mend what it cannot."""

from __future__ import annotations

import shutil
import ssl
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from mlstudio.engines.engine import CanListGpus
from mlstudio.model.errors import StudioError
from mlstudio.model.host import EngineKind, EngineStatus, EngineTrouble, Gpu
from mlstudio.model.image import PipSettings
from mlstudio.services.checks import Check, Level
from mlstudio.services.engine_table import Engines
from mlstudio.services.settings import Settings
from mlstudio.services.words import bytes_text, count_text

_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "sshfs",
        "fuse.sshfs",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "9p",
    }
)
_LITTLE_HOME_BYTES = 10**9
_NO_HOME_BYTES = 50 * 10**6
_LITTLE_ENGINE_BYTES = 10 * 10**9
_NETWORK_TIMEOUT_S = 6.0
_DEFAULT_INDEX = "https://pypi.org/simple"


class Doctor:
    """Looks at the machine. Changes nothing."""

    def __init__(self, *, home: Path, engines: Engines, settings: Settings) -> None:
        self._home = home
        self._engines = engines
        self._settings = settings

    def check(self) -> tuple[Check, ...]:
        """Every finding, in the order: program, home, engines, GPUs, network. Takes seconds where something hangs."""
        subjects: tuple[Callable[[], list[Check]], ...] = (
            lambda: list(self._program()),
            lambda: list(self._home_folder()),
            lambda: list(self._engines_and_gpus()),
            lambda: list(self._packages()),
        )
        with ThreadPoolExecutor(max_workers=len(subjects), thread_name_prefix="doctor") as pool:
            return tuple(check for found in pool.map(lambda subject: subject(), subjects) for check in found)

    # -- the program itself -------------------------------------------------------------------------------------

    @staticmethod
    def _program() -> Iterator[Check]:
        python = ".".join(map(str, sys.version_info[:3]))
        yield Check(name="python", level=Level.OK, message=f"Python {python}.")
        if shutil.which("git") is None:
            yield Check(
                name="git",
                level=Level.WARNING,
                message="git is not installed: commits and changes of the code cannot be recorded.",
                try_this="sudo apt install git",
            )
        else:
            yield Check(name="git", level=Level.OK, message="git is installed.")

    # -- the home -----------------------------------------------------------------------------------------------

    def _home_folder(self) -> Iterator[Check]:
        folder = _existing(self._home)
        kind = file_system_of(folder)
        if kind in _NETWORK_FILE_SYSTEMS:
            yield Check(
                name="home",
                level=Level.ERROR,
                message=f"The home {self._home} lies on a network file system ({kind}), "
                "where the history would be damaged.",
                try_this="Choose a folder on a local disk with --home or MLSTUDIO_HOME.",
            )
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            probe = self._home / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            yield Check(
                name="home",
                level=Level.ERROR,
                message=f"The home {self._home} cannot be written to ({error.strerror or error}).",
                try_this="Choose another one with --home or MLSTUDIO_HOME.",
            )
            return
        free = shutil.disk_usage(self._home).free
        if free < _NO_HOME_BYTES:
            yield Check(
                name="home",
                level=Level.ERROR,
                message=f"Only {bytes_text(free)} are free at {self._home}: runs cannot be recorded.",
                try_this="Free some space, or choose another home with --home.",
            )
        elif free < _LITTLE_HOME_BYTES:
            yield Check(
                name="home", level=Level.WARNING, message=f"Only {bytes_text(free)} are free at {self._home}."
            )
        else:
            yield Check(name="home", level=Level.OK, message=f"{self._home}, {bytes_text(free)} free.")

    # -- engines ------------------------------------------------------------------------------------------------

    def _engines_and_gpus(self) -> Iterator[Check]:
        chosen = self._settings.text("engine")
        for name in self._engines.names():
            engine = self._engines.get(name)
            status = engine.check()
            if not status.usable:
                yield Check(
                    name=f"engine {name}",
                    level=Level.ERROR if name == chosen else Level.WARNING,
                    message=status.why or "It cannot be used.",
                    try_this=status.try_this or _mend(status),
                )
                continue
            yield Check(name=f"engine {name}", level=Level.OK, message=_engine_words(status))
            if status.kind is EngineKind.PROCESS:
                continue
            if status.buildkit is False:
                yield Check(
                    name=f"engine {name}",
                    level=Level.WARNING,
                    message="This engine has no BuildKit: builds show fewer details and cache less.",
                    try_this="Install Docker 20.10 or newer.",
                )
            free = status.storage_free_bytes
            if free is not None and free < _LITTLE_ENGINE_BYTES:
                yield Check(
                    name=f"engine {name} disk",
                    level=Level.WARNING,
                    message=f"Only {bytes_text(free)} are free where the engine keeps images; CUDA images take 5–10 GB.",
                    try_this="Remove images that you no longer need: mlstudio images.",
                )
            elif free is not None:
                yield Check(
                    name=f"engine {name} disk", level=Level.OK, message=f"{bytes_text(free)} free for images."
                )
            if isinstance(engine, CanListGpus):
                try:
                    gpus = tuple(engine.gpus())
                except StudioError as error:
                    yield Check(name=f"gpu {name}", level=Level.WARNING, message=str(error))
                else:
                    yield from _gpu_checks(name, status, gpus)

    # -- packages -----------------------------------------------------------------------------------------------

    def _packages(self) -> Iterator[Check]:
        try:
            pip = self._settings.pip()
        except StudioError as error:
            yield Check(name="packages", level=Level.ERROR, message=error.what, try_this=error.try_this)
            return
        if pip.ca_bundle and not Path(pip.ca_bundle).is_file():
            yield Check(
                name="certificates",
                level=Level.ERROR,
                message=f"The file of certificate authorities {pip.ca_bundle} does not exist.",
                try_this="Correct it: mlstudio settings set pip.ca_bundle FILE",
            )
            return
        if pip.wheelhouse:
            yield _wheelhouse(Path(pip.wheelhouse))
        yield reach_index(pip)


def reach_index(pip: PipSettings) -> Check:
    """Whether the package index answers with these settings."""
    url = (pip.index_url or _DEFAULT_INDEX).rstrip("/") + "/"
    shown = _without_credentials(url)
    if not url.startswith(("http://", "https://")):
        return Check(name="packages", level=Level.INFO, message=f"The package index is {shown}.")
    host = urlsplit(url).hostname or ""
    try:
        context = ssl.create_default_context(cafile=pip.ca_bundle or None)
        if host in pip.trusted_hosts:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
        if pip.proxy and host not in pip.no_proxy.split(","):
            handlers.append(urllib.request.ProxyHandler({"http": pip.proxy, "https": pip.proxy}))
        request = urllib.request.Request(f"{shown}/pip/", headers={"User-Agent": "mlstudio-doctor"})
        parts = urlsplit(url)
        if parts.username:
            known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            # Not passed on when the index sends us elsewhere.
            request.add_unredirected_header("Authorization", "Basic " + b64encode(known.encode()).decode())
        with urllib.request.build_opener(*handlers).open(request, timeout=_NETWORK_TIMEOUT_S) as reply:
            reply.read(1)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Check(
                name="packages",
                level=Level.WARNING,
                message=f"The package index {shown} refuses access (HTTP {error.code}).",
                try_this="Check the user and password of pip.index_url.",
            )
        if error.code >= 500:
            return Check(
                name="packages",
                level=Level.WARNING,
                message=f"The package index {shown} is out of order (HTTP {error.code}).",
                try_this="Try again later, or set another with pip.index_url.",
            )
    except ssl.SSLError as error:
        return _untrusted(shown, error)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return _untrusted(shown, reason)
        return Check(
            name="packages",
            level=Level.WARNING,
            message=f"The package index {shown} cannot be reached ({getattr(reason, 'strerror', None) or reason}).",
            try_this="Check the network, or set pip.index_url, pip.proxy or pip.wheelhouse.",
        )
    return Check(name="packages", level=Level.OK, message=f"The package index {shown} answers.")


def _untrusted(shown: str, error: ssl.SSLError) -> Check:
    reason = getattr(error, "verify_message", "") or error.reason or str(error)
    return Check(
        name="packages",
        level=Level.WARNING,
        message=f"The certificate of the package index {shown} is not trusted ({reason}).",
        try_this="Name your organisation's certificates: mlstudio settings set pip.ca_bundle FILE",
    )


def _wheelhouse(folder: Path) -> Check:
    try:
        count = sum(1 for entry in folder.iterdir() if entry.suffix in (".whl", ".gz", ".zip"))
    except OSError as error:
        return Check(
            name="wheelhouse",
            level=Level.ERROR,
            message=f"The wheelhouse {folder} cannot be read ({error.strerror or error}).",
            try_this="Correct it: mlstudio settings set pip.wheelhouse FOLDER",
        )
    return Check(
        name="wheelhouse",
        level=Level.OK if count else Level.WARNING,
        message=f"The wheelhouse {folder} holds {count_text(count, 'package')}.",
    )


def _gpu_checks(name: str, status: EngineStatus, gpus: tuple[Gpu, ...]) -> Iterator[Check]:
    if not gpus:
        yield Check(name=f"gpu {name}", level=Level.INFO, message="No NVIDIA GPU: runs use the processor.")
        return
    for gpu in gpus:
        memory = f", {bytes_text(gpu.memory_total_bytes)}" if gpu.memory_total_bytes else ""
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        cuda = f", CUDA up to {gpu.cuda}" if gpu.cuda else ""
        yield Check(
            name=f"gpu {name}", level=Level.OK, message=f"GPU {gpu.index}: {gpu.name}{memory}{driver}{cuda}."
        )
    if status.kind is EngineKind.DOCKER and status.gpu_runtime is False:
        yield Check(
            name=f"gpu {name}",
            level=Level.WARNING,
            message="There are GPUs, but the engine cannot give them to containers.",
            try_this="Install the NVIDIA Container Toolkit, then run "
            "`sudo nvidia-ctk runtime configure --runtime=docker` and restart Docker.",
        )


def _engine_words(status: EngineStatus) -> str:
    if status.kind is EngineKind.PROCESS:
        return "Runs can be plain processes in private virtual environments (not containers)."
    parts = [f"Engine {status.version}" if status.version else "The engine"]
    if status.cpus and status.memory_bytes:
        parts.append(f"{count_text(status.cpus, 'processor')}, {bytes_text(status.memory_bytes)} of memory")
    return ", ".join(parts) + "."


def _mend(status: EngineStatus) -> str:
    return {
        EngineTrouble.ABSENT: "Install it: sudo apt install docker.io. Until then: --engine process.",
        EngineTrouble.STOPPED: "Start it: sudo systemctl start docker. Until then: --engine process.",
        EngineTrouble.NOT_PERMITTED: "Add yourself to its group (sudo usermod -aG docker $USER) and log in again.",
        EngineTrouble.TOO_OLD: "Update the engine to 20.10 or newer.",
    }.get(status.trouble, "")


def file_system_of(path: Path) -> str:
    """The type of the file system that holds `path`, such as ``ext4``; empty if unknown."""
    best, kind = "", ""
    resolved = str(path.resolve())
    for partition in psutil.disk_partitions(all=True):
        mount = partition.mountpoint.rstrip("/") or "/"
        inside = resolved == mount or resolved.startswith(mount if mount == "/" else mount + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, partition.fstype
    return kind


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")
