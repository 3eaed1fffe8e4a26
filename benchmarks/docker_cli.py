"""Docker's own command line, the peer of what ML Studio does with the engine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT = {**os.environ, "DOCKER_BUILDKIT": "1"}
STAND_IN = "mlstudio-base/python:3.11-bookworm"
PUBLIC = "python:3.11-slim-bookworm"


def docker(*words: str | Path, program: str = "docker") -> str:
    """Run a docker command; its standard output. Raises CalledProcessError, with what it said in `stderr`."""
    return subprocess.run(
        [program, *words],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
    ).stdout.strip()


@functools.cache
def builder() -> str:
    """A docker program that builds with BuildKit: newer ones need the plug-in buildx and fail without it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(
            "FROM scratch\nLABEL mlstudio.benchmark=1\n", encoding="utf-8"
        )
        for program in dict.fromkeys(filter(None, [shutil.which("docker"), "/usr/bin/docker"])):
            try:
                docker("build", "-q", folder, program=program)
            except (subprocess.CalledProcessError, OSError):
                continue
            return program
    raise SystemExit("No docker command that builds with BuildKit was found (apt-get install docker.io).")


def base_image(candidates: Sequence[str] = (STAND_IN, PUBLIC)) -> str:
    """An image with Python that is on the engine."""
    for image in candidates:
        try:
            docker("image", "inspect", image)
        except subprocess.CalledProcessError:
            continue
        return image
    raise SystemExit("No base image is on the engine: docker/engine bases makes one.")
