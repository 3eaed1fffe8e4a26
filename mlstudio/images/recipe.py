"""From what an image shall hold to a Dockerfile: the same recipe gives the same bytes, whatever its fields contain.

Nothing that a field holds reaches a shell unquoted: requirements travel as a file of the context, names of system
packages are checked against Debian's rules, values of ENV are escaped as Dockerfiles want it. The file keeps to what the
Dockerfile frontend built into Engine 20.10 knows (no heredocs, no ``# syntax=`` line, which would need a registry).
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mlstudio.images.catalogue import Catalogue
from mlstudio.images.detect import pinned_version
from mlstudio.images.mounts import PIP_TARGET, WHEELS_TARGET, pip_mount_image, wheel_names, wheels_mount_image
from mlstudio.images.own_dockerfile import base_reference, split_instructions
from mlstudio.images.requirements import name_of
from mlstudio.model.code import CodeSnapshot, CodeSource, Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.image import (
    Dependencies,
    DependencySource,
    Framework,
    FrameworkVersion,
    ImageSpec,
    Layer,
    LayerKind,
    PipSettings,
    Problem,
    Recipe,
    Variant,
)

WORKDIR = "/work"
VENV = "/opt/venv"
USER_ID = 1000
USER = "mlstudio"
REQUIREMENTS_FILE = "requirements.txt"

_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.\-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+~:\-]+)?")
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.\-]*(?::[0-9]+)?/)?[a-z0-9]+(?:[._\-/]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
"""https://pkg.go.dev/github.com/distribution/reference"""
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SAME = (
    frozenset({"tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel"}),
    frozenset({"xgboost", "xgboost-cpu"}),
    frozenset({"jax", "jaxlib"}),
)
"""Distributions that are one framework under several names."""


def write_recipe(
    spec: ImageSpec,
    code: CodeSource,
    snapshot: CodeSnapshot | None,
    *,
    catalogue: Catalogue,
    dependencies: Dependencies,
    pip: PipSettings,
    base_map: Mapping[str, str],
    name: str,
    dockerfile_text: str | None = None,
) -> Recipe:
    """The recipe for `spec`. Pure but for the names of the wheels in `pip.wheelhouse` and the user's own Dockerfile.

    `base_map` replaces base images by others; `name` is what the image is called after. `dockerfile_text` is the content
    of `spec.dockerfile` (read from the code's folder where None). Raises RequestError with the field at fault.
    """
    if spec.dockerfile:
        return _own(spec, code, snapshot, name=name, text=dockerfile_text)
    framework = catalogue.get(spec.framework)
    choice = _choose(spec, framework, catalogue, dependencies)
    base = catalogue.base_image(choice.python, spec.variant)
    mapped = base_map.get(base, "") or base_map.get(base.partition("@")[0], "")
    if mapped and not _REFERENCE.fullmatch(mapped):
        raise RequestError(
            f"“{mapped[:80]}” is no name of an image.",
            field="base_images",
            try_this="For example registry.example.org:5000/python:3.11-slim-bookworm.",
        )
    parts = _Parts(spec=spec, code=code, choice=choice, base=mapped or base, pip=pip)
    layers, files = parts.layers(snapshot)
    header = "# Written by ML Studio: the same recipe gives the same file, byte for byte.\n"
    dockerfile = header + "\n".join(layer.text for layer in layers) + "\n"
    baked = code.travel is Travel.BAKED and snapshot is not None
    return _finished(
        Recipe(
            dockerfile=dockerfile,
            layers=layers,
            spec=replace(spec, version=choice.version, python=choice.python),
            base=mapped or base,
            base_replaces=base if mapped else "",
            context_files=files,
            code_in_context=baked,
            code_key=snapshot.tree_hash if baked and snapshot is not None else "",
            workdir=WORKDIR,
            smoke_import=framework.smoke_import,
            dependencies=dependencies,
            requirements=(*choice.framework, *choice.rest),
            index_url=parts.index_url,
            python=choice.python,
            problems=(*dependencies.problems, *choice.problems),
        ),
        name,
    )


# -- what is installed ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The framework's version and Python that are taken, and which requirement is installed by which layer."""

    version: str
    python: str
    variant: Variant | None
    framework: tuple[str, ...]
    rest: tuple[str, ...]
    system_packages: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


