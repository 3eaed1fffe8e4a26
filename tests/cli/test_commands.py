"""Every command, as a person and as a program reads it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstudio.model.host import EngineTrouble
from mlstudio.services.project import read_project
from tests.cli.conftest import Terminal

Finished = Callable[[], str]


def test_an_empty_history_says_how_to_begin(terminal: Terminal) -> None:
    assert "mlstudio run" in terminal("ls").output
    assert terminal.json("ls") == {"runs": []}


def test_ls_shows_state_metrics_and_time(terminal: Terminal, finished: Finished) -> None:
    finished()
    output = terminal("ls").output
    assert "project-1" in output
    assert "✗ failed" in output
    assert "loss 1" in output
    assert "1 min 00 s" in output
    (run,) = terminal.json("ls", "--state", "failed", "--search", "train")["runs"]
    assert run["parameters"] == {"lr": "0.1"}
    assert terminal.json("ls", "--state", "running")["runs"] == []
    assert "No run fits" in terminal("ls", "--search", "nonesuch").output


def test_ls_says_that_there_is_more(terminal: Terminal, finished: Finished) -> None:
    finished()
    finished()
    result = terminal("ls", "--limit", "1")
    assert "project-2" in result.stdout
    assert "project-1" not in result.stdout
    assert "1 of 2" in result.stderr
    assert len(terminal.json("ls", "--all")["runs"]) == 2


def test_show_tells_everything(terminal: Terminal, finished: Finished) -> None:
    run_id = finished()
    output = terminal("show", "1").output
    assert "project-1" in output
    assert "exit code 4" in output
    assert "lr         0.1" in output or "lr" in output
    for text in ("project-1", run_id, run_id[:6]):
        assert terminal.json("show", text)["run"]["id"] == run_id
    error = terminal.json("show", "nonesuch", expect=2)["error"]
    assert error["kind"] == "request"
    assert "nonesuch" in error["what"]


def test_logs_are_safe_and_complete(terminal: Terminal, finished: Finished) -> None:
    finished()
    assert terminal("logs", "1").stdout == "epoch 1\ndanger\nwarning\n"
    assert terminal("logs", "1", "--tail", "1").stdout == "warning\n"
    assert terminal("logs", "1", "--search", "dang").stdout == "danger\n"
    assert terminal("logs", "1", "-f").stdout == "epoch 1\ndanger\nwarning\n"
    assert "epoch 1" in terminal("logs", "1", "-t").stdout
    lines = terminal.json("logs", "1")["lines"]
    assert [line["is_error_stream"] for line in lines] == [False, False, True]


def test_metrics_hold_every_point(terminal: Terminal, finished: Finished) -> None:
    finished()
    document = terminal.json("metrics", "1")
    assert document["run"]["name"] == "project-1"
    assert [(entry["name"], entry["steps"], entry["values"]) for entry in document["series"]] == [
        ("loss", [0, 1, 2], [3.0, 2.0, 1.0]),
        ("odd", [0, 1, 2], ["NaN", "Infinity", "-Infinity"]),
    ]
    assert {entry["kind"] for entry in terminal.json("metrics", "1", "--system")["series"]} == {
        "metric",
        "system",
    }
    rows = list(csv.reader(io.StringIO(terminal("metrics", "1", "loss", "--csv").stdout)))
    assert rows[0] == ["run", "name", "kind", "step", "time", "value"]
    assert rows[1] == ["project-1", "loss", "metric", "0", "1.0", "3.0"]
    assert len(rows) == 4
    assert "loss" in terminal("metrics", "1").output
    assert "Did you mean loss" in terminal("metrics", "1", "los", expect=2).output


def test_without_a_run_the_newest_is_meant(terminal: Terminal, finished: Finished) -> None:
    for command in ("show", "logs", "metrics"):
        assert "no runs yet" in terminal(command, expect=2).output
    finished()
    newest = finished()
    assert terminal.json("show")["run"]["id"] == newest
    assert terminal("logs").stdout == "epoch 1\ndanger\nwarning\n"
    assert terminal.json("metrics")["run"]["id"] == newest
    (entry,) = terminal.json("metrics", "loss")["series"]
    assert entry["name"] == "loss"
    assert "no run" in terminal("metrics", "los", expect=2).output


def test_removing_asks_or_needs_yes(terminal: Terminal, finished: Finished) -> None:
    finished()
    assert "--yes" in terminal("rm", "1", expect=2).output
    assert terminal.json("rm", "1", "--yes")["removed"]
    assert terminal.json("ls")["runs"] == []


def test_stopping_what_is_over_is_quiet(terminal: Terminal, finished: Finished) -> None:
    finished()
    assert "was over already: failed" in terminal("stop", "1").output


def test_a_dockerfile_is_printed_the_same_twice(terminal: Terminal, project: Path) -> None:
    first = terminal("build", project, "--print").stdout
    assert first == terminal("build", project, "--print").stdout
    assert "\nFROM " in first
    assert terminal.json("build", project, "--print")["dockerfile"] == first


def test_a_dry_run_forecasts_and_a_build_builds(terminal: Terminal, project: Path) -> None:
    plan = terminal.json("build", project, "--dry-run")
    assert not plan["is_built"]
    assert {layer["cached"] for layer in plan["layers"]} == {"rebuild"}
    assert "forecast" in terminal("build", project, "--dry-run").output
    record = terminal.json("build", project)["image"]
    assert record["tag"].startswith("mlstudio/project:")
    assert terminal.json("build", project, "--dry-run")["is_built"]
    (image,) = terminal.json("images", "list")["images"]
    assert image["id"] == record["id"]
    assert record["tag"] in terminal("images").output
    assert "--yes" in terminal("images", "rm", record["tag"], expect=2).output
    for spec in terminal.engine.launched:
        terminal.engine.remove(f"fake-{spec.run_id}")
    terminal("images", "rm", record["tag"], "--yes")
    assert terminal.json("images", "list")["images"] == []


def test_a_failed_build_is_told_with_its_step(terminal: Terminal, project: Path) -> None:
    terminal.engine.builds.fails_at = 4
    terminal.engine.builds.log = "ERROR: No matching distribution found for numpy==2.1.0\n"
    result = terminal("build", project, expect=3)
    assert "Failed: " in result.stderr
    assert "No matching distribution" in result.stderr
    assert "Try:" in result.stderr
    assert terminal.json("build", project, expect=3)["error"]["diagnosis"]["step"]


def test_init_writes_what_run_reads(terminal: Terminal, project: Path) -> None:
    terminal("init", project, "-p", "lr=0.5", "--travel", "mounted", "--env", "A=b")
    written = read_project(project)
    assert written is not None
    assert written.command == ("python", "train.py")
    assert written.parameters == {"lr": "0.5"}
    assert "already" in terminal("init", project, expect=2).output
    terminal("init", project, "--force")

    from mlstudio.services.studio import Studio
    from mlstudio.services.wishes import Words, spec_from

    terminal(
        "init", project, "--force", "-p", "lr=0.5", "-p", "epochs=3", "--travel", "mounted", "--env", "A=b"
    )
    with Studio(terminal.home, engines={"local": terminal.engine}) as studio:
        spec = spec_from(studio, Words(target=str(project), args=("--epochs", "9")))
        assert spec.command == ("python", "train.py", "--lr", "0.5", "--epochs", "9")
        assert spec.code.travel == "mounted"
        assert spec.env == (("A", "b"),)
        script = spec_from(studio, Words(target=str(project / "train.py"), parameters=("lr=1",)))
        assert script.command == ("python", "train.py", "--lr", "1", "--epochs", "3")
        own = spec_from(studio, Words(target=str(project), command_line="python -m pkg.fit 'a b'"))
        assert own.command == ("python", "-m", "pkg.fit", "a b")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["run", "/nonesuch"], "code.folder"),
        (["run", "--memory", "lots"], "limits.memory_bytes"),
        (["run", "--cpus", "-1"], "limits.cpus"),
        (["run", "--gpus", "both"], "gpus"),
        (["run", "--mount", "x"], "mounts"),
        (["run", "--secret", "KEY=sesame"], "secrets"),
        (["run", "--secret", "KEY=@/nonesuch"], "secrets"),
        (["run", "--env", "novalue"], "env"),
        (["run", "--ref", "main"], "code.ref"),
        (["run", "--image", "x", "--framework", "pytorch"], "image"),
        (["run", "--image", "x"], "command"),
        (["run", "--framework", "nonesuch", "--command", "python train.py"], "image.framework"),
        (["settings", "set", "theme", "purple"], "theme"),
        (["settings", "get", "nonesuch"], "settings"),
        (["examples", "copy", "nonesuch"], "example"),
    ],
)
def test_a_wrong_request_names_its_field(
    terminal: Terminal, project: Path, words: list[str], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    error = terminal.json(*words, expect=2)["error"]
    assert error["field"] == field
    assert error["what"]
    assert "sesame" not in json.dumps(error)


def test_a_folder_without_a_script_is_told(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = terminal("run", tmp_path / "empty", expect=2)
    assert "no Python file" in result.stderr
    assert "Try:" in result.stderr


def test_without_an_engine_the_process_engine_is_offered(terminal: Terminal, project: Path) -> None:
    from click.testing import CliRunner

    from mlstudio.cli.main import cli
    from mlstudio.cli.session import Session

    terminal.engine.go_away(EngineTrouble.STOPPED)
    engines = {"local": terminal.engine, "process": terminal.engine}
    result = CliRunner().invoke(cli, ["run", str(project)], obj=Session(terminal.home, engines=engines))
    assert result.exit_code == 3
    assert "--engine process" in result.stderr
    assert "Start it." in result.stderr
    assert terminal.json("ls")["runs"] == []


def test_settings_are_listed_set_and_reset(terminal: Terminal) -> None:
    terminal("settings", "set", "pip.index_url", "https://me:sesame@example.org/simple")
    assert "sesame" not in terminal("settings", "list").output
    assert "sesame" not in terminal("settings", "get", "pip.index_url", "--json").output
    terminal("settings", "set", "pip.trusted_hosts", "a.example", "b.example")
    assert terminal("settings", "get", "pip.trusted_hosts").stdout == "a.example, b.example\n"
    terminal("settings", "reset", "pip.trusted_hosts")
    assert terminal.json("settings", "get", "pip.trusted_hosts")["value"] == []
    entries = terminal.json("settings", "list")["settings"]
    assert all(entry["sentence"] for entry in entries)


def test_examples_are_listed_and_copied(terminal: Terminal, tmp_path: Path) -> None:
    name = terminal.json("examples", "list")["examples"][0]["name"]
    target = Path(terminal.json("examples", "copy", name, tmp_path)["path"])
    assert (target / "train.py").is_file()


def test_the_doctor_ends_with_one_where_nothing_can_run(terminal: Terminal) -> None:
    terminal("settings", "set", "pip.index_url", "http://127.0.0.1:9/simple")
    assert terminal("doctor").output.endswith("Ready.\n")
    terminal.engine.go_away()
    report = terminal.json("doctor", expect=1)
    assert not report["ready"]
    assert "✗" in terminal("doctor", expect=1).output
