"""Which files are code is decided as Git and Docker decide it, and no folder is too odd to be listed."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.images import ignore
from mlstudio.images.ignore import OURS, TooManyFiles, list_files


def make(root: Path, *names: str, **contents: str) -> Path:
    """Files with their own name as content; `contents` are .gitignore and .dockerignore files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for kind, text in contents.items():
        (root / f".{kind}").write_text(text)
    return root


def listed(root: Path) -> list[str]:
    """Without the files that say what is ignored."""
    found = list(list_files(root))
    assert len(found) == len(set(found))
    return [path for path in found if not path.endswith(("gitignore", "dockerignore"))]


def test_every_file_is_listed_with_folders_in_order(tmp_path: Path) -> None:
    make(tmp_path, "train.py", "a/b/c.txt", "a/z", "data.csv", ".hidden", "Makefile", "a b/ü.py")
    assert listed(tmp_path) == [".hidden", "Makefile", "a/b/c.txt", "a/z", "a b/ü.py", "data.csv", "train.py"]


def test_an_empty_folder_and_a_missing_one_hold_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    assert list(list_files(tmp_path, on_unreadable=said.append)) == []
    assert said == []
    assert list(list_files(tmp_path / "gone", on_unreadable=said.append)) == []
    assert said == ["."]


@pytest.mark.parametrize(
    "left_out",
    [
        ".git/config", "sub/.git/HEAD", "__pycache__/a.cpython-311.pyc", "pkg/__pycache__/x", "a.pyc", "a.pyo", "a.pyd",
        ".venv/bin/python", "venv/lib/x.py", "node_modules/x/index.js", ".ipynb_checkpoints/n.ipynb", ".pytest_cache/v",
        ".mypy_cache/x", "thing.egg-info/PKG-INFO", ".DS_Store", "sub/.DS_Store", ".idea/x.xml", "mlruns/0/meta.yaml",
        "wandb/run-1/x", ".env", "conf/.env", ".netrc", "id_rsa", "keys/id_ed25519",
    ],
)  # fmt: skip
def test_our_own_rules_leave_out_what_never_is_code(tmp_path: Path, left_out: str) -> None:
    make(tmp_path, left_out, "train.py")
    assert listed(tmp_path) == ["train.py"]


def test_names_that_only_resemble_ours_stay(tmp_path: Path) -> None:
    names = ["environment", "environments/a", "id_rsa.pub", "my.env", "wandb.py", "x.py"]
    assert listed(make(tmp_path, *names)) == names
    assert OURS


def test_a_gitignore_may_bring_back_what_our_rules_leave_out(tmp_path: Path) -> None:
    make(tmp_path, "wandb/notes.py", ".env", "x.pyc", gitignore="!wandb/\n!x.pyc\n")
    assert listed(tmp_path) == ["wandb/notes.py", "x.pyc"]


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        ("*.csv", ["a.txt", "sub/a.txt", "sub/deep/a.txt"]),
        ("/a.csv", ["a.txt", "sub/a.csv", "sub/a.txt", "sub/deep/a.csv", "sub/deep/a.txt"]),
        ("sub/", ["a.csv", "a.txt"]),
        ("sub/*", ["a.csv", "a.txt"]),
        ("sub/*.csv", ["a.csv", "a.txt", "sub/a.txt", "sub/deep/a.csv", "sub/deep/a.txt"]),
        ("**/deep", ["a.csv", "a.txt", "sub/a.csv", "sub/a.txt"]),
        ("sub/**/a.csv", ["a.csv", "a.txt", "sub/a.txt", "sub/deep/a.txt"]),
        ("*\n!*.csv\n!*/\n", ["a.csv", "sub/a.csv", "sub/deep/a.csv"]),
        ("sub/\n!sub/a.csv", ["a.csv", "a.txt"]),
        ("sub/*\n!sub/a.csv", ["a.csv", "a.txt", "sub/a.csv"]),
        (
            "# *.csv\n\n\\#x\n",
            ["a.csv", "a.txt", "sub/a.csv", "sub/a.txt", "sub/deep/a.csv", "sub/deep/a.txt"],
        ),
        ("a.[ct][sx][vt]", []),
        ("a.???", []),
        ("[", ["a.csv", "a.txt", "sub/a.csv", "sub/a.txt", "sub/deep/a.csv", "sub/deep/a.txt"]),
        ("*.csv\r\n*.txt\r\n", []),
        ("\ufeff*.csv\n*.txt\n", []),
    ],
)
def test_gitignore_rules_mean_what_git_makes_of_them(tmp_path: Path, rules: str, stay: list[str]) -> None:
    names = ["a.csv", "a.txt", "sub/a.csv", "sub/a.txt", "sub/deep/a.csv", "sub/deep/a.txt"]
    make(tmp_path, *names)
    (tmp_path / ".gitignore").write_bytes(rules.encode())
    assert listed(tmp_path) == stay


