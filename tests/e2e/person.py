"""Somebody before the screen: moves the pointer, presses buttons and keys (XTEST), and reads what stands there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from Xlib import XK, X
from Xlib.display import Display
from Xlib.ext import xtest

from tests.conftest import Screen, wait_until
from tests.e2e.conftest import Program

BETWEEN_CLICKS_MS = 80
"""As a hand does it."""
_WINDOW = Path(__file__).with_name("observed_window.py")


class Person:
    """Uses the window that `process` shows on `screen`."""

    def __init__(self, process: subprocess.Popen[bytes], screen: Screen) -> None:
        self.process = process
        self.screen = screen
        self._display = Display(screen.display)

    def reads(self) -> list[str]:
        """Every text of labels and buttons that stands in the window."""
        texts: list[str] = self._ask({"texts": True})
        return texts

    def sees(self, text: str) -> bool:
        return any(text in found for found in self.reads())

    def waits_for(self, text: str, *, deadline_s: float = 30.0) -> None:
        """Look until a text stands there."""
        assert wait_until(lambda: self.sees(text), deadline_s=deadline_s, every_s=0.1), (
            f"“{text}” never appeared. The window says: {self.reads()}"
        )

    def clicks(self, name: str, *, times: int = 1, deadline_s: float = 30.0) -> None:
        """Click what has this name or text, once it is there, enabled, uncovered and at rest."""
        seen: list[tuple[int, int] | None] = [None]

        def is_at_rest() -> bool:
            seen.append(self._where(name))
            return seen[-1] is not None and seen[-3:] == [seen[-1]] * 3

        assert wait_until(is_at_rest, deadline_s=deadline_s, every_s=0.1), (
            f"“{name}” cannot be clicked. The window says: {self.reads()}"
        )
        place = seen[-1]
        assert place is not None
        xtest.fake_input(self._display, X.MotionNotify, x=place[0], y=place[1])
        for click in range(times):
            xtest.fake_input(self._display, X.ButtonPress, 1, time=BETWEEN_CLICKS_MS if click else 0)
            xtest.fake_input(self._display, X.ButtonRelease, 1)
        self._display.sync()

    def types(self, text: str, *, instead: bool = False) -> None:
        """Type letters and digits into what has the focus; `instead` of what stands there."""
        if instead:
            self._press("a", "Control_L")
        for letter in text:
            self._press(letter)
        self._display.sync()

    def close(self) -> None:
        self._display.close()

    def _press(self, key: str, *held: str) -> None:
        codes = [self._display.keysym_to_keycode(XK.string_to_keysym(name)) for name in (*held, key)]
        for code in codes:
            xtest.fake_input(self._display, X.KeyPress, code)
        for code in reversed(codes):
            xtest.fake_input(self._display, X.KeyRelease, code)

    def _where(self, name: str) -> tuple[int, int] | None:
        place = self._ask({"where": name})
        return (place[0], place[1]) if place else None

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"The window is gone ({self.process.wait(timeout=10)})."
        return json.loads(line)


@contextmanager
def person_at_window(program: Program, screen: Screen) -> Iterator[Person]:
    """Somebody before a window on the program's home. At the end the window is killed, if it still runs."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-P", str(_WINDOW)],
        env=program.environment(**screen.environment) | {"PYTHONPATH": str(root)},
        cwd=program.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    person = Person(process, screen)
    try:
        yield person
    finally:
        person.close()
        process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)
