"""The first guess about a folder is the one that a person would make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.images.catalogue import PLAIN, load_catalogue
from mlstudio.images.detect import Suggestion, find_scripts, pinned_version, suggest
from mlstudio.images.snapshot import take_snapshot
from mlstudio.model.code import CodeSource
from mlstudio.model.errors import RequestError
from mlstudio.model.image import DependencySource

GUARD = 'if __name__ == "__main__":\n    main()\n'


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def guess(root: Path, files: dict[str, str]) -> Suggestion:
    write(root, files)
    return suggest(root, take_snapshot(CodeSource(folder=str(root))))


def scripts(root: Path, files: dict[str, str]) -> list[str]:
    write(root, files)
    return list(find_scripts(root, tuple(sorted(files))))


# ── whole projects ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_torch_project(tmp_path: Path) -> None:
    found = guess(
        tmp_path,
        {
            "README.md": "# Digits",
            "requirements.txt": "torch>=2.1\ntorchvision\ntqdm\n",
            "train.py": f"import torch\nfrom models.net import Net\n{GUARD}",
            "evaluate.py": f"import torch\n{GUARD}",
            "models/__init__.py": "",
            "models/net.py": "import torch.nn as nn\n",
            "utils/data.py": "import torchvision\n",
            "tests/test_net.py": "import pytest\n",
            "data/digits.csv": "1,2\n",
        },
    )
    assert (found.framework, found.script, found.command) == ("pytorch", "train.py", ("python", "train.py"))
    assert found.variant == "cpu"
    assert found.dependencies.source is DependencySource.REQUIREMENTS
    assert found.scripts[:2] == ("train.py", "evaluate.py")
    assert not {"models/__init__.py", "tests/test_net.py"} & set(found.scripts)


def test_a_keras_project_without_a_list(tmp_path: Path) -> None:
    found = guess(
        tmp_path,
        {
            "mnist.py": "import keras\nfrom keras import layers\nimport numpy as np\nmodel = keras.Sequential()\n"
        },
    )
    assert (found.framework, found.script) == ("keras", "mnist.py")
    assert found.dependencies.requirements == ("keras", "numpy")
    assert found.dependencies.source is DependencySource.IMPORTS


def test_a_project_with_scikit_learn_only(tmp_path: Path) -> None:
    found = guess(
        tmp_path,
        {"fit_model.py": "import pandas as pd\nfrom sklearn.svm import SVC\nSVC().fit([[0]], [0])\n"},
    )
    assert (found.framework, found.script) == ("scikit-learn", "fit_model.py")
    assert set(found.dependencies.requirements) == {"pandas", "scikit-learn"}


def test_plain_python(tmp_path: Path) -> None:
    found = guess(tmp_path, {"hello.py": "import json, sys\nprint(sys.argv)\n"})
    assert (found.framework, found.command) == (PLAIN, ("python", "hello.py"))
    assert found.dependencies.source is DependencySource.NONE
    assert found.dependencies.requirements == ()


def test_a_poetry_project_with_its_code_below_src(tmp_path: Path) -> None:
    found = guess(
        tmp_path,
        {
            "pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\njax = "^0.4"\nflax = "*"\n',
            "src/thing/__init__.py": "",
            "src/thing/layers.py": "import flax\n",
            "src/thing/train.py": f"import jax\n{GUARD}",
        },
    )
    assert (found.framework, found.script) == ("jax", "src/thing/train.py")
    assert found.dependencies.python == ">=3.11,<4"


def test_a_conda_project(tmp_path: Path) -> None:
    found = guess(
        tmp_path,
        {"environment.yml": "dependencies: [python=3.11, pytorch, lightning]\n", "main.py": "print()\n"},
    )
    assert (found.framework, found.script) == ("pytorch", "main.py")


def test_a_package_with_a_main_module_is_started_as_one(tmp_path: Path) -> None:
    found = guess(
        tmp_path,
        {
            "thing/__init__.py": "",
            "thing/__main__.py": "from thing.work import run\nrun()\n",
            "thing/work.py": "import torch\ndef run(): ...\n",
            "setup.py": "from setuptools import setup\nsetup()\n",
        },
    )
    assert found.script == "thing/__main__.py"
    # As a file it could import nothing of its own package.
    assert found.command == ("python", "-m", "thing")


def test_a_main_module_at_the_top_or_deeper(tmp_path: Path) -> None:
    assert guess(tmp_path / "top", {"__main__.py": "print()\n"}).command == ("python", "__main__.py")
    deep = guess(
        tmp_path / "deep", {"a/__init__.py": "", "a/b/__init__.py": "", "a/b/__main__.py": "print()\n"}
    )
    assert deep.command == ("python", "-m", "a.b")
    odd = guess(tmp_path / "odd", {"my-folder/__main__.py": "print()\n"})
    assert odd.command == ("python", "my-folder/__main__.py")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"README.md": "x"},
        {"tests/test_a.py": "x"},
        {"setup.py": "x"},
        {"pkg/__init__.py": ""},
        {"Train.PY": "x"},
    ],
    ids=["empty", "no code", "tests only", "setup only", "empty package", "capitals"],
)
def test_a_folder_without_a_script_is_refused_with_what_to_do(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(RequestError) as raised:
        guess(tmp_path, files)
    assert raised.value.field == "code.folder"
    assert str(tmp_path) in str(raised.value)
    assert "training script" in raised.value.try_this


def test_notebooks_alone_are_refused_with_how_to_make_scripts_of_them(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as raised:
        guess(tmp_path, {"Untitled.ipynb": "{}", "work/two.ipynb": "{}"})
    assert raised.value.field == "code.folder"
    assert "notebook" in raised.value.why
    assert "jupyter nbconvert --to script Untitled.ipynb" in raised.value.try_this


def test_a_script_beside_notebooks_is_taken(tmp_path: Path) -> None:
    assert guess(tmp_path, {"Untitled.ipynb": "{}", "x.py": "print()\n"}).script == "x.py"


# ── which framework ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("packages", "framework"),
    [
        ("torch", "pytorch"),
        ("Torch_Geometric", "pytorch"),
        ("lightning", "pytorch"),
        ("transformers torch", "transformers"),
        ("datasets accelerate", "transformers"),
        ("transformers tensorflow", "tensorflow"),
        ("transformers jax flax", "jax"),
        ("tensorflow", "tensorflow"),
        ("tensorflow-cpu", "tensorflow"),
        ("keras", "keras"),
        ("keras tensorflow", "keras"),
        ("keras torch", "pytorch"),
        ("keras jax", "jax"),
        ("keras tensorflow torch", "keras"),
        ("flax", "jax"),
        ("xgboost scikit-learn", "xgboost"),
        ("lightgbm xgboost", "lightgbm"),
        ("scikit-learn pandas", "scikit-learn"),
        ("torch scikit-learn", "pytorch"),
        ("pandas requests", PLAIN),
        ("", PLAIN),
    ],
)
def test_the_framework_is_the_most_particular_one_that_is_needed(
    tmp_path: Path, packages: str, framework: str
) -> None:
    lines = "".join(f"{package}\n" for package in packages.split())
    assert guess(tmp_path, {"requirements.txt": lines, "train.py": "print()\n"}).framework == framework


@pytest.mark.parametrize(
    "framework", [entry.name for entry in load_catalogue().frameworks if entry.name != PLAIN]
)
def test_every_framework_of_the_catalogue_can_be_guessed(tmp_path: Path, framework: str) -> None:
    for package in load_catalogue().get(framework).packages:
        found = guess(
            tmp_path, {"requirements.txt": f"{package}==1.0 ; python_version > '3'\n", "a.py": "print()\n"}
        )
        assert found.framework == framework


def test_an_import_that_a_script_can_do_without_makes_no_framework(tmp_path: Path) -> None:
    text = "try:\n    import torch\nexcept ImportError:\n    torch = None\nimport sklearn\nprint()\n"
    assert guess(tmp_path, {"train.py": text}).framework == "scikit-learn"


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("torch==2.5.1", "2.5.1"),
        ("torch[x] == 2.5.1 ; sys_platform == 'linux'", "2.5.1"),
        ("torch==2.5.1+cu124", "2.5.1+cu124"),
        ("torch==2.5.*", ""),
        ("torch>=2.5", ""),
        ("torch==2.5,!=2.6", ""),
        ("torch===2.5.1", ""),
        ("torch", ""),
        ("torch @ https://example.org/torch.whl", ""),
        ("no requirement", ""),
        ("", ""),
    ],
)
def test_a_version_is_pinned_only_by_two_equals_signs(requirement: str, version: str) -> None:
    assert pinned_version(requirement) == version


# ── which script ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ("train.py main.py run.py", "train.py"),
        ("main.py run.py aaa.py", "main.py"),
        ("evaluate.py predict.py my_training_loop.py", "my_training_loop.py"),
        ("TRAIN.py aaa.py", "TRAIN.py"),
        ("sub/train.py aaa.py", "sub/train.py"),
        ("sub/train.py main.py", "main.py"),
        ("deep/er/and/deeper/train.py aaa.py", "aaa.py"),
        ("b.py a.py", "a.py"),
        ("tests/train.py docs/main.py other.py", "other.py"),
        ("conftest.py test_train.py noxfile.py x.py", "x.py"),
        ("testing.py", "testing.py"),
    ],
)
def test_the_name_and_the_depth_decide_between_scripts(tmp_path: Path, names: str, first: str) -> None:
    assert scripts(tmp_path, dict.fromkeys(names.split(), "print()\n"))[0] == first


@pytest.mark.parametrize(
    "doing",
    [
        GUARD,
        "if '__main__' == __name__: pass",
        "train()",
        "for _ in (): pass",
        "while False: pass",
        "with a: pass",
    ],
)
def test_of_two_equal_ones_the_one_that_does_something_comes_first(tmp_path: Path, doing: str) -> None:
    found = scripts(tmp_path, {"aaa.py": "import os\nx = 1\ndef f(): print()\n", "bbb.py": doing})
    assert found == ["bbb.py", "aaa.py"]


def test_files_that_cannot_be_read_or_parsed_come_behind_and_harm_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"d.py": "print()\n", "a.py": "print 'python 2'\n", "c.py": "-" * 100_000})
    (tmp_path / "b.py").write_bytes(b"\0\xff")
    with (tmp_path / "e.py").open("wb") as file:
        file.truncate(3_000_000)
    found = find_scripts(tmp_path, ("a.py", "b.py", "c.py", "d.py", "e.py", "gone.py"))
    assert found == ("d.py", "a.py", "b.py", "c.py", "e.py", "gone.py")


@pytest.mark.timeout(20)
def test_a_script_that_becomes_a_pipe_meanwhile_does_not_hold_it_up(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": "print()\n"})
    os.mkfifo(tmp_path / "a.py")
    assert find_scripts(tmp_path, ("a.py", "train.py")) == ("train.py", "a.py")
    found = suggest(
        tmp_path,
        take_snapshot(CodeSource(folder=str(write(tmp_path / "other", {"train.py": "", "a.py": ""})))),
    )
    assert found.script == "train.py"


def test_a_hundred_equal_scripts_are_all_offered(tmp_path: Path) -> None:
    names = [f"s{number:03}.py" for number in range(100)]
    assert scripts(tmp_path, dict.fromkeys(names, "print()\n")) == names


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200), listed=st.text(max_size=100))
def test_any_text_of_script_and_list_gives_a_guess(tmp_path: Path, text: str, listed: str) -> None:
    found = guess(tmp_path, {"train.py": text, "requirements.txt": listed})
    assert found.command == ("python", "train.py")
    assert found.framework in {entry.name for entry in load_catalogue().frameworks}
