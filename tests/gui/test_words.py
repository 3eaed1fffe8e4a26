"""ANSI colours, the strips of a run, and the columns of the table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlstudio.gui.pages.run.ansi import Span, plain, spans
from mlstudio.gui.pages.run.strips import reading_words, strips_of
from mlstudio.gui.pages.runs.columns import aligned_text, decimals_of, less_is_better, progress_words
from mlstudio.model.run import Exit, ExitReason, MetricSummary, Progress, RunState, RunSummary


def test_colours_become_names_of_the_theme() -> None:
    assert spans("a \x1b[1;31mbad\x1b[0m end") == (
        Span("a "), Span("bad", "status.error", True), Span(" end"),
    )  # fmt: skip
    assert spans("\x1b[38;5;208mx\x1b[93my") == (Span("x"), Span("y", "status.warning"))


def test_what_a_terminal_would_overwrite_is_gone() -> None:
    assert plain(" 10%|#   |\r 50%|##  |\r100%|####|\r") == "100%|####|"
    assert plain("\x1b]0;title\x07\x1b[2K\x1b[1Adone\tnow") == "done    now"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_no_line_is_too_odd(text: str) -> None:
    assert "\x1b" not in plain(text)


def metric(name: str, kind: str = "metric", *, maximum: float = 1.0) -> MetricSummary:
    return MetricSummary(name=name, kind=kind, count=5, last=1.0, minimum=0.0, maximum=maximum)


def test_training_and_validation_share_a_strip() -> None:
    strips = strips_of([metric("train/loss"), metric("val/loss"), metric("lr"), metric("val_accuracy")])
    assert [(strip.title, [line.name for line in strip.lines]) for strip in strips] == [
        ("loss", ["train/loss", "val/loss"]),
        ("val_accuracy", ["val_accuracy"]),
        ("lr", ["lr"]),
    ]
    assert strips[0].lines[1].dash
    assert not strips[0].lines[0].dash


def test_system_readings_have_units_and_absent_ones_no_strip() -> None:
    strips = strips_of(
        [
            metric("cpu.percent", "system"),
            metric("gpu.1.utilisation_percent", "system"),
            metric("memory.bytes", "system", maximum=4e9),
            metric("net.rx_bytes_per_s", "system", maximum=0.0),
        ]
    )
    assert [strip.title for strip in strips] == ["GPU 1", "CPU", "Memory"]
    assert reading_words("gpu.0.power_w", 271.4, {}) == "271 W"
    assert reading_words("memory.bytes", 21.4e9, {}) == "21.4 GB"
    assert reading_words("cpu.percent", None, {}) == "–"


def test_a_column_of_values_has_the_same_decimals() -> None:
    decimals = decimals_of([0.7868, 0.0912, float("nan")])
    assert [aligned_text(value, decimals) for value in (0.7868, 0.09123, float("nan"), None)] == [
        "0.7868", "0.0912", "NaN", "–",
    ]  # fmt: skip
    assert decimals_of([1467.2, 918.0]) == 0
    assert aligned_text(5e-7, 4) == "5e\u22127"
    assert less_is_better("val/loss")
    assert not less_is_better("val/top1")


def run(state: RunState, **more: object) -> RunSummary:
    return RunSummary(id="r", number=1, name="r", state=state, created=0.0, **more)  # type: ignore[arg-type]


def test_the_progress_cell_says_what_the_state_means() -> None:
    oom = Exit(reason=ExitReason.OUT_OF_MEMORY, code=137, message="Killed: the container …")
    assert progress_words(run(RunState.FAILED, exit=oom), 0)[0] == "Out of memory"
    assert progress_words(run(RunState.QUEUED, phase="building image, step 3 of 7"), 0)[0].startswith(
        "building"
    )
    stopped = run(RunState.STOPPED, progress=Progress(done=41, total=100))
    assert progress_words(stopped, 0)[0] == "at 41 %, by you"
