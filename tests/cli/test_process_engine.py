"""A run without containers, from the command line to the last point: the way out where there is no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
import mlstudio
print("token", os.environ["API_TOKEN"], flush=True)
for step in range(20):
    mlstudio.log(step=step, loss=20.0 - step)
sys.exit(int(sys.argv[1]))
"""


def test_a_plain_process_is_recorded_like_a_container(home: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(SCRIPT)
    secret = tmp_path / "token.txt"
    secret.write_text("sesame-open-7\n")

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlstudio", "--home", str(home), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "DOCKER_HOST": "unix:///nonesuch.sock"},
        )

    refused = call("run", project, "--", "0")
    assert refused.returncode == 3
    assert "--engine process" in refused.stderr

    words = ("run", project, "--engine", "process", "--secret", f"API_TOKEN=@{secret}", "--json", "--", "0")
    done = call(*words)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    assert (run["state"], run["engine_kind"], run["exit"]["code"]) == ("succeeded", "process", 0)
    assert "token [secret API_TOKEN]" in done.stderr
    (series,) = json.loads(call("metrics", "1", "--json").stdout)["series"]
    assert series["values"] == [20.0 - step for step in range(20)]

    assert call(*words[:-1], "7").returncode == 7
    assert "not a container" in call("build", project, "--engine", "process", "--dry-run").stdout
    for path in home.rglob("*"):
        if path.is_file() and path.suffix in (".db", ".db-wal", ".json", ".log", ".mls"):
            assert b"sesame-open-7" not in path.read_bytes(), path
