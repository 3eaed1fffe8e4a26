"""What stands in the form, as one value, and the run that it asks for. No Qt here.

Text stays as it was typed, so that half-typed values are no error until they are needed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import GpuRequest, Limits, RunSpec
from mlstudio.services.project import parse_bytes, parse_mount, parse_number, parse_pairs, parse_seconds
from mlstudio.services.script_arguments import Argument

_T = TypeVar("_T")

OWN_DOCKERFILE = "dockerfile"
EXISTING_IMAGE = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The form's content. `framework` is a name of the catalogue, `OWN_DOCKERFILE` or `EXISTING_IMAGE`."""

    name: str = ""
    code: str = ""
    """A folder, or a Git URL."""
    ref: str = ""
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
    """Values of arguments that differ from their defaults, by name."""
    more: str = ""
    """Words typed after the script's own arguments, as in a shell."""
    engine: str = "local"
    gpus: tuple[str, ...] = ()
    mounts: str = ""
    cpus: str = ""
    memory: str = ""
    shm: str = ""
    stop_after: str = ""
    env: str = ""
    secrets: str = ""
    tags: str = ""
    note: str = ""

    @property
    def is_url(self) -> bool:
        """Whether the code comes from Git rather than from a folder."""
        text = self.code.strip()
        return "://" in text or (text.startswith("git@") and ":" in text)

    def value_of(self, argument: Argument) -> str:
        return dict(self.values).get(argument.name, argument.default)

    def with_value(self, argument: Argument, value: str) -> Draft:
        """The draft with an argument's value changed; its default takes the change away."""
        values = {name: old for name, old in self.values if name != argument.name}
        if value != argument.default:
            values[argument.name] = value
        return replace(self, values=tuple(values.items()))

    def command(self) -> tuple[str, ...]:
        """The argument vector. Raises RequestError(field="command") for quotes that do not close."""
        words: list[str] = ["python", self.script.strip()] if self.script.strip() else []
        for argument in sorted(self.arguments, key=lambda entry: bool(entry.flag)):
            words.extend(argument.words(self.value_of(argument)))
        try:
            words.extend(shlex.split(self.more))
        except ValueError as error:
            raise RequestError(
                "A quote in the further arguments is not closed.",
                field="command",
                try_this="Add the missing quote.",
            ) from error
        return tuple(words)

    def source(self) -> CodeSource:
        """Where the code is. Raises nothing: an empty text is an empty source."""
        text = self.code.strip()
        if self.is_url:
            travel = Travel(self.travel) if self.travel != Travel.MOUNTED else Travel.BAKED
            return CodeSource(url=text, ref=self.ref.strip(), travel=travel)
        return CodeSource(folder=text, travel=Travel(self.travel))

    def spec(self) -> RunSpec:
        """The run that is asked for. Raises RequestError with the field at fault."""
        if not self.code.strip() and self.framework != EXISTING_IMAGE:
            raise RequestError("Choose the code to run.", field="code.folder")
        image = ImageSpec(
            framework=self.framework,
            version=self.version,
            variant=self.variant or "cpu",
            python=self.python,
            requirements=None if self.requirements is None else _lines(self.requirements),
            system_packages=tuple(self.system_packages.replace(",", " ").split()),
        )
        if self.framework == OWN_DOCKERFILE:
            image = ImageSpec(dockerfile=self.dockerfile.strip() or "Dockerfile")
        elif self.framework == EXISTING_IMAGE:
            if not self.image.strip():
                raise RequestError(
                    "Name the image to run.",
                    field="image.image",
                    try_this="For example nvcr.io/nvidia/pytorch:25.09-py3.",
                )
            image = ImageSpec(image=self.image.strip())
        return RunSpec(
            command=self.command(),
            code=self.source(),
            image=image,
            name=self.name.strip(),
            engine=self.engine,
            env=parse_pairs(_lines(self.env), field="env"),
            secrets=tuple(self.secrets.replace(",", " ").split()),
            mounts=tuple(parse_mount(line) for line in _lines(self.mounts)),
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

    def wrong_values(self) -> dict[str, str]:
        """What is wrong with the script's arguments, by their names."""
        wrong: dict[str, str] = {}
        for argument in self.arguments:
            value = self.value_of(argument)
            if not value:
                if argument.required:
                    wrong[argument.name] = "The script needs a value."
                continue
            if argument.kind == "int" and not _is(int, value):
                wrong[argument.name] = "A whole number is needed."
            elif argument.kind == "float" and not _is(float, value):
                wrong[argument.name] = "A number is needed."
        return wrong


def _lines(text: str) -> tuple[str, ...]:
    return tuple(
        line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")
    )


def _optional(text: str, parse: Callable[..., _T], name: str) -> _T | None:
    return parse(text, field=name) if text.strip() else None


def _is(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
