"""A Dockerfile of the user's taken apart into its instructions, to be shown line by line; never rewritten."""

from __future__ import annotations

import re

_HEREDOC = re.compile(r"(?:(?<=\s)|(?<=\s\d))<<-?([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1(?=[\s;&|)]|$)")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+)")


def split_instructions(text: str) -> tuple[tuple[str, str], ...]:
    """(keyword in capitals, instruction as it stands) in order; comments and empty lines are left out.

    Knows continued lines, the ``escape`` directive and heredocs:
    https://docs.docker.com/reference/dockerfile/#format
    """
    # Docker ends lines at line feeds alone, and skips a byte order mark.
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    escape = _escape(lines)
    found: list[tuple[str, str]] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = [line]
        while whole[-1].rstrip().endswith(escape) and index < len(lines):
            whole.append(lines[index])
            index += 1
            # Comments and empty lines inside a continued instruction belong to it.
            while (not whole[-1].strip() or whole[-1].lstrip().startswith("#")) and index < len(lines):
                whole.append(lines[index])
                index += 1
        keyword = line.split()[0].upper()
        if keyword in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall("\n".join(whole)):
                last = next((at for at in range(index, len(lines)) if lines[at].strip() == end), None)
                if last is not None:
                    whole.extend(lines[index : last + 1])
                    index = last + 1
        found.append((keyword, "\n".join(whole).rstrip("\n")))
    return tuple(found)


def base_reference(instruction: str) -> str:
    """The image that a FROM line names, without its options and the name of the stage; as it stands, if a variable."""
    words = [word for word in instruction.replace("\\\n", " ").split()[1:] if not word.startswith("--")]
    return words[0] if words else ""


def _escape(lines: list[str]) -> str:
    """The sign that continues a line: directives stand at the very top, before any other comment."""
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive.group(1).lower() == "escape" and directive.group(2) in ("`", "\\"):
            return directive.group(2)
    return "\\"
