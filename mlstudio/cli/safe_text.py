"""Text from elsewhere on a terminal: colours may pass, everything else that steers a terminal may not."""

from __future__ import annotations

import re
import unicodedata

# CSI … m sets colours; other CSI, OSC, DCS and single escapes move the cursor, set titles or the clipboard.
# Source: ECMA-48 5th edition, and xterm's "Control Sequences".
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|\x1b|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe_line(text: str, *, colour: bool = False) -> str:
    """One line of a run's output as it may be shown; of a progress bar drawn over itself, the last state.

    With `colour`, colour sequences stay and the line ends with a reset if it had any.
    """
    if "\r" in text:
        text = next((part for part in reversed(text.split("\r")) if part.strip()), "")
    if "\x1b" not in text and "\x9b" not in text:
        return _CONTROL.sub("", text)
    kept: list[str] = []
    end = 0
    coloured = False
    for match in _SEQUENCE.finditer(text):
        kept.append(_CONTROL.sub("", text[end : match.start()]))
        if colour and _COLOUR.fullmatch(match.group()):
            kept.append(match.group())
            coloured = True
        end = match.end()
    kept.append(_CONTROL.sub("", text[end:]))
    return "".join(kept) + ("\x1b[0m" if coloured else "")


def columns_of(text: str) -> int:
    """How many columns `text` takes on a terminal: wide characters two, combining ones none."""
    plain = _COLOUR.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in plain
    )


def cut(text: str, columns: int) -> str:
    """`text` (without colours) in at most `columns` columns, with an ellipsis where it was cut."""
    if columns_of(text) <= columns:
        return text
    kept = ""
    for char in text:
        if columns_of(kept + char) > columns - 1:
            break
        kept += char
    return kept + "…"
