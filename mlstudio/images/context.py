"""The build context: what a build reads, and what it may see without keeping it."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from mlstudio.images.mounts import (
    Mount,
    ca_bundle,
    pip_configuration,
    pip_mount_image,
    proxy_arguments,
    wheels_mount,
)
from mlstudio.model.code import CodeSnapshot
from mlstudio.model.image import PipSettings, Recipe


@dataclass(frozen=True, kw_only=True)
class Context:
    """See `mlstudio.engines.engine.BuildContext`. Files that it made for itself go when it is collected."""

    root: Path | None
    files: tuple[str, ...]
    extra: tuple[tuple[str, bytes], ...]
    mounts: tuple[Mount, ...]
    build_args: tuple[tuple[str, str], ...]
    code_prefix: str = "code"
    """Folder of the code in the context; empty for the user's own Dockerfile, which expects it at the top."""


def make_context(
    recipe: Recipe, root: Path | None, snapshot: CodeSnapshot | None, pip: PipSettings
) -> Context:
    """What building `recipe` reads. Raises RequestError for settings that cannot be used."""
    carries = recipe.code_in_context and root is not None and snapshot is not None
    mounts: list[Mount] = []
    temporary: tempfile.TemporaryDirectory[str] | None = None
    settings = pip_mount_image(pip)
    if settings and settings in recipe.dockerfile:
        temporary = tempfile.TemporaryDirectory(prefix="mlstudio-pip-")
        folder = Path(temporary.name)
        (folder / "pip.conf").write_text(pip_configuration(pip), "utf-8")
        files = [("pip.conf", folder / "pip.conf")]
        if pip.ca_bundle:
            (folder / "ca.pem").write_bytes(ca_bundle(pip))
            files.append(("ca.pem", folder / "ca.pem"))
        mounts.append(Mount(image=settings, files=tuple(files)))
    wheels = wheels_mount(pip)
    if wheels is not None and wheels.image in recipe.dockerfile:
        mounts.append(wheels)
    context = Context(
        root=root if carries else None,
        files=snapshot.files if carries and snapshot is not None else (),
        extra=recipe.context_files,
        mounts=tuple(mounts),
        build_args=proxy_arguments(pip),
        code_prefix="" if recipe.spec.dockerfile else "code",
    )
    if temporary is not None:
        weakref.finalize(context, temporary.cleanup)
    return context
