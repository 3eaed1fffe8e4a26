"""Finding the Python packages that a project needs: locks first, then lists, then its import statements."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement
from packaging.utils import canonicalize_name

from mlstudio.images.ignore import TooManyFiles, list_files
from mlstudio.images.import_names import CONDA_NAMES, NOT_ON_PYPI, SYSTEM_PACKAGES
from mlstudio.images.imports import read_imports
from mlstudio.images.requirements import Parsed, name_of, parse, read_line, read_requirements
from mlstudio.model.image import Dependencies, DependencySource, Problem

_MAX_BYTES = 20 * 1024 * 1024
_REQUIREMENT_FILES = (
    "requirements.txt",
    "requirements/requirements.txt",
    "requirements/base.txt",
    "requirements.in",
)
_CONDA_FILES = ("environment.yml", "environment.yaml", "conda.yaml", "conda.yml")


def find_dependencies(root: Path, *, files: Sequence[str] | None = None, script: str = "") -> Dependencies:
    """What the code in `root` needs. Never raises for malformed input: see `Dependencies.problems`.

    `files` are the code's files where they are known already. With `script`, only it and the modules of the project
    count when imports must be read.
    """
    names = set(files) if files is not None else _listed(root)
    readers: list[tuple[str, Callable[[Path, str], Dependencies | None]]] = []
    # A list that the user keeps by hand beside a lock is older than the lock; a lock alone is complete.
    readers.append(("uv.lock", _uv_lock))
    readers.append(("poetry.lock", _poetry_lock))
    readers.extend((file, _requirements) for file in _REQUIREMENT_FILES)
    readers.append(("pyproject.toml", _pyproject))
    readers.extend((file, _conda) for file in _CONDA_FILES)
    kept: list[Problem] = []
    for file, read in readers:
        if file not in names:
            continue
        found = read(root, file)
        if found is None:
            continue
        if (
            not found.requirements
            and not any(problem.is_error for problem in found.problems)
            and file == "pyproject.toml"
        ):
            # A pyproject.toml with tool settings only.
            kept.extend(found.problems)
            continue
        return _completed(found, root, names, kept)
    python_files = sorted(name for name in names if name.endswith(".py"))
    packages, problems = read_imports(root, _relevant(python_files, script))
    return _completed(
        Dependencies(
            requirements=packages,
            source=DependencySource.IMPORTS if packages else DependencySource.NONE,
            problems=problems,
        ),
        root,
        names,
        kept,
    )


def _listed(root: Path) -> set[str]:
    try:
        return set(list_files(root))
    except TooManyFiles:
        return {entry.name for entry in root.iterdir() if entry.is_file()}


def _relevant(files: list[str], script: str) -> list[str]:
    """Without tests, documentation and set-up files, which need packages that training does not."""
    skipped = ("tests/", "test/", "docs/", "doc/", "examples/", ".github/")
    chosen = [
        file
        for file in files
        if file == script
        or not (
            file.startswith(skipped)
            or file.rpartition("/")[2].startswith(("test_", "conftest"))
            or file in ("setup.py", "noxfile.py", "tasks.py", "fabfile.py")
        )
    ]
    return chosen or files


def _completed(found: Dependencies, root: Path, names: set[str], kept: list[Problem]) -> Dependencies:
    system = list(found.system_packages)
    for requirement in found.requirements:
        system.extend(SYSTEM_PACKAGES.get(name_of(requirement), ()))
    python = found.python or (_requires_python(root) if "pyproject.toml" in names else "")
    return Dependencies(
        requirements=tuple(dict.fromkeys(found.requirements)),
        source=found.source,
        file=found.file,
        python=python,
        system_packages=tuple(sorted(set(system))),
        locked=found.locked,
        problems=(*kept, *found.problems),
    )


def _requires_python(root: Path) -> str:
    data, _ = _toml(root, "pyproject.toml")
    wanted = _table(data, "project").get("requires-python")
    return wanted if isinstance(wanted, str) else ""


# -- the readers ------------------------------------------------------------------------------------------------------


def _requirements(root: Path, file: str) -> Dependencies:
    parsed: Parsed = read_requirements(root, file)
    return Dependencies(
        requirements=tuple(parsed.requirements),
        source=DependencySource.REQUIREMENTS,
        file=file,
        locked=bool(parsed.requirements) and parsed.hashed,
        problems=tuple(parsed.problems),
    )


def _pyproject(root: Path, file: str) -> Dependencies | None:
    text, _ = _text(root, file)
    data, problem = _toml(root, file)
    if problem is not None:
        return Dependencies(source=DependencySource.PYPROJECT, file=file, problems=(problem,))
    project = _table(data, "project")
    poetry = _table(_table(data, "tool"), "poetry")
    raw: list[tuple[str, int]] = []
    problems: list[Problem] = []
    lines = text.split("\n")
    if isinstance(project.get("dependencies"), list):
        raw.extend((str(entry), _line_with(lines, str(entry))) for entry in project["dependencies"])
    elif poetry:
        for name, value in _table(poetry, "dependencies").items():
            if name == "python":
                continue
            requirement = _poetry_requirement(name, value)
            if requirement is None:
                problems.append(
                    Problem(message=f"The dependency “{name}” of Poetry is a folder or file and is left out.", file=file,
                            is_error=False)
                )  # fmt: skip
            else:
                raw.append((requirement, _line_with(lines, name)))
    requirements, wrong = _checked(raw, file)
    python = project.get("requires-python")
    if not isinstance(python, str):
        stated = _table(poetry, "dependencies").get("python") if poetry else ""
        python = _poetry_version(stated) if isinstance(stated, str) else ""
    return Dependencies(
        requirements=tuple(requirements),
        source=DependencySource.PYPROJECT,
        file=file,
        python=python,
        problems=(*problems, *wrong),
    )


def _conda(root: Path, file: str) -> Dependencies | None:
    text, problem = _text(root, file)
    if problem is not None:
        return Dependencies(source=DependencySource.CONDA, file=file, problems=(problem,))
    try:
        # Text alone: "2.10" stays what was written, and nothing can go wrong in turning it into numbers and dates.
        data = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = getattr(error, "position", None)  # of a letter that YAML does not allow
        line = (
            mark.line + 1 if mark is not None else text.count("\n", 0, place) + 1 if place is not None else 0
        )
        return Dependencies(
            source=DependencySource.CONDA,
            file=file,
            problems=(
                Problem(
                    message=f"{file} is not valid YAML: {getattr(error, 'problem', '') or 'it cannot be read'}.",
                    file=file,
                    line=min(line, text.count("\n") + 1),
                ),
            ),
        )
    entries = data.get("dependencies") if isinstance(data, dict) else None
    lines = text.split("\n")
    raw: list[tuple[str, int]] = []
    from_pip = Parsed()
    python = ""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            pip = entry.get("pip")
            for written in pip if isinstance(pip, list) else ():
                if isinstance(written, str) and written.strip():
                    # conda hands them to pip as a requirements file.
                    wanted = " ".join(written.split())
                    read_line(root, file, _line_with(lines, written), wanted, from_pip)
            continue
        if not isinstance(entry, str) or not entry.strip():
            continue
        name, version = _conda_entry(entry)
        if name == "python":
            python = version
            continue
        if name in NOT_ON_PYPI or name.startswith(("lib", "_")):
            continue
        raw.append((CONDA_NAMES.get(name, name) + version, _line_with(lines, entry)))
    requirements, wrong = _checked(raw, file)
    general = Problem(
        message="Conda's packages are installed from the Python package index.",
        file=file,
        is_error=False,
        try_this="Use your own Dockerfile where the conda builds matter.",
    )
    return Dependencies(
        requirements=(*requirements, *from_pip.requirements),
        source=DependencySource.CONDA,
        file=file,
        python=python,
        problems=(general, *wrong, *from_pip.problems),
    )


def _conda_entry(entry: str) -> tuple[str, str]:
    """``conda-forge::numpy=1.26.*=py311_0`` → ("numpy", "==1.26.*")."""
    text = entry.split("#")[0].strip().rpartition("::")[2]
    name = ""
    for index, letter in enumerate(text):
        if letter in " =<>!~":
            name, rest = text[:index], text[index:].strip()
            break
    else:
        return text.lower(), ""
    parts = rest.replace(" ", "")
    if parts.startswith("==") or parts[:1] in "<>!~":
        return name.lower(), parts.split("=py")[0] if not parts.startswith("==") else parts
    version = parts.lstrip("=").split("=")[0]
    if not version or version == "*":
        return name.lower(), ""
    # One equals sign means "this version and its patches".
    return name.lower(), f"=={version}" if version.endswith("*") else f"=={version}.*"


def _uv_lock(root: Path, file: str) -> Dependencies | None:
    data, problem = _toml(root, file)
    if problem is not None:
        return Dependencies(source=DependencySource.UV_LOCK, file=file, problems=(problem,))
    packages = _tables(data, "package")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for entry in packages:
        by_name.setdefault(str(entry.get("name", "")), []).append(entry)
    local = [entry for entry in packages if {"virtual", "editable"} & set(_table(entry, "source"))]
    if not local:
        return None
    wanted: dict[str, str] = {}
    problems: list[Problem] = []
    seen: set[tuple[str, str, str]] = set()
    waiting = [dependency for entry in local for dependency in _tables(entry, "dependencies")]
    while waiting:
        dependency = waiting.pop()
        if not _applies(dependency.get("marker")):
            continue
        name = str(dependency.get("name", ""))
        version = str(dependency.get("version", ""))
        chosen = next((e for e in by_name.get(name, ()) if version in ("", str(e.get("version", "")))), None)
        if chosen is None:
            continue
        extras = dependency.get("extra")
        for extra in ("", *map(str, extras if isinstance(extras, list) else ())):
            # Packages may need each other, and the same one with and without an extra.
            if (name, version, extra) in seen:
                continue
            seen.add((name, version, extra))
            waiting.extend(
                _tables(_table(chosen, "optional-dependencies"), extra)
                if extra
                else _tables(chosen, "dependencies")
            )
        if chosen in local or name in wanted:
            continue
        if {"directory", "path"} & set(_table(chosen, "source")):
            note = Problem(
                message=f"“{name[:120]}” in {file} is a file or folder: it is not in the image.",
                file=file,
                is_error=False,
                try_this="Put it into the folder of the code, or a wheel of it into a wheelhouse folder (--find-links).",
            )
            if note not in problems:
                problems.append(note)
            continue
        wanted[name] = _uv_requirement(name, chosen)
    checked, wrong = _checked([(wanted[name], 0) for name in sorted(wanted)], file)
    python = data.get("requires-python", "")
    return Dependencies(
        requirements=tuple(checked),
        source=DependencySource.UV_LOCK,
        file=file,
        python=python if isinstance(python, str) else "",
        locked=True,
        problems=(*problems, *wrong),
    )


def _uv_requirement(name: str, entry: dict[str, Any]) -> str:
    source = _table(entry, "source")
    if isinstance(source.get("git"), str):
        url, _, commit = source["git"].partition("#")
        return (
            f"{name} @ git+{url.partition('?')[0]}@{commit}"
            if commit
            else f"{name} @ git+{url.partition('?')[0]}"
        )
    if isinstance(source.get("url"), str):
        return f"{name} @ {source['url']}"
    return f"{name}=={entry.get('version', '')}"


def _poetry_lock(root: Path, file: str) -> Dependencies | None:
    data, problem = _toml(root, file)
    if problem is not None:
        return Dependencies(source=DependencySource.POETRY_LOCK, file=file, problems=(problem,))
    requirements: list[str] = []
    for entry in _tables(data, "package"):
        if not isinstance(entry.get("name"), str):
            continue
        groups = entry.get("groups", ["main"])
        if entry.get("category", "main") != "main" or (isinstance(groups, list) and "main" not in groups):
            continue
        if entry.get("optional") is True:
            continue
        markers = entry.get("markers")
        if isinstance(markers, dict):
            markers = markers.get("main")
        if isinstance(markers, str) and not _applies(markers):
            continue
        source = _table(entry, "source")
        if source.get("type") == "git":
            commit = source.get("resolved_reference") or source.get("reference", "")
            requirements.append(f"{entry['name']} @ git+{source.get('url')}@{commit}")
        elif source.get("type") == "url":
            requirements.append(f"{entry['name']} @ {source.get('url')}")
        elif source.get("type") in ("directory", "file"):
            continue
        else:
            requirements.append(f"{entry['name']}=={entry.get('version', '')}")
    checked, wrong = _checked([(requirement, 0) for requirement in requirements], file)
    python = _table(data, "metadata").get("python-versions", "")
    return Dependencies(
        requirements=tuple(checked),
        source=DependencySource.POETRY_LOCK,
        file=file,
        python=_poetry_version(python) if isinstance(python, str) else "",
        locked=True,
        problems=tuple(wrong),
    )


# -- parts of the readers ---------------------------------------------------------------------------------------------


def _applies(marker: object) -> bool:
    """Whether an environment marker holds in a Linux container; Python's own version is decided later."""
    if not isinstance(marker, str) or not marker:
        return True
    try:
        environment = {
            "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64",
            "implementation_name": "cpython", "platform_python_implementation": "CPython",
            "python_version": "3.11", "python_full_version": "3.11.9", "extra": "",
        }  # fmt: skip
        return Marker(marker).evaluate(environment)
    except (InvalidMarker, ValueError, KeyError, RecursionError):
        return True


