"""How long a rebuild takes after one line of the code has changed, beside `docker build` of the same Dockerfile.

Ours contains what a rebuild is in ML Studio: snapshot and hash of the code, recipe, forecast, build, the image's record.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.docker_cli import builder, docker
from benchmarks.harness import Comparison, named, take_turns
from mlstudio.model.code import CodeSource
from mlstudio.model.image import ImageSpec
from mlstudio.model.run import RunSpec
from mlstudio.services.studio import Studio

OURS, PEER = "ML Studio", "docker build"
AIM_MS = 50.0
FILES = 200


def compare(rounds: int) -> Comparison:
    """Edit and rebuild in turns."""
    edits = itertools.count()
    images: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Studio(Path(folder) / "home") as studio:
        code = Path(folder) / "project"
        code.mkdir()
        for number in range(FILES):
            (code / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 200, encoding="utf-8")
        edit(code, next(edits))
        spec = RunSpec(
            command=("python", "train.py"),
            code=CodeSource(folder=str(code)),
            image=ImageSpec(framework="python", requirements=()),
        )
        recipe = studio.images.plan(spec).recipe

        context = Path(folder) / "context"
        shutil.copytree(code, context / "code")
        for name, content in recipe.context_files:
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_bytes(content)
        (context / "Dockerfile").write_text(recipe.dockerfile, encoding="utf-8")
        program = builder()

        def ours() -> float:
            edit(code, next(edits))
            began = time.perf_counter()
            record = studio.images.build(studio.images.plan(spec))
            took = time.perf_counter() - began
            images.append(record.id)
            return 1000 * took

        def peer() -> float:
            edit(context / "code", next(edits))
            began = time.perf_counter()
            images.append(docker("build", "-q", context, program=program))
            return 1000 * (time.perf_counter() - began)

        try:
            results = take_turns({PEER: peer, OURS: ours}, rounds=rounds, unit="ms")
        finally:
            for image in dict.fromkeys(images):
                docker("rmi", "-f", image)
    over = named(results, OURS).median - named(results, PEER).median
    return Comparison(
        name="rebuild",
        question=f"From the edit of one file among {FILES + 1} to the finished image",
        results=results,
        aim=f"at most {AIM_MS:.0f} ms over docker build (now {over:+.0f} ms)",
        met=over <= AIM_MS,
    )


def edit(folder: Path, number: int) -> None:
    """Change one line of the code."""
    (folder / "train.py").write_text(f"print('edit {number} of {folder.name}')\n", encoding="utf-8")
