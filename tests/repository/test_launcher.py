"""`./studio` in worlds made for it: a stand-in for Python, for Docker and for the user's rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

STAND_IN_PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >>"{calls}"
case "$*" in
-I*) cat >/dev/null; exit {engine_answers} ;;
esac
"""


@dataclass
class World:
    """A checkout in a folder with a space, already set up, with stand-ins that note how they were called."""

    root: Path
    programs: Path
    calls: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, cwd: Path | None = None, program: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(self.root.parent),
            **self.environment,
        }
        return subprocess.run(
            [program or self.root / "studio", *words],
            env=environment,
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def called(self) -> list[str]:
        """How Python was called, in order; the question for an engine left out."""
        if not self.calls.exists():
            return []
        return [line for line in self.calls.read_text().splitlines() if not line.startswith("-I")]

    def put_program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


def write_python(world: World, *, engine_answers: bool) -> None:
    python = world.root / ".venv" / "bin" / "python"
    python.write_text(STAND_IN_PYTHON.format(calls=world.calls, engine_answers=0 if engine_answers else 1))
    python.chmod(0o755)


def stamp(root: Path) -> str:
    text = (root / "pyproject.toml").read_text()
    sums = subprocess.run(["cksum"], input=text, capture_output=True, text=True, check=True).stdout.strip()
    return f"run {sums} {root}\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    root = tmp_path / "my projects" / "ml studio"
    (root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy2(ROOT / "studio", root / "studio")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / ".venv" / "pyvenv.cfg").write_text(f"command = python -m venv {root}/.venv\n")
    (root / ".venv" / ".stamp-run").write_text(stamp(root))
    programs = tmp_path / "programs"
    programs.mkdir()
    made = World(root, programs, tmp_path / "calls")
    write_python(made, engine_answers=True)
    made.put_program("docker", "exit 0")
    made.put_program("sudo", "exit 1")
    return made


def test_arguments_reach_the_command_line_unchanged_from_anywhere_and_through_a_link(
    world: World, tmp_path: Path
) -> None:
    link = tmp_path / "studio link"
    link.symlink_to(world.root / "studio")
    done = world.run("ls", "--json", "a  b", cwd=Path("/"), program=link)
    assert done.returncode == 0, done.stderr
    assert world.called() == ["-P -m mlstudio ls --json a  b"]


def test_a_second_start_only_compares_the_stamp(world: World) -> None:
    """No pip, no network, and well under 50 ms before Python takes over."""
    took = []
    for _ in range(10):
        began = time.perf_counter()
        world.run("ls")
        took.append(time.perf_counter() - began)
    assert set(world.called()) == {"-P -m mlstudio ls"}
    assert min(took) < 0.05


def test_a_changed_project_file_sets_up_again(world: World) -> None:
    (world.root / "pyproject.toml").write_text("[project]\ndependencies = ['something']\n")
    assert world.run("ls").returncode == 0
    calls = [line for line in world.called() if not line.startswith("-c")]
    assert calls == [
        "-m pip install --quiet --disable-pip-version-check --editable .",
        "-P -m mlstudio ls",
    ]
    world.calls.unlink()
    world.run("ls")
    assert world.called() == ["-P -m mlstudio ls"]


def test_a_failed_installation_is_told_and_tried_again_the_next_time(world: World) -> None:
    (world.root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    python = world.root / ".venv" / "bin" / "python"
    python.write_text(python.read_text() + 'case "$*" in *"pip install"*) exit 1 ;; esac\n')
    done = world.run("ls")
    assert done.returncode == 3
    assert "pip could not install" in done.stderr
    write_python(world, engine_answers=True)
    world.calls.unlink()
    world.run("ls")
    assert any("pip install" in line for line in world.called())


def test_without_a_screen_it_says_so_and_runs_the_example_here(world: World) -> None:
    done = world.run()
    assert "There is no screen here" in done.stderr
    assert world.called() == [f"-P -m mlstudio run {world.root}/resources/examples/digits-cnn"]


def test_with_a_screen_it_opens_the_window_on_the_example(world: World) -> None:
    world.environment["DISPLAY"] = ":99"
    world.put_program("ldconfig", "exit 1")  # What the system lacks is not the question here.
    world.run()
    assert world.called() == ["-P -m mlstudio gui --example digits-cnn"]


def test_without_an_engine_and_without_rights_it_offers_the_process_engine(world: World) -> None:
    write_python(world, engine_answers=False)
    world.put_program("id", 'if [ "$1" = -u ]; then echo 1000; else echo somebody; fi')
    done = world.run()
    assert "docker" in done.stderr
    assert "not a container" in done.stderr
    assert world.called()[-1].endswith("digits-cnn --engine process")


def test_missing_system_libraries_are_named_where_they_may_not_be_installed(world: World) -> None:
    world.environment["DISPLAY"] = ":99"
    world.put_program("id", 'if [ "$1" = -u ]; then echo 1000; else echo somebody; fi')
    world.put_program("ldconfig", "echo 'libGL.so.1 (libc6,x86-64) => /usr/lib/libGL.so.1'")
    done = world.run()
    assert "sudo apt-get install" in done.stderr
    assert "libxcb-cursor0" in done.stderr
    assert "libgl1" not in done.stderr
    assert world.called() == [f"-P -m mlstudio run {world.root}/resources/examples/digits-cnn"]


def test_without_python_it_says_what_to_install(world: World, tmp_path: Path) -> None:
    shutil.rmtree(world.root / ".venv")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "readlink", "cksum", "id", "cat", "grep", "rm", "flock"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    world.environment["PATH"] = str(tools)
    done = world.run("ls")
    assert done.returncode == 3
    assert "Python 3.11 or newer" in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr


def test_an_older_python_in_the_path_is_passed_over(world: World) -> None:
    shutil.rmtree(world.root / ".venv")
    world.put_program("python3", "exit 1")
    world.put_program("python3.14", "exit 1")
    world.put_program(
        "python3.13",
        'case "$*" in *print*) echo "$0" ;; *"-m venv"*) mkdir -p "$4/bin"; exit 1 ;; esac',
    )
    done = world.run("ls")
    assert f"Making a virtual environment with {world.programs}/python3.13" in done.stderr
    assert done.returncode == 3  # The stand-in makes none.


def test_help_needs_nothing(world: World) -> None:
    shutil.rmtree(world.root / ".venv")
    done = world.run("--help")
    assert done.returncode == 0
    assert "./studio test" in done.stdout
    assert not world.called()
