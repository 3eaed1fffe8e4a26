"""What the repository promises about itself: versions, dependencies, links, pictures and the launcher's words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "resources").glob("examples/*/*.md")]
)

_EXTRAS = ("parquet", "notebook")


def _project() -> dict[str, object]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(project, dict)
    return project


def _imported_packages() -> set[str]:
    """Top-level names that the package imports anywhere, whether at the top of a module or inside a function."""
    found: set[str] = set()
    for path in (ROOT / "mlstudio").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"mlstudio"}


def test_every_dependency_is_imported_and_every_import_is_declared() -> None:
    dependencies = _project()["dependencies"]
    assert isinstance(dependencies, list)
    declared = {canonicalize_name(Requirement(line).name) for line in dependencies}
    by_module = packages_distributions()
    imported = {
        canonicalize_name(name)
        for module in _imported_packages()
        for name in by_module.get(module, [module])[:1]
    }
    # What only some need is imported where it is needed, with a sentence on how to install it.
    extras = _project()["optional-dependencies"]
    assert isinstance(extras, dict)
    optional = {canonicalize_name(Requirement(line).name) for name in _EXTRAS for line in extras[name]}
    assert optional <= imported
    imported -= optional
    # shiboken6 comes with PySide6 and belongs to it; of qtawesome only the icon font is read.
    assert imported - {"shiboken6"} == declared - {"qtawesome"}


def test_the_picture_of_the_imports_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/draw_imports.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    lost = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not lost


def test_the_version_is_told_once_more_only_in_the_changelog() -> None:
    version = _project()["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_every_command_in_the_readme_exists() -> None:
    from mlstudio.cli.main import cli

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\./studio ([a-z]+)", readme, re.MULTILINE)) - {"check", "test"}
    listed = re.search(r"each command with `--json`: `([a-z\s]+)`", readme)
    assert listed
    named |= set(listed[1].split())
    import click

    with click.Context(cli) as context:
        assert named <= set(cli.list_commands(context))
