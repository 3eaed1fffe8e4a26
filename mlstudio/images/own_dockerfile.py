"""A Dockerfile of the user's taken apart into its instructions, to be shown line by line; never rewritten."""

from __future__ import annotations

import re

_HEREDOC = re.compile(r"<<-?([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
_DIRECTIVE = re.compile(r"#\s*escape\s*=\s*(\S)", re.IGNORECASE)


def split_instructions(text: str) -> tuple[tuple[str, str], ...]:
    """(keyword in capitals, instruction as it stands) in order; comments and empty lines are left out.

    Knows continued lines, the ``escape`` directive and heredocs:
    https://docs.docker.com/reference/dockerfile/#format
    """
    first = text.lstrip().splitlines()[:1]
    directive = _DIRECTIVE.match(first[0]) if first else None
    escape = directive.group(1) if directive else "\\"
    found: list[tuple[str, str]] = []
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = [line]
        while whole[-1].rstrip().endswith(escape) and index < len(lines):
            # Comments inside a continued instruction belong to it.
            whole.append(lines[index])
            index += 1
            while whole[-1].lstrip().startswith("#") and index < len(lines):
                whole.append(lines[index])
                index += 1
        for _, end in _HEREDOC.findall("\n".join(whole)):
            while index < len(lines):
                whole.append(lines[index])
                index += 1
                if whole[-1].strip() == end:
                    break
        instruction = "\n".join(whole)
        found.append((instruction.split()[0].upper(), instruction))
    return tuple(found)