def _choose(
    spec: ImageSpec, framework: Framework, catalogue: Catalogue, dependencies: Dependencies
) -> _Choice:
    problems: list[Problem] = []
    release, variant = _release(spec, framework, catalogue, dependencies, problems)
    python = _python(spec, catalogue.pythons(framework, release), dependencies, problems)
    if release is None and spec.variant != "cpu":
        raise RequestError(
            f"Plain Python has no variant “{spec.variant}”.",
            field="image.variant",
            try_this="Choose a framework that uses the GPU, or `cpu`.",
        )
    provided = _provided(variant)
    companions = dict(catalogue.companions).get(framework.name, ())
    install = list(variant.requirements) if variant is not None else []
    rest: list[str] = []
    locked = dependencies.source in (DependencySource.UV_LOCK, DependencySource.POETRY_LOCK)
    for requirement in dependencies.requirements:
        known = name_of(requirement)
        if known in provided:
            continue
        if variant is not None and locked and (known.startswith("nvidia-") or known == "triton"):
            continue  # the framework's own build says which of these it needs
        if known in companions:
            install.append(requirement)
        else:
            rest.append(requirement)
    asked = {name_of(requirement) for requirement in (*install, *rest)}
    install.extend(extra for extra in framework.extra_requirements if name_of(extra) not in asked)
    for requirement in (*install, *rest):
        _check_line(requirement, "image.requirements")
    return _Choice(
        version=release.version if release is not None else "",
        python=python,
        variant=variant,
        framework=tuple(install),
        rest=tuple(rest),
        system_packages=_system_packages(spec, framework, dependencies),
        problems=tuple(problems),
    )


def _release(
    spec: ImageSpec,
    framework: Framework,
    catalogue: Catalogue,
    dependencies: Dependencies,
    problems: list[Problem],
) -> tuple[FrameworkVersion | None, Variant | None]:
    """The release to take: the one asked for, else the newest that the code's own requirements allow."""
    if not framework.versions:
        return None, None
    if spec.version:
        release = catalogue.version(framework, spec.version)
        assert release is not None
        return release, catalogue.variant(framework, release, spec.variant)
    for requirement in dependencies.requirements:
        if not _is_main(framework, name_of(requirement)):
            continue
        allowed = _specifier(requirement)
        fitting = [entry for entry in framework.versions if allowed.contains(entry.version)]
        if fitting:
            release = next(
                (entry for entry in fitting if any(known.name == spec.variant for known in entry.variants)),
                fitting[0],
            )
            return release, catalogue.variant(framework, release, spec.variant)
        release = catalogue.version(framework, "")
        assert release is not None
        variant = catalogue.variant(framework, release, spec.variant)
        pinned = pinned_version(requirement)
        problems.append(
            Problem(
                message=f"{requirement} is not in the catalogue of {framework.title}: it is installed as it stands.",
                file=dependencies.file,
                is_error=False,
                try_this="Newest there: " + framework.versions[0].version + ".",
            )
        )
        own = (
            requirement,
            *(entry for entry in variant.requirements if not _is_main(framework, name_of(entry))),
        )
        return replace(release, version=pinned), replace(variant, requirements=own)
    release = catalogue.version(framework, "")
    assert release is not None
    return release, catalogue.variant(framework, release, spec.variant)


def _is_main(framework: Framework, package: str) -> bool:
    """Whether a package is the framework itself, not one that is built on it."""
    return any(
        package in ({name_of(entry)} | _aliases(name_of(entry)))
        for entry in framework.versions[0].variants[0].requirements[:1]
    )


def _aliases(package: str) -> frozenset[str]:
    return next((group for group in _SAME if package in group), frozenset())


def _provided(variant: Variant | None) -> frozenset[str]:
    """Packages that the framework's layer brings, so that the dependencies need not."""
    found: set[str] = set()
    for requirement in variant.requirements if variant is not None else ():
        package = name_of(requirement)
        found |= {package} | _aliases(package)
    return frozenset(found)


def _specifier(requirement: str) -> SpecifierSet:
    try:
        return Requirement(requirement).specifier
    except InvalidRequirement:
        return SpecifierSet()