@pytest.mark.parametrize("rules", ["!*/\n!*\n", "*\n!*/\n!*.py\n", "!.git\n!.git/\n!**\n", "!/.git/**\n"])
def test_rules_that_bring_everything_back_bring_no_environment_and_never_git(
    tmp_path: Path, rules: str
) -> None:
    make(
        tmp_path,
        "train.py",
        ".venv/lib/x.py",
        ".git/config",
        "sub/.git/x.py",
        "wandb/run/x.py",
        gitignore=rules,
    )
    make(tmp_path, "worktree/.git", "pkg/train.py")
    assert listed(tmp_path) == ["pkg/train.py", "train.py"]


def test_nested_gitignores_count_below_their_folder_and_have_the_last_word(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "sub/a.log", "sub/keep.log", "sub/deep/keep.log", "sub/only", "only", "deep/only")
    make(tmp_path, gitignore="*.log\n")
    make(tmp_path / "sub", gitignore="!keep.log\n/only\n")
    assert listed(tmp_path) == ["deep/only", "only", "sub/deep/keep.log", "sub/keep.log"]
    make(tmp_path / "sub/deep", gitignore="*\n")
    assert listed(tmp_path) == ["deep/only", "only", "sub/keep.log"]


git_rules = st.lists(
    st.sampled_from(["*.py", "*.txt", "!*.py", "/a", "a/", "!a/", "b", "!b", "a/b", "**/c.py", "a/**", "!a/b/c.py", "*",
                     "!*/", "/*", "?", "[ab]", "c.*", "#a", "", "!/a/b", "a/*/c.py", "**"]),
    max_size=5,
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=git_rules, nested=git_rules)
def test_git_itself_would_list_the_same(tmp_path: Path, top: list[str], nested: list[str]) -> None:
    names = ["a/b/c.py", "a/b/d.txt", "a/c.py", "b/a/c.py", "b/b", "c.py", "d.txt"]
    make(tmp_path, *names, gitignore="\n".join(top) + "\n")
    make(tmp_path / "a", gitignore="\n".join(nested) + "\n")
    if not (tmp_path / ".git").exists():
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    told = subprocess.run(
        [
            "git",
            "-C",
            tmp_path,
            "-c",
            "core.excludesFile=/dev/null",
            "ls-files",
            "-o",
            "-z",
            "--exclude-standard",
        ],
        check=True,
        capture_output=True,
    )
    assert sorted(list_files(tmp_path)) == sorted(told.stdout.decode().split("\0")[:-1])


# ── .dockerignore ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        ("data", ["sub/data/y", "train.py", "x.csv"]),
        ("/data/", ["sub/data/y", "train.py", "x.csv"]),
        ("./data", ["sub/data/y", "train.py", "x.csv"]),
        ("**/data", ["train.py", "x.csv"]),
        ("*.csv", ["data/big.bin", "data/keep.csv", "sub/data/y", "train.py"]),
        ("**/*.csv", ["data/big.bin", "sub/data/y", "train.py"]),
        ("data\n!data/keep.csv", ["data/keep.csv", "sub/data/y", "train.py", "x.csv"]),
        ("*\n!train.py", ["train.py"]),
        ("*\n!sub", ["sub/data/y"]),
        ("**\n!train.py", ["train.py"]),
        ("# data\n\n  x.csv  \n", ["data/big.bin", "data/keep.csv", "sub/data/y", "train.py"]),
        (".\n/\n", ["data/big.bin", "data/keep.csv", "sub/data/y", "train.py", "x.csv"]),
        ("!train.py", ["data/big.bin", "data/keep.csv", "sub/data/y", "train.py", "x.csv"]),
    ],
)
def test_dockerignore_rules_are_relative_to_the_root(tmp_path: Path, rules: str, stay: list[str]) -> None:
    make(tmp_path, "data/big.bin", "data/keep.csv", "sub/data/y", "train.py", "x.csv", dockerignore=rules)
    assert listed(tmp_path) == stay


def test_a_dockerignore_that_lists_docker_files_keeps_them(tmp_path: Path) -> None:
    make(tmp_path, "Dockerfile", "train.py", dockerignore="Dockerfile\n.dockerignore\n")
    assert list(list_files(tmp_path)) == [".dockerignore", "Dockerfile", "train.py"]


