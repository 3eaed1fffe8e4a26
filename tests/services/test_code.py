"""Code is fetched, measured once while nothing changes, and understood."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlstudio.model.code import CodeSource
from mlstudio.model.errors import RequestError
from mlstudio.services.code import CodeService, refuse_password


def git(folder: Path, *words: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    return subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *words],
        cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **identity},
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.py").write_text("import numpy\nprint(1)\n")
    (folder / "sub" / "fit.py").write_text("print(2)\n")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_a_snapshot_is_kept_until_something_changes(home: Path, repository: Path) -> None:
    code = CodeService(home)
    source = CodeSource(folder=str(repository))
    first = code.snapshot(source)
    assert code.snapshot(source) is first
    assert first.commit == git(repository, "rev-parse", "HEAD")
    assert first.changed_files == ()
    (repository / "train.py").write_text("import numpy\nprint(3)\n")
    second = code.snapshot(source)
    assert second.tree_hash != first.tree_hash
    assert second.changed_files == ("train.py",)
    assert "+print(3)" in second.patch
    git(repository, "commit", "-am", "second")
    third = code.snapshot(source)
    assert third.commit != first.commit
    assert third.changed_files == ()


def test_a_repository_is_cloned_once_at_its_commit(home: Path, repository: Path) -> None:
    code = CodeService(home)
    url = repository.as_uri()
    source = CodeSource(url=url)
    root = code.fetch(source)
    assert root.is_relative_to(home)
    assert (root / "train.py").exists()
    assert code.fetch(source) == root
    snapshot = code.snapshot(source)
    assert snapshot.commit == git(repository, "rev-parse", "HEAD")
    assert snapshot.remote == url
    assert snapshot.tree_hash == code.snapshot(CodeSource(folder=str(repository))).tree_hash
    assert code.fetch(CodeSource(url=url, ref="main", subfolder="sub")) == root / "sub"
    assert not [path for path in root.parent.iterdir() if path.name.endswith(".part")]


def test_a_ref_that_does_not_exist_names_its_field(home: Path, repository: Path) -> None:
    with pytest.raises(RequestError) as caught:
        CodeService(home).fetch(CodeSource(url=repository.as_uri(), ref="nonesuch"))
    assert caught.value.field == "code.ref"
    with pytest.raises(RequestError) as caught:
        CodeService(home).fetch(CodeSource(url=(repository / "gone").as_uri()))
    assert caught.value.field == "code.url"


def test_wrong_sources_name_their_field(home: Path, repository: Path) -> None:
    code = CodeService(home)
    for source, field in (
        (CodeSource(), "code.folder"),
        (CodeSource(folder="/x", url="https://e.org/x"), "code.url"),
        (CodeSource(folder=str(repository), subfolder="../.."), "code.subfolder"),
        (CodeSource(folder=str(repository), subfolder="gone"), "code.subfolder"),
        (CodeSource(folder=str(repository / "train.py")), "code.folder"),
    ):
        with pytest.raises(RequestError) as caught:
            code.fetch(source)
        assert caught.value.field == field


def test_a_suggestion_is_read_from_the_code(home: Path, repository: Path) -> None:
    found = CodeService(home).suggest(CodeSource(folder=str(repository)))
    assert found.command == ("python", "train.py")
    assert found.framework == "python"
    with pytest.raises(RequestError) as caught:
        CodeService(home).suggest(CodeSource(folder=str(home)))
    assert caught.value.field == "code.folder"


def test_passwords_in_urls_are_refused() -> None:
    refuse_password("https://example.org/x.git")
    refuse_password("ssh://git@example.org/x.git")
    with pytest.raises(RequestError) as caught:
        refuse_password("https://me:sesame@example.org/x.git")
    assert "sesame" not in str(caught.value)
