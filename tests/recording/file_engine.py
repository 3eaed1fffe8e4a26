"""An engine whose containers are a file that grows and a process that writes it: enough to record from, in any process.

``python file_engine.py HOME`` records for HOME with it; ``python file_engine.py --write FOLDER POINTS`` is a run.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from mlstudio.model.errors import NotFound
from mlstudio.model.host import EngineKind, EngineStatus
from mlstudio.model.launch import Chunk, LaunchSpec, Observation, Phase
from mlstudio.probe.wire import FRAMES_PER_SEGMENT, encode_frame, encode_points, spool_data
from mlstudio.services.engine_table import GivenEngines
from mlstudio.services.recorder import Recorder
from mlstudio.store import History

POINTS_A_FRAME = 7


class FileEngine:
    """Handles are folders with ``output``, ``spool/`` and, in the end, ``exit``."""

    name = "file"
    kind = EngineKind.FAKE

    def check(self) -> EngineStatus:
        return EngineStatus(name=self.name, kind=self.kind)

    def launch(self, spec: LaunchSpec) -> str:
        raise NotImplementedError

    def inspect(self, handle: str) -> Observation:
        folder = Path(handle)
        if not folder.is_dir():
            return Observation(phase=Phase.GONE)
        try:
            code = int((folder / "exit").read_text())
        except FileNotFoundError:
            return Observation(phase=Phase.RUNNING, started=folder.stat().st_ctime, has_probe=True)
        return Observation(phase=Phase.EXITED, started=1.0, ended=2.0, exit_code=code, has_probe=True)

    def find(self, run_id: str) -> str | None:
        return None

    def follow(
        self, handle: str, position: str = "", *, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Chunk]:
        at = int(position or 0)
        while not should_stop():
            is_over = (Path(handle) / "exit").exists()
            with (Path(handle) / "output").open("rb") as file:
                file.seek(at)
                data = file.read(3000)
            at += len(data)
            if data:
                yield Chunk(data=data, position=str(at), time=time.time())
            elif is_over:
                return
            else:
                time.sleep(0.01)

    def stop(self, handle: str, *, grace_s: float = 10.0) -> None:
        raise NotImplementedError

    def remove(self, handle: str) -> None:
        raise NotImplementedError

    def read_file(self, handle: str, path: str) -> bytes:
        try:
            return (Path(handle) / "spool" / Path(path).name).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(path) from error

    def close(self) -> None:
        pass


def write_run(folder: Path, points: int) -> None:
    """Log `points` points, in frames, with a line of output for each."""
    (folder / "spool").mkdir()
    with (folder / "output").open("ab", buffering=0) as output:
        for seq, first in enumerate(range(0, points, POINTS_A_FRAME)):
            numbers = range(first, min(first + POINTS_A_FRAME, points))
            log = b"".join(b"line %d\n" % number for number in numbers)
            now = time.time()
            body: dict[str, object] = {
                "t": now,
                "log": {"n": len(log), "spans": [[0, len(log), now]], "data": spool_data(log)},
                "series": [
                    encode_points(
                        "loss", "metric", array("q", numbers), array("d", [now] * len(numbers)),
                        array("d", [number / 2 for number in numbers]),
                    )
                ],
            }  # fmt: skip
            with (folder / "spool" / f"{seq // FRAMES_PER_SEGMENT}.mls").open("ab") as spool:
                spool.write(encode_frame(seq, body))
            body["log"] = {"n": len(log), "spans": [[0, len(log), now]], "open": False}
            for part in (log[: len(log) // 2], log[len(log) // 2 :], encode_frame(seq, body)):
                output.write(part)
            time.sleep(0.001)
    (folder / "exit").write_text("0")


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write_run(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        Recorder(History(Path(sys.argv[1]) / "history.db"), GivenEngines({"file": FileEngine()})).run(
            threading.Event()
        )
