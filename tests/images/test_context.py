"""What a build is sent: the same bytes for the same files, nothing of this machine, and what is ignored stays behind."""

from __future__ import annotations

import gc
import io
import os
import stat
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlstudio.engines.build_context import write_context, write_mount
from mlstudio.engines.engine import BuildContext
from mlstudio.images.catalogue import load_catalogue
from mlstudio.images.context import Context, make_context
from mlstudio.images.mounts import Mount
from mlstudio.images.recipe import write_recipe
from mlstudio.images.snapshot import take_snapshot
from mlstudio.model.code import CodeSource, Travel
from mlstudio.model.errors import WorldError
from mlstudio.model.image import Dependencies, ImageSpec, PipSettings, Recipe

CATALOGUE = load_catalogue()
SPEC = ImageSpec(python="3.11")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A folder of code with its recipe and the context of its build."""

    recipe: Recipe
    context: Context

    def tar(self) -> bytes:
        return packed(self.recipe.dockerfile, self.context)

    def members(self) -> dict[str, tarfile.TarInfo]:
        return opened(self.tar())


def packed(dockerfile: str, context: BuildContext) -> bytes:
    sink = io.BytesIO()
    write_context(sink, dockerfile, context)
    return sink.getvalue()


def opened(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = archive.getmembers()
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names)), "An entry stands in it twice."
    return {entry.name: entry for entry in entries}


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def project(
    root: Path,
    *,
    spec: ImageSpec = SPEC,
    pip: PipSettings | None = None,
    travel: Travel = Travel.BAKED,
    requirements: tuple[str, ...] = ("numpy",),
) -> Project:
    source = CodeSource(folder=str(root), travel=travel)
    snapshot = take_snapshot(source)
    settings = pip if pip is not None else PipSettings()
    recipe = write_recipe(
        spec,
        source,
        snapshot,
        catalogue=CATALOGUE,
        dependencies=Dependencies(requirements=requirements),
        pip=settings,
        base_map={},
        name="x",
    )
    return Project(recipe=recipe, context=make_context(recipe, root, snapshot, settings))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "package" / "deep").mkdir(parents=True)
    (folder / "train.py").write_text("print(1)\n")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "deep" / "data.bin").write_bytes(bytes(range(256)) * 9)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def test_the_context_holds_the_dockerfile_our_files_and_the_code(root: Path) -> None:
    made = project(root)
    data = made.tar()
    assert list(opened(data)) == [
        "Dockerfile",
        "requirements.txt",
        "code",
        "code/package",
        "code/package/__init__.py",
        "code/package/deep",
        "code/package/deep/data.bin",
        "code/run.sh",
        "code/train.py",
    ]
    assert content(data, "Dockerfile").decode() == made.recipe.dockerfile
    assert content(data, "requirements.txt") == b"numpy\n"
    assert content(data, "code/package/deep/data.bin") == bytes(range(256)) * 9


def test_the_same_files_are_the_same_bytes_whenever_and_whoever_wrote_them(
    root: Path, tmp_path: Path
) -> None:
    first = project(root).tar()
    copy = tmp_path / "a copy"
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_file():
            target = copy / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            # Another umask, another day.
            target.chmod(0o700 if path.name == "run.sh" else 0o600)
            os.utime(target, (1e9, 1e9))
    assert project(copy).tar() == first


def test_no_entry_tells_of_this_machine(root: Path) -> None:
    os.utime(root / "train.py", (1.7e9, 1.7e9))
    made = project(root)
    for entry in made.members().values():
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0), entry.name
        assert entry.pax_headers == {}
    assert str(root).encode() not in made.tar()


def test_modes_are_two_and_the_executable_bit_is_kept(root: Path) -> None:
    (root / "train.py").chmod(0o6664)
    members = project(root).members()
    assert members["code/run.sh"].mode == 0o755
    assert members["code/train.py"].mode == 0o644
    assert {entry.mode for entry in members.values() if entry.isdir()} == {0o755}


def test_the_executable_bit_makes_it_another_image(root: Path) -> None:
    before = project(root).recipe.digest
    (root / "train.py").chmod(0o755)
    assert project(root).recipe.digest != before


def test_what_is_ignored_stays_behind(root: Path) -> None:
    (root / ".dockerignore").write_text("*.ckpt\nsecret/\n!keep.ckpt\n")
    (root / "secret").mkdir()
    for name in ("secret/key.pem", "model.ckpt", "keep.ckpt"):
        (root / name).write_text("x")
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("[core]\n")
    names = set(project(root).members())
    assert "code/keep.ckpt" in names
    assert "code/train.py" in names
    forbidden = ("model.ckpt", "secret", "__pycache__", ".git/", ".pyc")
    assert [name for name in names if any(word in name for word in forbidden)] == []


def test_an_ignored_file_changes_nothing(root: Path) -> None:
    (root / ".dockerignore").write_text("*.ckpt\n")
    (root / "model.ckpt").write_text("1")
    first = project(root)
    (root / "model.ckpt").write_text("2")
    second = project(root)
    assert (first.recipe.digest, first.tar()) == (second.recipe.digest, second.tar())


def test_a_link_travels_as_a_link_and_brings_nothing_from_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("of somebody else")
    (root / "latest.py").symlink_to("train.py")
    (root / "escape.txt").symlink_to(tmp_path / "outside.txt")
    data = project(root).tar()
    members = opened(data)
    assert members["code/latest.py"].issym()
    assert members["code/latest.py"].linkname == "train.py"
    assert b"of somebody else" not in data
    assert "code/escape.txt" not in members or members["code/escape.txt"].issym()


def test_a_link_by_full_path_leads_to_the_same_file_in_the_image(root: Path) -> None:
    (root / "package" / "latest.py").symlink_to(root / "train.py")
    data = project(root).tar()
    assert opened(data)["code/package/latest.py"].linkname == "../train.py"
    assert str(root).encode() not in data


def test_a_linked_folder_is_not_walked(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big.bin").write_text("of somebody else")
    (root / "data").symlink_to(tmp_path / "data")
    (root / "loop").symlink_to(".")
    data = project(root).tar()
    assert b"of somebody else" not in data
    assert not any("big.bin" in name or "loop/" in name for name in opened(data))


def test_pipes_and_sockets_are_left_out_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe")
    context = Context(root=root, files=("pipe", "train.py"), extra=(), mounts=(), build_args=())
    assert set(opened(packed("FROM x\n", context))) == {"Dockerfile", "code", "code/train.py"}


@pytest.mark.parametrize(
    "name", ["ä ö 中 😀.py", "a" * 200 + ".py", "/".join(["deep" * 10] * 5) + "/x.py", "-rf", "a\nb", "'\"$"]
)
def test_any_name_arrives_as_it_is(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(name)
    data = project(root).tar()
    assert content(data, f"code/{name}") == name.encode()


def test_a_name_that_is_no_text_arrives_as_it_is(root: Path) -> None:
    raw = os.fsencode(root) + b"/caf\xe9.py"
    with open(raw, "wb") as file:
        file.write(b"x")
    assert b"code/caf\xe9.py\0" in project(root).tar()


def test_a_file_that_went_away_is_named(root: Path) -> None:
    made = project(root)
    (root / "train.py").unlink()
    with pytest.raises(WorldError, match=r"train\.py could not be sent") as failed:
        made.tar()
    assert failed.value.why == "No such file or directory"


def test_every_file_asks_whether_to_go_on(root: Path) -> None:
    made = project(root)
    asked = []

    class Stopped(Exception):
        pass

    def stop() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        write_context(io.BytesIO(), made.recipe.dockerfile, made.context, stop=stop)
    assert len(asked) == 2


@pytest.mark.parametrize("travel", [Travel.MOUNTED, Travel.CLONED])
def test_code_that_is_not_baked_is_not_sent(root: Path, travel: Travel) -> None:
    assert set(project(root, travel=travel).members()) == {"Dockerfile", "requirements.txt"}


def test_a_folder_without_files_can_still_be_copied(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert project(tmp_path / "empty").members()["code"].isdir()


def test_your_own_dockerfile_finds_the_code_at_the_top_and_itself(root: Path) -> None:
    (root / "Dockerfile").write_text("FROM python\nCOPY . /app\n")
    (root / "requirements.txt").write_text("mine\n")
    data = project(root, spec=ImageSpec(dockerfile="Dockerfile")).tar()
    assert content(data, "Dockerfile") == b"FROM python\nCOPY . /app\n"
    assert content(data, "requirements.txt") == b"mine\n"
    assert "train.py" in opened(data)
    assert not any(name.startswith("code") for name in opened(data))


# -- pip's settings and wheels ----------------------------------------------------------------------------------------


def test_settings_are_a_mount_and_never_in_the_context(root: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    pip = PipSettings(
        index_url="https://me:hunter2@pypi.example.org/simple",
        ca_bundle=str(tmp_path / "ca.pem"),
        proxy="http://me:hunter3@proxy.example.org:3128",
    )
    made = project(root, pip=pip)
    data = made.tar()
    assert b"hunter" not in data
    assert b"CERTIFICATE" not in data
    (mount,) = made.context.mounts
    sink = io.BytesIO()
    write_mount(sink, mount)
    assert set(opened(sink.getvalue())) == {"pip.conf", "ca.pem"}
    assert b"hunter2" in content(sink.getvalue(), "pip.conf")
    assert content(sink.getvalue(), "ca.pem") == b"-----BEGIN CERTIFICATE-----"
    assert dict(made.context.build_args)["HTTPS_PROXY"].endswith("@proxy.example.org:3128")


def test_the_file_with_the_password_is_private_and_goes_with_the_context(root: Path) -> None:
    made = project(root, pip=PipSettings(index_url="https://me:hunter2@pypi.example.org/simple"))
    path = dict(made.context.mounts[0].files)["pip.conf"]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.is_file()
    del made
    gc.collect()
    assert not path.parent.exists()


def test_nothing_is_mounted_that_the_dockerfile_does_not_ask_for(root: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    pip = PipSettings(index_url="https://pypi.example.org/simple", wheelhouse=str(tmp_path / "wheels"))
    assert len(project(root, pip=pip).context.mounts) == 2
    assert project(root, pip=pip, requirements=()).context.mounts == ()


def test_a_mount_is_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    for name in ("b.whl", "a.whl"):
        (tmp_path / name).write_text(name)
    files = (("b.whl", tmp_path / "b.whl"), ("a.whl", tmp_path / "a.whl"))
    first, second = io.BytesIO(), io.BytesIO()
    write_mount(first, Mount(image="x", files=files))
    os.utime(tmp_path / "a.whl", (1e9, 1e9))
    write_mount(second, replace(Mount(image="y", files=files), files=files[::-1]))
    assert first.getvalue() == second.getvalue()
    assert list(opened(first.getvalue())) == ["a.whl", "b.whl"]
