"""Records event files of tensorboardX and of tensorboard's own protocol buffers: `python record_tensorboard.py FOLDER`.

The second kind (`tf2`) is laid out as `tf.summary` writes it: tensors with plugin metadata.
"""

from __future__ import annotations

import importlib
import logging
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from pack import pack, plain  # type: ignore[import-not-found]


def by_tensorboardx(folder: Path) -> None:
    x = importlib.import_module("tensorboardX")
    numpy = importlib.import_module("numpy")
    with x.SummaryWriter(str(folder / "exp" / "x")) as writer:
        for step in range(200):
            writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=1700000000 + step / 7)
            writer.add_scalar("lr", 0.001 * 0.99**step, step * 1000, walltime=1700000000 + step / 7)
        for step, value in enumerate([math.nan, math.inf, -math.inf, 1e-30]):
            writer.add_scalar("odd one", value, step, walltime=1700000100)
        writer.add_histogram("weights", numpy.arange(100) / 10, 7, walltime=1700000101)
        writer.add_image("picture", numpy.zeros((3, 4, 6), dtype="uint8"), 8, walltime=1700000102)
        writer.add_text("words", "some *text*", 9, walltime=1700000103)
        writer.add_hparams(
            {"lr": 0.5, "kind": "cnn", "deep": True}, {"hparam/acc": 0.75}, name="hp", global_step=1
        )


def by_tensorflow(folder: Path) -> None:
    """As `tf.summary.scalar` and the others write, without TensorFlow."""
    event = importlib.import_module("tensorboard.compat.proto.event_pb2")
    summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
    writer_module = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    util = importlib.import_module("tensorboard.util.tensor_util")
    scalar = importlib.import_module("tensorboard.plugins.scalar.metadata")
    text = importlib.import_module("tensorboard.plugins.text.metadata")
    histogram = importlib.import_module("tensorboard.plugins.histogram.metadata")
    image = importlib.import_module("tensorboard.plugins.image.metadata")
    numpy = importlib.import_module("numpy")
    writer = writer_module.EventFileWriter(str(folder / "exp" / "tf2"))

    def add(tag: str, step: int, tensor: Any, metadata: Any, **how: Any) -> None:
        value = summary.Summary.Value(
            tag=tag, tensor=util.make_tensor_proto(tensor, **how), metadata=metadata
        )
        writer.add_event(
            event.Event(wall_time=1700001000 + step / 3, step=step, summary=summary.Summary(value=[value]))
        )

    meta = scalar.create_summary_metadata(display_name=None, description="what it is")
    for step in range(150):
        add("epoch_loss", step, numpy.float32(2 / (step + 1)), meta)
        add("precise", step, numpy.float64(1 / (step + 3)), meta)
    add("half", 3, numpy.float16(0.25), meta)
    edges = numpy.linspace(0, 1, 6)
    rows = numpy.stack([edges[:-1], edges[1:], numpy.arange(5.0)], axis=1)
    add("weights", 5, rows, histogram.create_summary_metadata(display_name=None, description=None))
    add("words", 6, b"text of tf", text.create_summary_metadata(display_name=None, description=None))
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000"
        "000049454e44ae426082"
    )
    add("picture", 7, [b"1", b"1", pixel], image.create_summary_metadata(display_name=None, description=None))
    writer.close()


def read(folder: Path) -> dict[str, Any]:
    """Every scalar as TensorBoard's own reader gives it."""
    multiplexer = importlib.import_module("tensorboard.backend.event_processing.plugin_event_multiplexer")
    util = importlib.import_module("tensorboard.util.tensor_util")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found = multiplexer.EventMultiplexer(tensor_size_guidance={"scalars": 0})
    found.AddRunsFromDirectory(str(folder)).Reload()
    runs: dict[str, Any] = {}
    for run in found.Runs():
        series = {}
        for tag in (
            found.GetAccumulator(run).PluginTagToContent("scalars")
            if "scalars" in found.ActivePlugins()
            else ()
        ):
            series[tag] = [
                [event.step, event.wall_time, plain(util.make_ndarray(event.tensor_proto).item())]
                for event in found.Tensors(run, tag)
            ]
        runs[run] = series
    return runs


def main() -> None:
    version = importlib.import_module("tensorboard.version").VERSION
    with tempfile.TemporaryDirectory() as folder:
        by_tensorboardx(Path(folder))
        by_tensorflow(Path(folder))
        pack(Path(folder), Path(sys.argv[1]), "tensorboard", {"version": version, "runs": read(Path(folder))})


main()