def test_a_file_must_pass_both_lists_and_a_nested_dockerignore_counts_for_nothing(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.csv",
        "b.bin",
        "c.py",
        "sub/c.py",
        gitignore="*.csv\n",
        dockerignore="*.bin\n!a.csv\n!.env\n",
    )
    make(tmp_path, ".env")
    make(tmp_path / "sub", dockerignore="c.py\n")
    assert listed(tmp_path) == ["c.py", "sub/c.py"]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe*\n", b"\0\n", b"[\n![\n\\\n!\n//\n***\n", b"a" * 100_000], ids=str
)
@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
def test_rules_that_are_no_text_do_not_stop_the_listing(tmp_path: Path, name: str, content: bytes) -> None:
    make(tmp_path, "train.py")
    (tmp_path / name).write_bytes(content)
    assert listed(tmp_path) == ["train.py"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "gone"])
def test_a_list_of_rules_that_is_no_file_is_passed_over(tmp_path: Path, name: str, kind: str) -> None:
    make(tmp_path, "train.py")
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(name if kind == "loop" else "gone")
    assert listed(tmp_path) == ["train.py"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(git=st.text(max_size=60), docker=st.text(max_size=60))
def test_any_rules_are_answered(tmp_path: Path, git: str, docker: str) -> None:
    make(tmp_path, "a/b.py", "train.py", gitignore=git, dockerignore=docker)
    assert set(list_files(tmp_path)) <= {".dockerignore", ".gitignore", "a/b.py", "train.py"}


# ── odd folders ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_links_to_files_inside_are_listed_and_all_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    code = make(tmp_path / "code", "real.py", "sub/x.py")
    (code / "inside.py").symlink_to("real.py")
    (code / "up.py").symlink_to("sub/../real.py")
    (code / "sub/back.py").symlink_to("../real.py")
    (code / "outside").symlink_to(tmp_path / "secret")
    (code / "outside-too").symlink_to("../secret")
    (code / "through").symlink_to("outside")
    (code / "broken").symlink_to("gone")
    (code / "loop").symlink_to("loop")
    (code / "folder").symlink_to("sub")
    (code / "parent").symlink_to("..")
    said: list[str] = []
    found = list(list_files(code, on_unreadable=said.append))
    assert found == ["inside.py", "real.py", "sub/back.py", "sub/x.py", "up.py"]
    assert [entry.split(" ")[0] for entry in said] == ["outside", "outside-too", "through"]
    assert all("out of the folder" in entry for entry in said)


def test_the_folder_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    code = make(tmp_path / "real", "train.py")
    (code / "same.py").symlink_to("train.py")
    (tmp_path / "link").symlink_to("real")
    assert listed(tmp_path / "link") == ["same.py", "train.py"]


def test_pipes_and_sockets_are_no_code(tmp_path: Path) -> None:
    make(tmp_path, "train.py")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        # A socket's path may hold about a hundred characters only.
        here = os.open(tmp_path, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
        assert (tmp_path / "socket").is_socket()
        assert listed(tmp_path) == ["train.py"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "closed/x.py", "open/y.py")
    real = os.scandir

    # Whoever runs the tests may be root, who reads everything.
    def refuse(path: os.PathLike[str]) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    said: list[str] = []
    assert list(list_files(tmp_path, on_unreadable=said.append)) == ["open/y.py"]
    assert said == ["closed"]


def test_names_that_are_no_text_are_listed(tmp_path: Path) -> None:
    for name in (b"caf\xe9.py", b"line\nbreak.py", b"-rf", "日本.py".encode()):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_text("x")
    found = list(list_files(tmp_path))
    assert {os.fsencode(name) for name in found} == {
        b"caf\xe9.py", b"line\nbreak.py", b"-rf", "日本.py".encode(),
    }  # fmt: skip
    make(tmp_path, gitignore="*.py\n")
    assert listed(tmp_path) == ["-rf"]


def test_far_too_many_files_are_refused_and_ignored_ones_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ignore, "MAX_FILES", 5)
    make(tmp_path, *(f"data/{number}" for number in range(9)), *(f"{number}.py" for number in range(5)))
    with pytest.raises(TooManyFiles):
        list(list_files(tmp_path))
    make(tmp_path, gitignore="data/\n.gitignore\n")
    assert len(listed(tmp_path)) == 5


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with 1500 folders inside each other: a longer path than the system takes in one piece."""
    here = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(1500):
            os.mkdir("deep", dir_fd=here)
            inner = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = inner
        yield tmp_path
    finally:
        os.close(here)
        # Python's own rmtree recurses too deeply.
        subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)


def test_a_very_deep_folder_is_named_and_the_rest_is_listed(deep: Path) -> None:
    make(deep, "train.py")
    said: list[str] = []
    assert list(list_files(deep, on_unreadable=said.append)) == ["train.py"]
    assert len(said) == 1
    assert said[0].startswith("deep/deep/")