def _python(
    spec: ImageSpec, offered: Sequence[str], dependencies: Dependencies, problems: list[Problem]
) -> str:
    if spec.python:
        if offered and spec.python not in offered:
            raise RequestError(
                f"Python {spec.python} does not go with this framework's release.",
                field="image.python",
                try_this="It has: " + ", ".join(offered) + ".",
            )
        return spec.python
    try:
        allowed = SpecifierSet(dependencies.python)
    except InvalidSpecifier:
        problems.append(
            Problem(
                message=f"“{dependencies.python}” is no Python version that can be understood.",
                file=dependencies.file,
                is_error=False,
            )
        )
        return offered[0]
    for python in offered:
        # "3.11" as a bound means any 3.11.x: a late patch stands for the series.
        if allowed.contains(f"{python}.99") or allowed.contains(python):
            return python
    problems.append(
        Problem(
            message=f"The project asks for Python {dependencies.python}; this framework's release has "
            f"{', '.join(offered)}.",
            file=dependencies.file,
            is_error=False,
            try_this=f"Python {offered[0]} is taken.",
        )
    )
    return offered[0]


def _system_packages(spec: ImageSpec, framework: Framework, dependencies: Dependencies) -> tuple[str, ...]:
    for package in spec.system_packages:
        if not _DEBIAN_NAME.fullmatch(package):
            raise RequestError(
                f"“{package[:80]}” is no name of a Debian package.",
                field="image.system_packages",
                try_this="Names are lower case, such as ffmpeg or libgl1.",
            )
    return tuple(sorted({*spec.system_packages, *framework.system_packages, *dependencies.system_packages}))


def _check_line(text: str, field: str) -> None:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise RequestError(
            "A line break or control character stands where none may be.",
            field=field,
            why=f"In {text[:80]!r}.",
            try_this="Remove it.",
        )


