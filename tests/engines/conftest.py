"""Fixtures of the engines' tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstudio.engines.docker import DockerEngine
from mlstudio.engines.docker_host import Endpoint
from tests.conformance.worlds import STAND_IN, World, docker_world
from tests.engines.second_engine import SecondEngine


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[World]:
    """This machine's engine and an image for it."""
    world = docker_world(tmp_path)
    yield world
    world.clean()


@pytest.fixture(scope="session")
def second_engine_home() -> Iterator[SecondEngine]:
    if os.geteuid() != 0:
        pytest.fail("A Docker engine of the tests' own needs root: run them with sudo.", pytrace=False)
    # Its sockets' paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="mls-", dir="/var/tmp"))
    engine = SecondEngine(folder)
    engine.start()
    with tempfile.TemporaryFile() as image:
        subprocess.run(["docker", "save", STAND_IN], check=True, stdout=image)
        image.seek(0)
        subprocess.run(
            ["docker", "-H", engine.url, "load", "-q"], check=True, stdin=image, stdout=subprocess.DEVNULL
        )
    engine.stop()
    yield engine
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def second_engine(second_engine_home: SecondEngine) -> Iterator[SecondEngine]:
    """An engine that may be killed, with the stand-in image and without a network."""
    second_engine_home.start()
    yield second_engine_home
    found = second_engine_home.docker("ps", "-aq")
    if found.returncode:
        second_engine_home.start()
        found = second_engine_home.docker("ps", "-aq")
    for handle in found.stdout.decode().split():
        second_engine_home.docker("rm", "-f", handle)
    second_engine_home.stop()


@pytest.fixture
def killable(second_engine: SecondEngine, tmp_path: Path) -> Iterator[World]:
    """A world on the engine that may be killed."""
    world = docker_world(tmp_path, second_engine.url)
    yield world
    world.engine.close()


def engine_at(url: str, folder: Path) -> DockerEngine:
    """An engine at an address, whoever is there."""
    return DockerEngine(locks=folder / "locks", find=lambda: Endpoint(url, "the test"))
