"""Code from a Git URL: what a ref means, a checkout of exactly that, and words for everything that can be wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.images import checkout
from mlstudio.images.checkout import check_url, clone, resolve_ref
from mlstudio.images.git import run_git
from mlstudio.images.snapshot import take_snapshot
from mlstudio.model.code import CodeSource
from mlstudio.model.errors import RequestError, StudioError, WorldError


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the one who runs the tests has set up for Git: not here."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, "-C", root, *arguments], check=True, capture_output=True)
    return done.stdout.decode().strip()


def commit(root: Path, text: str) -> str:
    (root / "train.py").write_text(text)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", text)
    return git(root, "rev-parse", "HEAD")


class Remote:
    """A repository with the commits ``one`` (tags v1, annotated v1-signed), ``two`` (main) and ``side`` (branch)."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.url = root.as_uri()
        git(root, "init", "--quiet", "--initial-branch=main")
        (root / "sub").mkdir()
        (root / "sub/inner.py").write_text("inner")
        self.one = commit(root, "one")
        git(root, "tag", "v1")
        git(root, "tag", "-a", "-m", "signed", "v1-signed")
        git(root, "checkout", "--quiet", "-b", "feature/side")
        self.side = commit(root, "side")
        git(root, "checkout", "--quiet", "main")
        self.two = commit(root, "two")


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "remote repository")