# -- the Dockerfile ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What the layers are written from."""

    spec: ImageSpec
    code: CodeSource
    choice: _Choice
    base: str
    pip: PipSettings

    @property
    def index_url(self) -> str:
        """The variant's own index, unless the wheelhouse already holds what would come from there."""
        variant = self.choice.variant
        if variant is None or not variant.index_url:
            return ""
        held = wheel_names(self.pip)
        needed = [requirement for requirement in self.choice.framework if requirement in variant.requirements]
        mains = [entry for entry in needed if name_of(entry) in ("torch",)]
        if (
            mains
            and all(_held(entry, held, self.choice.python) for entry in mains)
            and len(needed) >= len(mains)
        ):
            return ""
        return variant.index_url

    def layers(
        self, snapshot: CodeSnapshot | None
    ) -> tuple[tuple[Layer, ...], tuple[tuple[str, bytes], ...]]:
        """The layers in order, and the context's own files."""
        choice, files = self.choice, []
        layers = [
            Layer(
                kind=LayerKind.BASE,
                text=f"FROM {self.base}",
                why=f"The image that all else stands on: Debian with Python {choice.python}.",
                title=f"Base: Python {choice.python} on Debian",
            )
        ]
        packages = sorted({*choice.system_packages, *(("git", "ca-certificates") if self._clones else ())})
        if packages:
            layers.append(self._apt(packages))
        layers.append(self._user())
        layers.append(
            Layer(
                kind=LayerKind.SYSTEM,
                text=f'ENV PATH="{VENV}/bin:$PATH" VIRTUAL_ENV="{VENV}" \\\n'
                "    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore",
                why="Makes `python` and `pip` mean the ones of that environment, and pip quiet.",
            )
        )
        if choice.framework:
            layers.append(self._framework())
        if choice.rest:
            content = "".join(f"{requirement}\n" for requirement in choice.rest).encode()
            files.append((REQUIREMENTS_FILE, content))
            layers.extend(self._dependencies(content))
        layers.extend(self._environment())
        layers.append(
            Layer(
                kind=LayerKind.SETUP,
                text=f"WORKDIR {WORKDIR}",
                why="The folder in which the command starts.",
                title=f"Folder {WORKDIR}",
            )
        )
        if snapshot is not None and self.code.travel is Travel.BAKED:
            layers.append(
                Layer(
                    kind=LayerKind.CODE,
                    text=f"COPY code/ {WORKDIR}/",
                    why="Your code, last, so that an edit rebuilds nothing but this. It belongs to root: a run can add "
                    "files beside it, but not change it.",
                    key=snapshot.tree_hash,
                    title=f"Your code: {len(snapshot.files)} file{'s' if len(snapshot.files) != 1 else ''}",
                )
            )
        layers.append(
            Layer(
                kind=LayerKind.SETUP,
                text=f"USER {USER_ID}:{USER_ID}",
                why="The command does not run as root.",
            )
        )
        return _keyed(layers), tuple(files)

    @property
    def _clones(self) -> bool:
        return self.code.travel is Travel.CLONED

    @property
    def _installed(self) -> tuple[str, ...]:
        return (*self.choice.framework, *self.choice.rest)

    def _apt(self, packages: Sequence[str]) -> Layer:
        names = " ".join(packages)
        return Layer(
            kind=LayerKind.SYSTEM,
            text="RUN --mount=type=cache,id=mlstudio-apt,target=/var/cache/apt,sharing=locked \\\n"
            "    --mount=type=cache,id=mlstudio-apt-lists,target=/var/lib/apt/lists,sharing=locked \\\n"
            f"    missing= && for name in {names}; do \\\n"
            "        dpkg-query --show --showformat='${db:Status-Abbrev}' \"${name%%=*}\" 2>/dev/null \\\n"
            "            | grep -q '^ii' || missing=\"$missing $name\"; done && \\\n"
            '    if [ -n "$missing" ]; then rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update && \\\n'
            "        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing; fi",
            why=f"Debian packages that are not in the base yet: {', '.join(packages)}.",
            title=_listed("Debian packages", packages),
        )

    def _user(self) -> Layer:
        owner = f"{USER_ID}:{USER_ID}" if self._clones else "0:0"
        return Layer(
            kind=LayerKind.SYSTEM,
            text=f"RUN useradd --uid {USER_ID} --user-group --create-home --shell /bin/sh {USER} && \\\n"
            f"    mkdir -p {WORKDIR} && chown {owner} {WORKDIR} && chmod 1777 {WORKDIR} && \\\n"
            f"    python3 -m venv {VENV}",
            why=f"A user who is not root, the folder {WORKDIR}, and a virtual environment of its own for the packages.",
            title="User and virtual environment",
        )

    def _framework(self) -> Layer:
        words = " ".join(shlex.quote(requirement) for requirement in self.choice.framework)
        return Layer(
            kind=LayerKind.FRAMEWORK,
            text=self._pip_install(words),
            why="The framework, before the other packages, because it is the largest and changes least.",
            title=_listed("Framework", self.choice.framework),
        )

    def _dependencies(self, content: bytes) -> list[Layer]:
        # The framework's requirements once more: pip must not exchange it for another version.
        again = " ".join(shlex.quote(requirement) for requirement in self.choice.framework)
        target = f"/opt/mlstudio/{REQUIREMENTS_FILE}"
        return [
            Layer(
                kind=LayerKind.DEPENDENCIES,
                text=f"COPY {REQUIREMENTS_FILE} {target}",
                why="The list of the other packages that your code needs.",
                title="List of packages",
                key=hashlib.sha256(content).hexdigest(),
            ),
            Layer(
                kind=LayerKind.DEPENDENCIES,
                text=self._pip_install(f"--requirement {target}" + (f" {again}" if again else "")),
                why="Installs them, holding the framework at its version.",
                title=_listed("Packages", self.choice.rest),
            ),
        ]

    def _pip_install(self, words: str) -> str:
        mounts = ["--mount=type=cache,id=mlstudio-pip,target=/root/.cache/pip"]
        environment = ""
        settings = pip_mount_image(self.pip)
        if settings:
            mounts.append(f"--mount=type=bind,from={settings},target={PIP_TARGET}")
            environment = f"PIP_CONFIG_FILE={PIP_TARGET}/pip.conf "
            if self.pip.ca_bundle and any("git+" in requirement for requirement in self._installed):
                environment += f"GIT_SSL_CAINFO={PIP_TARGET}/ca.pem "
        wheels = wheels_mount_image(self.pip)
        if wheels:
            mounts.append(f"--mount=type=bind,from={wheels},target={WHEELS_TARGET}")
        index = f"--extra-index-url {self.index_url} " if self.index_url else ""
        lines = " \\\n    ".join(mounts)
        return f"RUN {lines} \\\n    {environment}pip install {index}{words}"

    def _environment(self) -> list[Layer]:
        variant = self.choice.variant
        pairs = {**dict(variant.env if variant is not None else ()), **dict(self.spec.env)}
        if not pairs:
            return []
        words = []
        for name, value in sorted(pairs.items()):
            if not _ENV_NAME.fullmatch(name):
                raise RequestError(
                    f"“{name[:80]}” is no name of an environment variable.",
                    field="image.env",
                    try_this="Letters, digits and underscores, not beginning with a digit.",
                )
            words.append(f"{name}={_env_value(value)}")
        return [
            Layer(
                kind=LayerKind.SETUP,
                text="ENV " + " \\\n    ".join(words),
                why="Environment variables for every run of this image.",
            )
        ]


