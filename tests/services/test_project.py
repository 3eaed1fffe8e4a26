"""A project file says how a folder is run, and says plainly what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.model.code import Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.run import GpuRequest, Limits, Mount
from mlstudio.services.project import (
    FILE_NAME,
    Project,
    parse_bytes,
    parse_gpus,
    parse_mount,
    parse_seconds,
    read_project,
    write_project,
)

FULL = Project(
    command=("python", "train.py", 'it\'s "odd" \\ ü'),
    framework="pytorch",
    version="2.13.0",
    variant="cpu",
    python="3.11",
    travel=Travel.MOUNTED,
    requirements=("numpy>=2", "rich"),
    system_packages=("libgomp1",),
    parameters={"lr": "0.1", "amp": "true", "name": "7e", "odd key": "x"},
    env={"A_B": "c=d"},
    secrets=("HF_TOKEN",),
    mounts=(Mount(source="/data", target="/data"), Mount(source="/out", target="/out", read_only=False)),
    limits=Limits(cpus=1.5, memory_bytes=2 * 1024**3, shm_bytes=1024**3, stop_after_s=60.0),
    gpus=GpuRequest(count=-1),
    tags=("one",),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_project(tmp_path, FULL)
    assert read_project(tmp_path) == FULL


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
)
def test_any_words_are_written_and_read_again(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], env: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder, Project(command=tuple(words), framework="python", travel=Travel.BAKED, env=env))
    found = read_project(folder)
    assert found is not None
    assert found.command == tuple(words)
    assert found.env == env


def test_parameters_follow_the_command() -> None:
    assert FULL.full_command[3:] == ("--lr", "0.1", "--amp", "--name", "7e", "--odd key", "x")


def test_no_file_is_no_project(tmp_path: Path) -> None:
    assert read_project(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("command = [", "not valid TOML"),
        ("comand = []", "unknown entry “comand”"),
        ("version = 2.13", "“version”"),
        ('travel = "teleported"', "“travel”"),
        ("command = [[1]]", "“command”"),
        ("parameters = 3", "“parameters”"),
        ('[limits]\nmemory = "lots"', "not an amount of memory"),
        ('gpus = "both"', "does not name GPUs"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(RequestError, match=what):
        read_project(tmp_path)


def test_a_file_is_not_written_over(tmp_path: Path) -> None:
    write_project(tmp_path, FULL)
    with pytest.raises(RequestError, match="already"):
        write_project(tmp_path, Project())
    write_project(tmp_path, Project(command=("x",)), overwrite=True)
    found = read_project(tmp_path)
    assert found is not None
    assert found.command == ("x",)


def test_amounts() -> None:
    assert parse_bytes("512m", field="f") == 512 * 1024**2
    assert parse_bytes("1.5GB", field="f") == 3 * 1024**3 // 2
    assert parse_bytes("2GiB", field="f") == 2 * 1024**3
    assert parse_bytes("4096", field="f") == 4096
    assert parse_seconds("15m", field="f") == 900
    assert parse_seconds("1.5h", field="f") == 5400
    for wrong in ("", "0", "-1", "4x", "1e9999"):
        with pytest.raises(RequestError):
            parse_bytes(wrong, field="limits.memory_bytes")
        with pytest.raises(RequestError):
            parse_seconds(wrong, field="limits.stop_after_s")


def test_gpus_and_mounts() -> None:
    assert parse_gpus("all") == GpuRequest(count=-1)
    assert parse_gpus("2") == GpuRequest(count=2)
    assert parse_gpus("GPU-1,MIG-2") == GpuRequest(uuids=("GPU-1", "MIG-2"))
    assert parse_mount("/a:/b") == Mount(source="/a", target="/b")
    assert parse_mount("/a:/b:rw") == Mount(source="/a", target="/b", read_only=False)
    for wrong in ("/a", "/a:b", ":/b", "/a:/b:/c:ro"):
        with pytest.raises(RequestError):
            parse_mount(wrong)