def text_of(error: StudioError) -> str:
    """All that a person or a log could see of it."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(f"{cause} {cause!r} {cause.args}")
        cause = cause.__cause__ or cause.__context__
    return " ".join([*causes, error.why, error.try_this])


def ask(what: str, url: str, into: Path) -> None:
    if what == "resolve":
        resolve_ref(url, "main")
    else:
        clone(url, "0" * 40, into)


# ── what a ref means ───────────────────────────────────────────────────────────────────────────────────────────────


def test_branches_tags_commits_and_the_default_are_found(remote: Remote) -> None:
    assert resolve_ref(remote.url, "") == remote.two
    assert resolve_ref(remote.url, "main") == remote.two
    assert resolve_ref(remote.url, "feature/side") == remote.side
    assert resolve_ref(remote.url, "v1") == remote.one
    assert resolve_ref(remote.url, "refs/heads/main") == remote.two
    assert resolve_ref(str(remote.root), "v1") == remote.one


def test_an_annotated_tag_means_its_commit_and_not_itself(remote: Remote) -> None:
    tag = git(remote.root, "rev-parse", "v1-signed")
    assert tag != remote.one
    assert resolve_ref(remote.url, "v1-signed") == remote.one
    assert resolve_ref(remote.url, "refs/tags/v1-signed") == remote.one


def test_a_full_commit_needs_no_remote(tmp_path: Path) -> None:
    assert resolve_ref((tmp_path / "gone").as_uri(), "0" * 40) == "0" * 40


def test_a_branch_moves_and_is_asked_anew(remote: Remote) -> None:
    assert resolve_ref(remote.url, "main") == remote.two
    three = commit(remote.root, "three")
    assert resolve_ref(remote.url, "main") == three


def test_the_default_of_a_detached_remote_is_where_it_stands(remote: Remote) -> None:
    git(remote.root, "checkout", "--quiet", "--detach", "v1")
    assert resolve_ref(remote.url, "") == remote.one


def test_a_branch_whose_name_ends_like_the_wanted_one_is_not_meant(remote: Remote) -> None:
    """`git ls-remote` finds refs by their end."""
    git(remote.root, "branch", "old/release", "v1")
    with pytest.raises(RequestError):
        resolve_ref(remote.url, "release")
    assert resolve_ref(remote.url, "old/release") == remote.one


@pytest.mark.parametrize(
    "ref", ["gone", "feature", "v1^", "main~1", "*", "refs/heads/*", "é", "sub/inner.py", "head"]
)
def test_a_missing_ref_is_said_with_a_command_that_lists_them(remote: Remote, ref: str) -> None:
    with pytest.raises(RequestError) as raised:
        resolve_ref(remote.url, ref)
    assert raised.value.field == "code.ref"
    assert f"“{ref}”" in str(raised.value)
    assert f"git ls-remote {remote.url}" in raised.value.try_this


def test_a_shortened_commit_is_said_to_be_one(remote: Remote) -> None:
    with pytest.raises(RequestError) as raised:
        resolve_ref(remote.url, remote.one[:8])
    assert raised.value.field == "code.ref"
    assert "shortened" in raised.value.why
    assert "git rev-parse HEAD" in raised.value.try_this


def test_an_empty_repository_is_said_to_be_empty(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "empty")
    with pytest.raises(RequestError) as raised:
        resolve_ref((tmp_path / "empty").as_uri(), "")
    assert raised.value.field == "code.url"
    assert "empty" in str(raised.value)


@pytest.mark.parametrize("what", ["gone", "a folder", "a file"])
@pytest.mark.parametrize("asked", ["resolve", "clone"])
def test_a_missing_repository_is_said_with_what_to_try(tmp_path: Path, what: str, asked: str) -> None:
    path = tmp_path / "there"
    if what == "a folder":
        path.mkdir()
    elif what == "a file":
        path.write_text("x")
    with pytest.raises(RequestError) as raised:
        ask(asked, path.as_uri(), tmp_path / "into")
    assert raised.value.field == "code.url"
    assert "no repository" in str(raised.value)
    assert f"git ls-remote {path.as_uri()}" in raised.value.try_this


# ── a checkout ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clone_holds_exactly_the_commit_and_all_folders(remote: Remote, tmp_path: Path) -> None:
    for number, (wanted, text) in enumerate(
        [(remote.one, "one"), (remote.side, "side"), (remote.two, "two")]
    ):
        into = tmp_path / "checkouts" / str(number)
        clone(remote.url, wanted, into)
        assert (into / "train.py").read_text() == text
        assert (into / "sub/inner.py").read_text() == "inner"
        assert git(into, "rev-parse", "HEAD") == wanted
        assert git(into, "status", "--porcelain") == ""


def test_a_checkout_is_snapped_as_detached_at_its_commit(remote: Remote, tmp_path: Path) -> None:
    into = tmp_path / "into"
    clone(remote.url, remote.side, into)
    taken = take_snapshot(CodeSource(folder=str(into)))
    assert (taken.commit, taken.branch, taken.changed_files, taken.patch) == (remote.side, "", (), "")
    assert taken.remote == remote.url
    assert take_snapshot(CodeSource(folder=str(into), subfolder="sub")).files == ("inner.py",)


def test_what_is_not_committed_in_the_remote_does_not_travel(remote: Remote, tmp_path: Path) -> None:
    (remote.root / "train.py").write_text("dirty")
    (remote.root / "new.py").write_text("new")
    clone(remote.url, resolve_ref(remote.url, ""), tmp_path / "into")
    assert (tmp_path / "into/train.py").read_text() == "two"
    assert not (tmp_path / "into/new.py").exists()


def test_a_dirty_checkout_is_put_right_by_cloning_into_it_again(remote: Remote, tmp_path: Path) -> None:
    into = tmp_path / "into"
    clone(remote.url, remote.one, into)
    (into / "train.py").write_text("dirty")
    (into / "sub/inner.py").unlink()
    clone(remote.url, remote.one, into)
    assert git(into, "status", "--porcelain") == ""
    clone(remote.url, remote.two, into)
    assert (into / "train.py").read_text() == "two"


def test_a_checkout_that_was_cut_off_is_gone_on_with(remote: Remote, tmp_path: Path) -> None:
    into = tmp_path / "into"
    git(tmp_path, "init", "--quiet", "into")
    git(into, "remote", "add", "origin", "https://elsewhere.invalid/x.git")
    clone(remote.url, remote.two, into)
    assert (into / "train.py").read_text() == "two"


def test_an_old_commit_is_found_where_a_server_gives_only_branches(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    # As servers of old answer who ask for a commit by its hash.
    def old_server(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        if arguments[0] == "fetch" and remote.one in arguments:
            refused.append(arguments[0])
            return subprocess.CompletedProcess(arguments, 128, b"", b"fatal: unadvertised object")
        return run_git(*arguments, **options)

    monkeypatch.setattr(checkout, "run_git", old_server)
    clone(remote.url, remote.one, tmp_path / "into")
    assert (tmp_path / "into/train.py").read_text() == "one"
    assert refused == ["fetch"]


def test_a_commit_that_is_not_there_is_said_with_what_to_do(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as raised:
        clone(remote.url, "12ab" * 10, tmp_path / "into")
    assert raised.value.field == "code.ref"
    assert "12ab12ab12ab" in str(raised.value)
    assert "Push it" in raised.value.try_this


@pytest.mark.parametrize("ref", ["", "main", "v1", "12ab", "12AB" * 10, "--all", "12ab" * 10 + "\n", "HEAD"])
def test_only_full_commits_are_cloned(remote: Remote, tmp_path: Path, ref: str) -> None:
    with pytest.raises(RequestError) as raised:
        clone(remote.url, ref, tmp_path / "into")
    assert raised.value.field == "code.ref"
    assert not (tmp_path / "into").exists()


def test_a_folder_that_cannot_be_made_is_no_traceback(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for into in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(StudioError) as raised:
            clone(remote.url, remote.one, into)
        assert str(into) in str(raised.value)


def test_submodules_and_hooks_are_left_alone(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction"):
        (template / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (template / name).chmod(0o755)
    (tmp_path / "gitconfig").write_text(f"[init]\n\ttemplateDir = {tmp_path / 'template'}\n")
    other = Remote(tmp_path / "other")
    git(remote.root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", other.url, "module")
    with_module = commit(remote.root, "with module")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    clone(remote.url, with_module, tmp_path / "into")
    assert list((tmp_path / "into/module").iterdir()) == []
    assert not mark.exists()


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "ref",
    [
        "--upload-pack=touch ran",
        "--upload-pack=true",
        "-u",
        "--",
        "-",
        "a b",
        "a\nb",
        "a\0b",
        "\t",
        " main",
        "--exec=x",
    ],
)
def test_a_hostile_ref_is_refused_before_git_sees_it(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, ref: str
) -> None:
    monkeypatch.setattr(
        checkout, "run_git", lambda *arguments, **options: pytest.fail(f"Git saw {arguments}")
    )
    with pytest.raises(RequestError) as raised:
        resolve_ref(remote.url, ref)
    assert raised.value.field == "code.ref"


@pytest.mark.parametrize(
    "url",
    [
        "", "--upload-pack=touch ran", "-oProxyCommand=touch ran", "ext::sh -c touch%20ran", "ext::true", "fd::17",
        "ssh://-oProxyCommand=x/y", "ssh://-oProxyCommand=x@host/y", "ssh://user@-oProxyCommand=x/y", "-x:y/z",
        "user@-oProxyCommand=x:y", "user@-oX:y", "~nobody/x", "ftp://example.org/x.git", "https://", "https:///x.git",
        "https://exa mple.org/x.git", "https://example.org/x\n.git", "relative/path", "project", "..", "https://[::1/x",
        "http::https://example.org/x.git", "https://example.org/\0", "://x", "git+https://example.org/x",
    ],
)  # fmt: skip
def test_what_is_no_git_url_is_refused_before_git_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(
        checkout, "run_git", lambda *arguments, **options: pytest.fail(f"Git saw {arguments}")
    )
    for what in ("resolve", "clone"):
        with pytest.raises(RequestError) as raised:
            ask(what, url, tmp_path / "into")
        assert raised.value.field == "code.url"
        assert "https://example.org/team/project.git" in raised.value.try_this


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/team/project.git", "http://127.0.0.1:8000/x", "ssh://git@example.org:22/x.git",
        "git@example.org:team/project.git", "example.org:project", "git://example.org/x", "file:///srv/x.git",
        "/srv/x.git", "https://user:token@example.org/x.git", "https://[::1]:8443/x.git",
    ],
)  # fmt: skip
def test_git_urls_are_taken(url: str) -> None:
    check_url(url)


@given(
    url=st.one_of(
        st.text(max_size=40), st.text("ab:/@-[]?#.%\\ ", max_size=20), st.from_regex(r"https?://.{0,20}")
    )
)
def test_any_text_as_a_url_is_taken_or_refused(url: str) -> None:
    try:
        check_url(url)
    except RequestError:
        return
    assert not url.startswith("-")
    assert "\n" not in url
    assert url.startswith("/") or ":" in url


# ── secrets ────────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "s3cr3t-t0ken"


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@127.0.0.1:1/x.git",
        f"http://{SECRET}@127.0.0.1:1/x.git",
        f"https://user:{SECRET}@name.invalid/x.git",
        f"ssh://user:{SECRET}@127.0.0.1:1/x.git",
        f"file://user:{SECRET}@/nowhere/x.git",
        f"http://127.0.0.1:1/x.git?private_token={SECRET}",
    ],
)
@pytest.mark.parametrize("asked", ["resolve", "clone"])
def test_credentials_in_a_url_are_in_no_error(tmp_path: Path, url: str, asked: str) -> None:
    with pytest.raises(StudioError) as raised:
        ask(asked, url, tmp_path / "into")
    assert SECRET not in text_of(raised.value)


@pytest.mark.parametrize(
    "url",
    [f"ftp://user:{SECRET}@example.org/x", f"https://user:{SECRET}@exa mple.org/x", f"https://u:{SECRET}@[::1/x",
     f"https://user:{SECRET}@", f"ext::https://user:{SECRET}@example.org/x"],
)  # fmt: skip
def test_credentials_in_a_refused_url_are_in_no_error(url: str) -> None:
    with pytest.raises(RequestError) as raised:
        check_url(url)
    assert SECRET not in text_of(raised.value)


def test_credentials_are_in_no_error_about_refs_and_commits(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://user:{SECRET}@example.org/x.git"
    # Git itself maps the URL to a folder, as it does for mirrors.
    (tmp_path / "gitconfig").write_text(f'[url "{remote.url}"]\n\tinsteadOf = {url}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert resolve_ref(url, "main") == remote.two
    for ref in ("gone", "12ab12ab"):
        with pytest.raises(RequestError) as raised:
            resolve_ref(url, ref)
        assert "example.org/x.git" in str(raised.value)
        assert SECRET not in text_of(raised.value)
    with pytest.raises(RequestError) as raised:
        clone(url, "12ab" * 10, tmp_path / "into")
    assert SECRET not in text_of(raised.value)


def test_a_clone_keeps_no_credentials(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://user:{SECRET}@example.org/x.git"
    (tmp_path / "gitconfig").write_text(f'[url "{remote.url}"]\n\tinsteadOf = {url}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    into = tmp_path / "into"
    clone(url, remote.one, into)
    kept = [path for path in into.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept == []
    assert take_snapshot(CodeSource(folder=str(into))).remote == "https://example.org/x.git"


# ── the world ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_away_may_be_tried_again() -> None:
    with pytest.raises(WorldError) as raised:
        resolve_ref("http://127.0.0.1:1/x.git", "main")
    assert raised.value.can_retry
    assert "did not answer" in str(raised.value)
    with pytest.raises(WorldError) as raised:
        resolve_ref("http://name.invalid/x.git", "main")
    assert raised.value.can_retry
    assert "not found" in str(raised.value)


def test_without_git_one_is_told_to_install_it(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WorldError) as raised:
        resolve_ref(remote.url, "main")
    assert "not installed" in str(raised.value)
    assert "install git" in raised.value.try_this


def test_a_git_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    with pytest.raises(WorldError) as raised:
        run_git("ls-remote", timeout_s=0.2)
    assert raised.value.can_retry
    assert "git ls-remote" in raised.value.why
    assert "network" in raised.value.try_this


def test_git_never_asks_and_hears_nothing_of_our_own_git_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "bin/git"
    shown.parent.mkdir()
    shown.write_text("#!/bin/sh\nenv\n")
    shown.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shown.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "evil")
    lines = run_git("status").stdout.decode().splitlines()
    assert "GIT_TERMINAL_PROMPT=0" in lines
    assert not any(line.startswith(("GIT_DIR=", "GIT_EXTERNAL_DIFF=")) for line in lines)
