"""The root of the command line: help, completion, errors, and what is not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlstudio.cli.main import cli, exit_code, tell
from mlstudio.cli.session import Session
from mlstudio.model.errors import BuildFailed, Cancelled, DefectError, NotFound, RequestError, WorldError
from mlstudio.model.image import Diagnosis

COMMANDS = cli.list_commands(click.Context(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Examples:" in result.output
    assert f"mlstudio {name}" in result.output or name == "gui"


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert all(f"\n  {name} " in result.output for name in COMMANDS)
    assert "recorder" not in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_MLSTUDIO_COMPLETE" in result.output


def test_a_near_miss_is_guessed() -> None:
    result = CliRunner().invoke(cli, ["metrix"])
    assert result.exit_code == 2
    assert "Did you mean metrics" in result.output


def test_wrong_usage_with_json_is_json() -> None:
    result = CliRunner().invoke(cli, ["show", "--json", "--nonesuch"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["kind"] == "usage"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("a", field="f"), 2),
        (NotFound("a"), 2),
        (WorldError("a"), 3),
        (BuildFailed("a"), 3),
        (Cancelled("a"), 130),
        (DefectError("a"), 70),
    ],
)
def test_errors_have_their_exit_codes(error: RequestError, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_says_what_why_and_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    tell(WorldError("It broke.", why="It was old.", try_this="buy a new one."))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["It broke.", "It was old.", "Try: buy a new one."]


def test_an_error_as_json_holds_its_diagnosis(capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = Diagnosis(rule="no-such-package", title="t", why="w", try_this="x")
    tell(BuildFailed("t", diagnosis=diagnosis, why="w", try_this="x"), wants_json=True)
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["diagnosis"]["rule"]) == ("build", "no-such-package")


def test_without_a_screen_the_window_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for words in ([], ["gui"]):
        result = CliRunner().invoke(cli, words, obj=Session(home))
        assert result.exit_code == 3
        assert "no screen" in result.stderr


def test_listing_runs_loads_neither_qt_nor_a_container_client(home: Path) -> None:
    code = (
        "import sys\n"
        "from mlstudio.cli.main import cli\n"
        f"cli.main(['--home', {str(home)!r}, 'ls'], standalone_mode=False)\n"
        "heavy = {'PySide6', 'docker', 'pyqtgraph', 'keyring', 'pydantic', 'jinja2', 'yaml', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "No runs yet" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_colours_can_be_switched_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_colour = CliRunner().invoke(cli, ["examples"], obj=Session(home), color=True)
    assert "\x1b[" in with_colour.output
    monkeypatch.setenv("NO_COLOR", "1")
    without = CliRunner().invoke(cli, ["examples"], obj=Session(home), color=True)
    assert "\x1b[" not in without.output
