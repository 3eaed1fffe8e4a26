"""A folder as TensorBoard reads it: a folder of event files for every run."""

from __future__ import annotations

from pathlib import Path

from mlstudio.model.run import MediaItem, RunState
from mlstudio.services.exporting.content import Content
from mlstudio.services.exporting.event_file import EventWriter

_STATUS = {RunState.SUCCEEDED: "success", RunState.FAILED: "failure", RunState.STOPPED: "failure"}


def write_run(content: Content, folder: Path) -> list[str]:
    """Write one run into a new folder. Returns sentences about what TensorBoard cannot show."""
    run = content.run
    folder.mkdir(parents=True)
    began = run.started if run.started is not None else run.created
    left_out: set[str] = set()
    path = folder / f"events.out.tfevents.{max(0, int(began)):010d}.mlstudio.{run.number}.0"
    with path.open("xb", buffering=1024 * 1024) as file:
        writer = EventWriter(file, wall_time=began)
        writer.hparams(
            dict(run.parameters),
            name=run.name,
            status=_STATUS.get(run.state, ""),
            started=began,
            ended=run.ended,
        )
        if run.note:
            writer.text("note", 0, began, run.note)
        for metric, series in content.series():
            name = metric.name if metric.kind == "metric" else f"system/{metric.name}"
            writer.scalars(name, series.steps, series.times, series.values)
        for item, data in content.media():
            if not _write_medium(writer, item, data):
                left_out.add(item.kind)
    return [
        f"{run.name}: media of the kind “{kind}” have no place in TensorBoard." for kind in sorted(left_out)
    ]


def _write_medium(writer: EventWriter, item: MediaItem, data: bytes) -> bool:
    match item.kind:
        case "text":
            writer.text(item.name, item.step, item.time, data.decode("utf-8", "replace"))
        case "image":
            writer.image(item.name, item.step, item.time, data, width=item.width, height=item.height)
        case "histogram":
            return writer.histogram(item.name, item.step, item.time, data)
        case _:
            return False
    return True
