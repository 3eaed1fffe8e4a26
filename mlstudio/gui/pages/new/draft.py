"""What stands in the form, as one value, and the run that it asks for. No Qt here.

Text stays as it was typed, so that half-typed values are no error until they are needed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from packaging.requirements import InvalidRequirement, Requirement

from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.image import ImageSpec, Problem
from mlstudio.model.run import GpuRequest, Limits, Mount, RunSpec
from mlstudio.services.project import parse_bytes, parse_mount, parse_number, parse_pairs, parse_seconds
from mlstudio.services.script_arguments import (
    Argument,
    arguments_of,
    changed_arguments,
    command_words,
    wrong_value,
)

_T = TypeVar("_T")

OWN_DOCKERFILE = "dockerfile"
EXISTING_IMAGE = "image"
_COMMENT = re.compile(r"(^|\s)#.*$")
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountDraft:
    """A data set as it is typed: a folder here, and where it appears in the container."""

    source: str = ""
    target: str = ""
    read_only: bool = True

    @property
    def is_empty(self) -> bool:
        return not self.source.strip() and not self.target.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A parameter that is not at its default."""

    name: str
    default: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The form's content. `framework` is a name of the catalogue, `OWN_DOCKERFILE` or `EXISTING_IMAGE`."""

    name: str = ""
    code: str = ""
    """A folder, or a Git URL."""
    ref: str = ""
    subfolder: str = ""
    travel: str = "baked"
    framework: str = "python"
    version: str = ""
    variant: str = "cpu"
    python: str = ""
    dockerfile: str = "Dockerfile"
    image: str = ""
    requirements: str | None = None
    """One a line; None: as found in the code."""
    system_packages: str = ""
    script: str = ""
    arguments: tuple[Argument, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    """Values of arguments that differ from their defaults, by `Argument.key`."""
    more: str = ""
    """Words typed after the script's own arguments, as in a shell."""
    engine: str = "local"
    gpus: tuple[str, ...] = ()
    mounts: tuple[MountDraft, ...] = ()
    cpus: str = ""
    memory: str = ""
    shm: str = ""
    stop_after: str = ""
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    tags: str = ""
    note: str = ""
    _values: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", dict(self.values))

    @property
    def is_url(self) -> bool:
        """Whether the code comes from Git rather than from a folder."""
        text = self.code.strip()
        return "://" in text or (text.startswith("git@") and ":" in text)

    @property
    def is_complete(self) -> bool:
        """Whether enough is there to plan a run: some code, or an image that needs none."""
        return bool(self.code.strip()) or (self.framework == EXISTING_IMAGE and bool(self.image.strip()))

    def value_of(self, argument: Argument) -> str:
        return self._values.get(argument.key, argument.default)

    def with_value(self, argument: Argument, value: str) -> Draft:
        """The draft with an argument's value changed; its default takes the change away."""
        values = {key: old for key, old in self.values if key != argument.key}
        if value != argument.default:
            values[argument.key] = value
        return replace(self, values=tuple(values.items()))

    def with_arguments(self, arguments: tuple[Argument, ...]) -> Draft:
        """The draft with another script's arguments; values are kept where they are ones of the new script too."""
        known = {argument.key: argument for argument in arguments}
        values = tuple(
            (key, value) for key, value in self.values if key in known and _can_take(known[key], value)
        )
        return replace(self, arguments=arguments, values=values)

    def shown_arguments(self) -> tuple[Argument, ...]:
        """The script's arguments that count: those of other subcommands do not."""
        return arguments_of(self.arguments, self._values)

    def changes(self) -> tuple[Change, ...]:
        """The parameters that are not at their defaults, in the order of the form."""
        return tuple(
            Change(name=argument.flag or argument.name, default=argument.default, value=value)
            for argument, value in changed_arguments(self.arguments, self._values)
        )

    def command(self) -> tuple[str, ...]:
        """The argument vector. Raises RequestError(field="command") for quotes that do not close."""
        words: list[str] = []
        if self.script.strip():
            words = ["python", self.script.strip(), *command_words(self.arguments, self._values)]
        try:
            words.extend(shlex.split(self.more))
        except ValueError as error:
            raise RequestError(
                "A quote in the further arguments is not closed.",
                field="command",
                try_this="Add the missing quote.",
            ) from error
        return tuple(words)

    def parameters(self) -> tuple[tuple[str, str], ...]:
        """What the run's parameters are, defaults included, under the names that the script uses."""
        return tuple(
            (argument.dest, {"on": "true", "off": "false"}[value] if argument.kind == "flag" else value)
            for argument in self.shown_arguments()
            if (value := self.value_of(argument))
        )

    def source(self) -> CodeSource:
        """Where the code is. Raises nothing: an empty text is an empty source."""
        text = self.code.strip()
        travel = Travel(self.travel)
        if self.is_url:
            if travel is Travel.MOUNTED:
                travel = Travel.BAKED
            return CodeSource(
                url=text, ref=self.ref.strip(), subfolder=self.subfolder.strip().strip("/"), travel=travel
            )
        return CodeSource(folder=text, travel=travel)

    def spec(self) -> RunSpec:
        """The run that is asked for. Raises RequestError with the field at fault."""
        if not self.code.strip() and self.framework != EXISTING_IMAGE:
            raise RequestError("Choose the code to run.", field="code.folder")
        return RunSpec(
            command=self.command(),
            code=self.source(),
            image=self._image(),
            name=self.name.strip(),
            engine=self.engine,
            parameters=self.parameters(),
            env=self._env(),
            secrets=self._secrets(),
            mounts=self._mounts(),
            limits=Limits(
                cpus=_optional(self.cpus, parse_number, "limits.cpus"),
                memory_bytes=_optional(self.memory, parse_bytes, "limits.memory_bytes"),
                shm_bytes=_optional(self.shm, parse_bytes, "limits.shm_bytes"),
                stop_after_s=_optional(self.stop_after, parse_seconds, "limits.stop_after_s"),
            ),
            gpus=GpuRequest(uuids=self.gpus),
            tags=tuple(self.tags.replace(",", " ").split()),
            note=self.note.strip(),
        )

    def problems(self) -> dict[str, str]:
        """What is wrong with the form as it stands, by the field it belongs to; empty when it can be launched.

        Fields are the dotted paths of `RequestError.field`; a script's parameter is ``parameters.<key>``.
        """
        found: dict[str, str] = {}
        for check in (self._need_code, self.command, self._image, self._env, self._secrets, self._mounts):
            _collect(found, check)
        for text, parse, name in (
            (self.cpus, parse_number, "limits.cpus"),
            (self.memory, parse_bytes, "limits.memory_bytes"),
            (self.shm, parse_bytes, "limits.shm_bytes"),
            (self.stop_after, parse_seconds, "limits.stop_after_s"),
        ):
            _collect(found, partial(_optional, text, parse, name))
        found.update({f"parameters.{key}": words for key, words in self.wrong_values().items()})
        return found

    def wrong_values(self) -> dict[str, str]:
        """What is wrong with the script's arguments, by their keys."""
        wrong = {
            argument.key: wrong_value(argument, self.value_of(argument))
            for argument in self.shown_arguments()
        }
        return {key: words for key, words in wrong.items() if words}

    def requirement_problems(self) -> tuple[Problem, ...]:
        """Lines of the user's own list of packages that are no requirements."""
        return tuple(_requirement_problems(self.requirements)) if self.requirements is not None else ()

    def _need_code(self) -> None:
        if not self.is_complete:
            raise RequestError("Choose the code to run.", field="code.folder")

    def _image(self) -> ImageSpec:
        if self.framework == OWN_DOCKERFILE:
            return ImageSpec(dockerfile=self.dockerfile.strip() or "Dockerfile")
        if self.framework == EXISTING_IMAGE:
            if not self.image.strip():
                raise RequestError(
                    "Name the image to run.",
                    field="image.image",
                    try_this="For example nvcr.io/nvidia/pytorch:25.09-py3.",
                )
            return ImageSpec(image=self.image.strip())
        problem = next(iter(self.requirement_problems()), None)
        if problem is not None:
            raise RequestError(
                f"Line {problem.line}: {problem.message}",
                field="image.requirements",
                try_this=problem.try_this,
            )
        return ImageSpec(
            framework=self.framework,
            version=self.version,
            variant=self.variant or "cpu",
            python=self.python,
            requirements=None if self.requirements is None else _requirement_lines(self.requirements),
            system_packages=tuple(self.system_packages.replace(",", " ").split()),
        )

    def _env(self) -> tuple[tuple[str, str], ...]:
        given = [(name.strip(), value) for name, value in self.env if name.strip() or value]
        for name, value in given:
            if not name:
                raise RequestError(f"“{value[:40]}” has no name.", field="env", try_this="Give it one.")
            if "=" in name or "\0" in name + value:
                raise RequestError(f"“{name[:40]}” cannot be the name of a variable.", field="env")
        return parse_pairs([f"{name}={value}" for name, value in given], field="env")

    def _secrets(self) -> tuple[str, ...]:
        for name in self.secrets:
            if not _SECRET_NAME.fullmatch(name):
                raise RequestError(
                    f"“{name[:40]}” cannot be the name of a secret.",
                    field="secrets",
                    why="A name holds letters, digits and underscores, and begins with a letter.",
                )
        return self.secrets

    def _mounts(self) -> tuple[Mount, ...]:
        found = []
        for mount in self.mounts:
            if mount.is_empty:
                continue
            source, target = mount.source.strip(), mount.target.strip()
            if not source or not target.startswith("/"):
                raise RequestError(
                    "The folder here is missing."
                    if not source
                    else f"“{target}” is no place in the container."
                    if target
                    else f"Where {source} shall appear is missing.",
                    field="mounts",
                    try_this="A place in the container is a full path such as /data.",
                )
            if ":" in source + target:
                raise RequestError("A colon cannot stand in a mounted path.", field="mounts")
            found.append(parse_mount(f"{source}:{target}{'' if mount.read_only else ':rw'}"))
        return tuple(found)


def folder_and_script(text: str) -> tuple[str, str]:
    """A path that was typed or dropped, as the folder of the code and, where it is a file, the script in it."""
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return str(path.parent), path.name if path.suffix == ".py" else ""
    except (OSError, RuntimeError, ValueError):
        pass  # a name that is too long, or the home of nobody: reading the code says what is wrong with it
    return text, ""


def _can_take(argument: Argument, value: str) -> bool:
    """Whether `value` differs from the default and is one of those to choose from, if there are such."""
    options = ("on", "off") if argument.kind == "flag" else argument.choices
    return value != argument.default and (argument.kind == "list" or not options or value in options)


def _requirement_lines(text: str) -> tuple[str, ...]:
    return tuple(line for _, line in _numbered(text))


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) without comments and empty lines."""
    for number, line in enumerate(text.splitlines(), 1):
        clean = _COMMENT.sub("", line).strip()
        if clean:
            yield number, clean


def _requirement_problems(text: str) -> Iterator[Problem]:
    for number, line in _numbered(text):
        try:
            Requirement(line)
        except InvalidRequirement:
            yield Problem(
                message=f"“{line[:60]}” is no requirement.",
                line=number,
                try_this="Options of pip belong into the settings."
                if line.startswith("-")
                else "Write it as name, name==1.2.3 or name>=1.2,<2.",
            )


def _collect(found: dict[str, str], check: Callable[[], object]) -> None:
    try:
        check()
    except RequestError as error:
        found.setdefault(error.field, str(error))


def _optional(text: str, parse: Callable[..., _T], name: str) -> _T | None:
    return parse(text, field=name) if text.strip() else None
