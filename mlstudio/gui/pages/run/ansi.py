"""ANSI colours in log lines, as stretches of text with a colour name. Everything else a terminal obeys is dropped."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEQUENCE = re.compile(
    r"\x1b\[([0-9;:]*)m"  # colours and weights: kept
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other control sequences
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles and links
    r"|\x1b[@-Z\\-_]|\x1b"
)
_COLOURS = {
    30: "text.tertiary",
    31: "status.error",
    32: "status.ok",
    33: "status.warning",
    34: "accent.text",
    35: "code.function",
    36: "code.keyword",
    37: "text.primary",
}


@dataclass(frozen=True, slots=True)
class Span:
    text: str
    colour: str = ""
    """A theme colour; empty for the plain one."""
    bold: bool = False


def plain(text: str) -> str:
    """The line as a terminal would leave it, without colours."""
    return "".join(span.text for span in spans(text))


def spans(text: str) -> tuple[Span, ...]:
    """Stretches of one colour. What a carriage return wrote over is gone, tabs are four spaces."""
    if "\r" in text:
        kept = text.rstrip("\r").rpartition("\r")[2]
        text = kept or text.replace("\r", "")
    text = text.replace("\t", "    ")
    if "\x1b" not in text:
        return (Span(text),) if text else ()
    found: list[Span] = []
    colour, bold, place = "", False, 0
    for sequence in _SEQUENCE.finditer(text):
        if sequence.start() > place:
            found.append(Span(text[place : sequence.start()], colour, bold))
        place = sequence.end()
        if sequence.group(1) is not None:
            colour, bold = _obey(sequence.group(1), colour, bold)
    if place < len(text):
        found.append(Span(text[place:], colour, bold))
    return tuple(found)


def _obey(codes: str, colour: str, bold: bool) -> tuple[str, bool]:
    numbers = [int(code) if code else 0 for code in codes.replace(":", ";").split(";")]
    index = 0
    while index < len(numbers):
        code = numbers[index]
        if code == 0:
            colour, bold = "", False
        elif code == 1:
            bold = True
        elif code == 22:
            bold = False
        elif code == 39:
            colour = ""
        elif code in _COLOURS:
            colour = _COLOURS[code]
        elif code - 60 in _COLOURS:
            colour = _COLOURS[code - 60]
        elif code in (38, 48):
            # 38;5;n and 38;2;r;g;b: the palette is the theme's, not the program's.
            index += 2 if index + 1 < len(numbers) and numbers[index + 1] == 5 else 4
        index += 1
    return colour, bold
