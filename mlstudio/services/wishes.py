"""From what a person said (options of a command, arguments of a call) to a `RunSpec`.

What was said comes first, then mlstudio.toml, then what the code suggests.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import GpuRequest, Limits, Mount, Network, RunSpec
from mlstudio.services.arguments import parameters_of
from mlstudio.services.project import Project, parse_pairs, read_project
from mlstudio.services.studio import Studio

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+|[\w.-]+@[\w.-]+:\S+", re.IGNORECASE)
_ROOT_MARKS = (
    "mlstudio.toml", "requirements.txt", "pyproject.toml", "environment.yml", "environment.yaml", "uv.lock",
    "poetry.lock", ".git",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What was said. None and empty mean "not said"."""

    target: str = ""
    args: tuple[str, ...] = ()
    command_line: str | None = None
    ref: str | None = None
    subfolder: str | None = None
    travel: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    variant: str | None = None
    python: str | None = None
    requirements: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    dockerfile: str | None = None
    image: str | None = None
    parameters: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    engine: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    secrets: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    gpus: GpuRequest = field(default_factory=GpuRequest)
    network: str | None = None
    stop_when: tuple[str, ...] = ()
    as_root: bool = False
    heeds_project: bool = True
    """Whether mlstudio.toml is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a command is about: the code, and the script if one was named."""

    code: CodeSource
    script: str = ""


def spec_from(studio: Studio, words: Words) -> RunSpec:
    """The run that was asked for. Raises RequestError naming what is missing or wrong."""
    target = find_target(words)
    travel = _travel(studio, words, target)
    code = replace(target.code, travel=travel)
    project = Project()
    if words.heeds_project and (target.code.folder or target.code.url):
        project = read_project(studio.code.fetch(code)) or Project()
    if words.travel is None and project.travel is not None:
        code = replace(code, travel=project.travel)
    image = _image(studio, words, project, code, script=target.script)
    command = _command(studio, words, project, code, script=target.script)
    return RunSpec(
        command=command,
        code=code,
        image=image,
        name=words.name or "",
        engine=words.engine or studio.settings.text("engine"),
        parameters=parameters_of(command),
        env=tuple({**project.env, **dict(parse_pairs(words.env, field="env"))}.items()),
        secrets=tuple(dict.fromkeys((*project.secrets, *words.secrets))),
        mounts=(*project.mounts, *words.mounts),
        limits=_limits(project.limits, words.limits),
        gpus=words.gpus if words.gpus.wants_any else project.gpus,
        network=Network(words.network) if words.network else Network.BRIDGE,
        tags=tuple(dict.fromkeys((*project.tags, *words.tags))),
        note=words.note,
        stop_when=_stop_when(words.stop_when),
        run_as_root=words.as_root,
    )


def find_target(words: Words) -> Target:
    """Folder, script or Git URL: what the first word means. Without one, the folder one stands in."""
    text = words.target
    if not text and words.image:
        return Target(code=CodeSource())
    if _URL.fullmatch(text) and not Path(text).exists():
        return Target(code=CodeSource(url=text, ref=words.ref or "", subfolder=words.subfolder or ""))
    if words.ref is not None:
        raise RequestError(
            "--ref goes with a Git URL.",
            field="code.ref",
            try_this="Check the branch out in the folder instead.",
        )
    path = Path(text or ".").expanduser().absolute()
    if path.is_dir():
        return Target(code=CodeSource(folder=str(path), subfolder=words.subfolder or ""))
    if path.is_file():
        root = project_root(path)
        return Target(code=CodeSource(folder=str(root)), script=path.relative_to(root).as_posix())
    raise NotFound(
        f"There is no folder, script or URL “{text}”.",
        field="code.folder",
        try_this="Give the folder that holds your script, the script itself, or a Git URL.",
    )


def project_root(script: Path) -> Path:
    """The folder that a script belongs to: the nearest above it that looks like a project, else its own."""
    home = Path.home()
    for folder in script.parents:
        if folder in (home, Path(folder.anchor)):
            break
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    return script.parent


