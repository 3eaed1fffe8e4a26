"""What a project needs is found in its locks, lists and imports, whatever state these are in."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mlstudio.images.dependencies import find_dependencies
from mlstudio.images.import_names import CONDA_NAMES, DISTRIBUTION_OF, NOT_ON_PYPI, SYSTEM_PACKAGES
from mlstudio.images.imports import read_imports
from mlstudio.images.requirements import Parsed, name_of, read_requirements
from mlstudio.model.image import Dependencies, DependencySource, Problem

# The same folder for every example: each writes the one file anew.
same_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def folder(root: Path, **files: str | bytes) -> Path:
    """Write files named in the manner of keyword arguments: ``requirements_txt`` is requirements.txt."""
    return write(root, {name.replace("__", "/").replace("_", "."): text for name, text in files.items()})


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def requirements(root: Path, text: str | bytes) -> Parsed:
    write(root, {"requirements.txt": text})
    return read_requirements(root, "requirements.txt")


def errors(problems: list[Problem] | tuple[Problem, ...]) -> list[Problem]:
    return [problem for problem in problems if problem.is_error]


def the(problems: list[Problem] | tuple[Problem, ...]) -> Problem:
    """The only problem."""
    assert len(problems) == 1, problems
    return problems[0]


# ── requirements.txt ───────────────────────────────────────────────────────────────────────────────────────────────


def test_names_versions_extras_markers_and_comments_are_read(tmp_path: Path) -> None:
    parsed = requirements(
        tmp_path,
        "# what we need\n"
        "\n"
        "numpy==1.26.4   # not 2 yet\n"
        "   pandas >= 2, < 3\n"
        "uvicorn[standard,http2]~=0.30\n"
        'tomli>=2 ; python_version < "3.11"\n'
        "plain\n"
        "#last==1\n",
    )
    assert parsed.requirements == [
        "numpy==1.26.4",
        "pandas >= 2, < 3",
        "uvicorn[standard,http2]~=0.30",
        'tomli>=2 ; python_version < "3.11"',
        "plain",
    ]
    assert parsed.problems == []


def test_a_hash_sign_inside_a_url_is_no_comment(tmp_path: Path) -> None:
    url = "thing @ https://example.org/thing-1.0-py3-none-any.whl#sha256=abc"
    assert requirements(tmp_path, url + " # why\n").requirements == [url]


def test_a_line_goes_on_behind_a_backslash_and_problems_name_its_first_line(tmp_path: Path) -> None:
    parsed = requirements(tmp_path, "numpy \\\n  >=1.26 \\\n  ,<3\n\nbad line \\\n  here\n")
    assert [str(Requirement(line).specifier) for line in parsed.requirements] == ["<3,>=1.26"]
    assert the(parsed.problems).line == 5


def test_a_backslash_at_the_very_end_loses_nothing(tmp_path: Path) -> None:
    assert requirements(tmp_path, "numpy\nscipy \\").requirements == ["numpy", "scipy"]


def test_a_list_with_hashes_counts_as_locked_only_if_every_line_has_one(tmp_path: Path) -> None:
    sha = "--hash=sha256:" + "ab" * 32
    hashed = f"numpy==1.26.4 \\\n    {sha} \\\n    {sha}\nscipy==1.13.0 {sha}\n"
    write(tmp_path, {"requirements.txt": hashed})
    found = find_dependencies(tmp_path)
    assert found.requirements == ("numpy==1.26.4", "scipy==1.13.0")
    assert found.locked
    write(tmp_path, {"requirements.txt": hashed + "pandas==2.2.0\n"})
    assert not find_dependencies(tmp_path).locked
    write(tmp_path, {"requirements.txt": ""})
    assert not find_dependencies(tmp_path).locked


def test_included_files_are_read_in_their_place_and_relative_to_the_including_one(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "requirements.txt": "first\n-r deps/base.txt\n--requirement=extra.txt\n-rshort.txt\nlast\n",
            "deps/base.txt": "second\n-r more.txt\n",
            "deps/more.txt": "third\n",
            "extra.txt": "fourth\n",
            "short.txt": "fifth\n",
        },
    )
    parsed = read_requirements(tmp_path, "requirements.txt")
    assert parsed.requirements == ["first", "second", "third", "fourth", "fifth", "last"]
    assert parsed.problems == []


def test_files_that_include_each_other_are_read_once_and_end(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "one\n-r b.txt\n", "b.txt": "two\n-r requirements.txt\nthree\n"})
    found = find_dependencies(tmp_path)
    assert found.requirements == ("one", "two", "three")
    assert errors(found.problems) == []


def test_a_file_that_includes_itself_many_times_does_not_take_for_ever(tmp_path: Path) -> None:
    begin = time.monotonic()
    parsed = requirements(tmp_path, "numpy\n" + "-r ./requirements.txt\n" * 20)
    assert parsed.requirements == ["numpy"]
    assert time.monotonic() - begin < 10


def test_an_include_outside_of_the_code_is_refused_on_its_line(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hidden-package==1.0\n")
    code = tmp_path / "code"
    parsed = requirements(write(code, {"link/a": ""}), "numpy\n-r ../secret.txt\n-r /etc/passwd\n")
    assert parsed.requirements == ["numpy"]
    assert [(problem.file, problem.line) for problem in parsed.problems] == [
        ("requirements.txt", 2),
        ("requirements.txt", 3),
    ]
    assert "outside" in parsed.problems[0].message
    os.symlink(tmp_path / "secret.txt", code / "inside.txt")
    assert requirements(code, "-r inside.txt\n").requirements == []


@pytest.mark.parametrize("name", ["missing.txt", "folder", "loop.txt", "a\0b", "x" * 300, "pipe"])
def test_an_include_that_cannot_be_read_is_named_on_its_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(tmp_path / "pipe")
    parsed = requirements(tmp_path, f"numpy\n-r {name}\nscipy\n")
    assert parsed.requirements == ["numpy", "scipy"]
    problem = the(parsed.problems)
    assert (problem.file, problem.line, problem.is_error) == ("requirements.txt", 2, True)
    assert name in problem.message


def test_a_chain_of_includes_that_is_too_long_is_said(tmp_path: Path) -> None:
    write(tmp_path, {f"r{number}.txt": f"-r r{number + 1}.txt\n" for number in range(14)})
    problem = the(read_requirements(tmp_path, "r0.txt").problems)
    assert "ten files deep" in problem.message
    assert (problem.file, problem.line) == ("r10.txt", 1)


def test_constraints_are_left_out_and_said(tmp_path: Path) -> None:
    parsed = requirements(
        tmp_path, "numpy\n-c constraints.txt\n--constraint=c.txt\n--constraint c.txt\n-cc.txt\n"
    )
    assert parsed.requirements == ["numpy"]
    assert [(problem.line, problem.is_error) for problem in parsed.problems] == [
        (2, False), (3, False), (4, False), (5, False),
    ]  # fmt: skip
    assert all("onstraint" in problem.message for problem in parsed.problems)


def test_urls_of_archives_and_repositories_are_kept_as_pip_takes_them(tmp_path: Path) -> None:
    parsed = requirements(
        tmp_path,
        "git+https://example.org/team/one.git@v1.2#egg=one\n"
        "-e git+ssh://git@example.org/two.git#egg=two&subdirectory=python\n"
        "https://example.org/three-1.0-py3-none-any.whl\n"
        "four @ https://example.org/four.zip\n",
    )
    assert parsed.requirements == [
        "one @ git+https://example.org/team/one.git@v1.2",
        "two @ git+ssh://git@example.org/two.git#subdirectory=python",
        "https://example.org/three-1.0-py3-none-any.whl",
        "four @ https://example.org/four.zip",
    ]
    assert parsed.problems == []
    assert [name_of(line) for line in parsed.requirements] == ["one", "two", "", "four"]


@pytest.mark.parametrize("line", ["-e .", "-e ./sub[dev]", "--editable=.", "--editable .", "-e."])
def test_editable_folders_are_left_out_without_an_error(tmp_path: Path, line: str) -> None:
    parsed = requirements(tmp_path, f"{line}\nnumpy\n")
    assert parsed.requirements == ["numpy"]
    problem = the(parsed.problems)
    assert "editable" in problem.message
    assert not problem.is_error


@pytest.mark.parametrize(
    "line", [".", "./pkg", "/abs/pkg", "wheels/thing-1.0-py3-none-any.whl", "thing.tar.gz"]
)
def test_local_files_and_folders_are_errors_that_say_what_to_do(tmp_path: Path, line: str) -> None:
    problem = the(requirements(tmp_path, f"numpy\n{line}\n").problems)
    assert (problem.line, problem.is_error) == (2, True)
    assert "wheelhouse" in problem.try_this


@pytest.mark.parametrize(
    "line",
    [
        "-i https://user:password@example.org/simple",
        "--index-url=https://user:password@example.org/simple",
        "--extra-index-url https://user:password@example.org/simple",
        "--find-links=wheels",
        "--pre",
        "--require-hashes",
    ],
)
def test_pip_options_are_left_out_and_their_values_not_repeated(tmp_path: Path, line: str) -> None:
    parsed = requirements(tmp_path, f"{line}\nnumpy\n")
    assert parsed.requirements == ["numpy"]
    problem = the(parsed.problems)
    assert not problem.is_error
    assert "password" not in problem.message + problem.try_this


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("numpy=1.26", "numpy==1.26"),
        ("numpy = 1.26.4", "numpy==1.26.4"),
        ("numpy 1.26", "numpy==1.26"),
        ("numpy>=", "name>=1.2"),
        ("two words", "name==1.2.3"),
        ("numpy; python_version <", "name==1.2.3"),
        ("[extra]", "name==1.2.3"),
        ("==1.0", "name==1.2.3"),
        ("--frobnicate", "Remove"),
        ("<<<<<<< HEAD", "name==1.2.3"),
    ],
)
def test_malformed_lines_are_named_with_number_and_hint_and_the_others_kept(
    tmp_path: Path, line: str, hint: str
) -> None:
    parsed = requirements(tmp_path, f"first\n\n{line}\nlast\n")
    assert parsed.requirements == ["first", "last"]
    problem = the(parsed.problems)
    assert (problem.file, problem.line, problem.is_error) == ("requirements.txt", 3, True)
    assert hint in problem.try_this


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfnumpy\r\nscipy\r\n",
        "numpy\nscipy\n".encode("utf-16"),
        b"\xfe\xff" + "numpy\r\nscipy\r\n".encode("utf-16-be"),
        b"numpy\rscipy\r",
        b"# Gr\xf6\xdfe: caf\xe9\nnumpy # na\xefve\nscipy",
    ],
    ids=["utf-8 mark and CRLF", "utf-16", "utf-16-be", "CR", "latin-1"],
)
def test_marks_line_ends_and_other_codings_of_the_file_do_not_matter(tmp_path: Path, data: bytes) -> None:
    parsed = requirements(tmp_path, data)
    assert parsed.requirements == ["numpy", "scipy"]
    assert parsed.problems == []


def test_latin_1_in_a_name_is_a_problem_on_its_line(tmp_path: Path) -> None:
    parsed = requirements(tmp_path, b"numpy\ncaf\xe9==1\n")
    assert parsed.requirements == ["numpy"]
    assert the(parsed.problems).line == 2


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    problem = the(requirements(tmp_path, b"numpy\n" * 400_000).problems)
    assert "too large" in problem.message


def test_an_unreadable_list_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").mkdir()
    found = find_dependencies(tmp_path, files=["requirements.txt"])
    assert "cannot be read" in the(found.problems).message
    assert found.requirements == ()


@pytest.mark.parametrize(
    "line",
    [
        "a" + " " * 200_000 + "b",
        "a; " + "(" * 20_000,
        "a[" + "b," * 100_000,
        "a>=" + "1." * 100_000,
        "git+https://" + "#" * 100_000,
        "\\\n" * 50_000,
    ],
    ids=["blanks", "brackets", "extras", "version", "url", "continued"],
)
def test_monstrous_lines_are_answered_soon(tmp_path: Path, line: str) -> None:
    begin = time.monotonic()
    write(tmp_path, {"requirements.txt": line + "\nnumpy\n"})
    found = find_dependencies(tmp_path)
    assert all(len(problem.message) < 1000 for problem in found.problems)
    assert time.monotonic() - begin < 15


# ── pyproject.toml ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_project_table_gives_dependencies_and_python_without_the_optional_ones(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pyproject.toml": """
[project]
name = "thing"
requires-python = ">=3.10"
dependencies = ["torch>=2.1", "numpy; sys_platform == 'linux'"]
[project.optional-dependencies]
dev = ["pytest"]
[dependency-groups]
lint = ["ruff"]
"""
        },
    )
    found = find_dependencies(tmp_path)
    assert found.requirements == ("torch>=2.1", "numpy; sys_platform == 'linux'")
    assert (found.source, found.file, found.python) == (
        DependencySource.PYPROJECT,
        "pyproject.toml",
        ">=3.10",
    )
    assert found.problems == ()


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ('"^1.2"', "a>=1.2,<2"),
        ('"^0.2.3"', "a>=0.2.3,<0.3"),
        ('"^0.0.3"', "a>=0.0.3,<0.0.4"),
        ('"~1.2.3"', "a>=1.2.3,<1.3"),
        ('"~1"', "a>=1,<2"),
        ('"~=1.4"', "a~=1.4"),
        ('"1.2.3"', "a==1.2.3"),
        ('"1.2.*"', "a==1.2.*"),
        ('">=1,<3"', "a>=1,<3"),
        ('">= 1.0, < 3"', "a>=1.0,<3"),
        ('"*"', "a"),
        ('{version = "^2.0", extras = ["x", "y"]}', "a[x,y]>=2.0,<3"),
        ('{git = "https://example.org/a.git", tag = "v1"}', "a @ git+https://example.org/a.git@v1"),
        ('{git = "https://example.org/a.git"}', "a @ git+https://example.org/a.git"),
        ('{url = "https://example.org/a.whl"}', "a @ https://example.org/a.whl"),
        ('[{version = "^1", python = "<3.12"}, {version = "^2", python = ">=3.12"}]', "a>=1,<2"),
    ],
)
def test_poetrys_versions_become_pips(tmp_path: Path, stated: str, wanted: str) -> None:
    write(tmp_path, {"pyproject.toml": f'[tool.poetry.dependencies]\npython = "^3.10"\na = {stated}\n'})
    found = find_dependencies(tmp_path)
    assert found.requirements == (wanted,)
    assert str(Requirement(found.requirements[0]))
    assert found.python == ">=3.10,<4"
    assert found.problems == ()


def test_poetrys_optional_packages_and_folders_stay_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pyproject.toml": '[tool.poetry.dependencies]\na = "1.0"\nb = {path = "../b"}\n'
            'c = {version = "1", optional = true}\n[tool.poetry.group.dev.dependencies]\nd = "1"\n'
        },
    )
    found = find_dependencies(tmp_path)
    assert found.requirements == ("a==1.0",)
    assert errors(found.problems) == []
    assert any("“b”" in problem.message for problem in found.problems)


@pytest.mark.parametrize(
    "version", ["^²", "^" + "9" * 5000, "~", "^", "^x", "~" + "9" * 5000, "||", ",,", "^1.²"]
)
def test_strange_poetry_versions_end_in_a_requirement_or_a_problem(tmp_path: Path, version: str) -> None:
    write(tmp_path, {"pyproject.toml": f'[tool.poetry.dependencies]\nnumpy = "{version}"\n'})
    found = find_dependencies(tmp_path)
    assert len(found.requirements) + len(errors(found.problems)) == 1


def test_toml_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "[project]\nname = 'x'\ndependencies = [1,\n  oops]\n"})
    found = find_dependencies(tmp_path)
    problem = the(found.problems)
    assert (problem.file, problem.line, problem.is_error) == ("pyproject.toml", 4, True)
    assert "not valid TOML" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "9" * 5000,
        "a = " + "[" * 5000,
        "a = 2020-99-99",
        "a = \ud800",
        "[project",
        "a" + ".a" * 5000 + "= 1",
    ],
    ids=["number", "brackets", "date", "surrogate", "table", "keys"],
)
def test_toml_beyond_all_limits_is_a_problem_and_no_traceback(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"pyproject.toml": text.encode("utf-8", "surrogatepass"), "uv.lock": b"", "a.py": b""})
    found = find_dependencies(tmp_path, files=["pyproject.toml"])
    assert found.requirements == ()
    assert all(problem.file == "pyproject.toml" for problem in found.problems)


def test_a_malformed_dependency_in_pyproject_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": '[project]\ndependencies = [\n  "numpy",\n  "sci py",\n]\n'})
    found = find_dependencies(tmp_path)
    assert found.requirements == ("numpy",)
    problem = the(found.problems)
    assert "“sci py”" in problem.message
    assert problem.line == 4


def test_a_pyproject_with_tool_settings_only_leaves_it_to_the_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"pyproject.toml": "[tool.ruff]\nline-length = 99\n", "train.py": "import torch\n"},
    )
    found = find_dependencies(tmp_path)
    assert (found.source, found.requirements) == (DependencySource.IMPORTS, ("torch",))


# ── environment.yml ────────────────────────────────────────────────────────────────────────────────────────────────

CONDA = """\
name: thing
channels: [conda-forge, defaults]
dependencies:
  - python=3.11
  - pip
  - pytorch=2.1
  - conda-forge::numpy=1.26.4=py311h64a7726_0
  - scipy >=1.10,<2
  - pandas==2.2.0
  - scikit-learn
  - pytorch-cuda=12.1
  - libstdcxx-ng
  - _openmp_mutex=5.1=1_gnu
  - matplotlib-base=3.8.*
  - pip:
      - wandb>=0.16
      - git+https://example.org/one.git#egg=one
      - -r more.txt
      - --extra-index-url https://example.org/simple
