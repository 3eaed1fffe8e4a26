"""Images: what an image is asked to hold, the Dockerfile that makes it, and what a build says while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum


class DependencySource(StrEnum):
    """Where the list of Python packages was found, best first."""

    UV_LOCK = "uv.lock"
    POETRY_LOCK = "poetry.lock"
    REQUIREMENTS = "requirements.txt"
    PYPROJECT = "pyproject.toml"
    CONDA = "environment.yml"
    IMPORTS = "imports"
    """Read from the scripts' import statements."""
    USER = "user"
    """Typed by the user."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem in a file or a field: what is wrong, on which line (1-based, 0 if none), and what to try."""

    message: str
    file: str = ""
    line: int = 0
    try_this: str = ""
    is_error: bool = True
    """False: worth knowing, does not stop a build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Python packages as PEP 508 requirement lines, and where they came from."""

    requirements: tuple[str, ...] = ()
    source: DependencySource = DependencySource.NONE
    file: str = ""
    """The file they came from, relative to the code's root; empty for imports and the user's own."""
    python: str = ""
    """A version specifier such as ``>=3.11`` if the project states one."""
    system_packages: tuple[str, ...] = ()
    """Debian packages that the dependencies are known to need."""
    locked: bool = False
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way a framework version is built: for the CPU or for one CUDA release."""

    name: str
    """``cpu`` or ``cu126``."""
    title: str
    """``CPU``, ``CUDA 12.6``."""
    cuda: str = ""
    """CUDA release such as ``12.6``; empty for CPU."""
    min_driver: str = ""
    """Oldest NVIDIA driver (Linux) that runs it, from NVIDIA's CUDA release notes."""
    requirements: tuple[str, ...] = ()
    """Requirement lines that install the framework, e.g. ``torch==2.13.0``."""
    index_url: str = ""
    """An extra package index that holds this variant; empty for the default one."""
    env: tuple[tuple[str, str], ...] = ()
    shm_bytes: int = 0
    """Shared memory that this framework's data loaders usually need; 0 for the engine's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkVersion:
    """A release of a framework in the catalogue."""

    version: str
    pythons: tuple[str, ...]
    """Python versions it supports, such as ``3.11``, preferred first."""
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """An entry of the catalogue."""

    name: str
    """Identifier such as ``pytorch``."""
    title: str
    summary: str
    versions: tuple[FrameworkVersion, ...]
    """Newest first; empty for plain Python."""
    packages: tuple[str, ...] = ()
    """Normalised names of packages whose presence in the dependencies means this framework."""
    smoke_import: str = ""
    """Statement that must run in a finished image, such as ``import torch``."""
    system_packages: tuple[str, ...] = ()
    extra_requirements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """What an image shall hold. The same spec (with the same code and settings) gives the same Dockerfile, byte for byte.

    One of three ways: a `framework` of the catalogue, the user's own `dockerfile`, or an existing `image`.
    """

    framework: str = "python"
    version: str = ""
    """Framework version; empty means the newest in the catalogue that the wheelhouse or index is known to hold."""
    variant: str = "cpu"
    python: str = ""
    """``3.11``; empty means the framework's preferred one."""
    requirements: tuple[str, ...] | None = None
    """The user's own list; None means "find them in the code"."""
    system_packages: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables baked into the image. Never secrets."""
    dockerfile: str = ""
    """Path of the user's own Dockerfile relative to the code's root; then nothing else here is used."""
    image: str = ""
    """An existing image reference; then nothing is built."""


def _without_user(url: str) -> str:
    """A URL without user name and password."""
    begin, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    return f"{begin}{slashes}[redacted]@{rest.rpartition('@')[2]}" if "@" in rest else url


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PipSettings:
    """How pip reaches packages from inside a build. Reaches builds as mounts and arguments; never stays in a layer."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    wheelhouse: str = ""
    """Folder of wheels on this machine, as with ``--find-links``."""
    ca_bundle: str = ""
    """PEM file on this machine."""
    proxy: str = ""
    no_proxy: str = ""
    trusted_hosts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the passwords that URLs may hold: this text ends in logs and tracebacks."""
        said = []
        for entry in fields(self):
            value: str | tuple[str, ...] = getattr(self, entry.name)
            if value:
                shown = _without_user(value) if isinstance(value, str) else tuple(map(_without_user, value))
                said.append(f"{entry.name}={shown!r}")
        return f"PipSettings({', '.join(said)})"


class LayerKind(StrEnum):
    """What a layer is for, in the order in which layers stand."""

    BASE = "base"
    SYSTEM = "system"
    FRAMEWORK = "framework"
    DEPENDENCIES = "dependencies"
    SETUP = "setup"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One instruction of a Dockerfile with the reason for it."""

    kind: LayerKind
    text: str
    """The instruction as it stands in the Dockerfile, without the trailing newline; may span lines."""
    why: str
    """One sentence that explains the line to a newcomer."""
    key: str = ""
    """Content key: everything that decides whether this layer must be built again, itself and all before it."""
    title: str = ""
    """What the line brings, in a few words: "PyTorch 2.13.0, CPU"; empty for lines that bring nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A Dockerfile and everything needed to build it. Made by `mlstudio.images.recipe.write_recipe`; pure data."""

    dockerfile: str
    layers: tuple[Layer, ...]
    spec: ImageSpec
    base: str
    """Base image reference as written in FROM."""
    base_replaces: str = ""
    """The catalogue's base if the base-image map replaced it."""
    context_files: tuple[tuple[str, bytes], ...] = ()
    """Files that we write into the build context beside the code: (POSIX path, content)."""
    code_in_context: bool = False
    """True if the code's files travel in the build context (baked)."""
    code_key: str = ""
    tag: str = ""
    """``mlstudio/<name>:<first 12 of digest>``."""
    digest: str = ""
    """``sha256:`` over Dockerfile, context files and the code's tree hash: same digest, same image."""
    workdir: str = "/work"
    smoke_import: str = ""
    dependencies: Dependencies = field(default_factory=Dependencies)
    requirements: tuple[str, ...] = ()
    """Every requirement line that the image installs: the framework's and the dependencies'."""
    index_url: str = ""
    """The variant's extra index if it is used."""
    python: str = ""
    """Python release of the image, such as ``3.11``; empty for own Dockerfiles."""
    labels: tuple[tuple[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()


class Cached(StrEnum):
    """Whether a layer will be built, as far as can be known before building."""

    YES = "cached"
    NO = "rebuild"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerForecast:
    """What building will do with one layer. `seconds` is how long it took the last time, None if never built."""

    layer: Layer
    cached: Cached
    because: str = ""
    """Why it is rebuilt: "code changed", "requirements changed", "first build"."""
    seconds: float | None = None


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CACHED = "cached"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """One step of a running build, as it is now. Steps are told apart by `id`; the newest state replaces the older."""

    id: str
    name: str
    state: StepState
    started: float | None = None
    """Seconds since the epoch."""
    ended: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    error: str = ""
    title: str = ""
    """The step in a few words for a person, where it is known; `name` is the builder's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutput:
    """Text that a build step printed."""

    step_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFinished:
    """The build's last event. `image_id` is ``sha256:…`` of the image's configuration."""

    image_id: str
    size_bytes: int = 0


BuildEvent = BuildStep | BuildOutput | BuildFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why a build failed, as well as rules can tell."""

    rule: str
    """Stable name of the rule, such as ``no-such-package``; ``unknown`` where none matched."""
    title: str
    """"No package named “torhc” was found."""
    why: str
    try_this: str
    step: str = ""
    """Name of the failing step."""
    dockerfile_line: int = 0
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package, from inside a finished image or a run."""

    name: str
    version: str
    manager: str = "pip"
    """``pip`` or ``apt``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image that ML Studio built or used, as kept in the history."""

    id: str
    """``sha256:…`` image ID."""
    tag: str
    recipe_digest: str = ""
    dockerfile: str = ""
    spec_json: str = ""
    base: str = ""
    created: float = 0.0
    size_bytes: int = 0
    build_seconds: float = 0.0
    cached_steps: int = 0
    steps: int = 0
    packages: tuple[Package, ...] = ()
    repo_digest: str = ""
    """``name@sha256:…`` if a registry gave one."""
    runs: int = 0
    """How many runs used it."""
