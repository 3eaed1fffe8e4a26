"""Project files: `mlstudio.toml` beside the code says how it is run, so that `mlstudio run` needs no options."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlstudio.model.code import Travel
from mlstudio.model.errors import RequestError, WorldError
from mlstudio.model.run import GpuRequest, Limits, Mount
from mlstudio.services.toml_text import key_text, to_toml

FILE_NAME = "mlstudio.toml"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?", re.IGNORECASE)

_GREATEST = 1e18
"""No amount and no span is that great; a number of hundreds of digits would be infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a project file says. None and empty mean "not said"."""

    command: tuple[str, ...] = ()
    framework: str = ""
    version: str = ""
    variant: str = ""
    python: str = ""
    travel: Travel | None = None
    requirements: tuple[str, ...] | None = None
    system_packages: tuple[str, ...] = ()
    image: str = ""
    dockerfile: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    gpus: GpuRequest = field(default_factory=GpuRequest)
    tags: tuple[str, ...] = ()

    @property
    def full_command(self) -> tuple[str, ...]:
        """The command with the parameters behind it: ``--name value``, or ``--name`` for true."""
        words = list(self.command)
        for name, value in self.parameters.items():
            option = f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}"
            if value == "true":
                words.append(option)
            elif value != "false":
                words += [option, value]
        return tuple(words)


def read_project(folder: Path) -> Project | None:
    """The project file of `folder`, or None where there is none. Raises RequestError naming the entry at fault."""
    path = folder / FILE_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorldError(f"{path} could not be read.", why=error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(
            f"{FILE_NAME} is not valid TOML.", field="project", why=str(error), details=str(path)
        ) from error
    return _Reader(document).project()


def write_project(folder: Path, project: Project, *, overwrite: bool = False) -> Path:
    """Write the project file. Raises RequestError if there is one already, unless `overwrite`."""
    path = folder / FILE_NAME
    if path.exists() and not overwrite:
        raise RequestError(
            f"There is a {FILE_NAME} already.",
            field="project",
            try_this="Edit it, or write it anew with --force.",
        )
    try:
        path.write_text(project_text(project), encoding="utf-8")
    except OSError as error:
        raise WorldError(f"{path} could not be written.", why=error.strerror or str(error)) from error
    return path


def project_text(project: Project) -> str:
    """The file's text, with a comment for each entry."""
    lines = ["# How ML Studio runs this project: `mlstudio run` reads it, and so does the window.", ""]
    lines.append(f"command = {to_toml(list(project.command))}")
    if project.image:
        lines += ["", "# An existing image; nothing is built.", f"image = {to_toml(project.image)}"]
    elif project.dockerfile:
        lines += ["", "# Your own Dockerfile.", f"dockerfile = {to_toml(project.dockerfile)}"]
    else:
        lines += ["", "# The image: framework, its version (empty: the newest) and variant (cpu, cu126, …)."]
        lines.append(f"framework = {to_toml(project.framework or 'python')}")
        for name in ("version", "variant", "python"):
            value = getattr(project, name)
            if value:
                lines.append(f"{name} = {to_toml(value)}")
        if project.requirements is None:
            lines.append('# requirements = ["numpy>=2"]   # left out: found in the code')
        else:
            lines.append(f"requirements = {to_toml(list(project.requirements))}")
        if project.system_packages:
            lines.append(f"system_packages = {to_toml(list(project.system_packages))}")
    lines += ["", "# How code gets into the container: baked, mounted or cloned."]
    lines.append(f"travel = {to_toml((project.travel or Travel.BAKED).value)}")
    if project.gpus.uuids:
        lines.append(f"gpus = {to_toml(list(project.gpus.uuids))}")
    elif project.gpus.count:
        lines.append(f"gpus = {to_toml('all' if project.gpus.count < 0 else project.gpus.count)}")
    if project.secrets:
        lines.append(f"secrets = {to_toml(list(project.secrets))}")
    if project.mounts:
        lines.append(f"mounts = {to_toml([mount_text(mount) for mount in project.mounts])}")
    if project.tags:
        lines.append(f"tags = {to_toml(list(project.tags))}")
    lines += ["", "# Added to the command as --name value.", "[parameters]"]
    lines += [f"{key_text(name)} = {_natural(value)}" for name, value in project.parameters.items()]
    if project.env:
        lines += [
            "",
            "[env]",
            *(f"{key_text(name)} = {to_toml(value)}" for name, value in project.env.items()),
        ]
    limits = project.limits
    if limits != Limits():
        lines += ["", "[limits]"]
        if limits.cpus is not None:
            lines.append(f"cpus = {to_toml(limits.cpus)}")
        if limits.memory_bytes is not None:
            lines.append(f"memory = {to_toml(limits.memory_bytes)}")
        if limits.shm_bytes is not None:
            lines.append(f"shm = {to_toml(limits.shm_bytes)}")
        if limits.stop_after_s is not None:
            lines.append(f"stop_after = {to_toml(limits.stop_after_s)}")
    return "\n".join(lines) + "\n"