def secret_values(secrets: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names, and the values of those given as ``NAME=@file``. A value on the command line is refused: others see it."""
    names: list[str] = []
    values: dict[str, str] = {}
    for text in secrets:
        name, equals, source = text.partition("=")
        names.append(name)
        if not equals:
            continue
        if not source.startswith("@"):
            raise RequestError(
                f"The secret {name} was given openly.",
                field="secrets",
                why="Command lines can be read by everybody on this machine.",
                try_this=f"Put it into a file and write --secret {name}=@FILE, or set the variable {name} and write "
                f"--secret {name}.",
            )
        path = Path(source[1:]).expanduser()
        try:
            values[name] = path.read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(
                f"The file of the secret {name} could not be read.", field="secrets", why=f"{path}: {error}"
            ) from error
    return tuple(names), values


def _travel(studio: Studio, words: Words, target: Target) -> Travel:
    if words.travel:
        return Travel(words.travel)
    return Travel(studio.settings.text("run.travel"))


def _image(studio: Studio, words: Words, project: Project, code: CodeSource, *, script: str) -> ImageSpec:
    if sum(bool(way) for way in (words.image, words.dockerfile, words.framework)) > 1:
        raise RequestError(
            "--framework, --dockerfile and --image exclude each other.",
            field="image",
            try_this="Give one of them.",
        )
    if words.image or (project.image and not words.framework and not words.dockerfile):
        return ImageSpec(image=words.image or project.image)
    if words.dockerfile or (project.dockerfile and not words.framework):
        return ImageSpec(dockerfile=words.dockerfile or project.dockerfile)
    framework = words.framework or project.framework
    version = words.framework_version or ("" if words.framework else project.version)
    variant = words.variant or project.variant
    python = words.python or project.python
    requirements = words.requirements or project.requirements
    if not framework:
        suggestion = studio.code.suggest(code)
        framework = suggestion.framework
        version = version or suggestion.version
        variant = variant or suggestion.variant
        python = python or suggestion.python
    return ImageSpec(
        framework=framework,
        version=version,
        variant=variant or "cpu",
        python=python,
        requirements=requirements,
        system_packages=words.system_packages or project.system_packages,
    )


def _command(
    studio: Studio, words: Words, project: Project, code: CodeSource, *, script: str
) -> tuple[str, ...]:
    chosen: Mapping[str, str] = dict(parse_pairs(words.parameters, field="parameters"))
    if words.command_line is not None:
        try:
            base = tuple(shlex.split(words.command_line))
        except ValueError as error:
            raise RequestError(
                "The command cannot be taken apart.",
                field="command",
                why=f"{error}.",
                try_this="Check its quotes.",
            ) from error
        parameters = chosen
    elif script:
        base = ("python", script)
        parameters = {**(project.parameters if script in project.command else {}), **chosen}
    elif project.command:
        base = project.command
        parameters = {**project.parameters, **chosen}
    elif code.folder or code.url:
        base = studio.code.suggest(code).command
        parameters = {**project.parameters, **chosen}
    elif words.args:
        return words.args
    else:
        raise RequestError(
            "There is no command to run.",
            field="command",
            try_this="Write it behind --, for example: mlstudio run --image IMAGE -- python -c 'print(1)'",
        )
    said = {name for name, _ in parameters_of(("python", "script.py", *words.args))}
    left = {name: value for name, value in parameters.items() if name.replace("-", "_") not in said}
    return (*Project(command=base, parameters=left).full_command, *words.args)


def _stop_when(rules: tuple[str, ...]) -> tuple[str, ...]:
    if rules:
        from mlstudio.services.recording.watch import parse_stop_rules

        parse_stop_rules(rules)
    return tuple(dict.fromkeys(rules))


def _limits(first: Limits, over: Limits) -> Limits:
    return Limits(
        cpus=over.cpus if over.cpus is not None else first.cpus,
        memory_bytes=over.memory_bytes if over.memory_bytes is not None else first.memory_bytes,
        shm_bytes=over.shm_bytes if over.shm_bytes is not None else first.shm_bytes,
        stop_after_s=over.stop_after_s if over.stop_after_s is not None else first.stop_after_s,
        pids=over.pids if over.pids is not None else first.pids,
    )