"""


def test_condas_packages_are_named_as_on_the_package_index(tmp_path: Path) -> None:
    write(tmp_path, {"environment.yml": CONDA, "more.txt": "tqdm\n"})
    found = find_dependencies(tmp_path)
    assert found.requirements == (
        "torch==2.1.*",
        "numpy==1.26.4.*",
        "scipy>=1.10,<2",
        "pandas==2.2.0",
        "scikit-learn",
        "matplotlib==3.8.*",
        "wandb>=0.16",
        "one @ git+https://example.org/one.git",
        "tqdm",
    )
    assert (found.source, found.file, found.python) == (
        DependencySource.CONDA,
        "environment.yml",
        "==3.11.*",
    )
    assert errors(found.problems) == []
    assert "Python package index" in found.problems[0].message
    assert any("--extra-index-url" in problem.message for problem in found.problems)


@pytest.mark.parametrize("name", ["environment.yaml", "conda.yaml", "conda.yml"])
def test_the_other_names_of_a_conda_file_are_known(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: "dependencies: [numpy]\n"})
    assert find_dependencies(tmp_path).file == name


def test_a_malformed_conda_package_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"environment.yml": "dependencies:\n  - numpy\n  - sci%py=1\n  - pip:\n    - b ad\n"})
    found = find_dependencies(tmp_path)
    assert found.requirements == ("numpy",)
    assert [(problem.file, problem.line) for problem in errors(found.problems)] == [
        ("environment.yml", 3),
        ("environment.yml", 5),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dependencies:\n  - a\n - b\n", 3),
        ("dependencies: [a\n", 2),
        ("a: \x01\n", 1),
        ("a: b\nc: \x01\n", 2),
        ("a: !!python/object/apply:os.system ['true']\n", None),
        ("a: 2020-99-99\n", None),
        ("a: 0x_\n", None),
        ("a: !!timestamp x\n", None),
        ("a: !!bool x\n", None),
        ("a: !!int x\n", None),
        ("a: " + "[" * 5000, None),
        ("? [a]\n: b\n", None),
        ("a: &a [*a]\n", None),
        ("dependencies: &a [*a]\n", None),
        ("--- a\n--- b\n", None),
        ("", None),
        ("dependencies: {pip: [a]}\n", None),
        ("dependencies: [[a], {pip: a}, {pip: [1, [a]]}, 1, null, '']\n", None),
    ],
)
def test_odd_yaml_is_a_problem_and_no_traceback(tmp_path: Path, text: str, line: int | None) -> None:
    write(tmp_path, {"environment.yml": text})
    found = find_dependencies(tmp_path)
    if line is not None:
        problem = the(found.problems)
        assert (problem.line, problem.is_error) == (line, True)
        assert "not valid YAML" in problem.message
    assert all(problem.file == "environment.yml" for problem in found.problems)


# ── locks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

UV_LOCK = """
version = 1
requires-python = ">=3.11"
[[package]]
name = "my-project"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "torch" },
    { name = "windows-thing", marker = "sys_platform == 'win32'" },
    { name = "forked" },
    { name = "transformers" },
    { name = "transformers", extra = ["accelerate"] },
    { name = "beside" },
]
[package.dev-dependencies]
dev = [{ name = "pytest" }]
[[package]]
name = "torch"
version = "2.5.1"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "filelock" }]
[[package]]
name = "filelock"
version = "3.16.1"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "transformers"
version = "4.46.0"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "filelock" }]
[package.optional-dependencies]
accelerate = [{ name = "accelerate" }]
[[package]]
name = "accelerate"
version = "1.1.0"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "forked"
version = "1.0"
source = { git = "https://example.org/forked.git?rev=main#0123456789abcdef0123456789abcdef01234567" }
dependencies = [{ name = "loop" }]
[[package]]
name = "loop"
version = "1.0"
source = { url = "https://example.org/loop-1.0.tar.gz" }
dependencies = [{ name = "forked" }]
[[package]]
name = "beside"
version = "0.3"
source = { directory = "../beside" }
dependencies = [{ name = "tqdm" }]
[[package]]
name = "tqdm"
version = "4.67.0"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "windows-thing"
version = "1"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "pytest"
version = "8.3.3"
source = { registry = "https://pypi.org/simple" }
"""


@pytest.mark.timeout(30)
def test_a_uv_lock_gives_what_the_project_needs_here_exactly(tmp_path: Path) -> None:
    write(tmp_path, {"uv.lock": UV_LOCK})
    found = find_dependencies(tmp_path)
    assert found.requirements == (
        "accelerate==1.1.0",
        "filelock==3.16.1",
        "forked @ git+https://example.org/forked.git@0123456789abcdef0123456789abcdef01234567",
        "loop @ https://example.org/loop-1.0.tar.gz",
        "torch==2.5.1",
        "tqdm==4.67.0",
        "transformers==4.46.0",
    )
    assert (found.source, found.locked, found.python) == (DependencySource.UV_LOCK, True, ">=3.11")
    problem = the(found.problems)
    assert "beside" in problem.message
    assert not problem.is_error


def test_a_uv_lock_with_two_versions_takes_the_one_for_linux(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "uv.lock": """
[[package]]
name = "p"
source = { editable = "." }
dependencies = [
  { name = "torch", version = "2.5.1", marker = "sys_platform == 'darwin'" },
  { name = "torch", version = "2.5.1+cpu", marker = "sys_platform != 'darwin'" },
]
[[package]]
name = "torch"
version = "2.5.1"
[[package]]
name = "torch"
version = "2.5.1+cpu"
"""
        },
    )
    assert find_dependencies(tmp_path).requirements == ("torch==2.5.1+cpu",)


POETRY_LOCK = """
[[package]]
name = "numpy"
version = "1.26.4"
optional = false
[[package]]
name = "colorama"
version = "0.4.6"
optional = false
markers = "sys_platform == \\"win32\\""
[[package]]
name = "tomli"
version = "2.0"
groups = ["main", "dev"]
markers = {main = "sys_platform == 'linux'", dev = "sys_platform == 'win32'"}
[[package]]
name = "pytest"
version = "8.0"
groups = ["dev"]
[[package]]
name = "old-dev"
version = "8.0"
category = "dev"
[[package]]
name = "extra"
version = "1.0"
optional = true
[[package]]
name = "forked"
version = "1.0"
[package.source]
type = "git"
url = "https://example.org/forked.git"
reference = "main"
resolved_reference = "0123456789abcdef0123456789abcdef01234567"
[[package]]
name = "wheel-by-url"
version = "1.0"
[package.source]
type = "url"
url = "https://example.org/wheel_by_url-1.0-py3-none-any.whl"
[[package]]
name = "beside"
version = "1.0"
[package.source]
type = "directory"
url = "../beside"
[metadata]
python-versions = "^3.10"
"""


def test_a_poetry_lock_gives_the_main_packages_exactly(tmp_path: Path) -> None:
    write(tmp_path, {"poetry.lock": POETRY_LOCK})
    found = find_dependencies(tmp_path)
    assert found.requirements == (
        "numpy==1.26.4",
        "tomli==2.0",
        "forked @ git+https://example.org/forked.git@0123456789abcdef0123456789abcdef01234567",
        "wheel-by-url @ https://example.org/wheel_by_url-1.0-py3-none-any.whl",
    )
    assert (found.source, found.locked, found.python) == (DependencySource.POETRY_LOCK, True, ">=3.10,<4")
    assert errors(found.problems) == []


@pytest.mark.parametrize("lock", ["uv.lock", "poetry.lock"])
@pytest.mark.parametrize(
    "text",
    [
        "package = 3",
        "package = [1, 'a', {}]",
        "[package]\nname = 'x'",
        "[[package]]\nname = 1\nsource = 1\nversion = []",
        "[[package]]\nname = 'p'\nsource = {virtual = '.'}\ndependencies = 3",
        "[[package]]\nname = 'p'\nsource = {virtual = '.'}\ndependencies = [1, {}, {name = 1}, "
        "{name = 'p', extra = [[1]]}]",
        "[[package]]\nname = 'p'\nsource = {virtual = '.'}\ndependencies = [{name = 'b', extra = [[1], 'x']}]\n"
        "[[package]]\nname = 'b'\nversion = 'not a version'\ndependencies = 1\noptional-dependencies = {x = 1}",
        "[[package]]\nname = 'a b'\nversion = '1'\nmarkers = 3\ngroups = 3\nsource = {type = 'git'}",
        "[metadata]\npython-versions = 3",
        "[[package",
    ],
)
def test_a_lock_of_another_shape_is_a_problem_and_no_traceback(tmp_path: Path, lock: str, text: str) -> None:
    write(tmp_path, {lock: text})
    found = find_dependencies(tmp_path)
    for requirement in found.requirements:
        Requirement(requirement)
    assert all(problem.file == lock for problem in found.problems)


# ── which of them counts ───────────────────────────────────────────────────────────────────────────────────────────

LISTS: list[tuple[str, str, DependencySource]] = [
    (
        "uv.lock",
        "[[package]]\nname='p'\nsource={virtual='.'}\ndependencies=[{name='uv-lock'}]\n"
        "[[package]]\nname='uv-lock'\nversion='1'\n",
        DependencySource.UV_LOCK,
    ),
    ("poetry.lock", "[[package]]\nname='poetry-lock'\nversion='1'\n", DependencySource.POETRY_LOCK),
    ("requirements.txt", "requirements-txt==1\n", DependencySource.REQUIREMENTS),
    ("requirements/requirements.txt", "in-folder==1\n", DependencySource.REQUIREMENTS),
    ("requirements/base.txt", "in-base==1\n", DependencySource.REQUIREMENTS),
    ("requirements.in", "in-in==1\n", DependencySource.REQUIREMENTS),
    ("pyproject.toml", "[project]\ndependencies=['in-pyproject==1']\n", DependencySource.PYPROJECT),
    ("environment.yml", "dependencies: [in-environment]\n", DependencySource.CONDA),
    ("train.py", "import in_imports\n", DependencySource.IMPORTS),
]


@pytest.mark.parametrize("best", range(len(LISTS)), ids=[name for name, _, _ in LISTS])
def test_the_better_list_counts_alone(tmp_path: Path, best: int) -> None:
    write(tmp_path, {name: text for name, text, _ in LISTS[best:]})
    found = find_dependencies(tmp_path)
    name, _, source = LISTS[best]
    assert found.source is source
    assert found.file == ("" if source is DependencySource.IMPORTS else name)
    assert len(found.requirements) == 1


def test_a_uv_lock_of_no_project_leaves_it_to_the_next_list(tmp_path: Path) -> None:
    write(tmp_path, {"uv.lock": "version = 1\n", "requirements.txt": "numpy\n"})
    assert find_dependencies(tmp_path).file == "requirements.txt"


def test_the_python_of_pyproject_counts_beside_a_list_without_one(tmp_path: Path) -> None:
    write(
        tmp_path, {"requirements.txt": "numpy\n", "pyproject.toml": "[project]\nrequires-python='>=3.12'\n"}
    )
    assert find_dependencies(tmp_path).python == ">=3.12"


def test_an_ignored_list_is_not_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"requirements.txt": "numpy\n", ".gitignore": "requirements.txt\n", "train.py": "import torch\n"},
    )
    assert find_dependencies(tmp_path).source is DependencySource.IMPORTS


def test_packages_come_once_and_bring_their_debian_packages(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "OpenCV_Python==4.10.0.84\nlightgbm\nxgboost\nlightgbm\n"})
    found = find_dependencies(tmp_path)
    assert found.requirements == ("OpenCV_Python==4.10.0.84", "lightgbm", "xgboost")
    assert found.system_packages == ("libgl1", "libglib2.0-0", "libgomp1")


def test_an_empty_folder_needs_nothing(tmp_path: Path) -> None:
    assert find_dependencies(tmp_path) == Dependencies()


# ── imports ────────────────────────────────────────────────────────────────────────────────────────────────────────


def imports(root: Path, **files: str | bytes) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    folder(root, **files)
    return read_imports(root, sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")))


def test_imports_become_distributions_wherever_they_stand(tmp_path: Path) -> None:
    found, problems = imports(
        tmp_path,
        train_py="""
