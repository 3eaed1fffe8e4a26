"""`mlstudio.Studio`: runs as objects, series as arrays, tables; the same history as everything else."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mlstudio
from mlstudio.engines.fake import FakeContainer, FakeEngine
from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.record import Batch, Cursor, LogBlock, Medium, Points
from mlstudio.model.run import Exit, ExitReason, RunSpec, RunState
from mlstudio.probe.zipapp import build_probe


def _seed(
    studio: mlstudio.Studio, name: str, rate: str, accuracy: float, *, tags: tuple[str, ...] = ()
) -> str:
    history = studio._history
    run_id = f"{name}-{'0' * 20}"
    history.add_run(
        RunSpec(command=("python", "train.py"), tags=tags),
        run_id=run_id,
        name=name,
        created=1_700_000_000.0,
        engine_kind="docker",
        parameters=(("lr", rate), ("amp", "True"), ("model", "cnn")),
    )
    steps = array("q", range(50))
    times = array("d", [1_700_000_000.0 + step for step in steps])
    loss = array("d", [1 / (1 + step) for step in steps])
    grown = array("d", [accuracy * step / 49 for step in steps])
    text = b"one\ntwo\n"
    history.apply(
        run_id,
        Batch(
            cursor=Cursor(seq=0, position="0", log_bytes=len(text)),
            points=(
                Points(name="loss", kind="metric", steps=steps, times=times, values=loss),
                Points(name="val/acc", kind="metric", steps=steps, times=times, values=grown),
                Points(
                    name="loss (tensorboard)",
                    kind="metric",
                    steps=steps,
                    times=times,
                    values=loss,
                    logger="tensorboard",
                ),
            ),
            log=(LogBlock(data=text, spans=((False, len(text), 1.0),)),),
            media=(
                Medium(
                    name="weights",
                    kind="histogram",
                    logger="tensorboard",
                    step=3,
                    time=1.0,
                    mime="application/json",
                    data=b'{"edges":[0,1,2],"counts":[5,7]}',
                ),
            ),
        ),
    )
    history.mark_same(run_id, {"loss (tensorboard)": "loss"})
    history.finish(run_id)
    history.observe(
        run_id,
        state=RunState.SUCCEEDED,
        started=1.0,
        ended=61.0,
        exit=Exit(reason=ExitReason.COMPLETED, code=0),
    )
    return run_id


@pytest.fixture
def studio(home: Path) -> Iterator[mlstudio.Studio]:
    with mlstudio.Studio(home) as made:
        _seed(made, "good", "0.001", 0.95, tags=("cnn", "paper"))
        _seed(made, "poor", "0.1", 0.5)
        yield made


def test_runs_are_found_by_an_expression_and_sorted(studio: mlstudio.Studio) -> None:
    assert [run.name for run in studio.runs()] == ["poor", "good"]
    assert [run.name for run in studio.runs('lr < 1e-2 and val.acc.max > 0.9 and "cnn" in tags')] == ["good"]
    assert [run.name for run in studio.runs(sort="metric:val/acc", limit=1)] == ["good"]
    with pytest.raises(RequestError):
        studio.runs("lr <")


def test_a_run_tells_what_it_is(studio: mlstudio.Studio) -> None:
    run = studio.run("good")
    assert studio.run(run.number) == run
    assert (run.state, run.exit_code, run.is_over, run.duration_s) == ("succeeded", 0, True, 60.0)
    assert run.params == {"lr": 0.001, "amp": True, "model": "cnn"}
    assert run.created.year == 2023
    # What two loggers brought is there once.
    assert list(run.metrics) == ["loss", "val/acc"]
    assert run.metrics["val/acc"].maximum == 0.95
    assert [line.text for line in run.log()] == ["one", "two"]


def test_series_are_arrays_that_nobody_changes_by_mistake(studio: mlstudio.Studio) -> None:
    series = studio.run("good").series("loss")
    np.testing.assert_array_equal(series.steps, np.arange(50))
    np.testing.assert_array_equal(series.values, 1 / (1 + np.arange(50)))
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 3
    with pytest.raises(NotFound, match=r"It has: loss"):
        studio.run("good").series("los")


def test_media_come_with_their_data(studio: mlstudio.Studio) -> None:
    (medium,) = studio.run("good").media(kind="histogram")
    edges, counts = medium.histogram()
    assert (medium.name, medium.step) == ("weights", 3)
    np.testing.assert_array_equal(edges, [0, 1, 2])
    np.testing.assert_array_equal(counts, [5, 7])


def test_records_hold_parameters_and_latest_values(studio: mlstudio.Studio) -> None:
    good = studio.records('name == "good"')[0]
    assert (good["param.lr"], good["metric.val/acc"], good["tags"]) == (0.001, 0.95, "cnn, paper")
    assert "metric.loss (tensorboard)" not in good


def test_a_table_needs_pandas_and_says_so(studio: mlstudio.Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RequestError, match="pip install pandas"):
        studio.table()


def test_names_tags_and_notes_can_be_changed(studio: mlstudio.Studio) -> None:
    run = studio.run("poor")
    run.name, run.tags, run.note = "better", ["x"], "look again"
    again = studio.run("better")
    assert (again.tags, again.note) == (("x",), "look again")
    again.remove()
    assert [run.name for run in studio.runs()] == ["good"]


def test_a_run_is_launched_waited_for_and_launched_again(home: Path, tmp_path: Path) -> None:
    code = tmp_path / "project"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")

    def program(container: FakeContainer) -> int:
        return 0

    engine = FakeEngine("local", program=program)
    try:
        with mlstudio.Studio(home, engines={"local": engine}) as studio:
            studio._services.settings.set("pip.discover", False)
            run = studio.launch(code, "--epochs", 3, name="mine", tags=("api",))
            assert (run.name, run.tags, run.command[-2:]) == ("mine", ("api",), ("--epochs", "3"))
            second = run.again()
            assert second.number == run.number + 1
            assert second.command == run.command
    finally:
        engine.close()


def test_in_a_container_there_is_no_studio_and_that_is_said(tmp_path: Path) -> None:
    probe = tmp_path / "probe.pyz"
    probe.write_bytes(build_probe())
    code = "import mlstudio\ntry:\n    mlstudio.Studio\nexcept AttributeError as error:\n    print(error)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(probe)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "outside of runs" in done.stdout
    assert "numpy" not in done.stdout


def test_training_scripts_do_not_pay_for_it() -> None:
    code = "import sys, mlstudio; mlstudio.log(loss=1); print([name for name in sys.modules if 'mlstudio.' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mlstudio.probe.client" in done.stdout
    assert "mlstudio.api" not in done.stdout
    assert "mlstudio.services" not in done.stdout
