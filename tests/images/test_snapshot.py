"""A snapshot says exactly what travels: equal code, equal hash, and nothing odd in a folder goes unsaid."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.images import ignore, snapshot
from mlstudio.images.snapshot import take_snapshot, without_password
from mlstudio.model.code import CodeSnapshot, CodeSource, LargeEntry, Travel
from mlstudio.model.errors import RequestError


def write(root: Path, **files: str) -> Path:
    """Files named in the manner of keyword arguments: ``sub__train_py`` is sub/train.py."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def snap(root: Path, **how: object) -> CodeSnapshot:
    return take_snapshot(CodeSource(folder=str(root), **how))  # type: ignore[arg-type]


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, "-C", root, *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
    )
    return done.stdout.decode().strip()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    root.mkdir()
    return write(root, train_py="print(1)\n", sub__model_py="x = 1\n", data_csv="1,2\n")


@pytest.fixture
def repository(code: Path) -> Path:
    git(code, "init", "--quiet", "--initial-branch=main")
    git(code, "add", ".")
    git(code, "commit", "--quiet", "-m", "first")
    return code


# ── the hash ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_names_every_file_with_sizes_and_one_hash(code: Path) -> None:
    taken = snap(code)
    assert taken.files == ("data.csv", "sub/model.py", "train.py")
    assert taken.size_bytes == 4 + 6 + 9
    assert taken.tree_hash.startswith("sha256:")
    assert len(taken.tree_hash) == 7 + 64
    assert taken.warnings == taken.unreadable == ()
    assert (taken.commit, taken.branch, taken.remote, taken.changed_files, taken.patch) == (
        "",
        "",
        "",
        (),
        "",
    )


def test_equal_code_has_an_equal_hash_wherever_it_lies_and_however_it_came_there(
    code: Path, tmp_path: Path
) -> None:
    first = snap(code)
    other = tmp_path / "another name"
    # The other way round, with other times and owners' permissions.
    for name in reversed(first.files):
        path = other / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((code / name).read_bytes())
        path.chmod(0o600)
        os.utime(path, (1, 1))
    (other / "empty folder").mkdir()
    assert snap(other).tree_hash == first.tree_hash
    os.utime(code / "train.py", (2, 2))
    assert snap(code).tree_hash == first.tree_hash


def test_baked_and_mounted_code_have_the_same_hash_and_ignored_files_none(code: Path) -> None:
    hashes = {snap(code, travel=travel).tree_hash for travel in Travel}
    assert len(hashes) == 1
    write(code, mlruns__0="x", sub__module_pyc="x")
    assert {snap(code).tree_hash} == hashes


@pytest.mark.parametrize(
    "change",
    ["content", "one byte", "new file", "empty file", "removed", "renamed", "moved", "executable", "swapped"],
)
def test_every_change_of_the_code_changes_the_hash(code: Path, change: str) -> None:
    before = snap(code).tree_hash
    match change:
        case "content":
            (code / "train.py").write_text("print(2)\n")
        case "one byte":
            (code / "train.py").write_text("print(1)\r\n")
        case "new file":
            write(code, new_py="x")
        case "empty file":
            write(code, new_py="")
        case "removed":
            (code / "data.csv").unlink()
        case "renamed":
            (code / "data.csv").rename(code / "data.tsv")
        case "moved":
            (code / "data.csv").rename(code / "sub/data.csv")
        case "executable":
            (code / "train.py").chmod(0o755)
        case "swapped":
            (code / "train.py").rename(code / "t")
            (code / "data.csv").rename(code / "train.py")
            (code / "t").rename(code / "data.csv")
    assert snap(code).tree_hash != before


