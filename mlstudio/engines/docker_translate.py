"""Between our words and the Docker API's: launches out, observations, images and errors in. No connections here."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import docker.errors
import requests.exceptions

from mlstudio.engines.engine import MANAGED_LABEL, RUN_LABEL
from mlstudio.engines.layout import ROOT, SECRETS_FOLDER
from mlstudio.model.errors import EngineAway, RequestError, StudioError, WorldError
from mlstudio.model.launch import EngineImage, LaunchSpec, Observation, Phase
from mlstudio.model.run import GpuRequest, Network

PROBE_LABEL = "mlstudio.probe"
FOREIGN_UID = 1000
"""The user for images whose own user is root: the first ordinary user of a Linux machine."""
_OUR_USER = "mlstudio"
_READABLE_LOG_DRIVERS = frozenset({"json-file", "local", "journald"})
_NO_PROGRAM = re.compile(
    r'exec: \\?"(?P<program>[^"\\]*)\\?": (?:executable file not found|stat |no such file)'
)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What must be known of an engine to ask it for a container."""

    is_local: bool
    is_rootless: bool = False
    log_driver: str = "json-file"
    nvidia_is_default: bool = False
    """Every container would get GPUs if its image asks for them."""
    uses_cdi: bool = False
    """GPUs are given by the Container Device Interface (there is no NVIDIA runtime)."""
    caller_uid: int = 0
    caller_gid: int = 0


# ── launches ───────────────────────────────────────────────────────────────────────────────────────────────────────


def container_config(
    spec: LaunchSpec, image: EngineImage, facts: HostFacts, *, python: str
) -> dict[str, Any]:
    """The body of "create a container". `python` starts the probe; empty: the command runs plainly."""
    user = user_for(spec, image, facts)
    env = _environment(spec, image, facts, user=user)
    has_secrets = bool(spec.secrets and python)
    config: dict[str, Any] = {
        "Image": image.id,
        "Cmd": list(spec.command),
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {
            **dict(spec.labels),
            RUN_LABEL: spec.run_id,
            MANAGED_LABEL: "1",
            PROBE_LABEL: "1" if python else "0",
        },
        "AttachStdin": has_secrets,
        "OpenStdin": has_secrets,
        "StdinOnce": has_secrets,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        # An image's own health check would run beside the command.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(spec, facts, has_secrets=has_secrets),
    }
    if user:
        config["User"] = user
    if spec.workdir:
        config["WorkingDir"] = spec.workdir
    if python:
        config["Entrypoint"] = [python, f"{ROOT}/probe.pyz", f"{ROOT}/config.json"]
        config["Cmd"] = []
    return config


def user_for(spec: LaunchSpec, image: EngineImage, facts: HostFacts) -> str:
    """The user of the container's processes as ``uid:gid``; empty: the image's own.

    Root only where it was asked for. Where folders of this machine are bound, the caller's own user, so that it can
    read them and the files it writes there belong to the caller; otherwise the image's user, if that is not root, and
    user 1000 if it is. A rootless engine's "root" is the caller.
    """
    if spec.run_as_root:
        return "0:0"
    if spec.mounts or spec.code_mount is not None:
        if facts.is_rootless:
            return "0:0"
        if facts.is_local and facts.caller_uid:
            return f"{facts.caller_uid}:{facts.caller_gid}"
    name = image.user.partition(":")[0]
    if name not in ("", "0", "root"):
        return ""
    return f"{FOREIGN_UID}:{FOREIGN_UID}"


def uid_of(user: str, image: EngineImage) -> int | None:
    """The number of the user that a container would have; None if only the image knows."""
    name = (user or image.user).partition(":")[0]
    if name.isdigit():
        return int(name)
    if name in ("", "root"):
        return 0
    return FOREIGN_UID if name == _OUR_USER and dict(image.labels).get(MANAGED_LABEL) else None


