"""The wheel holds what runs need, and nothing else; it works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def _tracked(folder: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return set(listed.split("\n")) - {""}


def test_it_holds_every_module_and_every_resource(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"mlstudio/{path}" for path in _tracked("resources")} <= names
    assert _tracked("mlstudio") <= names
    assert "mlstudio/py.typed" in names


def test_it_holds_nothing_but_the_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top.partition("-")[0] for top in tops} == {"mlstudio"}
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "__pycache__" in name]


def test_it_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The unpacked wheel stands before the checkout in the path, and finds its own examples and catalogue."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mlstudio", "examples", "list", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "MLSTUDIO_HOME": str(tmp_path / "home")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert str(tmp_path / "site" / "mlstudio" / "resources" / "examples" / "digits-cnn") in done.stdout