import os, sys, json as j
import numpy as np, cv2
from sklearn.linear_model import LogisticRegression
import google.protobuf.message
from google.cloud import storage
from . import sibling
from .deeper import thing
from __future__ import annotations
def late():
    import PIL.Image
    class Inner:
        import yaml
if True:
    import torch
else:
    import jax
for _ in ():
    import scipy
with open("x") as f:
    import tqdm
match 1:
    case 1:
        import einops
try:
    import pandas
finally:
    import polars
""",
    )
    assert found == (
        "einops", "google-cloud-storage", "jax", "numpy", "opencv-python-headless", "pandas", "pillow", "polars",
        "protobuf", "PyYAML", "scikit-learn", "scipy", "torch", "tqdm",
    )  # fmt: skip
    assert problems == ()


def test_what_a_script_can_do_without_is_not_installed(tmp_path: Path) -> None:
    found, _ = imports(
        tmp_path,
        train_py="""
from typing import TYPE_CHECKING
import typing as t
if TYPE_CHECKING:
    import only_types
if t.TYPE_CHECKING:
    import only_types_too
try:
    import apex
except ImportError:
    apex = None
try:
    import wandb
except (ModuleNotFoundError, OSError):
    wandb = None
try:
    import anything
except:
    pass
try:
    import needed
