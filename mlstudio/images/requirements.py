"""requirements.txt as pip reads it: https://pip.pypa.io/en/stable/reference/requirements-file-format/"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlstudio.model.image import Problem

_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASH = re.compile(r"\s+--hash[= ]\S+")
_MAX_BYTES = 2 * 1024 * 1024


class Parsed:
    """What a file gave: requirement lines, problems, and whether every line is pinned to hashes."""

    def __init__(self) -> None:
        self.requirements: list[str] = []
        self.problems: list[Problem] = []
        self.hashed = True


def read_requirements(root: Path, file: str, parsed: Parsed | None = None, depth: int = 0) -> Parsed:
    """Read `file` below `root` and what it includes. Never raises: what is wrong becomes a problem with its line."""
    parsed = parsed if parsed is not None else Parsed()
    path = root / file
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            parsed.problems.append(Problem(message=f"{file} lies outside the code.", file=file))
            return parsed
        if path.stat().st_size > _MAX_BYTES:
            parsed.problems.append(
                Problem(message=f"{file} is too large for a list of requirements.", file=file)
            )
            return parsed
        text = _decoded(path.read_bytes())
    except OSError as error:
        parsed.problems.append(Problem(message=f"{file} cannot be read: {error.strerror}.", file=file))
        return parsed
    for number, line in _logical_lines(text):
        _line(root, file, number, line, parsed, depth)
    return parsed


def _decoded(data: bytes) -> str:
    for mark, coding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(coding, "replace")
    return data.decode("utf-8", "replace")


def _logical_lines(text: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    pending, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw
        if not pending:
            first = number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            pending += line[:-1] + " "
            continue
        found.append((first, (pending + line).strip()))
        pending = ""
    if pending:
        found.append((first, pending.strip()))
    return [(number, clean) for number, line in found if (clean := _COMMENT.sub("", line).strip())]


def _line(root: Path, file: str, number: int, line: str, parsed: Parsed, depth: int) -> None:
    def problem(message: str, try_this: str = "", *, is_error: bool = True) -> None:
        parsed.problems.append(
            Problem(message=message, file=file, line=number, try_this=try_this, is_error=is_error)
        )

    if line.startswith("-"):
        option, _, value = (
            line.partition("=") if line.startswith("--") and "=" in line.split()[0] else line.partition(" ")
        )
        value = value.strip()
        if option in ("-r", "--requirement") or re.match(r"-r\S", line):
            name = value or line[2:].strip()
            if depth >= 10:
                problem(f"{name} is included more than ten files deep.", "Do two files include each other?")
                return
            read_requirements(root, str(PurePosixPath(file).parent / name), parsed, depth + 1)
        elif option in ("-c", "--constraint"):
            problem(
                "Constraint files are not used.", "Put the versions into the requirements.", is_error=False
            )
        elif option in ("-e", "--editable"):
            if value.startswith((".", "/")) or "://" not in value:
                problem(
                    "An editable install of a folder is left out: the code itself is on the path.",
                    is_error=False,
                )
            else:
                _add(value, parsed, problem)
        elif option in ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host", "--pre",
                        "--no-binary", "--only-binary", "--prefer-binary", "--no-index", "--use-feature",
                        "--require-hashes"):  # fmt: skip
            problem(
                f"The option {option} in a requirements file is left out.",
                "Set package indexes in the settings or on the command line (--index-url, --extra-index-url).",
                is_error=False,
            )
        else:
            problem(f"pip knows no option “{option}” in a requirements file.", "Remove the line.")
        return
    if "--hash" in line:
        line = _HASH.sub("", line).strip()
    else:
        parsed.hashed = False
    _add(line, parsed, problem)


def _add(line: str, parsed: Parsed, problem: object) -> None:
    assert callable(problem)
    text = re.sub(r"\s+--(?:config-settings|global-option)[= ]\S+", "", line).strip()
    if text.startswith((".", "/")) or (
        text.endswith((".whl", ".tar.gz", ".zip")) and "@" not in text and "://" not in text
    ):
        problem(
            f"“{text[:80]}” is a file or folder: it is not in the image.",
            "Put wheels into a wheelhouse folder (--find-links) and name the package.",
        )
        return
    if re.match(r"(git|hg|svn|bzr)\+|https?://", text):
        name = re.search(r"[#&]egg=([\w.\-]+)", text)
        if name:
            text = f"{name.group(1)} @ {text.partition('#')[0]}"
        else:
            parsed.requirements.append(text)
            return
    try:
        Requirement(text)
    except InvalidRequirement as error:
        problem(f"“{text[:120]}” is no requirement: {_reason(text, error)}.", _hint(text))
        return
    parsed.requirements.append(text)


def _reason(text: str, error: InvalidRequirement) -> str:
    first = str(error).splitlines()[0].rstrip(".")
    return first[0].lower() + first[1:] if first else "it cannot be read"


def _hint(text: str) -> str:
    single = re.match(r"^([A-Za-z0-9._\-]+)\s*=\s*([0-9][\w.]*)$", text)
    if single:
        return f"Write {single.group(1)}=={single.group(2)} (two equals signs)."
    spaced = re.match(r"^([A-Za-z0-9._\-]+)\s+([0-9][\w.]*)$", text)
    if spaced:
        return f"Write {spaced.group(1)}=={spaced.group(2)}."
    return "Write it as name, name==1.2.3 or name>=1.2,<2."


def name_of(requirement: str) -> str:
    """The normalised name of a requirement line; empty for a bare URL."""
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return ""
