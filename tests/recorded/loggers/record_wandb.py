"""Records offline runs with the wandb that is installed: `python record_wandb.py FOLDER`.

wandb cannot read its own offline files, so what it was given is what must be found.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pack import pack, plain  # type: ignore[import-not-found]


def train(wandb: Any, numpy: Any, *, place: int, code: int) -> dict[str, Any]:
    run = wandb.init(
        project="digits",
        name=f"trial-{place}",
        id=f"abcd000{place}",
        tags=["small", "cnn"],
        notes="two lines\nof notes",
        config={
            "lr": 0.001,
            "optimizer": {"name": "adam", "betas": [0.9, 0.999]},
            "deep": True,
            "api_key": "s3cr3t",
        },
    )
    series: dict[str, list[list[Any]]] = {}

    def log(values: dict[str, Any], step: int, **numbers: float) -> None:
        run.log({**values, **numbers}, step=step)
        for name, value in numbers.items():
            series.setdefault(name.replace("__", "/"), []).append([step, plain(value)])

    for step in range(30):
        loss = 1 / (step + 1 + place)
        run.log({"train/loss": loss, "nested": {"acc": step / 30}}, step=step)
        series.setdefault("train/loss", []).append([step, loss])
        series.setdefault("nested.acc", []).append([step, step / 30])
    log({}, 40, odd=float("nan"))
    log({}, 41, odd=float("inf"))
    log({}, 42, odd=float("-inf"))
    run.log({"weights": wandb.Histogram([0.0, 1.0, 1.0, 3.0], num_bins=4)}, step=43)
    run.log({"picture": wandb.Image(numpy.zeros((4, 6, 3), dtype="uint8"), caption="black")}, step=44)
    run.log({"word": "some text"}, step=45)
    run.log({"rows": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])}, step=46)
    run.finish(exit_code=code)
    return {"series": series, "exit_code": code}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.update(
            WANDB_MODE="offline", WANDB_DISABLE_CODE="true", WANDB_DISABLE_GIT="true", WANDB_SILENT="true"
        )
        os.environ.update(WANDB_HOST="recorder", WANDB_USERNAME="somebody", WANDB_CONSOLE="off")
        wandb = importlib.import_module("wandb")
        numpy = importlib.import_module("numpy")
        runs = {f"abcd000{place}": train(wandb, numpy, place=place, code=place) for place in range(2)}
        for path in Path(folder).rglob("*"):
            if path.name in ("debug.log", "debug-internal.log", "debug-core.log", "requirements.txt"):
                path.unlink()
        pack(Path(folder), Path(sys.argv[1]), "wandb", {"version": wandb.__version__, "runs": runs})


main()
