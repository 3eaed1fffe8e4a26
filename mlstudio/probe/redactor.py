"""Taking known secret values out of a stream of output."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Dict


class Redactor:
    """Takes known secret values out of a byte stream, also where a value lies across two pieces.

    `feed` holds back only the end of a piece that may be the beginning of a value; `flush` gives what is held.
    """

    def __init__(self, secrets: Dict[str, str]) -> None:
        found: Dict[bytes, bytes] = {}
        for name, value in secrets.items():
            mark = ("[secret %s]" % name).encode()
            for form in {value, value.strip()}:
                # A very short value would take ordinary text apart and hide nothing.
                if len(form) >= 4:
                    found[form.encode("utf-8", "surrogateescape")] = mark
            for line in value.splitlines():
                if len(line.strip()) >= 12:
                    found.setdefault(line.strip().encode("utf-8", "surrogateescape"), mark)
        self._marks = found
        self._values = sorted(found, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(value) for value in self._values)) if found else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now."""
        if self._pattern is None:
            return data
        data = self._held + data
        self._held = b""
        cut = self._open_end(data)
        out, position = [], 0
        for match in self._pattern.finditer(data):
            if match.start() >= cut:
                break
            out.append(data[position : match.start()])
            out.append(self._marks[match.group()])
            position = match.end()
        cut = max(cut, position)
        out.append(data[position:cut])
        self._held = data[cut:]
        return b"".join(out)

    def flush(self) -> bytes:
        """What was held back; the stream ends or rests here."""
        held, self._held = self._held, b""
        # It waited for the rest of one value and may be all of another: of a shorter one, or of the same without its
        # last newline.
        return self._replaced(held)

    def hide(self, text: str) -> str:
        """`text`, which is complete, without the values; what UTF-8 cannot hold becomes ``?``."""
        if self._pattern is None:
            return text
        return self._replaced(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _replaced(self, data: bytes) -> bytes:
        if self._pattern is None:
            return data
        return self._pattern.sub(lambda match: self._marks[match.group()], data)

    def _open_end(self, data: bytes) -> int:
        """Where the end of `data` begins that may grow into a value."""
        longest = len(self._values[0]) - 1
        for begin in range(max(0, len(data) - longest), len(data)):
            rest = data[begin:]
            if any(len(value) > len(rest) and value.startswith(rest) for value in self._values):
                return begin
        return len(data)
