"""A build on an engine whose disk is full: a real engine on a disk of a few megabytes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mlstudio.engines.build_failure import StepFailed
from mlstudio.engines.docker import DockerEngine
from mlstudio.engines.engine import BuildContext
from mlstudio.images.diagnosis import diagnose
from mlstudio.model.errors import BuildFailed, StudioError
from mlstudio.model.image import ImageSpec, Recipe
from tests.engines.conftest import engine_at
from tests.engines.second_engine import SecondEngine

DISK_MB = 48
IMAGE = "mlstudio-test/fill:1"
FILL = r"""
#include <stdio.h>
int main(int count, char **words) {
    static char block[1 << 20];
    FILE *file = fopen("/big", "wb");
    for (int place = 0; count > 1 && place < 1 << 20; place++)
        if (fwrite(block, sizeof block, 1, file) != 1 || fflush(file)) { perror("fill: /big"); return 1; }
    return 0;
}
"""


@pytest.fixture
def small_disk() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.fail("A disk of the tests' own needs root: run them with sudo.", pytrace=False)
    # Its sockets' paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="mls-", dir="/var/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


@pytest.fixture
def engine(small_disk: Path, tmp_path: Path) -> Iterator[DockerEngine]:
    """An engine on the small disk, with an image of one program that writes as much as it may."""
    own = SecondEngine(small_disk, bridge="10.213.7.1/24")
    own.start()
    try:
        (tmp_path / "fill.c").write_text(FILL)
        subprocess.run(["cc", "-static", "-o", tmp_path / "fill", tmp_path / "fill.c"], check=True)
        archive = subprocess.run(["tar", "-C", tmp_path, "-c", "fill"], check=True, capture_output=True)
        done = own.docker("import", "-", IMAGE, data=archive.stdout)
        assert done.returncode == 0, done.stderr
        made = engine_at(own.url, tmp_path)
        yield made
        made.close()
    finally:
        own.clean()


def _recipe(run: str) -> Recipe:
    text = f"FROM {IMAGE}\nENV SALT={uuid.uuid4().hex}\n{run}\n"
    return Recipe(
        dockerfile=text, layers=(), spec=ImageSpec(), base=IMAGE, tag="mlstudio/full:1", digest="sha256:full"
    )


def _context(**words: object) -> BuildContext:
    given = {"root": None, "files": (), "extra": (), "mounts": (), "build_args": (), **words}
    return cast("BuildContext", SimpleNamespace(**given))


@pytest.mark.engine
def test_a_step_fills_the_disk_and_the_next_build_works(engine: DockerEngine, tmp_path: Path) -> None:
    recipe = _recipe('RUN ["/fill", "all"]')
    with pytest.raises(StepFailed) as caught:
        list(engine.build(recipe, _context()))
    found = diagnose(caught.value.step, caught.value.log, caught.value.exit_text, recipe.dockerfile)
    assert found.rule == "disk-full"
    assert "disk" in found.title.lower()
    assert found.try_this

    list(engine.build(_recipe('RUN ["/fill"]'), _context()))
    assert engine.image("mlstudio/full:1") is not None


@pytest.mark.engine
def test_the_code_does_not_fit_on_the_disk(engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "weights.bin").write_bytes(os.urandom(1 << 20) * (DISK_MB + 16))
    recipe = _recipe("COPY code/ /code/")
    with pytest.raises(StudioError) as caught:
        list(engine.build(recipe, _context(root=tmp_path / "code", files=("weights.bin",))))
    error = caught.value
    words = f"{error} {error.details}"
    if isinstance(error, BuildFailed):
        step = error.step if isinstance(error, StepFailed) else ""
        found = diagnose(step, error.details, words, recipe.dockerfile)
        assert found.rule == "disk-full"
    assert "space" in words.lower() or "full" in words.lower()
