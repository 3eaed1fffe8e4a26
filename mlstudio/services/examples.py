"""Examples: small projects that train for real, and copying one to work on."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from mlstudio.model.errors import NotFound, RequestError, WorldError
from mlstudio.services.locations import resource

_ABOUT = "example.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example project as its `example.toml` describes it."""

    name: str
    title: str
    sentence: str
    path: Path
    seconds: float
    """How long it trains on two processor cores."""
    mb: float
    """What its packages take on the disk, in megabytes."""
    framework: str = "python"
    command: tuple[str, ...] = ("python", "train.py")


class Examples:
    """The example projects under ``resources/examples``."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def list(self) -> tuple[Example, ...]:
        """All of them, the quickest to build first."""
        folder = self._folder or resource("examples")
        found = [_read(path.parent) for path in sorted(folder.glob(f"*/{_ABOUT}"))]
        return tuple(sorted(found, key=lambda example: (example.mb, example.name)))

    def get(self, name: str) -> Example:
        """The example of that name. Raises NotFound."""
        for example in self.list():
            if example.name == name:
                return example
        raise NotFound(
            f"There is no example “{name}”.",
            field="example",
            try_this="There are: " + ", ".join(example.name for example in self.list()) + ".",
        )

    def copy(self, name: str, into: Path) -> Path:
        """Copy an example into the folder `into/name` and return that. Never overwrites."""
        example = self.get(name)
        target = into.expanduser() / name
        if target.exists():
            raise RequestError(
                f"{target} exists already.", field="into", try_this="Choose another folder, or use that one."
            )
        try:
            shutil.copytree(
                example.path, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".mypy_cache")
            )
        except OSError as error:
            raise WorldError(
                f"The example could not be copied to {target}.",
                why=error.strerror or str(error),
                try_this="Choose a folder that you may write to.",
            ) from error
        return target


def _read(folder: Path) -> Example:
    about = tomllib.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    return Example(
        name=folder.name,
        title=str(about.get("title", folder.name)),
        sentence=str(about.get("sentence", "")),
        path=folder,
        seconds=float(about.get("seconds", 0)),
        mb=float(about.get("mb", 0)),
        framework=str(about.get("framework", "python")),
        command=tuple(str(word) for word in about.get("command", ("python", "train.py"))),
    )
