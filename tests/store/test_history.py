"""The history's runs: written, found, sorted, changed, removed; and images."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from mlstudio.model.code import CodeSnapshot, CodeSource, Travel
from mlstudio.model.errors import NotFound, RequestError
from mlstudio.model.image import ImageRecord, ImageSpec, Package
from mlstudio.model.record import Batch, Cursor, Gap
from mlstudio.model.run import (
    Exit,
    ExitReason,
    GpuRequest,
    Limits,
    Mount,
    Network,
    Progress,
    RunSpec,
    RunState,
)
from mlstudio.store import History
from mlstudio.store.spec_json import from_json, to_json
from tests.store.conftest import add, batch, points

ROOT = Path(__file__).parents[2]

FULL = RunSpec(
    command=("python", "train.py", "--name", "ü 🎉 '\";--"),
    code=CodeSource(url="https://example.org/x.git", ref="main", subfolder="a/b", travel=Travel.CLONED),
    image=ImageSpec(framework="pytorch", requirements=("torch==2.13.0",), env=(("A", "b=c"),)),
    name="full",
    parameters=(("lr", "1e-3"), ("model", "cnn")),
    env=(("X", "1"),),
    secrets=("TOKEN",),
    mounts=(Mount(source="/data", target="/data"), Mount(source="/out", target="/out", read_only=False)),
    limits=Limits(cpus=2, memory_bytes=10**9, stop_after_s=3.5),
    gpus=GpuRequest(uuids=("GPU-1",)),
    network=Network.NONE,
    tags=("cnn", "baseline"),
    note="a note",
    run_as_root=True,
)


def test_a_spec_comes_back_as_it_was(history: History) -> None:
    summary = history.add_run(
        FULL, run_id="a" * 32, name="full", created=1.5, engine_kind="docker", owner="1:2"
    )
    assert history.detail("a" * 32).spec == FULL
    assert summary == history.summary("a" * 32)
    assert (summary.number, summary.state, summary.desired) == (1, RunState.QUEUED, "running")
    assert summary.command == FULL.command
    assert summary.tags == ("cnn", "baseline")
    assert summary.parameters == FULL.parameters


def test_a_spec_of_another_version_is_read_as_far_as_it_goes() -> None:
    text = to_json(FULL).replace('"note":"a note"', '"brand_new":[1,{"x":2}]')
    found = from_json(RunSpec, text)
    assert found.note == ""
    assert found.mounts == FULL.mounts


def test_numbers_and_colours_are_given_once(history: History) -> None:
    first, second = add(history), add(history)
    assert [history.summary(run_id).number for run_id in (first, second)] == [1, 2]
    history.remove_run(second)
    third = history.summary(add(history))
    assert (third.number, third.colour) == (3, 2)


def test_runs_are_found_by_what_a_person_types(history: History) -> None:
    first = history.add_run(
        RunSpec(command=("x",)), run_id="abcd1111", name="same", created=1, engine_kind="fake"
    )
    second = history.add_run(
        RunSpec(command=("x",)), run_id="abcd2222", name="same", created=2, engine_kind="fake"
    )
    assert history.resolve("1") == first.id
    assert history.resolve("#2") == second.id
    assert history.resolve("abcd1") == first.id
    assert history.resolve("abcd2222") == second.id
    assert history.resolve("same") == second.id
    with pytest.raises(RequestError, match="several"):
        history.resolve("abcd")
    for nothing in ("", "99", "abc", "abcd%", "zzzzzz", "9" * 40):
        with pytest.raises(NotFound):
            history.resolve(nothing)


def test_what_is_asked_of_a_run_that_is_not_there(history: History) -> None:
    for ask in (
        lambda: history.summary("x"), lambda: history.detail("x"), lambda: history.metrics("x"),
        lambda: history.log("x"), lambda: history.events("x"), lambda: history.cursor("x"),
        lambda: history.rename("x", "y"), lambda: history.observe("x", phase="y"), lambda: history.remove_run("x"),
        lambda: history.apply("x", batch(0)), lambda: history.series("x", "y"), lambda: history.finish("x"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            ask()


def test_runs_are_filtered_and_sorted_by_the_database(history: History) -> None:
    a, b, c = (add(history, name) for name in ("alpha", "Beta 50%", "gamma_1"))
    history.set_tags(b, ("vision",))
    history.set_note(c, "the Best")
    history.observe(a, state=RunState.RUNNING, started=10.0)
    history.observe(b, state=RunState.FAILED, started=5.0, ended=6.0)
    history.apply(a, batch(0, points("loss", [3.0])))
    history.apply(c, batch(0, points("loss", [1.0]), points("acc", [0.5])))

    def ids(**question: object) -> list[str]:
        return [found.id for found in history.runs(**question)]  # type: ignore[arg-type]

    assert ids() == [c, b, a]
    assert ids(descending=False) == [a, b, c]
    assert ids(states=[RunState.RUNNING, RunState.FAILED]) == [b, a]
    assert ids(states=[]) == []
    assert ids(search="VIS") == [b]
    assert ids(search="best gamma") == [c]
    assert ids(search="50%") == [b]
    assert ids(search="_") == [c]
    assert ids(order_by="name", descending=False) == [a, b, c]
    assert ids(order_by="metric:loss", descending=False) == [c, a, b]
    assert ids(order_by="metric:loss") == [a, c, b]
    assert ids(order_by="metric:acc")[0] == c
    assert ids(order_by="started", descending=False) == [b, a, c]
    assert ids(order_by="duration", descending=False)[0] == b
    assert ids(limit=1, offset=1) == [b]
    assert ids(offset=2) == [a]
    assert ids(ids=[a, "unknown"]) == [a]
    assert history.count(search="gamma") == 1
    history.archive(b)
    assert ids() == [c, a]
    assert history.count() == 2
    assert ids(archived=True) == [c, b, a]
    assert ids(ids=[b]) == [b]
    history.archive(b, False)
    assert history.count() == 3
    with pytest.raises(RequestError, match="No run has anything called"):
        history.runs(order_by="name; DROP TABLE run")


def test_parameters_sort_as_numbers_where_they_are_numbers(history: History) -> None:
    runs = {}
    for value in ("10", "9", "1e-3", "auto"):
        runs[value] = add(history, value, parameters=(("lr", value),))
    found = [run.name for run in history.runs(order_by="param:lr", descending=False)]
    assert found == ["1e-3", "9", "10", "auto"]


def test_a_page_of_runs_takes_the_same_number_of_questions_whatever_is_on_it(history: History) -> None:
    for number in range(30):
        run_id = add(history, f"run {number}", tags=("a", "b"), parameters=(("lr", "1"),))
        history.apply(run_id, batch(0, *(points(f"m{metric}", [1.0]) for metric in range(5))))
    asked: list[str] = []
    engine = history._database._engine

    def note(*words: object) -> None:
        asked.append(str(words[2]))

    event.listen(engine, "before_cursor_execute", note)
    history.runs(limit=1)
    one = len(asked)
    asked.clear()
    assert len(history.runs(limit=30)) == 30
    assert len(asked) == one
    event.remove(engine, "before_cursor_execute", note)


def test_viewers_see_what_changed_and_nothing_else(history: History) -> None:
    first, second = add(history, "first"), add(history, "second")
    seen = history.changed_since(0)
    assert [run.name for run in seen.runs] == ["first", "second"]
    assert history.changed_since(seen.revision).runs == ()
    history.rename(first, "renamed")
    news = history.changed_since(seen.revision)
    assert [run.name for run in news.runs] == ["renamed"]
    assert news.runs[0].revision == news.revision == history.revision()
    history.apply(second, batch(0, points("loss", [1.0])))
    later = history.changed_since(news.revision)
    assert [run.metrics[0].last for run in later.runs] == [1.0]
    history.archive(second)
    history.remove_run(first)
    last = history.changed_since(later.revision)
    assert [run.id for run in last.runs] == [second]
    assert last.removed == (first,)


def test_every_change_is_seen(history: History) -> None:
    run_id = add(history)
    changes: list[Callable[[], None]] = [
        lambda: history.set_phase(run_id, "building"),
        lambda: history.set_desired(run_id, "stopped"),
        lambda: history.set_handle(run_id, "h"),
        lambda: history.set_image(run_id, "sha256:1", "tag", "FROM x"),
        lambda: history.set_code(run_id, CodeSnapshot(tree_hash="sha256:2", files=("a",), size_bytes=1)),
        lambda: history.set_tags(run_id, ("t",)),
        lambda: history.set_note(run_id, "n"),
        lambda: history.set_environment(run_id, "{}"),
        lambda: history.observe(run_id, phase="p"),
        lambda: history.add_lacks(run_id, ["l"]),
        lambda: history.apply(run_id, batch(0)),
        lambda: history.finish(run_id),
    ]
    for change in changes:
        before = history.revision()
        change()
        assert [run.id for run in history.changed_since(before).runs] == [run_id]


def test_other_programs_changes_are_noticed(history: History, path: Path) -> None:
    before = history.data_version()
    assert history.data_version() == before
    code = (
        "import sys; from pathlib import Path; from mlstudio.store import History\n"
        "from mlstudio.model.run import RunSpec\n"
        "h = History(Path(sys.argv[1]))\n"
        "h.add_run(RunSpec(command=('x',)), run_id='f' * 32, name='other', created=1, engine_kind='fake'); h.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)
    assert history.data_version() != before
    assert history.runs()[0].name == "other"


def test_what_is_known_of_a_run_comes_together(history: History) -> None:
    run_id = add(history)
    snapshot = CodeSnapshot(
        tree_hash="sha256:t",
        files=("a.py", "ü/b.py", "bad\udc80name"),
        size_bytes=10,
        commit="c" * 40,
        changed_files=("a.py",),
        patch="+x\n",
    )
    history.set_code(run_id, snapshot)
    history.set_image(run_id, "sha256:i", "mlstudio/x:1", "FROM python\n")
    history.set_environment(run_id, '{"python": "3.11"}')
    history.set_handle(run_id, "handle")
    ended = Exit(reason=ExitReason.ERROR, code=2, message="m", try_this="t")
    progress = Progress(done=1, total=4, unit="epoch", rate_per_s=0.5, eta_s=6)
    history.observe(
        run_id,
        state=RunState.FAILED,
        started=1.0,
        ended=2.0,
        exit=ended,
        host="h",
        gpus=("G",),
        progress=progress,
    )
    detail = history.detail(run_id)
    assert detail.patch == "+x\n"
    assert detail.code_files == snapshot.files
    assert detail.dockerfile == "FROM python\n"
    assert detail.environment_json == '{"python": "3.11"}'
    assert detail.handle == "handle"
    summary = detail.summary
    assert (summary.commit, summary.tree_hash, summary.changed_files) == ("c" * 40, "sha256:t", 1)
    assert (summary.exit, summary.progress, summary.gpus, summary.host) == (ended, progress, ("G",), "h")
    assert summary.duration_s(100.0) == 1.0
    history.observe(run_id, progress=Progress(done=0, total=0))
    assert history.summary(run_id).progress is None


def test_a_run_that_is_over_stays_as_it_ended(history: History) -> None:
    run_id = add(history)
    history.observe(
        run_id, state=RunState.SUCCEEDED, ended=5.0, exit=Exit(reason=ExitReason.COMPLETED, code=0)
    )
    history.observe(run_id, state=RunState.FAILED, ended=9.0, exit=Exit(reason=ExitReason.LOST), phase="x")
    found = history.summary(run_id)
    assert found.exit is not None
    assert (found.state, found.ended, found.exit.reason) == (RunState.SUCCEEDED, 5.0, ExitReason.COMPLETED)
    assert history.live_runs() == []


def test_a_lost_run_may_be_found_again(history: History) -> None:
    run_id = add(history)
    history.observe(run_id, state=RunState.LOST)
    assert history.live_runs() == [run_id]
    history.observe(run_id, state=RunState.RUNNING)
    assert history.summary(run_id).state is RunState.RUNNING


def test_asking_again_to_stop_keeps_the_first_time(history: History) -> None:
    run_id = add(history)
    history.set_desired(run_id, "stopped", grace_s=3.0)
    (first,) = history.live()
    history.set_desired(run_id, "stopped")
    (second,) = history.live()
    assert (second.desired, second.desired_at, second.stop_grace_s) == ("stopped", first.desired_at, 3.0)


def test_removing_a_run_removes_all_of_it(history: History) -> None:
    run_id, kept = add(history, tags=("t",), parameters=(("a", "1"),)), add(history)
    for seq in range(100):
        for one in (run_id, kept):
            history.apply(one, batch(seq, points("loss", [1.0]), log=b"x\n", before=2 * seq))
    history.apply(run_id, Batch(cursor=Cursor(seq=100), gaps=(Gap(first=1, last=2),), artifacts=(("p", 1),)))
    history.remove_run(run_id)
    with history._database.read() as connection:
        for table in (
            "series",
            "tail",
            "log_block",
            "event",
            "tag",
            "parameter",
            "recording",
            "run_detail",
            "gap",
        ):
            found = connection.exec_driver_sql(f"SELECT DISTINCT run FROM {table}").scalars().all()
            assert found in ([], [2]), table
        assert connection.exec_driver_sql("SELECT count(*) FROM chunk").scalar_one() == 1
    assert history.log_count(kept) == 100


def test_many_threads_write_and_read_at_once(history: History) -> None:
    runs = [add(history) for _ in range(4)]
    errors: list[BaseException] = []

    def work(run_id: str) -> None:
        try:
            for seq in range(60):
                history.apply(run_id, batch(seq, points("loss", [float(seq)], first=seq)))
                assert history.series(run_id, "loss").values[-1] == seq
                history.runs()
        except BaseException as error:  # noqa: BLE001 — told by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [history.metrics(run_id)[0].count for run_id in runs] == [60] * 4


def test_two_programs_write_at_once(history: History, path: Path) -> None:
    run_id = add(history)
    code = (
        "import sys; from pathlib import Path; from mlstudio.store import History\n"
        "h = History(Path(sys.argv[1]))\n"
        "for n in range(100): h.set_note(sys.argv[2], str(n))\n"
        "h.close()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path), run_id], cwd=ROOT)
    seq = 0
    while other.poll() is None or seq < 100:
        history.apply(run_id, batch(seq, points("loss", [float(seq)], first=seq)))
        seq += 1
    assert other.returncode == 0
    found = history.summary(run_id)
    assert (found.note, found.metrics[0].count) == ("99", seq)
    assert found.revision == history.revision() == 1 + 100 + seq


# -- images -------------------------------------------------------------------------------------------------------------


def test_images_are_kept_and_found(history: History) -> None:
    record = ImageRecord(
        id="sha256:" + "a" * 64,
        tag="mlstudio/x:1",
        recipe_digest="sha256:r",
        dockerfile="FROM x\n",
        packages=(Package(name="torch", version="2.13.0"), Package(name="git", version="1", manager="apt")),
        size_bytes=5,
        build_seconds=1.5,
        created=3.0,
    )
    newer = ImageRecord(id="sha256:" + "b" * 64, tag="mlstudio/x:2", recipe_digest="sha256:r")
    history.add_image(record)
    history.add_image(newer)
    assert history.images() == [newer, record]
    assert history.image(record.id) == record
    assert history.image("mlstudio/x:1") == record
    assert history.image("aaaaaa") == record
    assert history.image("sha256:aaaaaaaa") == record
    assert history.image("nothing") is None
    assert history.image_for_recipe("sha256:r") == newer
    assert history.image_for_recipe("sha256:q") is None
    run_id = add(history)
    history.set_image(run_id, record.id, record.tag, record.dockerfile)
    used = history.image(record.id)
    assert used is not None
    assert used.runs == 1
    history.add_image(record)
    assert history.images()[0].id == record.id


def test_layers_remember_how_long_they_took(history: History) -> None:
    assert history.layer_seconds("k") is None
    history.record_layer("k", 2.0)
    history.record_layer("k", 3.0)
    assert history.layer_seconds("k") == 3.0


def test_not_a_number_survives_as_the_last_value(history: History) -> None:
    run_id = add(history)
    history.apply(run_id, batch(0, points("loss", [2.0, math.inf, 1.0, math.nan])))
    (found,) = history.metrics(run_id)
    assert found.last is not None
    assert math.isnan(found.last)
    assert (found.minimum, found.minimum_step, found.maximum, found.maximum_step) == (1.0, 2, 2.0, 0)
    history.apply(run_id, batch(1, points("loss", [math.inf], first=4)))
    (found,) = history.metrics(run_id)
    assert (found.last, found.maximum) == (math.inf, 2.0)
