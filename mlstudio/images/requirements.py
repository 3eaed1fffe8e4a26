"""requirements.txt as pip reads it: https://pip.pypa.io/en/stable/reference/requirements-file-format/"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlstudio.model.image import Problem

# One blank each, not \\s+: a line of a million blanks would be searched a million times.
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[= ]\S+")
_BUILD_OPTION = re.compile(r"\s--(?:config-settings|global-option)[= ]\S+")
_OPTION = re.compile(r"(--[^\s=]*|-.?)\s*=?\s*(.*)")
_MAX_BYTES = 2 * 1024 * 1024
_MAX_REQUIREMENT = 4096
"""Characters of one requirement without its hashes."""


class Parsed:
    """What a file gave: requirement lines, problems, and whether every line is pinned to hashes."""

    def __init__(self) -> None:
        self.requirements: list[str] = []
        self.problems: list[Problem] = []
        self.hashed = True
        self.read: set[Path] = set()
        """Files that were read: each counts once, however often and roundabout it is included."""


def read_requirements(
    root: Path,
    file: str,
    parsed: Parsed | None = None,
    depth: int = 0,
    *,
    included: tuple[str, int] = ("", 0),
) -> Parsed:
    """Read `file` below `root` and what it includes. Never raises: what is wrong becomes a problem with its line.

    `included` is the file and line that asked for `file`: it is what a person must change where `file` is missing.
    """
    parsed = parsed if parsed is not None else Parsed()

    def refused(why: str) -> Parsed:
        parsed.problems.append(
            Problem(message=f"{file[:300]} {why}.", file=included[0] or file, line=included[1])
        )
        return parsed

    try:
        path = (root / file).resolve()
        if not path.is_relative_to(root.resolve()):
            return refused("lies outside the code")
        if path in parsed.read:
            return parsed
        if path.exists() and not path.is_file():
            return refused("cannot be read: it is no file")
        if path.stat().st_size > _MAX_BYTES:
            return refused("is too large for a list of requirements")
        text = _decoded(path.read_bytes())
    except OSError as error:
        return refused(f"cannot be read: {error.strerror}")
    except (ValueError, RuntimeError):  # a null in the name; before Python 3.13, links that lead round
        return refused("cannot be read: it leads nowhere")
    parsed.read.add(path)
    for number, line in _logical_lines(text):
        read_line(root, file, number, line, parsed, depth)
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


def read_line(root: Path, file: str, number: int, line: str, parsed: Parsed, depth: int = 0) -> None:
    """Read one `line`, stripped and without its comment, that stands in `file` at `number`."""

    def problem(message: str, try_this: str = "", *, is_error: bool = True) -> None:
        parsed.problems.append(
            Problem(message=message, file=file, line=number, try_this=try_this, is_error=is_error)
        )

    written = _OPTION.match(line)
    if written:
        option, value = written[1], written[2].strip()
        if option in ("-r", "--requirement"):
            if not value:
                problem(f"{option} names no file.", "Write the name of a file behind it, or remove the line.")
                return
            if depth >= 10:
                problem(
                    f"{value[:200]} is included more than ten files deep.", "Do files include each other?"
                )
                return
            inner = str(PurePosixPath(file).parent / value)
            read_requirements(root, inner, parsed, depth + 1, included=(file, number))
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
            problem(f"pip knows no option “{option[:80]}” in a requirements file.", "Remove the line.")
        return
    if "--hash" in line:
        line = _HASH.sub("", line).strip()
    else:
        parsed.hashed = False
    _add(line, parsed, problem)


def _add(line: str, parsed: Parsed, problem: object) -> None:
    assert callable(problem)
    text = _BUILD_OPTION.sub("", line).strip()
    if len(text) > _MAX_REQUIREMENT or re.search(r"[\x00-\x08\x0e-\x1f]", text):
        problem(f"“{text[:80].strip()}…” is no requirement: it is too long or no text.", _hint(""))
        return
    if text.startswith((".", "/")) or (
        text.endswith((".whl", ".tar.gz", ".zip")) and "@" not in text and "://" not in text
    ):
        problem(
            f"“{text[:80]}” is a file or folder: it is not in the image.",
            "Put wheels into a wheelhouse folder (--find-links) and name the package.",
        )
        return
    if re.match(r"(git|hg|svn|bzr)\+|https?://", text):
        name = re.search(r"[#&]egg=([\w.\-]+(?:\[[\w.,\- ]*\])?)", text)
        if name:
            where = re.search(r"[#&](subdirectory=[^&\s]+)", text)
            text = f"{name[1]} @ {text.partition('#')[0]}" + (f"#{where[1]}" if where else "")
        else:
            parsed.requirements.append(text)
            return
    try:
        parse(text)
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


def parse(requirement: str) -> Requirement:
    """Read a requirement line. Raises InvalidRequirement, whatever the text is."""
    if len(requirement) > _MAX_REQUIREMENT:
        raise InvalidRequirement("It is too long")
    try:
        return Requirement(requirement)
    except RecursionError:
        raise InvalidRequirement("Its brackets go too deep") from None


def name_of(requirement: str) -> str:
    """The normalised name of a requirement line; empty for a bare URL."""
    try:
        return canonicalize_name(parse(requirement).name)
    except InvalidRequirement:
        return ""
