"""What a folder of code suggests: which framework, which script, which command."""

from __future__ import annotations

import ast
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from mlstudio.images.catalogue import PLAIN, Catalogue, load_catalogue
from mlstudio.images.dependencies import find_dependencies
from mlstudio.images.requirements import name_of
from mlstudio.model.code import CodeSnapshot
from mlstudio.model.errors import RequestError
from mlstudio.model.image import Dependencies

_NAMES = ("train", "main", "run", "fit", "training", "app", "pretrain", "finetune", "experiment")
_FRAMEWORK_ORDER = (
    "transformers",
    "keras",
    "tensorflow",
    "pytorch",
    "jax",
    "lightgbm",
    "xgboost",
    "scikit-learn",
)
"""The more particular first: what uses Transformers also needs PyTorch, what uses XGBoost often scikit-learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A first guess that the user may change. Empty strings mean "the default"."""

    framework: str
    version: str = ""
    variant: str = "cpu"
    python: str = ""
    dependencies: Dependencies
    script: str
    """The script that probably trains, relative to the root."""
    scripts: tuple[str, ...] = ()
    """Every script that could be meant, the likeliest first."""
    command: tuple[str, ...]


def suggest(root: Path, snapshot: CodeSnapshot, *, catalogue: Catalogue | None = None) -> Suggestion:
    """Read the code without running it. Raises RequestError(field="code.folder") if it holds no Python file."""
    scripts = find_scripts(root, snapshot.files)
    if not scripts:
        notebook = next((file for file in snapshot.files if file.endswith(".ipynb")), "")
        raise RequestError(
            f"There is no Python file in {root}.",
            field="code.folder",
            why="There are notebooks, which run in Jupyter only." if notebook else "",
            try_this=f"Make a training script of it: jupyter nbconvert --to script {shlex.quote(notebook)}"
            if notebook
            else "Choose the folder that holds your training script, or use your own Dockerfile or image.",
        )
    script = scripts[0]
    found = find_dependencies(root, files=snapshot.files, script=script)
    catalogue = catalogue if catalogue is not None else load_catalogue()
    framework, version = _framework(catalogue, found)
    return Suggestion(
        framework=framework,
        version=version,
        dependencies=found,
        script=script,
        scripts=scripts,
        command=_command(script),
    )


def _command(script: str) -> tuple[str, ...]:
    """A package's main module is started as such: as a file it could not import what lies beside it."""
    folder, _, name = script.rpartition("/")
    parts = folder.split("/")
    if name == "__main__.py" and all(part.isidentifier() for part in parts):
        return ("python", "-m", ".".join(parts))
    return ("python", script)


def find_scripts(root: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    """Python files that can be run, the one that probably trains first."""
    candidates = [file for file in files if file.endswith(".py") and not _is_apart(file)]
    return tuple(sorted(candidates, key=lambda file: _rank(root, file)))


def _is_apart(file: str) -> bool:
    parts = file.split("/")
    name = parts[-1]
    return (
        name in ("__init__.py", "setup.py", "conftest.py", "noxfile.py")
        or name.startswith("test_")
        or any(part in ("tests", "test", "docs", "doc") for part in parts[:-1])
    )


def _rank(root: Path, file: str) -> tuple[int, int, int, str]:
    stem = file.rpartition("/")[2].removesuffix(".py").lower()
    name = next((index for index, known in enumerate(_NAMES) if stem == known), len(_NAMES))
    if name == len(_NAMES) and any(known in stem for known in ("train", "fit", "main")):
        name -= 1
    depth = file.count("/")
    return (name + 3 * depth, depth, 0 if _is_script(root / file) else 1, file)


def _is_script(path: Path) -> bool:
    """Whether a file does something when run: it has a main guard or calls something at its top."""
    try:
        if not path.is_file() or path.stat().st_size > 1024 * 1024:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in tree.body:
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            return True
        if isinstance(node, (ast.For, ast.While, ast.With)):
            return True
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return True
    return False


def _framework(catalogue: Catalogue, found: Dependencies) -> tuple[str, str]:
    """The framework that the dependencies mean, and the version that they pin, if the catalogue has it."""
    names = {name_of(requirement): requirement for requirement in found.requirements}
    for wanted in _FRAMEWORK_ORDER:
        framework = next((entry for entry in catalogue.frameworks if entry.name == wanted), None)
        if framework is None or not any(name in framework.packages for name in names):
            continue
        if wanted == "keras" and "tensorflow" not in names and ({"torch", "jax"} & set(names)):
            continue  # Keras on another back end
        if wanted == "transformers" and ({"tensorflow", "jax"} & set(names)) and "torch" not in names:
            continue
        return wanted, ""
    return PLAIN, ""


def pinned_version(requirement: str) -> str:
    """The version that a requirement pins with ``==``; empty otherwise."""
    try:
        specifiers = list(Requirement(requirement).specifier)
    except InvalidRequirement:
        return ""
    if len(specifiers) == 1 and specifiers[0].operator == "==" and "*" not in specifiers[0].version:
        return specifiers[0].version
    return ""
