"""The process engine: the same runs without a container, as plain processes of this machine.

For those who have no container engine. It is no container: the command runs as the user, sees the user's files and the
machine's network, and only memory (`RLIMIT_DATA`) and CPUs (affinity) can be limited. An "image" is a private virtual
environment and a copy of the code (`process_images`).

Everything lies in files, so that it outlives every process of ours: a run is a folder ``runs/<run id>`` with the
probe, the output, and what its keeper (`process_keeper`) wrote down. A run's handle is its ID; a mark in its output is
a number of bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from mlstudio.engines import process_keeper
from mlstudio.engines.engine import BuildContext
from mlstudio.engines.layout import ROOT
from mlstudio.engines.local_gpus import read_gpus
from mlstudio.engines.process_images import ProcessImages
from mlstudio.model.errors import EngineAway, NotFound, RequestError, WorldError
from mlstudio.model.host import EngineKind, EngineStatus, Gpu
from mlstudio.model.image import BuildEvent, LayerForecast, Package, Recipe
from mlstudio.model.launch import Chunk, EngineImage, LaunchSpec, Observation, Phase
from mlstudio.model.run import Network

_BLOCK = 256 * 1024
_LOOK_EVERY_S = 0.05
_KILL_MARGIN_S = 3.0
_KILL_TIMEOUT_S = 30.0
_START_TIMEOUT_S = 30.0
_RUN_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")
# What a program needs of the user's environment. The rest stays outside: it may hold keys and passwords.
_PASSED_ON = frozenset(
    {"HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
)


class ProcessEngine:
    """Runs commands as processes of this machine. Thread-safe; several instances may share a folder."""

    def __init__(self, root: Path, *, name: str = "process") -> None:
        """`root`: the folder where runs, environments and copies of code are kept."""
        self._name = name
        self._runs = root / "runs"
        self._images = ProcessImages(root)
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> EngineKind:
        return EngineKind.PROCESS

    def check(self) -> EngineStatus:
        free = None
        for folder in (self._runs, *self._runs.parents):
            if folder.is_dir():
                free = shutil.disk_usage(folder).free
                break
        return EngineStatus(
            name=self._name,
            kind=self.kind,
            version=f"Python {platform.python_version()}",
            latency_s=0.0,
            cpus=os.cpu_count(),
            memory_bytes=psutil.virtual_memory().total,
            gpu_runtime=bool(read_gpus()),
            buildkit=False,
            storage_free_bytes=free,
        )

    def gpus(self) -> Sequence[Gpu]:
        return read_gpus()

    def close(self) -> None:
        self._closed.set()

    # -- launching ----------------------------------------------------------------------------------------------

    def launch(self, spec: LaunchSpec) -> str:
        if self._closed.is_set():
            raise EngineAway("The engine was closed.")
        image = self._images.get(spec.image)
        if image is None:
            raise RequestError(
                f"There is no environment “{spec.image}” on this machine.",
                field="image.image",
                try_this="Build it first. Images from a registry need a container engine.",
            )
        if not _RUN_ID.fullmatch(spec.run_id):
            raise RequestError(f"“{spec.run_id}” cannot be the ID of a run.", field="run_id")
        _check(spec)
        folder = self._runs / spec.run_id
        self._runs.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return spec.run_id
        try:
            with (folder / "launching").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._start(folder, spec, image)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(_secrets_folder(spec.run_id), ignore_errors=True)
            raise
        return spec.run_id

    def _start(self, folder: Path, spec: LaunchSpec, image: EngineImage) -> None:
        code = self._code(folder, spec, image)
        workdir = spec.workdir or image.workdir
        env = _environment(spec, image, self._images.environment(image.id))
        command = [_inside(word, workdir, code) for word in spec.command or image.command]
        if spec.probe:
            (folder / "run").mkdir()
            (folder / "probe.pyz").write_bytes(spec.probe)
            (folder / "config.json").write_text(
                _probe_config(spec, command, workdir=workdir, code=code), encoding="utf-8"
            )
            if spec.secrets:
                _secrets_folder(spec.run_id).mkdir(mode=0o700)
            command = [
                str(self._images.python(image.id)),
                str(folder / "probe.pyz"),
                str(folder / "config.json"),
            ]
        elif spec.secrets:
            raise RequestError(
                "The secrets cannot be handed over.", field="secrets", why="The run has no probe."
            )
        job = {
            "argv": command,
            "cwd": str(code),
            "env": env,
            "output": str(folder / "output"),
            "started": str(folder / "started.json"),
            "exit": str(folder / "exit.json"),
            "secrets": str(_secrets_folder(spec.run_id)) if spec.secrets else "",
            "memory_bytes": spec.limits.memory_bytes,
            "cpus": None if spec.limits.cpus is None else max(1, ceil(spec.limits.cpus)),
            # Short looks of our own have no probe; they need no wall around them, and not every machine has one.
            "no_network": spec.network is Network.NONE and bool(spec.probe),
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (folder / "output").touch()
        (folder / "facts.json").write_text(
            json.dumps(
                {"image_id": image.id, "has_probe": bool(spec.probe), "code": str(code), "workdir": workdir}
            ),
            encoding="utf-8",
        )
        self._keep(folder, spec, image)

    def _keep(self, folder: Path, spec: LaunchSpec, image: EngineImage) -> None:
        """Start the keeper, hand over the secrets, wait until it has started the command."""
        line = b""
        if spec.secrets:
            line = json.dumps({secret.name: secret.value for secret in spec.secrets}).encode() + b"\n"
        keeper = subprocess.Popen(
            [
                str(self._images.python(image.id)),
                "-I",
                "-S",
                process_keeper.__file__,
                str(folder / "job.json"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        try:
            said, _ = keeper.communicate(line, timeout=_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.communicate()
            raise WorldError("The command could not be started in time.", can_retry=True) from None
        answer = _parse(said)
        if "error" in answer or (not answer and not (folder / "started.json").exists()):
            raise _not_started(spec, answer)

    def _code(self, folder: Path, spec: LaunchSpec, image: EngineImage) -> Path:
        """The folder in which the command runs."""
        if spec.code_mount is not None:
            return Path(spec.code_mount.source).resolve()
        code = folder / "work"
        kept = self._images.code(image.id)
        if kept is not None and not spec.clone_url:
            shutil.copytree(kept, code, symlinks=True)
        else:
            code.mkdir()
        return code

    # -- observing ----------------------------------------------------------------------------------------------

    def inspect(self, handle: str) -> Observation:
        folder = self._folder(handle)
        if folder is None:
            return Observation(phase=Phase.GONE)
        facts = _read(folder / "facts.json")
        started = _read(folder / "started.json")
        known: dict[str, Any] = {
            "image_id": str(facts.get("image_id", "")),
            "has_probe": facts.get("has_probe"),
            "started": started.get("started"),
        }
        # In this order: the keeper writes the second file before it ends.
        alive = _is_alive(started)
        ended = _read(folder / "exit.json")
        if ended:
            code = ended.get("code")
            exit_code = 128 - code if isinstance(code, int) and code < 0 else code
            return Observation(
                phase=Phase.EXITED,
                exit_code=exit_code,
                ended=ended.get("ended"),
                error=str(ended.get("error", "")),
                **known,
            )
        if alive:
            return Observation(phase=Phase.RUNNING, **known)
        if not started and _is_launching(folder):
            return Observation(phase=Phase.CREATED, **known)
        if not folder.is_dir():
            return Observation(phase=Phase.GONE)
        return Observation(
            phase=Phase.EXITED,
            error="Its processes are gone, and nobody saw how they ended: the machine may have been restarted.",
            ended=_last_change(folder),
            **known,
        )

    def find(self, run_id: str) -> str | None:
        return run_id if self._folder(run_id) is not None else None

    def _folder(self, handle: str) -> Path | None:
        if not _RUN_ID.fullmatch(handle):
            return None
        folder = self._runs / handle
        return folder if folder.is_dir() else None

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        at = int(position) if position.isdigit() else 0
        folder = self._folder(handle)
        if folder is None:
            return
        while not (self._closed.is_set() or should_stop()):
            # Before reading: what was written before the end is then read after it.
            phase = self.inspect(handle).phase
            try:
                with (folder / "output").open("rb") as file:
                    file.seek(at)
                    data = file.read(_BLOCK)
            except FileNotFoundError:
                data = b""
            if data:
                at += len(data)
                yield Chunk(data=data, position=str(at), time=time.time())
            elif phase in (Phase.EXITED, Phase.GONE):
                return
            else:
                self._closed.wait(_LOOK_EVERY_S)

    def read_file(self, handle: str, path: str) -> bytes:
        folder = self._folder(handle)
        if folder is None:
            raise NotFound(f"There is no run {handle}.", field="run")
        facts = _read(folder / "facts.json")
        real = _inside(path, ROOT, folder)
        if real == path:
            real = _inside(path, str(facts.get("workdir", "")), Path(str(facts.get("code", folder))))
        try:
            return Path(str(facts.get("code", folder)), real).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound(f"There is no file {path} in the run.", field="path") from error
        except OSError as error:
            raise WorldError(f"{path} could not be read.", why=f"{error.strerror}.") from error

    # -- ending -------------------------------------------------------------------------------------------------

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        folder = self._folder(handle)
        if folder is None or self.inspect(handle).phase is not Phase.RUNNING:
            return
        started = _read(folder / "started.json")
        has_probe = bool(_read(folder / "facts.json").get("has_probe"))
        # The probe passes the signal on and then writes its last frame; without it the whole group is asked.
        _signal(started, signal.SIGTERM, group=not has_probe)
        if self._has_ended_within(grace_s + (_KILL_MARGIN_S if has_probe else 0.0), handle):
            return
        self._kill(folder, handle)

    def _kill(self, folder: Path, handle: str) -> None:
        # Its keeper, to whom its orphans fall, kills the rest.
        _signal(_read(folder / "started.json"), signal.SIGKILL, group=True)
        if not self._has_ended_within(_KILL_TIMEOUT_S, handle):
            raise WorldError(
                "The run does not end.",
                why="It was killed, but a process of it hangs in the kernel.",
                try_this="Look at dmesg.",
                can_retry=True,
            )

    def _has_ended_within(self, seconds: float, handle: str) -> bool:
        deadline = time.monotonic() + seconds
        while self.inspect(handle).phase is Phase.RUNNING:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def remove(self, handle: str) -> None:
        folder = self._folder(handle)
        if folder is None:
            return
        if self.inspect(handle).phase is Phase.RUNNING:
            self._kill(folder, handle)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(_secrets_folder(handle), ignore_errors=True)
        if folder.is_dir():
            raise WorldError(f"The run's folder {folder} could not be removed.", can_retry=True)

    # -- environments: see process_images ------------------------------------------------------------------------

    def build(
        self,
        recipe: Recipe,
        context: BuildContext,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        no_cache: bool = False,
    ) -> Iterator[BuildEvent]:
        return self._images.build(
            recipe, context, cancelled=lambda: cancelled() or self._closed.is_set(), no_cache=no_cache
        )

    def forecast(self, recipe: Recipe) -> tuple[LayerForecast, ...]:
        return self._images.forecast(recipe)

    def images(self, *, all_of_them: bool = False) -> Sequence[EngineImage]:
        return self._images.list()

    def image(self, reference: str) -> EngineImage | None:
        return self._images.get(reference)

    def pull(self, reference: str) -> Iterator[BuildEvent]:
        raise NotFound(
            f"“{reference}” cannot be fetched.",
            field="image.image",
            why="The process engine has virtual environments, no images.",
            try_this="Use a container engine for it.",
        )

    def remove_image(self, reference: str) -> None:
        self._images.remove(reference)

    def packages(self, image_id: str) -> tuple[Package, ...]:
        return self._images.packages(image_id)


def _check(spec: LaunchSpec) -> None:
    """Refuse what a plain process cannot do."""
    for mount in spec.mounts:
        if os.path.normpath(mount.source) != os.path.normpath(mount.target):
            raise RequestError(
                f"The process engine cannot show {mount.source} as {mount.target}.",
                field="mounts",
                why="Without a container a folder has one path only.",
                try_this=f"Use the path {mount.source} in the script, or a container engine.",
            )
        if not Path(mount.source).exists():
            raise RequestError(
                f"“{mount.source}” does not exist.", field="mounts", try_this="Check the path."
            )
    if spec.code_mount is not None and not Path(spec.code_mount.source).is_dir():
        raise RequestError(f"There is no folder “{spec.code_mount.source}”.", field="code.folder")
    if spec.limits.cpus is not None and spec.limits.cpus <= 0:
        raise RequestError("A run needs more than zero CPUs.", field="limits.cpus", try_this="For example: 2")
    if spec.gpus.wants_any:
        known = {gpu.uuid for gpu in read_gpus()}
        missing = [uuid for uuid in spec.gpus.uuids if uuid not in known]
        if missing or not known or spec.gpus.count > len(known):
            raise RequestError(
                "There is no such GPU on this machine."
                if missing
                else "This machine has not that many GPUs.",
                field="gpus",
                why=", ".join(missing) or f"It has {len(known)}.",
                try_this="Choose one of those that nvidia-smi -L lists.",
            )


def _environment(spec: LaunchSpec, image: EngineImage, folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    env |= {"PATH": f"{folder / 'bin'}:{path}", "VIRTUAL_ENV": str(folder)}
    if not spec.gpus.wants_any:
        env["CUDA_VISIBLE_DEVICES"] = ""
    elif spec.gpus.uuids:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(spec.gpus.uuids)
    elif spec.gpus.count > 0:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in list(read_gpus())[: spec.gpus.count])
    return {**env, **dict(image.env), **dict(spec.env)}


def _probe_config(spec: LaunchSpec, command: list[str], *, workdir: str, code: Path) -> str:
    config = json.loads(spec.probe_config or "{}")
    config["run_id"] = config.get("run_id") or spec.run_id
    config["command"] = command
    config["workdir"] = _inside(str(config.get("workdir") or workdir), workdir, code)
    config["secrets"] = [secret.name for secret in spec.secrets]
    config["secrets_dir"] = str(_secrets_folder(spec.run_id))
    if config.get("clone"):
        config["clone"]["target"] = str(code)
    return json.dumps(config)


def _inside(path: str, folder: str, real: Path) -> str:
    """A path below the run's `folder`, as it is called on this machine; any other text as it is."""
    if not folder or not path.startswith("/"):
        return path
    try:
        return str(real / PurePosixPath(path).relative_to(folder))
    except ValueError:
        return path


