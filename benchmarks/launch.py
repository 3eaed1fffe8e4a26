"""How much later a run of ML Studio has ended than a `docker run` of the same image and command.

Measured from the call to the moment in which the engine says that the container has ended, for a command that does
nothing. Ours contains what a launch is: history, snapshot, plan, the probe put in, the recorder told, the probe's start.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.docker_cli import base_image, docker
from benchmarks.harness import Comparison, named, take_turns
from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import RunSpec
from mlstudio.services.studio import Studio

OURS, PEER, BARE = "ML Studio", "docker run", "docker run python3 -c pass"
AIM_MS = 100.0
COMMAND = ("true",)


def compare(rounds: int) -> Comparison:
    """Launch the same image in turns."""
    image = base_image()
    with tempfile.TemporaryDirectory() as folder, Studio(Path(folder) / "home") as studio:
        code = Path(folder) / "code"
        code.mkdir()
        (code / "train.py").write_text("pass\n", encoding="utf-8")
        spec = RunSpec(
            command=COMMAND,
            code=CodeSource(folder=str(code), travel=Travel.MOUNTED),
            image=ImageSpec(image=image),
            name="benchmark",
        )
        engine = studio.engines.get("local")

        def ours() -> float:
            began = time.perf_counter()
            run = studio.launcher.launch(spec)
            handle = studio.history.detail(run.id).handle
            for _ in engine.follow(handle):
                pass  # As docker run does: its output until the engine says that it has ended.
            took = time.perf_counter() - began
            studio.runs.wait(run.id, timeout=30)
            studio.runs.remove(run.id, force=True)
            return 1000 * took

        def peer_of(*command: str) -> float:
            began = time.perf_counter()
            name = f"mlstudio-benchmark-{time.time_ns()}"
            docker("run", "--name", name, image, *command)
            took = time.perf_counter() - began
            docker("rm", name)
            return 1000 * took

        results = take_turns(
            {
                PEER: lambda: peer_of(*COMMAND),
                # What any probe written in Python costs at the least: one start of the interpreter in the container.
                BARE: lambda: peer_of("python3", "-c", "pass"),
                OURS: ours,
            },
            rounds=rounds,
            unit="ms",
        )
    over = named(results, OURS).median - named(results, PEER).median
    return Comparison(
        name="launch",
        question=f"From the call to the end of `{' '.join(COMMAND)}` in {image}",
        results=results,
        aim=f"at most {AIM_MS:.0f} ms over docker run (now {over:+.0f} ms)",
        met=over <= AIM_MS,
    )
