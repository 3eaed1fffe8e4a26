"""Where the engine is looked for, and what is said where it is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlstudio.engines.docker_host import Endpoint, find_endpoint
from mlstudio.model.host import EngineTrouble


def context(folder: Path, name: str, host: str) -> None:
    """Write a context as the `docker` command does."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        json.dumps(
            {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
        )
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / ".docker"
    context(folder, "work", "unix:///work.sock")
    context(folder, "far", "ssh://me@far")
    (folder / "config.json").write_text(json.dumps({"currentContext": "work"}))
    return folder


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "unix:///work.sock"),
        ({"DOCKER_HOST": "tcp://1.2.3.4:2375"}, "tcp://1.2.3.4:2375"),
        ({"DOCKER_HOST": "tcp://1.2.3.4:2375", "DOCKER_CONTEXT": "far"}, "tcp://1.2.3.4:2375"),
        ({"DOCKER_CONTEXT": "far"}, "ssh://me@far"),
        ({"DOCKER_CONTEXT": "default"}, "unix:///var/run/docker.sock"),
        ({"DOCKER_CONTEXT": "no-such-context"}, "unix:///var/run/docker.sock"),
    ],
)
def test_the_order_of_the_docker_command(config: Path, environment: dict[str, str], url: str) -> None:
    assert find_endpoint({"HOME": str(config.parent), **environment}).url == url


def test_another_folder_of_settings(config: Path) -> None:
    assert find_endpoint({"HOME": "/nowhere", "DOCKER_CONFIG": str(config)}).url == "unix:///work.sock"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"currentContext": 5}'])
def test_broken_settings_are_no_settings(config: Path, text: str) -> None:
    (config / "config.json").write_text(text)
    assert find_endpoint({"HOME": str(config.parent)}).url == "unix:///var/run/docker.sock"


def test_a_rootless_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlstudio.engines.docker_host.DEFAULT_SOCKET", str(tmp_path / "none.sock"))
    (tmp_path / "docker.sock").touch()
    found = find_endpoint({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)})
    assert found.url == f"unix://{tmp_path}/docker.sock"


def test_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Endpoint("unix:///var/run/docker.sock", "the default socket")
    monkeypatch.setattr("shutil.which", lambda program: None)
    absent = default.explain(FileNotFoundError(2, "No such file"))
    assert absent.trouble is EngineTrouble.ABSENT
    assert "install" in absent.try_this
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    stopped = default.explain(FileNotFoundError(2, "No such file"))
    assert stopped.trouble is EngineTrouble.STOPPED
    assert "systemctl start docker" in stopped.try_this
    assert default.explain(ConnectionRefusedError()).trouble is EngineTrouble.STOPPED
    denied = default.explain(PermissionError(13, "Permission denied"))
    assert denied.trouble is EngineTrouble.NOT_PERMITTED
    assert "usermod -aG docker" in denied.try_this
    assert default.explain(TimeoutError()).trouble is EngineTrouble.UNREACHABLE
    far = Endpoint("tcp://far:2375", "DOCKER_HOST").explain(ConnectionRefusedError(111, "refused"))
    assert far.trouble is EngineTrouble.UNREACHABLE
    assert "DOCKER_HOST" in far.why
