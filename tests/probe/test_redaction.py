"""Secrets are hidden, however they are written and wherever the stream is cut; ordinary text stays as it is."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.probe.redaction import (
    HIDDEN,
    Redactor,
    is_secret_name,
    redact_command,
    redact_env,
    redact_text,
)

S = "s3cr3t-v4lu3"
"""A value of no known shape: only its name gives it away."""
GITHUB = "ghp_" + "a1B2c3D4e5" * 3
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----"

# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "hf-token", "--token", "token", "GITHUB_TOKEN", "WANDB_API_KEY", "api_key", "api-key", "apikey",
        "--api-key", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "password", "PGPASSWORD", "db.password", "passwd",
        "MYSQL_PWD", "client_secret", "SECRET", "private_key", "ssh-private-key", "credentials", "Authorization",
        "use_auth_token", "key",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "max_tokens", "--max-tokens", "num_tokens", "tokens", "tokenizer", "TOKENIZERS_PARALLELISM", "pad_token",
        "eos_token", "token_count", "tokens_per_batch", "tokens_per_second", "monkey", "keyboard", "keys", "turkey",
        "primary_key", "sort_key", "author", "passes", "lr", "secretary", "num_keys", "image_key", "pad_token_id",
        "HF_TOKEN_FILE", "--token-file", "api_key_path", "credentials_dir",
    ],
)  # fmt: skip
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


# ── text ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"HF_TOKEN={S}", f"HF_TOKEN={HIDDEN}"),
        (f"export A=1 HF_TOKEN={S} B=2", f"export A=1 HF_TOKEN={HIDDEN} B=2"),
        (f"password: {S}", f"password: {HIDDEN}"),
        (f"password = '{S} and more', lr = 1", f"password = {HIDDEN}, lr = 1"),
        (f'secret="{S} \\" and more" lr=1', f"secret={HIDDEN} lr=1"),
        (f"python t.py --api-key {S} --lr 1", f"python t.py --api-key {HIDDEN} --lr 1"),
        (f"python t.py --api-key={S}", f"python t.py --api-key={HIDDEN}"),
        (f"docker run --env=HF_TOKEN={S} image", f"docker run --env=HF_TOKEN={HIDDEN} image"),
        (f'{{"lr": 1, "api_key": "{S}", "b": 2}}', f'{{"lr": 1, "api_key": {HIDDEN}, "b": 2}}'),
        (f"{{'token': '{S}'}}", f"{{'token': {HIDDEN}}}"),
        (f'"{{\\"token\\": \\"{S}\\", \\"a\\": 1}}"', f'"{{\\"token\\": {HIDDEN}, \\"a\\": 1}}"'),
        (f"https://host/path?token={S}&x=1", f"https://host/path?token={HIDDEN}&x=1"),
        (f"https://host/path?x=1&api_key={S}", f"https://host/path?x=1&api_key={HIDDEN}"),
        (f"https://me:{S}@host/x", f"https://{HIDDEN}@host/x"),
        (f"https://:{S}@host/x", f"https://{HIDDEN}@host/x"),
        (f"https://me:with@{S}@host/x", f"https://{HIDDEN}@host/x"),
        (f"https://{'a1' * 10}@host/x", f"https://{HIDDEN}@host/x"),
        (f"postgresql+psycopg://me:{S}@db:5432/x", f"postgresql+psycopg://{HIDDEN}@db:5432/x"),
        (f"Authorization: Bearer {S}", f"Authorization: {HIDDEN}"),
        (f"authorization: token {S}\nlr: 1", f"authorization: {HIDDEN}\nlr: 1"),
        (f"curl -H 'Authorization: Basic {S}==' url", f"curl -H 'Authorization: {HIDDEN}' url"),
        (f"sent bearer {S}!", f"sent bearer {HIDDEN}!"),
        (f"a {GITHUB} b", f"a {HIDDEN} b"),
        ("a hf_" + "aB1" * 8, f"a {HIDDEN}"),
        ("sk-" + "aB1-_" * 5, HIDDEN),
        ("(AKIA" + "ABCD1234" * 2 + ")", f"({HIDDEN})"),
        ("xoxb-123456789012-abcdef", HIDDEN),
        ("AIza" + "a" * 35, HIDDEN),
        ("glpat-" + "a" * 20, HIDDEN),
        ("github_pat_" + "a" * 22, HIDDEN),
        ("pypi-" + "a" * 20, HIDDEN),
        (f"got {JWT}.", f"got {HIDDEN}."),
        (f"{JWT}", HIDDEN),
        (f"before\n{PRIVATE_KEY}\nafter", f"before\n{HIDDEN}\nafter"),
        (PRIVATE_KEY[:50], HIDDEN),
    ],
)
def test_text_with_secrets(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_text(shown) == shown, "what is hidden stays as it is"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch 3 loss=0.25 lr=1e-3",
        "max_tokens=512 num_tokens: 100 tokens: 5",
        "python train.py --max-tokens 512 --tokenizer bert --key-size",
        "tokenizer.json: 100%",
        "sorted(key=len)",
        "KeyError: 'token'",
        "password=",
        "the token is not valid",
        "--token-file /run/secrets/token",
        "https://github.com/me/project.git@v1.2",
        "git@github.com:me/project.git",
        "ssh://git@host/project",
        "https://host:8080/a?b=c",
        "task-abcdefghijklmnopqrstuvwxyz",
        "hf_hub is not installed",
        "monkey=1; turkey: 2",
        "2024-01-01 12:00:00 INFO key performance",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "sha256:" + "0123456789abcdef" * 4,
        "bearer of news",
    ],
)
def test_text_without_secrets(text: str) -> None:
    assert redact_text(text) == text


@given(st.text())
def test_hiding_twice_is_hiding_once(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@given(
    st.text(alphabet="ab =:,-\n\"'{}"),
    st.text(alphabet="abcXYZ019_", min_size=6, max_size=20).map(lambda value: "S" + value + "S"),
    st.sampled_from(["HF_TOKEN=%s", "--api-key %s", '"password": "%s"', "https://u:%s@h/", "secret: '%s'"]),
)
def test_a_named_value_is_hidden_after_any_text(before: str, value: str, form: str) -> None:
    assert value not in redact_text(before + "\n" + form % value)


@pytest.mark.parametrize(
    "part",
    ["a.", "a ", "a=", "eyJ", "a://b:", "--token ", 'key="', "key='\\", "authorization:", " ", "-", '"', "token_",
     "-----BEGIN PRIVATE KEY-----"],
)  # fmt: skip
def test_long_text_takes_no_longer_than_its_length(part: str) -> None:
    """What a run prints may be anything."""
    text = part * (50_000 // len(part))
    began = time.process_time()
    redact_text(text)
    assert time.process_time() - began < 1.0


# ── commands and variables ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["t.py", "--token", S, "--lr", "1"], ["t.py", "--token", HIDDEN, "--lr", "1"]),
        (["t.py", f"--token={S} with spaces"], ["t.py", f"--token={HIDDEN}"]),
        (["t.py", f"token={S}"], ["t.py", f"token={HIDDEN}"]),
        (["t.py", f"+model.api_key={S}"], ["t.py", f"+model.api_key={HIDDEN}"]),
        (["t.py", "--api_key", "-" + S, "x"], ["t.py", "--api_key", HIDDEN, "x"]),
        (["t.py", "--token", "--lr", "1"], ["t.py", "--token", "--lr", "1"]),
        (["t.py", "--token"], ["t.py", "--token"]),
        (["docker", "-e", f"HF_TOKEN={S}"], ["docker", "-e", f"HF_TOKEN={HIDDEN}"]),
        (["docker", f"-eHF_TOKEN={S}"], ["docker", f"-eHF_TOKEN={HIDDEN}"]),
        (["curl", "-H", f"Authorization: token {S}"], ["curl", "-H", f"Authorization: {HIDDEN}"]),
        (["sh", "-c", f"t.py --password {S} && x"], ["sh", "-c", f"t.py --password {HIDDEN} && x"]),
        (["git", "clone", f"https://me:{S}@host/x"], ["git", "clone", f"https://{HIDDEN}@host/x"]),
        (["t.py", GITHUB], ["t.py", HIDDEN]),
        (["t.py", f'--config={{"token": "{S}"}}'], ["t.py", f'--config={{"token": {HIDDEN}}}']),
    ],
)
def test_commands(command: list[str], shown: list[str]) -> None:
    assert redact_command(command) == tuple(shown)
    assert redact_command(shown) == tuple(shown)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["python", "train.py", "--max-tokens", "512", "--lr=0.1"],
        ["train.py", "--tokenizer", "bert", "--pad-token", "<pad>", "--sort-key=name"],
        ["train.py", "--token-file", "/run/secrets/token", "--no-token"],
        ["python", "-m", "keyring", "get", "x"],
    ],
)
def test_commands_without_secrets(command: list[str]) -> None:
    assert redact_command(command) == tuple(command)


def test_variables() -> None:
    given_pairs = [
        ("HF_TOKEN", S),
        ("HF_TOKEN_FILE", "/run/secrets/HF_TOKEN"),
        ("EMPTY_TOKEN", ""),
        ("PATH", "/usr/bin:/bin"),
        ("PWD", "/workspace"),
        ("MYSQL_PWD", S),
        ("MAX_TOKENS", "512"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HTTPS_PROXY", f"http://me:{S}@proxy:80"),
        ("OTHER", GITHUB),
        ("OPTIONS", f"--lr 1 --token {S}"),
    ]
    assert redact_env(given_pairs) == (
        ("HF_TOKEN", HIDDEN),
        ("HF_TOKEN_FILE", "/run/secrets/HF_TOKEN"),
        ("EMPTY_TOKEN", ""),
        ("PATH", "/usr/bin:/bin"),
        ("PWD", "/workspace"),
        ("MYSQL_PWD", HIDDEN),
        ("MAX_TOKENS", "512"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HTTPS_PROXY", f"http://{HIDDEN}@proxy:80"),
        ("OTHER", HIDDEN),
        ("OPTIONS", f"--lr 1 --token {HIDDEN}"),
    )


# ── known values in a stream ───────────────────────────────────────────────────────────────────────────────────────

# Marks hold none of these letters, so whatever of them is left was output.
VALUES = st.lists(st.text(alphabet="xyz", min_size=4, max_size=8), min_size=1, max_size=3)


def streamed(redactor: Redactor, data: bytes, cuts: list[int]) -> bytes:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    return b"".join(redactor.feed(piece) for piece in pieces) + redactor.flush()


@given(VALUES, st.data(), st.lists(st.integers(0), max_size=12))
def test_values_are_hidden_wherever_the_stream_is_cut(
    values: list[str], data: st.DataObject, cuts: list[int]
) -> None:
    secrets = {f"N{i}": value for i, value in enumerate(values)}
    parts = st.lists(st.sampled_from(values) | st.text(alphabet="xyz \n", max_size=5), max_size=10)
    stream = "".join(data.draw(parts)).encode()
    shown = streamed(Redactor(secrets), stream, cuts)
    assert shown == streamed(Redactor(secrets), stream, [])
    for value in values:
        assert value.encode() not in shown
    if not any(value.encode() in stream for value in values):
        assert shown == stream


@given(st.lists(st.integers(0), max_size=12))
def test_everything_else_is_kept(cuts: list[int]) -> None:
    stream = b"one hunter2 two hunter hunter22\xff three hunter2" + "ü".encode() + b" hunte"
    assert streamed(Redactor({"P": "hunter2"}), stream, cuts) == (
        b"one [secret P] two hunter [secret P]2\xff three [secret P]" + "ü".encode() + b" hunte"
    )


def test_byte_by_byte() -> None:
    stream = b"a hunter2 b hunter2hunter2"
    assert streamed(Redactor({"P": "hunter2"}), stream, list(range(len(stream)))) == (
        b"a [secret P] b [secret P][secret P]"
    )


def test_only_what_may_become_a_value_is_held_back() -> None:
    redactor = Redactor({"P": "hunter2"})
    assert redactor.feed(b"loss 0.5 h") == b"loss 0.5 "
    assert redactor.feed(b"unt") == b""
    assert redactor.feed(b"ing\n") == b"hunting\n"
    assert redactor.feed(b"hunter2") == b"[secret P]"
    assert redactor.flush() == b""


def test_what_is_held_back_at_the_end_may_be_a_shorter_value() -> None:
    redactor = Redactor({"A": "hunter2", "B": "hunter2-and-more", "C": "swordfish\n"})
    assert redactor.feed(b"hunter2-and") == b""
    assert redactor.flush() == b"[secret A]-and"
    assert redactor.feed(b"swordfish") == b""
    assert redactor.flush() == b"[secret C]"
    assert redactor.flush() == b""


def test_the_longer_value_wins() -> None:
    redactor = Redactor({"A": "hunter2", "B": "hunter2-and-more"})
    assert redactor.feed(b"hunter2-and-more hunter2 ") + redactor.flush() == b"[secret B] [secret A] "


def test_lines_of_a_value_are_hidden_too() -> None:
    redactor = Redactor({"KEY": PRIVATE_KEY})
    line = PRIVATE_KEY.splitlines()[1].encode()
    assert redactor.feed(b"  " + line + b"\nabc\n") + redactor.flush() == b"  [secret KEY]\nabc\n"
    assert redactor.feed(PRIVATE_KEY.encode()) + redactor.flush() == b"[secret KEY]"


@pytest.mark.parametrize("value", ["", "a", "abc", "   ", "\n"])
def test_a_value_too_short_to_hide_leaves_text_whole(value: str) -> None:
    redactor = Redactor({"A": value})
    assert redactor.feed(b"a abc \n   b") + redactor.flush() == b"a abc \n   b"


def test_without_secrets_nothing_is_held_back() -> None:
    redactor = Redactor({})
    assert redactor.feed(b"anything") == b"anything"
    assert redactor.hide("anything \ud800") == "anything \ud800"


def test_a_whole_text() -> None:
    redactor = Redactor({"P": "pässword"})
    assert redactor.feed(b"p") == b""
    assert redactor.hide("is pässword, \ud800") == "is [secret P], ?"
    assert redactor.flush() == b"p", "the stream is another matter"