def _secrets_folder(run_id: str) -> Path:
    """A private place in memory."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path("/dev/shm")
    return base / f"mlstudio-secrets-{run_id}"


def _signal(started: Mapping[str, Any], number: signal.Signals, *, group: bool) -> None:
    pid, ticks = started.get("pid"), started.get("ticks")
    if not isinstance(pid, int) or process_keeper.start_ticks(pid) != ticks or not ticks:
        return
    try:
        os.killpg(pid, number) if group else os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_alive(started: Mapping[str, Any]) -> bool:
    """Whether the command runs, or its keeper is about to write down how it ended."""
    return any(
        isinstance(started.get(pid), int)
        and bool(started.get(ticks))
        and process_keeper.start_ticks(started[pid]) == started[ticks]
        for pid, ticks in (("pid", "ticks"), ("keeper", "keeper_ticks"))
    )


def _is_launching(folder: Path) -> bool:
    """Whether the launch is still under way: its lock is held."""
    try:
        with (folder / "launching").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return folder.is_dir()
    return False


def _not_started(spec: LaunchSpec, answer: Mapping[str, Any]) -> RequestError | WorldError:
    words = str(answer.get("error", "The keeper died."))
    if spec.network is Network.NONE and "preexec" in words:
        return RequestError(
            "The network cannot be switched off for a plain process on this machine.",
            field="network",
            try_this="Use a container engine, or leave the network on.",
        )
    program = spec.command[0] if spec.command else ""
    return RequestError(
        f"“{program}” could not be started.",
        field="command",
        why=words,
        try_this="Check the command's first word.",
    )


def _parse(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parse(path.read_bytes())
    except OSError:
        return {}


def _last_change(folder: Path) -> float | None:
    try:
        return (folder / "output").stat().st_mtime
    except OSError:
        return None