names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)
trees = st.dictionaries(
    st.sampled_from(["a", "b", "c\n", "d\0e".replace("\0", ""), "ü"]), st.binary(max_size=20)
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=trees, two=trees)
def test_two_trees_have_one_hash_if_and_only_if_they_are_the_same(
    tmp_path: Path, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    hashes = []
    for number, tree in enumerate((one, two)):
        root = tmp_path / str(number)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, content in tree.items():
            (root / name).write_bytes(content)
        hashes.append(snap(root).tree_hash)
    assert (hashes[0] == hashes[1]) == (one == two)


def test_names_cannot_be_made_to_look_like_other_trees(tmp_path: Path) -> None:
    """A line break in a name must not pass for the end of an entry."""
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    (one / "a").write_text("x")
    (one / "b").write_text("x")
    # With "path, bit, hash" in lines, this name would be both files at once but for the zero bytes in between.
    content = hashlib.sha256(b"x").hexdigest()
    (two / f"a 0 {content}\nb").write_text("x")
    assert snap(one).tree_hash != snap(two).tree_hash


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names)
def test_any_name_of_a_file_is_taken(tmp_path: Path, name: str) -> None:
    root = tmp_path / "code"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / ("x" + name)).write_text("x")
    # Rules about what is ignored may be hit by chance: *.pyc.
    assert set(snap(root).files) <= {"x" + name}
    assert snap(root).unreadable == ()


def test_names_that_are_no_text_are_hashed_and_can_be_told_apart(code: Path) -> None:
    before = snap(code)
    odd = Path(os.fsdecode(os.fsencode(code) + b"/caf\xe9.py"))
    odd.write_text("x")
    first = snap(code)
    assert len(first.files) == len(before.files) + 1
    odd.rename(Path(os.fsdecode(os.fsencode(code) + b"/caf\xe8.py")))
    assert len({before.tree_hash, first.tree_hash, snap(code).tree_hash}) == 3


def test_a_link_inside_counts_as_the_file_that_it_leads_to(code: Path) -> None:
    (code / "copy.py").write_text("print(1)\n")
    copied = snap(code).tree_hash
    (code / "copy.py").unlink()
    (code / "copy.py").symlink_to("train.py")
    assert snap(code).tree_hash == copied


# ── what is wrong with a folder ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["gone", "train.py", "sub/../gone"])
def test_a_folder_that_is_none_is_refused_by_name(code: Path, name: str) -> None:
    with pytest.raises(RequestError) as raised:
        snap(code / name)
    assert raised.value.field == "code.folder"
    assert "no folder" in str(raised.value)
    assert name.rpartition("/")[2] in str(raised.value)


@pytest.mark.parametrize("folder", ["a\0b", "x" * 5000, "~nobody-of-this-name/x"])
def test_a_folder_whose_name_cannot_be_is_refused_in_words(folder: str) -> None:
    with pytest.raises(RequestError) as raised:
        take_snapshot(CodeSource(folder=folder))
    assert raised.value.field == "code.folder"


def test_a_loop_of_links_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RequestError):
        snap(tmp_path / "loop")


def test_a_subfolder_is_taken_alone_and_one_outside_is_refused(code: Path, tmp_path: Path) -> None:
    assert snap(code, subfolder="sub").files == ("model.py",)
    (tmp_path / "secret").mkdir()
    (code / "out").symlink_to(tmp_path / "secret")
    for subfolder in ("gone", "../secret", "out", str(tmp_path / "secret")):
        with pytest.raises(RequestError) as raised:
            snap(code, subfolder=subfolder)
        assert raised.value.field.startswith("code.")


