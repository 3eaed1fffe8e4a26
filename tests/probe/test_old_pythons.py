"""The probe in images with another Python: from 3.8 on with everything, before that with output alone."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlstudio.probe.zipapp import build_probe
from tests.probe.runs import Bench

OLDEST = (3, 8)
WITHOUT_PROBE = [(3, 6), (3, 7)]


def _installed() -> dict[tuple[int, int], str]:
    """Pythons of this machine by version, one of each: those of pyenv and of the system."""
    found: dict[tuple[int, int], str] = {sys.version_info[:2]: sys.executable}
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    programs = [*Path("/usr/bin").glob("python3.*"), *versions.glob("3.*/bin/python3.*")]
    for program in sorted(programs):
        version = re.fullmatch(r"python3\.(\d+)", program.name)
        if version:
            found.setdefault((3, int(version.group(1))), str(program))
    return found


PYTHONS = _installed()
"""Which there are differs from machine to machine; the sources' syntax is tested on each of them."""

SCRIPT = """
import mlstudio, os, sys
for i in range(1000):
    mlstudio.log(loss=i / 2)
mlstudio.param("lr", 0.5)
mlstudio.log({"note": "done"}, step=7)
print("%d.%d" % sys.version_info[:2], os.environ["COLOUR"])
sys.exit(3)
"""


def _sources() -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(build_probe())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}


@pytest.mark.parametrize("name", sorted(_sources()))
def test_every_source_is_written_in_the_oldest_language(name: str) -> None:
    assert ast.parse(_sources()[name], feature_version=OLDEST).body


def test_what_starts_first_is_written_in_an_older_one_still() -> None:
    assert ast.parse(_sources()["__main__.py"], feature_version=WITHOUT_PROBE[0]).body


def test_the_zipapp_is_the_same_each_time() -> None:
    first = build_probe()
    build_probe.cache_clear()
    assert build_probe() == first


@pytest.mark.parametrize(
    "version", [v for v in sorted(PYTHONS) if v >= OLDEST], ids=lambda version: "{}.{}".format(*version)
)
def test_a_run(bench: Bench, tmp_path: Path, version: tuple[int, int]) -> None:
    bench.python = PYTHONS[version]
    outcome = bench.run(
        [bench.python, "-W", "error", "-c", SCRIPT],
        workdir=str(tmp_path),
        env={"PYTHONWARNINGS": "error", "COLOUR": "red"},
        secrets=["KEY"],
        stdin=b'{"KEY": "1000 words"}\n',
    )
    assert outcome.code == outcome.exit["code"] == 3
    assert outcome.log.decode() == "{}.{} red\n".format(*version)
    assert outcome.points("loss") == [(i, i / 2) for i in range(1000)]
    assert [(event["name"], event["value"]) for event in outcome.events("param")] == [("lr", 0.5)]
    assert [(event["value"], event["step"]) for event in outcome.events("text")] == [("done", 7)]
    (start,) = outcome.events("start")
    assert start["python"].startswith("{}.{}.".format(*version))
    assert [frame.log for frame in outcome.spooled()] == [frame.log for frame in outcome.frames]


# ── before that ────────────────────────────────────────────────────────────────────────────────────────────────────

PRETENDED = [
    sys.executable,
    "-c",
    "import runpy, sys; sys.version_info = (3, 7, 9); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')",
]
OLD = {"pretended": PRETENDED} | {
    "{}.{}".format(*version): [PYTHONS[version]] for version in WITHOUT_PROBE if version in PYTHONS
}


def run_old(python: list[str], folder: Path, **config: Any) -> subprocess.CompletedProcess[str]:
    (folder / "probe.pyz").write_bytes(build_probe())
    (folder / "config.json").write_text(json.dumps(config))
    return subprocess.run(
        [*python, str(folder / "probe.pyz"), str(folder / "config.json")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("python", OLD.values(), ids=OLD.keys())
def test_too_old_for_the_probe(python: list[str], tmp_path: Path) -> None:
    """The command runs, with its output; that there are no metrics is said."""
    command = ["sh", "-c", 'echo "$COLOUR in $PWD"; exit 3']
    done = run_old(python, tmp_path, command=command, workdir=str(tmp_path), env={"COLOUR": "red"})
    assert (done.returncode, done.stdout) == (3, f"red in {tmp_path}\n")
    assert re.fullmatch(
        r"ML Studio: Python 3\.[67] is too old for metrics \(3\.8 is needed\).*\n", done.stderr
    )


@pytest.mark.parametrize("python", OLD.values(), ids=OLD.keys())
def test_too_old_for_secrets(python: list[str], tmp_path: Path) -> None:
    """A command that needs secrets does not start without them."""
    done = run_old(python, tmp_path, command=["echo", "started"], secrets=["API_KEY"])
    assert (done.returncode, done.stdout) == (125, "")
    assert "secrets" in done.stderr