def _line_with(lines: list[str], text: str) -> int:
    """The number of the first line that holds `text`; 0 where none does, as where it is written with escapes."""
    return next((number for number, line in enumerate(lines, 1) if text in line), 0)


def _checked(raw: list[tuple[str, int]], file: str) -> tuple[list[str], list[Problem]]:
    """The requirements among `raw`, pairs of text and line, and what is wrong with the others."""
    good: list[str] = []
    wrong: list[Problem] = []
    for text, line in raw:
        # Lists are handed to pip line by line.
        requirement = " ".join(text.split())
        try:
            parse(requirement)
        except InvalidRequirement as error:
            first = str(error).splitlines()[0].rstrip(".")
            wrong.append(
                Problem(
                    message=f"“{requirement[:120]}” is no requirement: {first[:1].lower()}{first[1:]}.",
                    file=file,
                    line=line,
                    try_this="Write it as name, name==1.2.3 or name>=1.2,<2.",
                )
            )
        else:
            good.append(requirement)
    return good, wrong


def _poetry_requirement(name: str, value: object) -> str | None:
    if isinstance(value, str):
        return canonicalize_name(name) + _poetry_version(value)
    if isinstance(value, list) and value:
        return _poetry_requirement(name, value[0])
    if not isinstance(value, dict):
        return None
    if value.get("optional") is True:
        return None
    extras = (
        f"[{','.join(str(extra) for extra in value['extras'])}]"
        if isinstance(value.get("extras"), list)
        else ""
    )
    if isinstance(value.get("git"), str):
        ref = value.get("rev") or value.get("tag") or value.get("branch")
        return f"{name}{extras} @ git+{value['git']}" + (f"@{ref}" if ref else "")
    if "path" in value:
        return None
    if isinstance(value.get("url"), str):
        return f"{name}{extras} @ {value['url']}"
    return f"{canonicalize_name(name)}{extras}{_poetry_version(str(value.get('version', '*')))}"