def _environment(spec: LaunchSpec, image: EngineImage, facts: HostFacts, *, user: str) -> dict[str, str]:
    env: dict[str, str] = {}
    if user and user != "0:0":
        # A user without an entry in the image's /etc/passwd has no home and no name; libraries ask for both.
        env = {"HOME": "/tmp", "USER": "user", "LOGNAME": "user"}
    if not spec.gpus.wants_any and (
        facts.nvidia_is_default or any(name == "NVIDIA_VISIBLE_DEVICES" for name, _ in image.env)
    ):
        env["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {**env, **dict(spec.env)}


def _host_config(spec: LaunchSpec, facts: HostFacts, *, has_secrets: bool) -> dict[str, Any]:
    limits = spec.limits
    host: dict[str, Any] = {
        "NetworkMode": "none" if spec.network is Network.NONE else "bridge",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "PublishAllPorts": False,
        "RestartPolicy": {"Name": "no"},
        "IpcMode": "private",
        "Mounts": _mounts(spec),
    }
    if limits.memory_bytes is not None:
        host["Memory"] = limits.memory_bytes
        host["MemorySwap"] = limits.memory_bytes
    if limits.cpus is not None:
        host["NanoCpus"] = round(limits.cpus * 1e9)
    if limits.pids is not None:
        host["PidsLimit"] = limits.pids
    if limits.shm_bytes is not None:
        host["ShmSize"] = limits.shm_bytes
    if spec.gpus.wants_any:
        host["DeviceRequests"] = [_device_request(spec.gpus, uses_cdi=facts.uses_cdi)]
    if has_secrets:
        # One tenant, so anyone inside may make files; the probe makes each readable for its own user alone.
        host["Tmpfs"] = {SECRETS_FOLDER: "rw,noexec,nosuid,nodev,size=1m,mode=1777"}
    if facts.log_driver not in _READABLE_LOG_DRIVERS:
        host["LogConfig"] = {"Type": "json-file", "Config": {}}
    return host


def _mounts(spec: LaunchSpec) -> list[dict[str, Any]]:
    mounts = []
    if spec.code_mount is not None:
        mounts.append((spec.code_mount.source, spec.code_mount.target, True))
    mounts += [(mount.source, mount.target, mount.read_only) for mount in spec.mounts]
    return [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        for source, target, read_only in mounts
    ]


def _device_request(gpus: GpuRequest, *, uses_cdi: bool) -> dict[str, Any]:
    if uses_cdi:
        if gpus.uuids:
            names = list(gpus.uuids)
        elif gpus.count < 0:
            names = ["all"]
        else:
            names = [str(index) for index in range(gpus.count)]
        return {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={name}" for name in names]}
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
    if gpus.uuids:
        request["DeviceIDs"] = list(gpus.uuids)
    else:
        request["Count"] = gpus.count
    return request


def check_request(spec: LaunchSpec, image: EngineImage, facts: HostFacts) -> None:
    """Refuse, with the field at fault, what the engine would refuse in its own words or what cannot work."""
    if not spec.command and not image.command and not image.entrypoint:
        raise RequestError(
            "There is no command to run.", field="command", try_this="For example: python train.py"
        )
    user = user_for(spec, image, facts)
    uid = uid_of(user, image) if facts.is_local and not facts.is_rootless else None
    gid = facts.caller_gid if uid == facts.caller_uid else uid
    targets: set[str] = set()
    bound = [("mounts", mount.source, mount.target) for mount in spec.mounts]
    if spec.code_mount is not None:
        bound.insert(0, ("code.folder", spec.code_mount.source, spec.code_mount.target))
    for field, source, target in bound:
        _check_target(field, target, taken=targets)
        targets.add(str(PurePosixPath(target)))
        if not os.path.isabs(source):
            raise RequestError(
                f"“{source}” is not an absolute path.", field=field, try_this="Give the folder's whole path."
            )
        if facts.is_local:
            _check_source(field, source, uid=uid, gid=gid)
    if spec.limits.cpus is not None and spec.limits.cpus <= 0:
        raise RequestError("A run needs more than zero CPUs.", field="limits.cpus", try_this="For example: 2")
    for name, value in spec.env:
        if not name or "=" in name or "\0" in name + value:
            raise RequestError(f"“{name}” cannot be the name of an environment variable.", field="env")


def _check_target(field: str, target: str, *, taken: set[str]) -> None:
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts:
        raise RequestError(
            f"“{target}” is not an absolute path in the container.",
            field=field,
            try_this="For example: /data",
        )
    if str(path) in taken:
        raise RequestError(
            f"Two folders would be bound at {path}.", field=field, try_this="Choose another target."
        )
    for ours in (ROOT, SECRETS_FOLDER, "/proc", "/sys", "/dev"):
        if path == PurePosixPath("/") or str(path) == ours or str(path).startswith(f"{ours}/"):
            raise RequestError(
                f"A folder cannot be bound at {path}: the container needs that place itself.",
                field=field,
                try_this="For example: /data",
            )


def _check_source(field: str, source: str, *, uid: int | None, gid: int | None) -> None:
    try:
        found = os.stat(source)
    except OSError as error:
        raise RequestError(
            f"“{source}” cannot be bound into the container.",
            field=field,
            why="It does not exist." if isinstance(error, FileNotFoundError) else f"{error.strerror}.",
            try_this="Check the path.",
        ) from error
    if uid is None or uid in (0, found.st_uid):
        return
    wanted = 0o5 if stat.S_ISDIR(found.st_mode) else 0o4
    mode = found.st_mode | (found.st_mode >> 3 if found.st_gid == gid else 0)
    if mode & wanted != wanted:
        raise RequestError(
            f"The container's user could not read “{source}”.",
            field=field,
            why=f"Only its owner may, and the command runs as user {uid}, not as root.",
            try_this=f"chmod -R o+rX {source}",
        )


def probe_config(spec: LaunchSpec, image: EngineImage) -> str:
    """The probe's configuration with what only the image knows: its entry point before the command, its folder."""
    config = json.loads(spec.probe_config or "{}")
    config["run_id"] = config.get("run_id") or spec.run_id
    config["command"] = [*image.entrypoint, *(spec.command or image.command)]
    config["workdir"] = config.get("workdir") or spec.workdir or image.workdir or "/"
    config["secrets"] = [secret.name for secret in spec.secrets]
    return json.dumps(config)


def probe_archive(spec: LaunchSpec, image: EngineImage, *, uid: int | None) -> bytes:
    """What is put into the container, as a tar file for its root.

    The probe, its configuration, a folder that every user may write to; and where code is cloned at the start, the
    folder for it, which belongs to the container's user (`uid`; None: not known, so everyone may write).
    """
    data = io.BytesIO()
    now = int(time.time())
    probe, config = spec.probe, probe_config(spec, image)
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        if spec.clone_url and PurePosixPath(spec.workdir) not in (PurePosixPath(""), PurePosixPath("/")):
            entry = tarfile.TarInfo(spec.workdir.strip("/"))
            entry.type, entry.mtime = tarfile.DIRTYPE, now
            entry.mode = 0o755 if uid is not None else 0o1777
            entry.uid = entry.gid = uid or 0
            archive.addfile(entry)
        for path, mode in ((ROOT, 0o755), (f"{ROOT}/run", 0o1777)):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, mode, now
            archive.addfile(entry)
        for name, content in (("probe.pyz", probe), ("config.json", config.encode())):
            entry = tarfile.TarInfo(f"{ROOT}/{name}".lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), 0o644, now
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


# ── observations, images ───────────────────────────────────────────────────────────────────────────────────────────


def observation_of(found: Mapping[str, Any]) -> Observation:
    """An observation from the answer to "inspect a container"."""
    state = found.get("State") or {}
    status = str(state.get("Status", ""))
    if status == "created":
        phase = Phase.CREATED
    elif status in ("exited", "dead"):
        phase = Phase.EXITED
    else:
        phase = Phase.RUNNING
    label = ((found.get("Config") or {}).get("Labels") or {}).get(PROBE_LABEL)
    return Observation(
        phase=phase,
        started=seconds_of(state.get("StartedAt")),
        ended=seconds_of(state.get("FinishedAt")) if phase is Phase.EXITED else None,
        exit_code=int(state.get("ExitCode", 0)) if phase is Phase.EXITED else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        image_id=str(found.get("Image") or ""),
        has_probe=None if label is None else label == "1",
    )


def image_of(found: Mapping[str, Any]) -> EngineImage:
    """An image from the answer to "inspect an image"."""
    config = found.get("Config") or {}
    return EngineImage(
        id=str(found["Id"]),
        tags=_names(found.get("RepoTags")),
        size_bytes=int(found.get("Size") or 0),
        created=seconds_of(found.get("Created")) or 0.0,
        labels=tuple(sorted((config.get("Labels") or {}).items())),
        repo_digests=_names(found.get("RepoDigests")),
        user=str(config.get("User") or ""),
        workdir=str(config.get("WorkingDir") or ""),
        env=tuple(_split(entry) for entry in config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        architecture=str(found.get("Architecture") or ""),
        layers=tuple((found.get("RootFS") or {}).get("Layers") or ()),
    )


def listed_image(found: Mapping[str, Any]) -> EngineImage:
    """An image from one entry of "list images", which says less."""
    return EngineImage(
        id=str(found["Id"]),
        tags=_names(found.get("RepoTags")),
        size_bytes=int(found.get("Size") or 0),
        created=float(found.get("Created") or 0.0),
        labels=tuple(sorted((found.get("Labels") or {}).items())),
        repo_digests=_names(found.get("RepoDigests")),
    )


def _names(found: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(name for name in found or () if "<none>" not in name)


def _split(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def seconds_of(text: object) -> float | None:
    """Seconds since the epoch of an engine's time; None for its "never" (year 1) and for no time at all."""
    if not isinstance(text, str) or not text or text.startswith("0001-"):
        return None
    # Nine digits after the point are more than Python reads.
    plain = re.sub(r"(\.\d{6})\d+", r"\1", text)
    try:
        return datetime.fromisoformat(plain).timestamp()
    except ValueError:
        return None


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Turn the client library's errors into ours; `what` says in a sentence what could not be done."""
    try:
        yield
    except StudioError:
        raise
    except docker.errors.APIError as error:
        raise refusal(what, words_of(error)) from error
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineAway(
            "Docker does not answer.",
            why=f"{what} {_plain(error)}".strip(),
            try_this="Check that it is running: systemctl status docker",
            can_retry=True,
        ) from error


def words_of(error: docker.errors.APIError) -> str:
    """The engine's own sentence."""
    return str(error.explanation or error).strip()


def _plain(error: BaseException) -> str:
    """The innermost reason of a client library's error."""
    seen: BaseException = error
    while seen.__cause__ is not None or seen.__context__ is not None:
        seen = seen.__cause__ or seen.__context__ or seen
    return f"The system says: {getattr(seen, 'strerror', None) or seen}."


def refusal(what: str, words: str) -> StudioError:
    """The error for an engine's refusal: at fault is a field of the request, or the world."""
    for pattern, field, sentence, try_this in _REFUSALS:
        if re.search(pattern, words, re.IGNORECASE):
            error_class = RequestError if field else WorldError
            if error_class is RequestError:
                return RequestError(sentence, field=field, why=f"Docker says: {words}", try_this=try_this)
            return WorldError(sentence, why=f"Docker says: {words}", try_this=try_this)
    return WorldError(what, why=f"Docker says: {words}")


def missing_program(words: str) -> str | None:
    """The program that could not be found, if that is why a container did not start."""
    match = _NO_PROGRAM.search(words)
    return match["program"] if match else None


_GPU_HELP = (
    "Install the NVIDIA Container Toolkit and restart Docker: "
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html "
    "(Docker from Snap cannot use it: install Docker's own packages instead)."
)
# (pattern in the engine's words, field of the request or empty, our sentence, what to try)
_REFUSALS: tuple[tuple[str, str, str, str], ...] = (
    (r"could not select device driver", "gpus", "This engine cannot give GPUs to containers.", _GPU_HELP),
    (r"CDI device|cdi device", "gpus", "The engine does not know that GPU.",
     "Update the list of devices: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"),
    (r"unknown device|no such device.*gpu|device error", "gpus", "There is no such GPU on this machine.",
     "Choose one of those that nvidia-smi -L lists."),
    (r"nvidia-container-cli|libnvidia-ml|driver rpc error", "gpus", "The NVIDIA driver and the container toolkit "
     "do not get on.", "Check nvidia-smi on the host; after an update of the driver restart the machine."),
    (r"range of CPUs", "limits.cpus", "The machine does not have that many CPUs.", "Ask for fewer."),
    (r"minimum memory limit", "limits.memory_bytes", "That is too little memory for a container.",
     "Ask for at least 6 MB; training needs far more."),
    (r"bind source path does not exist|invalid mount", "mounts", "A folder cannot be bound into the container.",
     "It must exist on the engine's machine."),
    (r"exec format error", "image.image", "The image is made for another kind of processor.",
     "Choose an image for this machine's architecture."),
    (r"unable to find user|no matching entries in passwd", "image.image", "The image names a user that it does not "
     "hold.", "Correct USER in its Dockerfile."),
    (r"no space left on device|disk quota exceeded", "", "The engine's disk is full.",
     "Free some space: docker system df shows what takes it; mlstudio images lists our own."),
    (r"network bridge not found|network .* not found", "", "The engine has no network of that kind.",
     "Run without a network, or give the engine its default bridge back."),
)  # fmt: skip
