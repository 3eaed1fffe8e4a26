"""Packages that scripts import, read from the syntax tree: nothing is executed."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlstudio.images.import_names import DISTRIBUTION_OF
from mlstudio.model.image import Problem

_MAX_BYTES = 2 * 1024 * 1024
_MAX_FILES = 2000


def read_imports(root: Path, files: Sequence[str]) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Distributions that the Python `files` below `root` import, sorted, and problems with their lines.

    The standard library and the project's own modules are left out, as are imports for type checkers and those that a
    script can do without (guarded by ``except ImportError``).
    """
    own = _own_modules(files)
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for file in [file for file in files if file.endswith(".py")][:_MAX_FILES]:
        try:
            path = root / file
            if path.stat().st_size > _MAX_BYTES:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_bytes(), filename=file)
        except SyntaxError as error:
            problems.append(
                Problem(
                    message=f"{file} is not valid Python {sys.version_info[0]}.{sys.version_info[1]}: {error.msg}.",
                    file=file,
                    line=error.lineno or 0,
                    try_this="Its imports were not read.",
                    is_error=False,
                )
            )
            continue
        except (OSError, ValueError, RecursionError, MemoryError):
            continue
        for name in _needed(tree.body):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in own or top in ("mlstudio", "__main__", "__future__"):
                continue
            distribution = _distribution(name)
            found.setdefault(distribution.lower(), distribution)
    return tuple(found[key] for key in sorted(found)), tuple(problems)


def _distribution(name: str) -> str:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        known = DISTRIBUTION_OF.get(".".join(parts[:length]))
        if known:
            return known
    return parts[0].replace("_", "-")


def _own_modules(files: Sequence[str]) -> frozenset[str]:
    own: set[str] = set()
    for file in files:
        if file.endswith(".py"):
            # Scripts import their neighbours, packages their root: any folder or module of the code may be meant.
            parts = file.split("/")
            own.update(parts[:-1])
            own.add(parts[-1].removesuffix(".py"))
    return frozenset(own)


def _needed(statements: Iterable[ast.stmt]) -> Iterable[str]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            if statement.level == 0 and statement.module:
                yield statement.module
                if statement.module in ("google", "google.cloud", "azure", "ruamel"):
                    yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.Try):
            if not any(_catches_import_error(handler) for handler in statement.handlers):
                yield from _needed(statement.body)
            yield from _needed([*statement.orelse, *statement.finalbody])
        elif isinstance(statement, ast.If):
            if not _is_type_checking(statement.test):
                yield from _needed(statement.body)
            yield from _needed(statement.orelse)
        else:
            for field in ("body", "orelse", "finalbody"):
                inner = getattr(statement, field, None)
                if isinstance(inner, list):
                    yield from _needed([entry for entry in inner if isinstance(entry, ast.stmt)])


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None
        or (isinstance(kind, ast.Name) and kind.id in ("ImportError", "ModuleNotFoundError", "Exception"))
        for kind in kinds
    )


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
