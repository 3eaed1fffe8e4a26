"""Packages that scripts import, read from the syntax tree: nothing is executed."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlstudio.images.import_names import DISTRIBUTION_OF
from mlstudio.model.image import Problem

_MAX_BYTES = 2 * 1024 * 1024
_MAX_FILES = 2000
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_NAMESPACES = ("google", "google.cloud", "azure", "ruamel")


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
            if not path.is_file() or path.stat().st_size > _MAX_BYTES:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found_here = _needed(ast.parse(path.read_bytes(), filename=file).body)
                needed = sorted(found_here, key=lambda entry: entry[1])
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
        for name, line in needed:
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in own or top in ("mlstudio", "__main__", "__future__"):
                continue
            distribution = _distribution(name)
            if not _DISTRIBUTION.fullmatch(distribution):
                # An extension module of the project, say; pip would read "_name" as an option.
                problems.append(
                    Problem(
                        message=f"No package can be called like the import “{top[:120]}”: it is left out.",
                        file=file,
                        line=line,
                        try_this="Name the package that holds it in a requirements.txt.",
                        is_error=False,
                    )
                )
                continue
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


def _needed(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Modules that must be there, each with its line. Without recursion: a script may have thousands of ``elif``."""
    waiting = list(statements)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.Import):
            yield from ((alias.name, statement.lineno) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            if statement.level == 0 and statement.module:
                if statement.module in _NAMESPACES:
                    # What is shared by many distributions is none itself.
                    yield from (
                        (f"{statement.module}.{alias.name}", statement.lineno) for alias in statement.names
                    )
                else:
                    yield statement.module, statement.lineno
        elif isinstance(statement, ast.Try):
            if not any(_catches_import_error(handler) for handler in statement.handlers):
                waiting.extend(statement.body)
            waiting.extend([*statement.orelse, *statement.finalbody])
        elif isinstance(statement, ast.If):
            if not _is_type_checking(statement.test):
                waiting.extend(statement.body)
            waiting.extend(statement.orelse)
        elif isinstance(statement, ast.Match):
            waiting.extend(inner for case in statement.cases for inner in case.body)
        else:
            for field in ("body", "orelse", "finalbody"):
                inner = getattr(statement, field, None)
                if isinstance(inner, list):
                    waiting.extend(entry for entry in inner if isinstance(entry, ast.stmt))


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