def test_what_leads_out_of_the_folder_stays_behind_and_is_said(code: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    (code / "out.py").symlink_to(tmp_path / "secret")
    (code / "loop").symlink_to("loop")
    taken = snap(code)
    assert "out.py" not in taken.files
    assert [entry.split(" ")[0] for entry in taken.unreadable] == ["out.py"]
    (warning,) = taken.warnings
    assert "out.py" in warning
    assert "1 of the files" in warning


def test_pipes_and_sockets_do_not_stop_it(code: Path) -> None:
    before = snap(code)
    os.mkfifo(code / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(code, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
        assert snap(code) == before


@pytest.mark.timeout(20)
def test_a_file_that_becomes_a_pipe_meanwhile_is_left_behind(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(code / "pipe")
    monkeypatch.setattr(
        snapshot, "list_files", lambda root, on_unreadable: iter(["pipe", "train.py", "gone.py"])
    )
    taken = snap(code)
    assert taken.files == ("train.py",)
    assert taken.unreadable == ("gone.py", "pipe")


def test_unreadable_files_and_folders_are_counted_and_named(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(code, closed__x_py="x", **{f"secret{number}_py": "x" for number in range(4)})
    real_scan, real_open = os.scandir, os.open

    # Whoever runs the tests may be root, who reads everything.
    def scan(path: os.PathLike[str]) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real_scan(path)

    def opened(path: os.PathLike[str], flags: int) -> int:
        if Path(path).name.startswith("secret"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(os, "open", opened)
    taken = snap(code)
    assert taken.files == ("data.csv", "sub/model.py", "train.py")
    assert set(taken.unreadable) == {"closed", *(f"secret{number}.py" for number in range(4))}
    (warning,) = taken.warnings
    assert warning.startswith("5 of the files and folders cannot be read")
    assert "and others" in warning


def test_a_heavy_folder_is_warned_about_with_its_largest_entries(code: Path) -> None:
    """Sparse files: they weigh what they say and take no space."""
    for name, size in (("weights/a.bin", 300), ("weights/b.bin", 150), ("video.mp4", 120), ("small.bin", 1)):
        (code / name).parent.mkdir(exist_ok=True)
        with (code / name).open("wb") as file:
            file.truncate(size * 1000 * 1000)
    taken = snap(code)
    assert taken.largest[:3] == (
        LargeEntry(path="weights/", size_bytes=450_000_000),
        LargeEntry(path="video.mp4", size_bytes=120_000_000),
        LargeEntry(path="small.bin", size_bytes=1_000_000),
    )
    assert len(taken.largest) == 5
    (warning,) = taken.warnings
    assert "571 MB" in warning
    assert "weights/ (450 MB), video.mp4 (120 MB)" in warning
    assert ".dockerignore" in warning
    (code / ".dockerignore").write_text("weights\n")
    assert snap(code).warnings == ()


def test_gigabytes_are_called_gigabytes(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = snapshot._hash
    monkeypatch.setattr(
        snapshot,
        "_hash",
        lambda path: (real(path)[0], 2_300_000_000 if path.name == "data.csv" else 1, False),
    )
    assert "2.3 GB" in snap(code).warnings[0]


def test_far_too_many_files_are_refused_with_what_to_do(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ignore, "MAX_FILES", 2)
    with pytest.raises(RequestError) as raised:
        snap(code)
    assert raised.value.field == "code.folder"
    assert ".dockerignore" in raised.value.try_this
    assert "train.py" in raised.value.why


def test_progress_is_told_now_and_then(code: Path) -> None:
    for number in range(600):
        (code / f"{number}.txt").write_text("x")
    heard: list[tuple[int, int]] = []
    take_snapshot(CodeSource(folder=str(code)), on_progress=lambda files, size: heard.append((files, size)))
    assert [files for files, _ in heard] == [256, 512]
    assert heard[0][1] < heard[1][1]


# ── how it stands to Git ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_clean_work_tree_tells_commit_and_branch(repository: Path) -> None:
    taken = snap(repository)
    assert taken.commit == git(repository, "rev-parse", "HEAD")
    assert (taken.branch, taken.changed_files, taken.patch) == ("main", (), "")
    assert ".git/config" not in taken.files


def test_a_dirty_work_tree_tells_what_changed_and_how(repository: Path) -> None:
    (repository / "train.py").write_text("print(2)\n")
    (repository / "new file.py").write_text("x\n")
    (repository / "data.csv").unlink()
    git(repository, "mv", "sub/model.py", "sub/net.py")
    write(repository, mlruns__x="ours, but not Git's")
    taken = snap(repository)
    assert set(taken.changed_files) >= {"data.csv", "new file.py", "sub/net.py", "train.py"}
    assert "+print(2)" in taken.patch
    assert "-print(1)" in taken.patch
    assert "new file.py" not in taken.patch
    assert "new file.py" in taken.files


def test_the_patch_gives_the_changes_back(repository: Path, tmp_path: Path) -> None:
    (repository / "train.py").write_bytes(b"caf\xc3\xa9\n")
    (repository / "sub/model.py").chmod(0o755)
    taken = snap(repository)
    git(repository, "stash", "--quiet")
    (tmp_path / "patch").write_text(taken.patch)
    git(repository, "apply", str(tmp_path / "patch"))
    assert snap(repository).tree_hash == taken.tree_hash


def test_a_detached_head_has_no_branch_and_an_empty_repository_no_commit(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "checkout", "--quiet", "--detach")
    taken = snap(repository)
    assert (taken.branch, len(taken.commit)) == ("", 40)
    empty = write(tmp_path / "empty", train_py="x")
    git(empty, "init", "--quiet")
    assert snap(empty).commit == ""
    assert snap(empty).files == ("train.py",)


def test_a_folder_below_the_top_tells_its_own_changes_alone(repository: Path) -> None:
    (repository / "train.py").write_text("print(2)\n")
    (repository / "sub/model.py").write_text("x = 2\n")
    taken = snap(repository / "sub")
    assert taken.changed_files == ("model.py",)
    assert "print(2)" not in taken.patch
    assert "+x = 2" in taken.patch


def test_a_gigantic_patch_is_cut_and_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_PATCH_BYTES", 100)
    (repository / "train.py").write_text("print(2)\n" * 100)
    patch = snap(repository).patch
    assert "Cut here" in patch
    assert len(patch) < 250


def test_a_repository_can_run_nothing_here(repository: Path, tmp_path: Path) -> None:
    """Git runs what a repository's own configuration says, unless one forbids it."""
    mark = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    script.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "diff.external", "diff.evil.textconv", "diff.evil.command"):
        git(repository, "config", name, str(script))
    git(repository, "config", "filter.evil.clean", str(script))
    git(repository, "config", "filter.a=b.c.clean", str(script))
    (repository / ".git/more").write_text(f'[filter "included"]\n\tclean = {script}\n\trequired = true\n')
    git(repository, "config", "include.path", "more")
    git(repository, "config", "filter.evil.process", str(script))
    (repository / ".gitattributes").write_text(
        "*.py diff=evil filter=evil\n*.csv filter=included\nsub/*.py filter=a=b.c\n"
    )
    for name in ("train.py", "data.csv", "sub/model.py"):
        (repository / name).write_text("print(2)\n")
    mark.unlink(missing_ok=True)
    taken = snap(repository)
    assert not mark.exists()
    assert taken.changed_files == (".gitattributes", "data.csv", "sub/model.py", "train.py")
    with pytest.raises(subprocess.CalledProcessError):  # the "process" filter speaks no protocol
        git(repository, "diff")
    assert mark.exists(), "a plain git diff does run it"


def test_filters_of_the_user_are_asked(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git LFS is one: without it, every large file would count as changed."""
    (tmp_path / "gitconfig").write_text('[filter "upper"]\n\tclean = tr a-z A-Z\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (repository / ".gitattributes").write_text("*.py filter=upper\n")
    (repository / "train.py").write_text("print(2)\n")
    assert "+PRINT(2)" in snap(repository).patch


def test_a_work_tree_elsewhere_tells_nothing_about_this_folder(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    git(repository, "config", "core.worktree", str(tmp_path / "elsewhere"))
    taken = snap(repository)
    assert (taken.commit, taken.changed_files, taken.patch) == ("", (), "")
    assert "train.py" in taken.files


def test_without_git_the_code_is_taken_all_the_same(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_git = snap(repository)
    monkeypatch.setenv("PATH", "/nowhere")
    taken = snap(repository)
    assert taken.tree_hash == with_git.tree_hash
    assert taken.commit == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("https://user:t0ken@example.org/a.git", "https://example.org/a.git"),
        ("https://t0ken@example.org:8443/a.git", "https://example.org:8443/a.git"),
        ("https://user:t0ken@[::1]:8443/a.git", "https://[::1]:8443/a.git"),
        ("ssh://git@example.org/a.git", "ssh://git@example.org/a.git"),
        ("ssh://git:t0ken@example.org:22/a.git", "ssh://git@example.org:22/a.git"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("/srv/a.git", "/srv/a.git"),
        ("https://user:t0ken@example.org:port/a.git", None),
        ("https://user:t0ken@[::1/a.git", None),
        ("https://user:t0/ken@example.org/a.git", None),
        ("https://example.org/a.git?private_token=t0ken", None),
    ],
)
def test_passwords_are_no_part_of_a_remote(repository: Path, url: str, shown: str | None) -> None:
    git(repository, "config", "remote.origin.url", url)
    remote = snap(repository).remote
    assert remote == without_password(url)
    if shown is None:
        assert "t0" not in remote
    else:
        assert remote == shown