class _Reader:
    """Takes a document apart, naming the entry whenever one does not fit."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._document = document

    def project(self) -> Project:
        known = {
            "command", "framework", "version", "variant", "python", "travel", "requirements", "system_packages",
            "image", "dockerfile", "parameters", "env", "secrets", "mounts", "limits", "gpus", "tags",
        }  # fmt: skip
        for name in self._document:
            if name not in known:
                raise RequestError(
                    f"{FILE_NAME} has an unknown entry “{name}”.",
                    field=f"project.{name}",
                    try_this="Known: " + ", ".join(sorted(known)) + ".",
                )
        travel = self._text("travel")
        if travel and travel not in tuple(Travel):
            raise self._wrong("travel", "baked, mounted or cloned")
        limits = self._table("limits")
        return Project(
            command=self._words("command"),
            framework=self._text("framework"),
            version=self._text("version"),
            variant=self._text("variant"),
            python=self._text("python"),
            travel=Travel(travel) if travel else None,
            requirements=self._words("requirements") if "requirements" in self._document else None,
            system_packages=self._words("system_packages"),
            image=self._text("image"),
            dockerfile=self._text("dockerfile"),
            parameters={name: _plain(value) for name, value in self._table("parameters").items()},
            env={name: _plain(value) for name, value in self._table("env").items()},
            secrets=self._words("secrets"),
            mounts=tuple(parse_mount(text) for text in self._words("mounts")),
            limits=Limits(
                cpus=parse_number(str(limits["cpus"]), field="limits.cpus") if "cpus" in limits else None,
                memory_bytes=parse_bytes(str(limits["memory"]), field="limits.memory_bytes")
                if "memory" in limits
                else None,
                shm_bytes=parse_bytes(str(limits["shm"]), field="limits.shm_bytes")
                if "shm" in limits
                else None,
                stop_after_s=parse_seconds(str(limits["stop_after"]), field="limits.stop_after_s")
                if "stop_after" in limits
                else None,
            ),
            gpus=self._gpus(),
            tags=self._words("tags"),
        )

    def _text(self, name: str) -> str:
        value = self._document.get(name, "")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise self._wrong(name, f'text in quotes, such as {name} = "{value}"')
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def _words(self, name: str) -> tuple[str, ...]:
        value = self._document.get(name, [])
        if isinstance(value, str) and name == "command":
            import shlex

            return tuple(shlex.split(value))
        if not isinstance(value, list) or not all(isinstance(item, (str, int, float)) for item in value):
            raise self._wrong(name, 'a list, such as ["one", "two"]')
        return tuple(_plain(item) for item in value)

    def _table(self, name: str) -> dict[str, object]:
        value = self._document.get(name, {})
        if not isinstance(value, dict) or any(isinstance(item, (dict, list)) for item in value.values()):
            raise self._wrong(name, f"a table [{name}] of names and plain values")
        return value

    def _gpus(self) -> GpuRequest:
        value = self._document.get("gpus", 0)
        if isinstance(value, list):
            return GpuRequest(uuids=tuple(str(item) for item in value))
        return parse_gpus(str(value))

    @staticmethod
    def _wrong(name: str, expected: str) -> RequestError:
        return RequestError(
            f"“{name}” in {FILE_NAME} does not fit.", field=f"project.{name}", why=f"It expects {expected}."
        )


def parse_bytes(text: str, *, field: str) -> int:
    """``512m``, ``4g``, ``4GB`` or a number of bytes. k, m, g and t count in 1024s, as Docker has them."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not 0 < float(match.group(1)) < _GREATEST:
        raise RequestError(
            f"“{text}” is not an amount of memory.", field=field, try_this="For example 512m or 4g."
        )
    return int(float(match.group(1)) * 1024 ** " kmgt".index(match.group(2).lower() or " "))


def parse_seconds(text: str, *, field: str) -> float:
    """``90``, ``90s``, ``15m``, ``2h`` or ``1d``."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or not 0 < float(match.group(1)) < _GREATEST:
        raise RequestError(
            f"“{text}” is not a span of time.", field=field, try_this="For example 90s, 15m or 2h."
        )
    unit = (match.group(2) or "s").lower()
    return float(match.group(1)) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[unit]


def parse_number(text: str, *, field: str) -> float:
    """A number above zero, such as a count of processors."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise RequestError(f"“{text}” is not a number above zero.", field=field)
    return number


def parse_gpus(text: str) -> GpuRequest:
    """``all``, a count, or UUIDs separated by commas."""
    text = text.strip()
    if text.lower() == "all":
        return GpuRequest(count=-1)
    if text in ("", "none"):
        return GpuRequest()
    if text.isascii() and text.isdigit():
        return GpuRequest(count=int(text))
    uuids = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(uuid.startswith(("GPU-", "MIG-")) for uuid in uuids):
        raise RequestError(
            f"“{text}” does not name GPUs.",
            field="gpus",
            try_this="Give a count, “all”, or UUIDs such as GPU-1a2b…; `mlstudio doctor --json` lists them.",
        )
    return GpuRequest(uuids=uuids)


def parse_mount(text: str) -> Mount:
    """``SOURCE:TARGET`` or ``SOURCE:TARGET:rw``; a target is an absolute path in the container."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) > 2 and parts[-1] in ("ro", "rw") else "ro"
    if len(parts) != 2 or not parts[0] or not parts[1].startswith("/"):
        raise RequestError(
            f"“{text}” does not describe a data set to mount.",
            field="mounts",
            try_this="Write SOURCE:TARGET, for example ~/data/mnist:/data, and :rw behind it to write to it.",
        )
    try:
        source = Path(parts[0]).expanduser().absolute()
    except RuntimeError as error:
        raise RequestError(
            f"The home that “{parts[0][:60]}” begins with is not known.",
            field="mounts",
            try_this="Write the full path of the folder.",
        ) from error
    return Mount(source=str(source), target=parts[1], read_only=mode == "ro")


def mount_text(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}" + ("" if mount.read_only else ":rw")


def parse_pairs(texts: Sequence[str], *, field: str) -> tuple[tuple[str, str], ...]:
    """``NAME=value`` each."""
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise RequestError(f"“{name[:40]}” has no value.", field=field, try_this="Write NAME=value.")
        pairs.append((name.strip(), value))
    return tuple(pairs)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _natural(text: str) -> str:
    """A value as TOML would have it written: numbers and booleans bare, all else quoted."""
    if text in ("true", "false") or re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text):
        return text
    return to_toml(text)
