"""Why builds fail, told from what the tools really print.

The files in ``tests/recorded/images`` are outputs of real failures: pip 26.3, 23.2 and 23.0, apt and git of Debian 12,
and steps of builds by the BuildKit in Docker Engine 20.10. A file holds what the step printed and, below a line
``=== builder ===``, the builder's own words. Names of machines and folders were replaced, long lists of versions cut.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.images.diagnosis import LAST_LINES, RULES, diagnose
from mlstudio.model.image import Diagnosis

RECORDED = Path(__file__).resolve().parent.parent / "recorded" / "images"
BUILDER = "=== builder ===\n"
FAILED = "executor failed running [/bin/sh -c pip install --requirement requirements.txt]: exit code: 1"


def explain(name: str) -> Diagnosis:
    log, _, said = (RECORDED / f"{name}.txt").read_text("utf-8").partition(BUILDER)
    return diagnose("RUN pip install", log, said.strip() or FAILED, "FROM python\nRUN pip install\n")


def words(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.title} {diagnosis.why} {diagnosis.try_this}"


RECORDINGS: tuple[tuple[str, str, str], ...] = (
    # (recording, rule, words that the explanation must hold)
    ("pip-no-such-package", "no-such-package", "No package named “torhc-nonexistent-zz9”"),
    (
        "pip-no-such-version",
        "no-such-version",
        "six==99.1. The index has other versions: … 1.15.0, 1.16.0, 1.17.0.",
    ),
    ("pip-no-wheel", "no-such-version", "tensorflow==1.15.0"),
    ("pip-only-binary", "no-such-version", "choose another Python"),
    ("pip-python-too-old", "python-version", "It asks for Python >=3.11."),
    ("pip-python-not-allowed", "python-version", "It asks for Python >=3.13."),
    ("pip-conflict", "conflict", "urllib3==1.20 cannot be installed together"),
    ("pip-invalid-requirement", "invalid-requirement", "“numpy=>2.0”"),
    ("pip-invalid-line", "invalid-requirement", "“foo bar”"),
    ("pip-hash", "hash-mismatch", "lock file"),
    ("pip-hash-missing", "hash-mismatch", "a hash is missing"),
    ("pip-proxy-407", "proxy", "--proxy"),
    ("pip-proxy-403", "proxy", "--proxy"),
    ("pip-tls", "certificate", "--cert"),
    ("pip-tls-older-pip", "certificate", "--cert"),
    ("pip-timeout", "index-not-reached", "could not connect"),
    ("pip-unreachable", "index-not-reached", "could not connect"),
    ("pip-no-dns", "name-resolution", "could not be looked up"),
    ("pip-disk-full", "disk-full", "docker builder prune"),
    ("pip-compiler-missing", "compiler-missing", "build-essential"),
    ("pip-header-missing", "header-missing", "lapacke.h"),
    ("pip-needs-torch-to-build", "build-needs-module", "own build needs “torch”"),
    ("pip-setup-raises", "package-build-failed", "ready-made wheels"),
    ("pip-python2-sources", "package-build-failed", "Its own build failed: networkx."),
    ("git-tls", "certificate", "CA bundle"),
    ("git-ssh", "git-access", "needs a login"),
    ("git-local", "git-access", "does not exist"),
    ("git-disk-full", "disk-full", "no room left"),
    ("build-apt-unknown", "apt-package-unknown", "no package named “libglx1-zz9”"),
    ("build-apt-version", "apt-version-unknown", "no version 99.1-1 of coreutils"),
    ("build-apt-refused", "apt-lists", "The mirror did not answer"),
    ("build-apt-gone", "apt-lists", "no longer kept there"),
    ("build-apt-dns", "name-resolution", "could not be looked up"),
    ("build-copy-missing", "copy-missing", "copies “/nothing.txt”"),
    ("build-copy-stage", "copy-missing", "copies “/nothing”"),
    ("build-add-missing", "copy-missing", "copies “/data”"),
    ("build-unknown-base", "registry-away", "could not be reached"),
    ("build-no-stage", "registry-away", "could not be reached"),
    ("build-bad-ref", "dockerfile-syntax", "repository name must be lowercase"),
    ("build-syntax", "dockerfile-syntax", "unknown instruction: RUNN"),
    ("build-flag", "dockerfile-syntax", "Unknown flag: frm"),
    ("build-noargs", "dockerfile-syntax", "COPY requires at least two arguments"),
    ("build-cmd-not-found", "command-not-found", "“frobnicate”"),
    ("build-exec-missing", "command-not-found", "“frobnicate”"),
    ("build-curl", "command-not-found", "“curl”"),
    ("build-gcc-not-found", "compiler-missing", "build-essential"),
    ("build-pip-source-no-compiler", "compiler-missing", "build-essential"),
    ("build-git-missing", "git-missing", "Add git"),
    ("build-git-nonet", "name-resolution", "could not be looked up"),
    ("build-git-refused", "network", "could not be reached"),
    ("build-useradd-name", "user-exists", "“mlstudio”"),
    ("build-useradd-uid", "user-exists", "1000"),
    ("build-permission-mkdir", "permission", "before the USER line"),
    ("build-permission-python", "permission", "/opt/file"),
    ("build-read-only", "permission", "may not write"),
    ("build-memory-python", "out-of-memory", "memory"),
    ("build-killed", "out-of-memory", "memory"),
    ("build-module", "smoke-import-failed", "“torch” is missing"),
    ("build-shared-library", "shared-library-missing", "libGL.so.1"),
    ("build-disk-tmpfs", "disk-full", "no room left"),
    ("build-venv-missing", "venv-missing", "python3-venv"),
    ("build-pip-file-missing", "file-missing", "requirements.txt"),
    ("build-script-exit", "unknown", "Its last lines"),
)

# The wording of registries and programs that were not at hand when the others were recorded, each as its own sources
# and the reports of its users have it.
WORDINGS: tuple[tuple[str, str, str, str, str], ...] = (
    # (what, printed, the builder's words, rule, words that the explanation must hold)
    # moby, distribution/errors.go: a repository that is private or does not exist
    ("private-base", "", "pull access denied for acme/train, repository does not exist or may require 'docker login': "
     "denied: requested access to the resource is denied", "base-image-not-found", "acme/train"),
    # moby: a tag that does not exist
    ("no-such-tag", "", "manifest for acme/train:9 not found: manifest unknown: manifest unknown", "base-image-not-found",
     "acme/train:9"),
    # containerd's resolver
    ("no-such-tag-2", "", "failed to solve: python:3.99-slim: docker.io/library/python:3.99-slim: not found",
     "base-image-not-found", "docker.io/library/python:3.99-slim"),
    # newer BuildKit (solver/llbsolver/ops, cache/contenthash): a file that is not in the context
    ("copy-new", "", "failed to solve: failed to compute cache key: failed to calculate checksum of ref "
     "8b4a2281-8212-4d01-b0ac-ed00889d5b56::a1udyhgtxx0o667qy7oblnqbf: \"/requirements.txt\": not found",
     "copy-missing", "/requirements.txt"),
    # moby's builder without BuildKit
    ("copy-classic", "", "COPY failed: file not found in build context or excluded by .dockerignore: stat model.bin: "
     "no such file or directory", "copy-missing", "model.bin"),
    # the kernel's out-of-memory killer in a pip step
    ("oom", "Collecting torch\n  Downloading torch-2.3.0-cp311-cp311-manylinux1_x86_64.whl (779.1 MB)\nKilled\n",
     "executor failed running [/bin/sh -c pip install torch]: exit code: 137", "out-of-memory", "memory"),
    # torch/utils/cpp_extension.py
    ("cuda-home", "    OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.\n"
     "error: subprocess-exited-with-error\n", FAILED, "nvcc-missing", "CUDA devel image"),
    # scikit-build-core, cmake
    ("cmake", "CMake Error: CMAKE_C_COMPILER not set\n-- No CMAKE_CXX_COMPILER could be found.\n"
     "error: metadata-generation-failed\n", FAILED, "compiler-missing", "cmake"),
    # setuptools-rust
    ("rust", "error: can't find Rust compiler\nERROR: Failed building wheel for tokenizers\n", FAILED, "compiler-missing",
     "wheel"),
    # meson
    ("meson", "../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]\n"
     "error: metadata-generation-failed\n", FAILED, "compiler-missing", "build-essential"),
    # apt: known, but nowhere to be had
    ("no-candidate", "Package libgl1-mesa-glx is not available, but is referred to by another package.\n\n"
     "E: Package 'libgl1-mesa-glx' has no installation candidate\n", FAILED, "apt-package-unknown", "libgl1-mesa-glx"),
    ("apt-space", "E: You don't have enough free space in /var/cache/apt/archives/.\n", FAILED, "disk-full", "disk"),
    # git, http.c and credential.c
    ("git-login", "fatal: could not read Username for 'https://github.com': terminal prompts disabled\n", FAILED,
     "git-access", "login"),
    ("git-404", "remote: Not Found\nfatal: repository 'https://git.example.org/a.git/' not found\n", FAILED, "git-access",
     "does not exist"),
    # urllib3 under pip, in the middle of a download
    ("cut-off", "  Downloading torch-2.3.0.whl (779.1 MB)\npip._vendor.urllib3.exceptions.ProtocolError: "
     "('Connection broken: IncompleteRead(1048576 bytes read, 778051424 more expected)', IncompleteRead(1, 2))\n",
     FAILED, "network", "build again"),
    ("read-time-out", "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool("
     "host='files.pythonhosted.org', port=443): Read timed out.\n", FAILED, "timeout", "Build again"),
    ("requests-proxy", "requests.exceptions.ProxyError: HTTPSConnectionPool(host='huggingface.co', port=443): Max "
     "retries exceeded (Caused by ProxyError('Cannot connect to proxy.', "
     "OSError('Tunnel connection failed: 502 Bad Gateway')))\n",
     FAILED, "proxy", "--proxy"),
    ("no-file-fits", "ERROR: No matching distribution found for tensorrt==8.6.1\n", FAILED, "no-matching-distribution",
     "tensorrt==8.6.1"),
    ("colours", "\x1b[31mERROR: Could not find a version that satisfies the requirement torhc "
     "(from versions: none)\x1b[0m\n"
     "\x1b[31mERROR: No matching distribution found for torhc\x1b[0m\n", FAILED, "no-such-package", "“torhc”"),
)  # fmt: skip

SUCCESSES = (
    "Collecting six==1.16.0\n  Downloading six-1.16.0-py2.py3-none-any.whl (11 kB)\nInstalling collected packages: six\n"
    "Successfully installed six-1.16.0\n",
    "Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]\nFetched 15.8 MB in 1s (12.3 MB/s)\n"
    "Reading package lists...\nBuilding dependency tree...\n0 upgraded, 3 newly installed, 0 to remove.\n"
    "Setting up ffmpeg (7:5.1.6-0+deb12u1) ...\nProcessing triggers for libc-bin (2.36-9+deb12u9) ...\n",
    "Collecting error-handling==1.0 (from -r requirements.txt (line 3))\n"
    "Building wheel for killed-process (setup.py): done\n"
    "Created wheel for not-found: filename=not_found-1.0-py3-none-any.whl\n"
    "WARNING: Running pip as the 'root' user can result in broken permissions.\n",
    "Cloning into 'x'...\nremote: Counting objects: 100% (12/12), done.\nNote: switching to 'v1.2'.\n",
    "",
)


@pytest.mark.parametrize(("name", "rule", "said"), RECORDINGS, ids=[entry[0] for entry in RECORDINGS])
def test_a_recorded_failure_is_explained(name: str, rule: str, said: str) -> None:
    found = explain(name)
    assert (found.rule, said in words(found)) == (rule, True), words(found)


@pytest.mark.parametrize(
    ("log", "builder", "rule", "said"),
    [entry[1:] for entry in WORDINGS],
    ids=[entry[0] for entry in WORDINGS],
)
def test_a_known_wording_is_explained(log: str, builder: str, rule: str, said: str) -> None:
    found = diagnose("", log, builder, "FROM python:3.99-slim\n")
    assert (found.rule, said in words(found)) == (rule, True), words(found)


def test_every_recording_is_in_the_table_and_every_rule_is_met() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == {entry[0] for entry in RECORDINGS}
    met = {entry[1] for entry in RECORDINGS} | {entry[3] for entry in WORDINGS}
    assert {rule.name for rule in RULES} - met == set()


@pytest.mark.parametrize("printed", SUCCESSES)
def test_what_a_successful_step_prints_names_no_cause(printed: str) -> None:
    found = diagnose("", printed, "executor failed running [/bin/sh -c x]: exit code: 1", "")
    assert found.rule == "unknown"
    assert "exit code: 1" in found.why


def test_every_explanation_is_whole_sentences_without_blanks() -> None:
    for name, *_ in RECORDINGS:
        found = explain(name)
        for text in (found.title, found.why, found.try_this):
            assert text.strip(), (name, found)
            assert not re.search(r"\{|“”|  ", text), (name, text)
        assert found.title.endswith("."), found.title
        assert found.try_this.endswith((".", ")")), found.try_this


PARTICULAR = (
    # (recordings that come together in one output, the rule that must win)
    (("pip-setup-raises", "pip-compiler-missing"), "compiler-missing"),
    (("pip-python2-sources", "pip-header-missing"), "header-missing"),
    (("pip-unreachable", "pip-tls"), "certificate"),
    (("pip-unreachable", "pip-proxy-407"), "proxy"),
    (("pip-no-such-package", "pip-timeout"), "index-not-reached"),
    (("build-git-refused", "build-disk-tmpfs"), "disk-full"),
    (("build-cmd-not-found", "build-gcc-not-found"), "compiler-missing"),
    (("pip-setup-raises", "build-killed"), "out-of-memory"),
    (("build-apt-unknown", "build-apt-refused"), "apt-lists"),
)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("names", "rule"), PARTICULAR)
def test_the_particular_cause_wins_wherever_it_stands(
    names: tuple[str, str], rule: str, swapped: bool
) -> None:
    order = names[::-1] if swapped else names
    log = "\n".join((RECORDED / f"{name}.txt").read_text("utf-8").partition(BUILDER)[0] for name in order)
    assert diagnose("", log, FAILED, "").rule == rule


def test_the_version_asked_for_decides_whether_python_is_at_fault() -> None:
    ignored = (
        "ERROR: Ignored the following versions that require a different python version: 1.21.6 Requires-Python "
        ">=3.7,<3.11; 2.5.0 Requires-Python >=3.12; 2.5.5 Requires-Python >=3.12\n"
        "ERROR: Could not find a version that satisfies the requirement numpy{wanted} (from versions: 2.4.0, 2.4.6)\n"
        "ERROR: No matching distribution found for numpy{wanted}\n"
    )
    at_fault = diagnose("", ignored.format(wanted=">=2.5"), FAILED, "")
    assert (at_fault.rule, at_fault.why) == ("python-version", "It asks for Python >=3.12.")
    older = diagnose("", ignored.format(wanted="==1.21.6"), FAILED, "")
    assert older.why == "It asks for Python >=3.7,<3.11."
    assert diagnose("", ignored.format(wanted="==9.9"), FAILED, "").rule == "no-such-version"


DOCKERFILE = """\
# comment
FROM python:3.11-slim AS one