def _listed(what: str, names: Sequence[str]) -> str:
    """ "Packages: numpy, pandas and 12 more"."""
    shown = [re.split(r"[<>=!~;@\s]", name, maxsplit=1)[0] if len(name) > 30 else name for name in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what}: {', '.join(shown)}{more}"


def _env_value(value: str) -> str:
    """A value in double quotes as Dockerfiles read it: backslash, quote and dollar are escaped."""
    if any(letter in value for letter in "\n\r\0"):
        raise RequestError(
            "A value that is baked into an image cannot hold a line break.",
            field="image.env",
            try_this="Give it to the run instead (env), or keep it in a file beside the code.",
        )
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def _held(requirement: str, wheels: Sequence[str], python: str) -> bool:
    """Whether one of the wheels satisfies the requirement on this Python."""
    package, tag = name_of(requirement), "cp" + python.replace(".", "")
    allowed = _specifier(requirement)
    for wheel in wheels:
        parts = wheel.removesuffix(".whl").split("-")
        if len(parts) < 5 or parts[0].lower().replace("_", "-") != package:
            continue
        if parts[-3] in (tag, "py3", "py2.py3") and allowed.contains(parts[1], prereleases=True):
            return True
    return False


def _keyed(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Each layer's key covers all that came before it: what changes one, changes every later one."""
    digest = hashlib.sha256()
    keyed = []
    for layer in layers:
        digest.update(f"{layer.text}\0{layer.key}\0".encode())
        keyed.append(replace(layer, key=digest.hexdigest()))
    return tuple(keyed)


def _finished(recipe: Recipe, name: str) -> Recipe:
    digest = hashlib.sha256(recipe.dockerfile.encode())
    for path, content in recipe.context_files:
        digest.update(f"\0{path}\0".encode() + content)
    digest.update(f"\0{recipe.code_key}".encode())
    clean = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].rstrip("-") or "project"
    return replace(
        recipe,
        digest=f"sha256:{digest.hexdigest()}",
        tag=f"mlstudio/{clean}:{digest.hexdigest()[:12]}",
    )


# -- the user's own Dockerfile ----------------------------------------------------------------------------------------


def _own(
    spec: ImageSpec, code: CodeSource, snapshot: CodeSnapshot | None, *, name: str, text: str | None
) -> Recipe:
    """The user's Dockerfile as it is; the code's folder is its context."""
    if text is None:
        text = _read_own(spec, code)
    if snapshot is None:
        raise RequestError(
            "Your own Dockerfile needs the folder that it stands in.",
            field="code.folder",
            try_this="Choose the folder of the code.",
        )
    layers = tuple(
        Layer(
            kind=LayerKind.BASE
            if word == "FROM"
            else LayerKind.CODE
            if word in ("COPY", "ADD")
            else LayerKind.SETUP,
            text=instruction,
            why="From your own Dockerfile.",
            key=snapshot.tree_hash if word in ("COPY", "ADD") else "",
        )
        for word, instruction in split_instructions(text)
    )
    if not any(layer.kind is LayerKind.BASE for layer in layers):
        raise RequestError(
            f"{spec.dockerfile} has no FROM line.",
            field="image.dockerfile",
            try_this="A Dockerfile begins with FROM and a base image, such as FROM python:3.11-slim-bookworm.",
        )
    base = base_reference(next(layer.text for layer in layers if layer.kind is LayerKind.BASE))
    return _finished(
        Recipe(
            dockerfile=text,
            layers=_keyed(layers),
            spec=spec,
            base=base,
            code_in_context=True,
            code_key=snapshot.tree_hash,
            # The image's own, unless the code is bound into it.
            workdir="" if code.travel is Travel.BAKED else WORKDIR,
        ),
        name,
    )


def _read_own(spec: ImageSpec, code: CodeSource) -> str:
    from pathlib import Path

    root = Path(code.folder).expanduser().resolve()
    path = (root / spec.dockerfile).resolve()
    if not path.is_relative_to(root):
        raise RequestError(f"{spec.dockerfile} lies outside the code.", field="image.dockerfile")
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"The Dockerfile {path} cannot be read.",
            field="image.dockerfile",
            why=str(getattr(error, "strerror", None) or "It is not UTF-8 text."),
            try_this="Name a Dockerfile in the folder of the code.",
        ) from error
