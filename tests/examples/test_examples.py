"""The examples as projects: what their manifests promise, and that the scripts stand on their own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

FOLDER = Path(__file__).parents[2] / "resources" / "examples"
EXAMPLES = sorted(path.parent for path in FOLDER.glob("*/example.toml"))
BY_NAME = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


def test_there_are_three() -> None:
    assert [example.name for example in EXAMPLES] == ["char-lm", "digits-cnn", "gbm-tabular"]


@BY_NAME
def test_the_manifest_is_complete(example: Path) -> None:
    about = tomllib.loads((example / "example.toml").read_text(encoding="utf-8"))
    assert about["name"] == example.name
    assert about["title"]
    assert about["sentence"].endswith(".")
    assert about["framework"] in {"pytorch", "lightgbm"}
    assert about["command"] == ["python", "train.py"]
    assert 0 < about["seconds"] < 60
    assert about["mb"] > 0
    assert (example / "README.md").read_text(encoding="utf-8").startswith("# ")


@BY_NAME
def test_every_import_is_required(example: Path) -> None:
    lines = (example / "requirements.txt").read_text(encoding="utf-8").split("\n")
    required = {Requirement(line).name.replace("scikit-learn", "sklearn") for line in lines if line}
    tree = ast.parse((example / "train.py").read_text(encoding="utf-8"))
    imported = {
        (node.names[0].name if isinstance(node, ast.Import) else str(node.module)).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    third_party = imported - set(sys.stdlib_module_names) - {"mlstudio"}
    # NumPy comes with scikit-learn, and is what keeps PyTorch from warning that it is absent.
    assert third_party - {"numpy"} == required - {"numpy"}


def test_one_example_knows_nothing_of_ml_studio_and_only_prints() -> None:
    script = (FOLDER / "char-lm" / "train.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from) mlstudio", script, re.MULTILINE)


@BY_NAME
def test_numbers_are_parameters(example: Path) -> None:
    """Each script's parameters have types and defaults, so that a form can be made of them."""
    tree = ast.parse((example / "train.py").read_text(encoding="utf-8"))
    arguments = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
    ]
    assert len(arguments) >= 5
    for call in arguments:
        assert {"type", "default"} <= {keyword.arg for keyword in call.keywords}


@BY_NAME
def test_the_script_says_what_it_needs_when_it_stands_alone(example: Path, tmp_path: Path) -> None:
    """Without its packages it ends with Python's own words about the missing module, not with one about mlstudio."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(example / "train.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
    assert "mlstudio" not in done.stderr.splitlines()[-1]
