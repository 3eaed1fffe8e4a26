"""The catalogue of frameworks: data in ``resources/frameworks``, one file a framework, checked strictly when read."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mlstudio.model.errors import DefectError, RequestError
from mlstudio.model.image import Framework, FrameworkVersion, Variant

PLAIN = "python"
"""The entry that is Python alone."""


class _Version(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    pythons: list[str]
    variants: list[str]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    summary: str
    order: int
    packages: list[str]
    smoke_import: str
    requirement: str = ""
    cpu_requirement: str = ""
    cuda_requirement: str = ""
    with_cpu: list[str] = []
    with_cuda: list[str] = []
    companions: list[str] = []
    extra_requirements: list[str] = []
    system_packages: list[str] = []
    env: dict[str, str] = {}
    shm_mb: int = 0
    index: str = ""
    default: str = ""
    pythons: list[str] = []
    versions: list[_Version] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every framework that can be chosen, in the order in which they are shown."""

    frameworks: tuple[Framework, ...]
    bases: tuple[tuple[str, str], ...]
    """(Python release, base image reference), newest last."""
    plain_pythons: tuple[str, ...]
    """Python releases of plain Python, preferred first."""
    companions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(framework, packages that must come from the framework's own index)."""
    defaults: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> Framework:
        """The framework of that name. Raises RequestError(field="image.framework")."""
        for framework in self.frameworks:
            if framework.name == name:
                return framework
        raise RequestError(
            f"There is no framework “{name}”.",
            field="image.framework",
            try_this="There are: " + ", ".join(framework.name for framework in self.frameworks) + ".",
        )

    def version(self, framework: Framework, wanted: str) -> FrameworkVersion | None:
        """The release `wanted` (empty: the default one); None for plain Python, which has none."""
        if not framework.versions:
            return None
        wanted = wanted or dict(self.defaults).get(framework.name, "") or framework.versions[0].version
        for version in framework.versions:
            if version.version == wanted:
                return version
        raise RequestError(
            f"{framework.title} {wanted} is not in the catalogue.",
            field="image.version",
            try_this="There are: "
            + ", ".join(version.version for version in framework.versions)
            + ". For another one choose plain Python and add it to the requirements.",
        )

    def variant(self, framework: Framework, version: FrameworkVersion, wanted: str) -> Variant:
        """The variant `wanted` of a release. Raises RequestError(field="image.variant")."""
        for variant in version.variants:
            if variant.name == wanted:
                return variant
        raise RequestError(
            f"{framework.title} {version.version} has no variant “{wanted}”.",
            field="image.variant",
            try_this="There are: " + ", ".join(variant.name for variant in version.variants) + ".",
        )

    def pythons(self, framework: Framework, version: FrameworkVersion | None) -> tuple[str, ...]:
        """Python releases that can be chosen, preferred first."""
        return version.pythons if version is not None else self.plain_pythons

    def base_image(self, python: str, variant: str = "cpu") -> str:
        """The base image of a Python release. Wheels bring their CUDA, so that every variant has the same base."""
        for release, image in self.bases:
            if release == python:
                return image
        raise RequestError(
            f"There is no base image for Python {python or '(none)'}.",
            field="image.python",
            try_this="There are: " + ", ".join(release for release, _ in self.bases) + ".",
        )

    def framework_of(self, package: str) -> Framework | None:
        """The framework that a package (normalised name) belongs to."""
        for framework in self.frameworks:
            if package in framework.packages:
                return framework
        return None


def load_catalogue(folder: Path | None = None) -> Catalogue:
    """Read the catalogue that ships with the program (or another `folder`). Raises DefectError if it is damaged."""
    folder = folder if folder is not None else _shipped()
    try:
        entries = sorted(
            (
                _Entry.model_validate(_toml(path))
                for path in folder.glob("*.toml")
                if not path.name.startswith("_")
            ),
            key=lambda entry: entry.order,
        )
        drivers = {
            str(name): str(value) for name, value in _toml(folder / "_cuda.toml")["min_driver"].items()
        }
        bases = tuple(
            (str(base["python"]), str(base["image"]) + (f"@{base['digest']}" if base.get("digest") else ""))
            for base in _toml(folder / "_bases.toml")["base"]
        )
        return Catalogue(
            frameworks=tuple(_framework(entry, drivers) for entry in entries),
            bases=bases,
            plain_pythons=next(tuple(entry.pythons) for entry in entries if entry.name == PLAIN),
            companions=tuple((entry.name, tuple(entry.companions)) for entry in entries if entry.companions),
            defaults=tuple((entry.name, entry.default) for entry in entries if entry.default),
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, StopIteration) as error:
        raise DefectError(
            f"The catalogue of frameworks in {folder} is damaged.",
            why=str(error),
            try_this="Install ML Studio again.",
        ) from error


def _framework(entry: _Entry, drivers: dict[str, str]) -> Framework:
    return Framework(
        name=entry.name,
        title=entry.title,
        summary=entry.summary,
        versions=tuple(
            FrameworkVersion(
                version=version.version,
                pythons=tuple(version.pythons),
                variants=tuple(_variant(entry, version.version, name, drivers) for name in version.variants),
            )
            for version in entry.versions
        ),
        packages=tuple(entry.packages),
        smoke_import=entry.smoke_import,
        system_packages=tuple(entry.system_packages),
        extra_requirements=tuple(entry.extra_requirements),
    )


def _variant(entry: _Entry, version: str, name: str, drivers: dict[str, str]) -> Variant:
    cuda = f"{name[2:4]}.{name[4:]}" if name.startswith("cu") else ""
    if cuda and cuda not in drivers:
        raise ValueError(f"{entry.name}: no driver is known for CUDA {cuda}")
    template = (entry.cuda_requirement if cuda else entry.cpu_requirement) or entry.requirement
    words = {"version": version, "variant": name, "cuda_major": cuda.partition(".")[0]}
    return Variant(
        name=name,
        title=f"CUDA {cuda}" if cuda else "CPU",
        cuda=cuda,
        min_driver=drivers.get(cuda, ""),
        requirements=(template.format(**words), *(entry.with_cuda if cuda else entry.with_cpu)),
        index_url=entry.index.format(**words),
        env=tuple(sorted(entry.env.items())),
        shm_bytes=entry.shm_mb * 1024 * 1024,
    )


def _toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _shipped() -> Path:
    package = Path(__file__).resolve().parent.parent
    for root in (package / "resources", package.parent / "resources"):
        if (root / "frameworks").is_dir():
            return root / "frameworks"
    return package / "resources" / "frameworks"