RUN apt-get update && \\
    apt-get install --yes libglx1-zz9

COPY nothing.txt /x
RUN frobnicate --now
RUN frobnicate --now --twice
"""


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("[one 1/4] FROM python:3.11-slim AS one", 2),
        ("[one 2/4] RUN apt-get update &&     apt-get install --yes libglx1-zz9", 4),
        ("[3/4] COPY nothing.txt /x", 7),
        ("[4/4] RUN frobnicate --now", 8),
        ("[4/4] RUN frobnicate --now --twice", 9),
        ("[internal] load metadata for docker.io/library/python:3.11-slim", 0),
        ("", 0),
    ],
)
def test_the_failing_line_of_the_dockerfile_is_found(step: str, line: int) -> None:
    found = diagnose(step, "", "exit code: 1", DOCKERFILE)
    assert (found.step, found.dockerfile_line) == (step, line)


def test_a_parse_error_names_its_own_line() -> None:
    assert explain("build-syntax").dockerfile_line == 2


def test_the_last_lines_are_kept_without_colours_and_blank_lines() -> None:
    log = "".join(f"line {number}\n\n" for number in range(40)) + "\x1b[31mthe end\x1b[0m   \n"
    found = diagnose("", log, "exit code: 1", "")
    assert len(found.last_lines) == LAST_LINES
    assert found.last_lines[-2:] == ("line 39", "the end")
    assert diagnose("", "", "one\ntwo", "").last_lines == ("one", "two")


PIECES = st.sampled_from(
    [
        "ERROR: Could not find a version that satisfies the requirement ",
        "require a different python version: ",
        " Requires-Python ",
        "(from versions: ",
        "failed to calculate checksum of ref ",
        ": not found",
        "lstat /var/lib/docker/tmp/x",
        "E: Package '",
        "fatal: repository '",
        'exec: "',
        "dockerfile parse error line ",
        "{package}",
        "{",
        "\x1b[",
        "\n",
        ";",
        "'",
    ]
)


@given(
    step=st.text(max_size=60),
    log=st.lists(st.one_of(PIECES, st.text(max_size=30)), max_size=20).map("".join),
    said=st.lists(st.one_of(PIECES, st.text(max_size=30)), max_size=6).map("".join),
    dockerfile=st.text(max_size=120),
)
def test_no_text_breaks_it(step: str, log: str, said: str, dockerfile: str) -> None:
    found = diagnose(step, log, said, dockerfile)
    assert found.rule in {"unknown", *(rule.name for rule in RULES)}
    assert all((found.title, found.why, found.try_this))
    assert len(found.last_lines) <= LAST_LINES
    assert found.dockerfile_line >= 0 or "parse error" in log + said


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a:",
        "/",
        "nvcc",
        "COPY failed",
        "lookup a",
        "dial tcp ",
        "Cannot install ",
        "cannot create directory ",
    ],
)
def test_a_log_of_any_size_and_shape_is_read_in_seconds(piece: str) -> None:
    started = time.process_time()
    diagnose("", piece * (250_000 // len(piece)), FAILED, "")
    assert time.process_time() - started < 10
