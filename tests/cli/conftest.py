"""The command line in this process, on a temporary home with an engine in memory."""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlstudio.cli.main import cli
from mlstudio.cli.session import Session
from mlstudio.engines.fake import FakeContainer, FakeEngine
from mlstudio.model.record import Batch, Cursor, LogBlock, Points
from mlstudio.model.run import Exit, ExitReason, RunState
from mlstudio.services.studio import Studio


@dataclass
class Terminal:
    """Calls commands and reads what they said."""

    home: Path
    engine: FakeEngine

    def __call__(self, *words: str | Path, expect: int = 0, typed: str | None = None) -> Result:
        session = Session(self.home, engines={"local": self.engine})
        result = CliRunner().invoke(cli, [str(word) for word in words], obj=session, input=typed)
        assert result.exit_code == expect, f"{words}\n{result.output}\n{result.exception!r}"
        return result

    def json(self, *words: str | Path, expect: int = 0) -> Any:
        """The one JSON document on standard output."""
        place = words.index("--") if "--" in words else len(words)
        return json.loads(self(*words[:place], "--json", *words[place:], expect=expect).stdout)


class KeptOpen(FakeEngine):
    """An engine that outlives the commands that use it, as a real one does."""

    def close(self) -> None:
        pass

    def really_close(self) -> None:
        super().close()


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    def program(container: FakeContainer) -> int:
        if not container.spec.run_id.startswith("smoke-"):
            container.wait_for_stop(30)
        return 0

    engine = KeptOpen("local", program=program)
    made = Terminal(home, engine)
    made("settings", "set", "pip.discover", "no")
    yield made
    engine.really_close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("import numpy\nprint(1)\n")
    (folder / "requirements.txt").write_text("numpy==2.1.0\n")
    return folder


@pytest.fixture
def finished(terminal: Terminal, project: Path) -> Callable[[], str]:
    """Make a finished run with known points and output; returns its id."""

    def make() -> str:
        # A run that is over needs no recorder, so it is put down without a launch.
        from mlstudio.services.wishes import Words, spec_from

        with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
            spec = spec_from(studio, Words(target=str(project), args=("--lr", "0.1"), framework="python"))
            run_id = studio.launcher.submit(spec).id
            text = b"epoch 1\n\x1b]52;c;ZXZpbA==\x07danger\nwarning\n"
            found = {
                "loss": [3.0, 2.0, 1.0],
                "odd": [math.nan, math.inf, -math.inf],
                "cpu.percent": [9.0, 9.0, 9.0],
            }
            points = tuple(
                Points(
                    name=name,
                    kind="system" if "." in name else "metric",
                    steps=array("q", [0, 1, 2]),
                    times=array("d", [1.0, 2.0, 3.0]),
                    values=array("d", values),
                )
                for name, values in found.items()
            )
            log = LogBlock(data=text, spans=((False, len(text) - 8, 1.0), (True, 8, 2.0)))
            cursor = Cursor(seq=0, position="1", log_bytes=len(text))
            studio.history.apply(run_id, Batch(cursor=cursor, points=points, log=(log,)))
            studio.history.finish(run_id)
            now = time.time()
            studio.history.observe(
                run_id,
                state=RunState.FAILED,
                started=now - 65,
                ended=now - 5,
                exit=Exit(reason=ExitReason.ERROR, code=4, message="The command ended with exit code 4."),
            )
            return run_id

    return make