except ValueError:
    raise
""",
    )
    assert found == ("needed",)


def test_the_projects_own_modules_are_not_packages(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "src/mypkg/__init__.py": "",
            "src/mypkg/models.py": "import mypkg\n",
            "train.py": "import mypkg.models, helpers, torch\nfrom src import mypkg\n",
            "helpers.py": "",
        },
    )
    found = find_dependencies(tmp_path)
    assert found.requirements == ("torch",)


def test_tests_and_docs_are_asked_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, {"tests/run.py": "import hypothesis\n", "docs/conf.py": "import sphinx\n"})
    assert find_dependencies(tmp_path).requirements == ("hypothesis", "sphinx")
    write(
        tmp_path,
        {"train.py": "import numpy\n", "setup.py": "import setuptools\n", "test_it.py": "import pytest\n"},
    )
    assert find_dependencies(tmp_path).requirements == ("numpy",)
    assert find_dependencies(tmp_path, script="tests/run.py").requirements == ("hypothesis", "numpy")


def test_a_script_that_is_no_python_is_said_with_its_line_and_the_others_are_read(tmp_path: Path) -> None:
    found, problems = imports(tmp_path, a_py="import torch\nprint 'python 2'\n", b_py="import numpy\n")
    assert found == ("numpy",)
    problem = the(problems)
    assert (problem.file, problem.line, problem.is_error) == ("a.py", 2, False)


@pytest.mark.parametrize("module", ["_private", "__x__", "été", "trailing_", "_e"])
def test_an_import_that_can_be_no_package_is_said_and_not_handed_to_pip(tmp_path: Path, module: str) -> None:
    found, problems = imports(tmp_path, train_py=f"import numpy\nimport {module}\n")
    assert found == ("numpy",)
    problem = the(problems)
    assert (problem.file, problem.line, problem.is_error) == ("train.py", 2, False)
    assert module in problem.message


@pytest.mark.parametrize(
    "source",
    [
        b"import numpy\0",
        b"# -*- coding: nonsense -*-\nimport numpy\n",
        b"\xff\xfe\x00",
        b"(" * 100_000,
        b"if a: pass\n" + b"elif a: pass\n" * 3000,
        b"x = " + b"-" * 100_000 + b"1",
        b"a" + b".a" * 20_000,
        b"from .." + b"." * 1000 + b" import a\n",
        b"x = '\\d'\nx is 1\n",
    ],
    ids=["null", "coding", "bytes", "brackets", "elif", "minus", "dots", "relative", "warnings"],
)
def test_monstrous_scripts_leave_the_others_readable(tmp_path: Path, source: bytes) -> None:
    found, _ = imports(tmp_path, a_py=source, b_py="import torch\n")
    assert "torch" in found


def test_a_file_that_is_gone_or_a_folder_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    write(tmp_path, {"ok.py": "import numpy\n"})
    assert read_imports(tmp_path, ["gone.py", "folder.py", "ok.py"])[0] == ("numpy",)


def test_the_tables_of_names_hold_what_pip_can_install() -> None:
    for distribution in (*DISTRIBUTION_OF.values(), *CONDA_NAMES.values()):
        assert name_of(distribution), distribution
    assert all(name_of(name) == name for name in SYSTEM_PACKAGES), "keys must be normalised"
    assert not NOT_ON_PYPI & set(CONDA_NAMES)
    assert all(name == name.lower() for name in (*CONDA_NAMES, *NOT_ON_PYPI)), "conda names are lower case"


# ── whatever the files hold ────────────────────────────────────────────────────────────────────────────────────────


def assert_sound(found: Dependencies, text: str) -> None:
    """Requirements that pip reads, and problems that point into the file."""
    for requirement in found.requirements:
        assert "\n" not in requirement
        assert not requirement.startswith("-")
    lines = max(1, len(text.splitlines())) + 1
    for problem in found.problems:
        assert problem.message.strip()
        assert 0 <= problem.line <= lines
        assert problem.file


texts = st.text(max_size=300)
fragments = st.lists(
    st.sampled_from(
        ["numpy", "==", "=", "1.2", "[", "]", ",", ";", "python_version", "<", "'3'", '"', "(", ")", "-r ", "-e ", "-c ",
         "--hash=sha256:00", "\\\n", "\n", "\r\n", "#", " ", "@", "https://", "git+", "#egg=", ".", "/", "\t", "\0",
         "requirements.txt", "é", "\u2028", "%", "$X", ":", "-", "{", "}", "import ", "from ", "project", "dependencies",
         "tool.poetry.dependencies", "- ", "  ", "pip", "&a", "*a", "!!int ", "|", ">", "\x0c", "try:", "if x:", "pass"]
    ),
    max_size=40,
).map("".join)  # fmt: skip
anything = st.one_of(texts, fragments)


@same_folder
@given(text=anything)
@example(text="-r requirements.txt")
@example(text="-r \0")
@example(text="-r")
@example(text="--hash")
@example(text="-r .")
@example(text="-r ~")
def test_any_text_is_answered_as_requirements(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"requirements.txt": text})
    found = find_dependencies(tmp_path, files=["requirements.txt"])
    assert_sound(found, text)
    assert all(problem.line for problem in found.problems), "each problem is on a line of the list"


@same_folder
@given(data=st.binary(max_size=200))
def test_any_bytes_are_answered_as_requirements(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, {"requirements.txt": data})
    assert find_dependencies(tmp_path, files=["requirements.txt"]).source is DependencySource.REQUIREMENTS


@same_folder
@given(
    text=st.one_of(
        anything,
        st.lists(
            st.text(st.characters(exclude_characters="'", exclude_categories=["C"]), max_size=30), max_size=5
        ).map(
            lambda entries: (
                "[project]\ndependencies = [" + ",".join(f"'{entry}'" for entry in entries) + "]\n"
            )
        ),
        st.text(st.characters(exclude_characters="'", exclude_categories=["C"]), max_size=30).map(
            lambda version: f"[tool.poetry.dependencies]\nnumpy = '{version}'\n"
        ),
    )
)
def test_any_text_is_answered_as_pyproject(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"pyproject.toml": text})
    assert_sound(find_dependencies(tmp_path, files=["pyproject.toml"]), text)


@same_folder
@given(
    text=st.one_of(
        anything, anything.map(lambda entry: f"dependencies:\n- {entry}\n"),
        anything.map(lambda entry: f"dependencies:\n- pip:\n  - {entry}\n"),
    )
)  # fmt: skip
@example(text="dependencies:\n- 2020-99-99\n")
def test_any_text_is_answered_as_environment(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"environment.yml": text})
    assert_sound(find_dependencies(tmp_path, files=["environment.yml"]), text)


@same_folder
@given(text=anything, name=st.sampled_from(["uv.lock", "poetry.lock"]))
def test_any_text_is_answered_as_a_lock(tmp_path: Path, text: str, name: str) -> None:
    write(tmp_path, {name: text})
    assert_sound(find_dependencies(tmp_path, files=[name]), text)


@same_folder
@given(text=anything)
def test_any_text_is_answered_as_a_script(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"train.py": text})
    found = find_dependencies(tmp_path, files=["train.py"])
    assert_sound(found, text)
    for requirement in found.requirements:
        Requirement(requirement)