def _poetry_version(text: str) -> str:
    """Poetry's ``^1.2`` and ``~1.2`` as PEP 440: https://python-poetry.org/docs/dependency-specification/"""
    parts = []
    for raw in text.split("||")[0].split(","):
        part = raw.strip()
        if part in ("", "*"):
            continue
        if part[0] in "^~" and not part.startswith("~="):
            version = part[1:].strip()
            # Nothing that int() refuses: digits of other scripts, and more of them than Python reads.
            numbers = [int(number) for number in version.split(".") if re.fullmatch(r"[0-9]{1,18}", number)]
            if not numbers:
                parts.append(f"=={version}")  # no version: the check of requirements says so
                continue
            if part[0] == "^":
                place = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
            else:
                place = min(1, len(numbers) - 1)
            upper = [*numbers[:place], numbers[place] + 1]
            parts.append(f">={version},<{'.'.join(map(str, upper))}")
        elif part[0].isdigit():
            parts.append(f"=={part}")
        else:
            parts.append(part.replace(" ", ""))
    return ",".join(parts)


def _table(data: object, name: str) -> dict[str, Any]:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _tables(data: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = data.get(name)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(root: Path, file: str) -> tuple[str, Problem | None]:
    try:
        path = root / file
        if path.stat().st_size > _MAX_BYTES:
            return "", Problem(message=f"{file} is larger than 20 MB and was not read.", file=file)
        return path.read_text("utf-8", "replace"), None
    except OSError as error:
        return "", Problem(message=f"{file} cannot be read: {error.strerror}.", file=file)


def _toml(root: Path, file: str) -> tuple[dict[str, Any], Problem | None]:
    text, problem = _text(root, file)
    if problem is not None:
        return {}, problem
    try:
        return tomllib.loads(text), None
    except (ValueError, RecursionError) as error:
        words = str(error)
        if not isinstance(error, tomllib.TOMLDecodeError):
            words = "A number is too long, or brackets go too deep"
        line = words.rpartition("at line ")[2].partition(",")[0]
        return {}, Problem(
            message=f"{file} is not valid TOML: {words[:1].lower()}{words[1:]}.",
            file=file,
            line=int(line) if line.isdigit() else text.count("\n") + 1 if "end of document" in words else 0,
        )
