"""Code from Git: what a branch or tag means now, and a checkout of exactly one commit."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from mlstudio.images.git import run_git
from mlstudio.images.snapshot import without_password
from mlstudio.model.errors import RequestError, WorldError

_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
_SCP = re.compile(r"(?:[\w.\-]+@)?\w[\w.\-]*:(?!//)[^\s]+")
_HELPER = re.compile(r"[A-Za-z0-9+.\-]*::")
"""``ext::command`` and its like: Git would run a program."""
_SCHEMES = ("https", "http", "ssh", "git", "file")


def resolve_ref(url: str, ref: str) -> str:
    """The commit that `ref` (a branch, tag or full commit; empty: the default branch) of `url` means now.

    Raises RequestError (field ``code.url`` or ``code.ref``), WorldError (the network).
    """
    check_url(url)
    if _FULL_COMMIT.fullmatch(ref):
        return ref
    if ref.startswith("-") or any(ord(letter) < 33 for letter in ref):
        raise RequestError(f"“{ref}” is no branch, tag or commit.", field="code.ref")
    patterns = (
        (ref, f"{ref}^{{}}", f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}")
        if ref
        else ("HEAD",)
    )
    done = run_git("ls-remote", "--quiet", "--", url, *patterns)
    if done.returncode != 0:
        raise _unreachable(url, done.stderr.decode("utf-8", "replace"))
    found: dict[str, str] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        commit, _, name = line.partition("\t")
        found[name] = commit
    for name in (
        f"refs/tags/{ref}^{{}}",
        f"refs/heads/{ref}",
        f"refs/tags/{ref}",
        f"{ref}^{{}}",
        ref,
        "HEAD" if not ref else "",
    ):
        if name and name in found:
            return found[name]
    shown = shown_url(url)
    if ref and re.fullmatch(r"[0-9a-f]{4,39}", ref):
        raise RequestError(
            f"There is no branch or tag “{ref}” in {shown}.",
            field="code.ref",
            why="It looks like a shortened commit, which a server cannot look up.",
            try_this="Give the commit's full 40 digits (git rev-parse HEAD).",
        )
    raise RequestError(
        f"There is no branch or tag “{ref}” in {shown}." if ref else f"The repository {shown} is empty.",
        field="code.ref" if ref else "code.url",
        try_this=f"See what there is with: git ls-remote {shown}",
    )


def clone(url: str, commit: str, into: Path) -> None:
    """Check out `commit` of `url` in the folder `into`, which is made. Submodules are left alone."""
    check_url(url)
    if not _FULL_COMMIT.fullmatch(commit):
        raise RequestError(f"“{commit}” is no full commit.", field="code.ref")
    unmade = WorldError(
        f"No repository can be made in {into}.", try_this="Check the free space and permissions."
    )
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unmade from error
    if run_git("init", "--quiet", folder=into).returncode != 0:
        raise unmade
    # The checkout is kept: it remembers where it came from, and no password.
    run_git("config", "remote.origin.url", without_password(url), folder=into)
    done = run_git("fetch", "--quiet", "--depth=1", "--", url, commit, folder=into, timeout_s=1800)
    if done.returncode != 0:
        # Not every server gives single commits: fetch the branches and tags instead.
        done = run_git(
            "fetch",
            "--quiet",
            "--tags",
            "--",
            url,
            "+refs/heads/*:refs/remotes/origin/*",
            folder=into,
            timeout_s=1800,
        )
        if done.returncode != 0:
            raise _unreachable(url, done.stderr.decode("utf-8", "replace"))
    done = run_git("checkout", "--quiet", "--force", "--detach", commit, "--", folder=into, timeout_s=600)
    if done.returncode != 0:
        raise RequestError(
            f"The commit {commit[:12]} is not in {shown_url(url)}.",
            field="code.ref",
            why=done.stderr.decode("utf-8", "replace").strip()[-300:],
            try_this="Push it to the remote, or choose another one.",
        )


def check_url(url: str) -> None:
    """Refuse what is no Git URL or could start a program. Raises RequestError(field="code.url")."""
    wrong = RequestError(
        f"“{shown_url(url)}” is no Git URL that ML Studio takes.",
        field="code.url",
        try_this="For example: https://example.org/team/project.git or git@example.org:team/project.git",
    )
    # A folder of this machine may have a blank in its name.
    lowest = 32 if url.startswith("/") else 33
    if not url or url.startswith("-") or any(ord(letter) < lowest for letter in url) or _HELPER.match(url):
        raise wrong
    if "://" in url:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise wrong from None  # the error repeats the URL
        if parts.scheme not in _SCHEMES or any(name.startswith("-") for name in parts.netloc.split("@")):
            raise wrong
        if parts.scheme != "file" and not parts.hostname:
            raise wrong
    elif not _SCP.fullmatch(url) and not url.startswith("/"):
        raise wrong


def shown_url(url: str) -> str:
    """A URL as it may stand in messages: without user, password and query, however oddly it is written."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if slashes else url


def _unreachable(url: str, said: str) -> RequestError | WorldError:
    text = said.lower()
    shown = shown_url(url)
    lines = [line for line in said.replace(url, shown).splitlines() if line.strip()]
    # ssh's own words come first; what Git adds to them is general.
    words = next(
        (line for line in lines if line.startswith(("ssh:", "fatal:", "error:"))), "".join(lines[-1:])
    )[:300]
    if (
        "could not resolve" in text
        or "name or service not known" in text
        or "temporary failure in name" in text
    ):
        return WorldError(
            f"The server of {shown} was not found.",
            why=words,
            try_this="Check the spelling of the URL and the network.",
            can_retry=True,
        )
    if "certificate" in text or "ssl" in text:
        return WorldError(
            f"The server of {shown} showed a certificate that is not trusted here.",
            why=words,
            try_this="Behind a company proxy, tell Git the proxy's certificate: git config --global http.sslCAInfo FILE",
        )
    if any(
        word in text
        for word in ("timed out", "connection refused", "unreachable", "failed to connect", "rpc failed")
    ):
        return WorldError(
            f"The server of {shown} did not answer.", why=words, try_this="Try again later.", can_retry=True
        )
    return RequestError(
        f"There is no repository at {shown}, or you may not read it.",
        field="code.url",
        why=words,
        try_this=f"Check the URL, and that this works in a terminal: git ls-remote {shown}",
    )
