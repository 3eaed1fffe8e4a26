"""Dockerfiles: the same recipe gives the same bytes, no field gets out of its place, and edits rebuild what they must."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.images.catalogue import Catalogue, load_catalogue
from mlstudio.images.recipe import write_recipe
from mlstudio.model.code import CodeSnapshot, CodeSource, Travel
from mlstudio.model.errors import RequestError
from mlstudio.model.image import Dependencies, ImageSpec, LayerKind, PipSettings, Recipe

CATALOGUE = load_catalogue()
BASE = "python:3.11-slim-bookworm"
ORDER = list(LayerKind)
NUMPY = Dependencies(requirements=("numpy==2.4.6", "pandas>=2"), file="requirements.txt")


def snapshot(tree: str = "1", files: tuple[str, ...] = ("train.py",)) -> CodeSnapshot:
    return CodeSnapshot(tree_hash=f"sha256:{tree}", files=files, size_bytes=10)


def written(
    spec: ImageSpec,
    *,
    dependencies: Dependencies = NUMPY,
    tree: str = "1",
    pip: PipSettings | None = None,
    base_map: dict[str, str] | None = None,
    name: str = "digits",
    travel: Travel = Travel.BAKED,
    catalogue: Catalogue = CATALOGUE,
) -> Recipe:
    return write_recipe(
        spec,
        CodeSource(folder="/somewhere", travel=travel),
        snapshot(tree),
        catalogue=catalogue,
        dependencies=dependencies,
        pip=pip if pip is not None else PipSettings(),
        base_map=base_map if base_map is not None else {},
        name=name,
    )


PLAIN = ImageSpec(python="3.11")
TORCH = ImageSpec(
    framework="pytorch",
    python="3.11",
    system_packages=("ffmpeg", "libgl1"),
    env=(("SEED", "1"), ("MODE", "fast")),
)


# -- a reader of Dockerfiles that shares nothing with the writer -------------------------------------------------------


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(keyword, rest) with continued lines joined, as https://docs.docker.com/reference/dockerfile/#format says."""
    found: list[tuple[str, str]] = []
    pending = ""
    for raw in dockerfile.split("\n"):
        line = raw.removesuffix("\r")
        if line.lstrip().startswith("#") or (not pending and not line.strip()):
            continue
        continued = re.search(r"\\[ \t]*$", line)
        pending += line[: continued.start()] if continued else line
        if not continued:
            keyword, _, rest = pending.strip().partition(" ")
            found.append((keyword, rest.strip()))
            pending = ""
    assert not pending, "The last line is continued into nothing."
    return found


def variables(dockerfile: str) -> dict[str, str]:
    """What ENV sets, read with the builder's rules for double quotes; variables that are set before do not count."""
    found: dict[str, str] = {}
    for keyword, rest in instructions(dockerfile):
        if keyword == "ENV":
            position = 0
            while position < len(rest):
                match = re.compile(r'\s*(\w+)=(?:"((?:\\.|[^"\\])*)"|(\S*))', re.DOTALL).match(rest, position)
                assert match is not None, rest[position:]
                name, quoted, bare = match.groups()
                value = bare if quoted is None else quoted
                assert name == "PATH" or not re.search(r"(?<!\\)(?:\\\\)*\$", value), f"{name} is expanded"
                found[name] = re.sub(r'\\(["\\$])', r"\1", value)
                position = match.end()
    return found


def keywords(dockerfile: str) -> list[str]:
    return [keyword for keyword, _ in instructions(dockerfile)]


EXPECTED = {
    "plain": ["FROM", "RUN", "ENV", "COPY", "RUN", "WORKDIR", "COPY", "USER"],
    "torch": ["FROM", "RUN", "RUN", "ENV", "RUN", "COPY", "RUN", "ENV", "WORKDIR", "COPY", "USER"],
}


# -- the same recipe, the same bytes -----------------------------------------------------------------------------------


SCRIPT = """
import locale, sys
try:
    locale.setlocale(locale.LC_ALL, "")
except locale.Error:
    pass
sys.path.insert(0, sys.argv[1])
from mlstudio.images.catalogue import load_catalogue
from mlstudio.images.recipe import write_recipe
from mlstudio.model.code import CodeSnapshot, CodeSource
from mlstudio.model.image import Dependencies, ImageSpec, PipSettings
recipe = write_recipe(
    ImageSpec(framework="pytorch", python="3.11", system_packages=("ffmpeg", "libgl1", "zip", "apt-utils"),
              env=(("B", "\\u0130I"), ("A", "1,5"), ("a", "z"))),
    CodeSource(folder="/somewhere"),
    CodeSnapshot(tree_hash="sha256:1", files=("train.py",), size_bytes=10),
    catalogue=load_catalogue(),
    dependencies=Dependencies(requirements=("numpy==2.4.6", "torch", "torchvision"), system_packages=("libsndfile1",)),
    pip=PipSettings(index_url="https://pypi.example.org/simple", trusted_hosts=("b.example.org", "a.example.org")),
    base_map={}, name="D\\u0130gits",
)
sys.stdout.buffer.write((recipe.dockerfile + recipe.digest + recipe.tag).encode())
"""


def run_elsewhere(folder: Path, **environment: str) -> bytes:
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root)],
        capture_output=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        timeout=120,
        check=True,
    )
    return done.stdout


def test_another_process_place_language_and_hash_seed_write_the_same_bytes(tmp_path: Path) -> None:
    first = run_elsewhere(tmp_path, PYTHONHASHSEED="0", LC_ALL="C.UTF-8", TZ="UTC")
    (tmp_path / "elsewhere").mkdir()
    second = run_elsewhere(
        tmp_path / "elsewhere", PYTHONHASHSEED="4242", LC_ALL="tr_TR.UTF-8", LANG="de_DE.UTF-8", TZ="Asia/Kathmandu"
    )  # fmt: skip
    assert first == second
    assert b"FROM python:3.11" in first


def test_the_same_spec_twice_is_the_same_recipe() -> None:
    assert written(TORCH) == written(TORCH)


def test_the_order_in_which_things_are_named_does_not_count() -> None:
    other = replace(TORCH, system_packages=(*TORCH.system_packages[::-1], "ffmpeg"), env=TORCH.env[::-1])
    pip = PipSettings(trusted_hosts=("a.example.org", "b.example.org"))
    swapped = PipSettings(trusted_hosts=("b.example.org", "a.example.org"))
    first, second = written(TORCH, pip=pip), written(other, pip=swapped)
    assert (first.dockerfile, first.digest) == (second.dockerfile, second.digest)


def test_base_images_may_be_named_in_any_order() -> None:
    pairs = [(BASE, "mirror.example.org/python:3.11"), ("python:3.12-slim-bookworm", "other:1")]
    first, second = written(PLAIN, base_map=dict(pairs)), written(PLAIN, base_map=dict(pairs[::-1]))
    assert first == second
    assert (first.base, first.base_replaces) == ("mirror.example.org/python:3.11", BASE)


@pytest.mark.parametrize(
    "change",
    [
        lambda: written(TORCH, tree="2"),
        lambda: written(TORCH, dependencies=replace(NUMPY, requirements=("numpy==2.4.5", "pandas>=2"))),
        lambda: written(replace(TORCH, env=(("SEED", "2"), ("MODE", "fast")))),
        lambda: written(replace(TORCH, system_packages=("ffmpeg",))),
        lambda: written(replace(TORCH, python="3.12")),
        lambda: written(TORCH, pip=PipSettings(index_url="https://pypi.example.org/simple")),
        lambda: written(TORCH, travel=Travel.MOUNTED),
    ],
)
def test_whatever_changes_the_image_changes_digest_and_tag(change: Callable[[], Recipe]) -> None:
    first, second = written(TORCH), change()
    assert first.digest != second.digest
    assert first.tag != second.tag


# -- what stands in it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "name"), [(PLAIN, "plain"), (TORCH, "torch")])
def test_layers_stand_in_order_and_code_last(spec: ImageSpec, name: str) -> None:
    recipe = written(spec)
    assert keywords(recipe.dockerfile) == EXPECTED[name]
    assert [layer.text.split()[0] for layer in recipe.layers] == EXPECTED[name]
    kinds = [layer.kind for layer in recipe.layers if layer.kind is not LayerKind.SETUP]
    assert kinds == sorted(kinds, key=ORDER.index)
    assert recipe.layers[-2].kind is LayerKind.CODE
    assert recipe.dockerfile.endswith("".join(f"{layer.text}\n" for layer in recipe.layers))
    assert all(layer.why.endswith(".") for layer in recipe.layers)


def test_the_command_is_not_root_and_code_belongs_to_root() -> None:
    found = instructions(written(TORCH).dockerfile)
    assert found[-1] == ("USER", "1000:1000")
    assert ("COPY", "code/ /work/") in found
    assert not any("--chown" in rest for _, rest in found)


@pytest.mark.parametrize("travel", [Travel.MOUNTED, Travel.CLONED])
def test_code_that_is_not_baked_is_no_layer(travel: Travel) -> None:
    recipe = written(PLAIN, travel=travel)
    assert not any(layer.kind is LayerKind.CODE for layer in recipe.layers)
    assert (recipe.code_in_context, recipe.code_key) == (False, "")
    assert recipe.digest == written(PLAIN, travel=travel, tree="2").digest


def test_downloads_are_kept_in_caches_and_not_in_layers() -> None:
    runs = [rest for keyword, rest in instructions(written(TORCH).dockerfile) if keyword == "RUN"]
    pips = [rest for rest in runs if "pip install" in rest]
    apts = [rest for rest in runs if "apt-get install" in rest]
    assert (len(pips), len(apts)) == (2, 1)
    assert all("--mount=type=cache,id=mlstudio-pip,target=/root/.cache/pip " in rest for rest in pips)
    assert "target=/var/cache/apt,sharing=locked" in apts[0]
    assert "target=/var/lib/apt/lists,sharing=locked" in apts[0]


def test_a_known_digest_pins_the_base_and_a_map_finds_it_with_and_without() -> None:
    pinned = f"{BASE}@sha256:{'ab' * 32}"
    catalogue = replace(
        CATALOGUE,
        bases=tuple((python, pinned if image == BASE else image) for python, image in CATALOGUE.bases),
    )
    assert instructions(written(PLAIN, catalogue=catalogue).dockerfile)[0] == ("FROM", pinned)
    for key in (BASE, pinned):
        mapped = written(PLAIN, catalogue=catalogue, base_map={key: "local/python:1"})
        assert (mapped.base, mapped.base_replaces) == ("local/python:1", pinned)


def test_the_framework_is_held_at_its_version_when_the_rest_is_installed() -> None:
    recipe = written(replace(TORCH, version="2.13.0"))
    runs = [rest for _, rest in instructions(recipe.dockerfile) if "pip install" in rest]
    assert all("torch==2.13.0" in rest for rest in runs)
    assert dict(recipe.context_files) == {"requirements.txt": b"numpy==2.4.6\npandas>=2\n"}


# -- what is built again -----------------------------------------------------------------------------------------------


def changed(first: Recipe, second: Recipe) -> list[LayerKind]:
    """Kinds of the layers whose key is another one."""
    assert len(first.layers) == len(second.layers)
    pairs = zip(first.layers, second.layers, strict=True)
    return [one.kind for one, other in pairs if one.key != other.key]


CODE = [LayerKind.CODE, LayerKind.SETUP]
"""The code's own layer and the USER line behind it, which costs nothing."""
SETUP = [LayerKind.SETUP, LayerKind.SETUP]
PACKAGES = [LayerKind.DEPENDENCIES, LayerKind.DEPENDENCIES]


def test_an_edit_of_the_code_rebuilds_the_code_alone() -> None:
    assert changed(written(TORCH), written(TORCH, tree="2")) == CODE


def test_another_requirement_rebuilds_from_the_list_of_packages_on() -> None:
    other = replace(NUMPY, requirements=("numpy==2.4.5", "pandas>=2"))
    assert changed(written(TORCH), written(TORCH, dependencies=other)) == [*PACKAGES, *SETUP, *CODE]


def test_another_variable_rebuilds_no_package() -> None:
    other = replace(TORCH, env=(("SEED", "2"), ("MODE", "fast")))
    assert changed(written(TORCH), written(other)) == [*SETUP, *CODE]


def test_another_system_package_rebuilds_all_but_the_base() -> None:
    other = written(replace(TORCH, system_packages=("ffmpeg", "libgl1", "zip")))
    assert len(changed(written(TORCH), other)) == len(other.layers) - 1


def test_another_base_rebuilds_everything() -> None:
    other = written(TORCH, base_map={BASE: "other:1"})
    assert len(changed(written(TORCH), other)) == len(other.layers)


# -- nothing gets out of its place -------------------------------------------------------------------------------------


NASTY = (
    "'; rm -rf /; '", '"; rm -rf /; "', "$(touch /x)", "`touch /x`", "${PATH}", "$$", "\\", "\\\\", "x\\", '\\"', "a b",
    "#x", " # x", "<<EOF", "'", '"', "\t", "ä ö 中 😀", "\u2028RUN x",
    "\u0085RUN x", "\x0bRUN x", "\x0cRUN x", "&& true", "| sh",
    "%", "{{x}}", "", " ", "--mount=type=bind", "'\\''", "x \\ ",
)  # fmt: skip
BREAKING = ("\nRUN touch /x", "x\r\nUSER root", "\r", "a\\\nRUN x")
texts = st.one_of(
    st.sampled_from(NASTY),
    st.sampled_from(BREAKING),
    st.lists(st.sampled_from([*"\"'\\$`#<&|;% \t\n\rax{}=-é中", "RUN ", "\u2028"]), max_size=12).map("".join),
    st.text(st.characters(codec="utf-8"), max_size=20),
)


def same_shape(recipe: Recipe, expected: Sequence[str]) -> None:
    """No instruction is more or other than it should be, and only the known ones name root."""
    found = instructions(recipe.dockerfile)
    assert [keyword for keyword, _ in found] == list(expected)
    assert found[-1] == ("USER", "1000:1000")
    for keyword, rest in found:
        if keyword == "RUN":
            shlex.split(rest)  # no quote is left open


@given(value=texts, other=texts)
def test_a_variable_holds_what_was_given_or_is_refused(value: str, other: str) -> None:
    spec = replace(PLAIN, env=(("GIVEN", value), ("OTHER", other)))
    expected = [*EXPECTED["plain"][:5], "ENV", *EXPECTED["plain"][5:]]
    if re.search(r"[\n\r\0]", value + other):
        with pytest.raises(RequestError, match="line break") as refused:
            written(spec)
        assert refused.value.field == "image.env"
        return
    recipe = written(spec)
    same_shape(recipe, expected)
    found = variables(recipe.dockerfile)
    assert (found["GIVEN"], found["OTHER"]) == (value, other)
    assert found["PIP_NO_INPUT"] == "1"


@given(name=texts)
def test_the_name_of_a_variable_is_one_or_is_refused(name: str) -> None:
    spec = replace(PLAIN, env=((name, "x"),))
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        assert variables(written(spec).dockerfile)[name] == "x"
    else:
        with pytest.raises(RequestError, match="no name of an environment variable"):
            written(spec)


@given(requirement=texts)
def test_a_requirement_stays_in_its_file(requirement: str) -> None:
    dependencies = Dependencies(requirements=("numpy", requirement))
    if re.search(r"[\x00-\x1f\x7f]", requirement):
        with pytest.raises(RequestError, match="control character"):
            written(PLAIN, dependencies=dependencies)
        return
    recipe = written(PLAIN, dependencies=dependencies)
    assert recipe.dockerfile == written(PLAIN).dockerfile
    assert dict(recipe.context_files)["requirements.txt"] == f"numpy\n{requirement}\n".encode()


@given(rest=texts)
def test_a_companion_of_the_framework_stays_one_word_of_its_command(rest: str) -> None:
    companion = f"torchvision @ https://example.org/{rest}"
    dependencies = Dependencies(requirements=(companion, "numpy"))
    if re.search(r"[\x00-\x1f\x7f]", rest):
        with pytest.raises(RequestError, match="control character"):
            written(TORCH, dependencies=dependencies)
        return
    recipe = written(TORCH, dependencies=dependencies)
    same_shape(recipe, EXPECTED["torch"])
    if recipe.layers[4].text.count("torchvision"):
        words = shlex.split(instructions(recipe.dockerfile)[4][1])
        assert companion in words


@given(package=texts)
def test_a_system_package_has_a_debian_name_or_is_refused(package: str) -> None:
    spec = replace(PLAIN, system_packages=("zip", package))
    if re.fullmatch(r"[a-z0-9][a-z0-9+.\-]+", package):
        assert f"for name in {' '.join(sorted({package, 'zip'}))};" in written(spec).dockerfile
    else:
        with pytest.raises(RequestError, match="no name of a Debian package") as refused:
            written(spec)
        assert refused.value.field == "image.system_packages"


@pytest.mark.parametrize(
    "package", ["ffmpeg=7:5.1.6-0+deb12u1", "libgl1:amd64", "g++", "libstdc++6", "python3.11-venv"]
)
def test_real_names_of_debian_packages_are_taken(package: str) -> None:
    assert f"for name in {package};" in written(replace(PLAIN, system_packages=(package,))).dockerfile


@given(
    base=st.one_of(
        texts, st.sampled_from(["a AS b", "--platform=x a", "a:b:c", "a@sha256:1", "A", "a/", "/a"])
    )
)
def test_a_replaced_base_is_one_reference_or_is_refused(base: str) -> None:
    if base and not re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(:\w+)?", base, re.ASCII):
        with pytest.raises(RequestError) as refused:
            written(PLAIN, base_map={BASE: base})
        assert refused.value.field == "base_images"
        return
    recipe = written(PLAIN, base_map={BASE: base})
    same_shape(recipe, EXPECTED["plain"])
    assert instructions(recipe.dockerfile)[0] == ("FROM", base or BASE)


@pytest.mark.parametrize(
    "base",
    [
        "python:3.11",
        "registry.example.org:5000/team/python:3.11-slim_1",
        f"python@sha256:{'0a' * 32}",
        "mlstudio-base/python:3.11-bookworm",
        "localhost/x",
    ],
)
def test_real_references_are_taken_as_bases(base: str) -> None:
    assert written(PLAIN, base_map={BASE: base}).base == base


@given(name=texts)
def test_any_name_gives_a_tag_that_docker_takes(name: str) -> None:
    assert re.fullmatch(r"mlstudio/[a-z0-9]+(?:-[a-z0-9]+)*:[0-9a-f]{12}", written(PLAIN, name=name).tag)


def test_a_long_name_gives_a_tag_that_docker_takes() -> None:
    name = "a" * 59 + " " + "b" * 50
    assert re.fullmatch(r"mlstudio/[a-z0-9]+(?:-[a-z0-9]+)*:[0-9a-f]{12}", written(PLAIN, name=name).tag)


@given(text=texts, field=st.sampled_from(["framework", "version", "variant", "python"]))
def test_choices_that_the_catalogue_does_not_have_are_refused(text: str, field: str) -> None:
    given_fields = {"framework": "pytorch", field: f"x{text}"}
    spec = ImageSpec(
        framework=given_fields["framework"],
        version=given_fields.get("version", ""),
        variant=given_fields.get("variant", "cpu"),
        python=given_fields.get("python", ""),
    )
    with pytest.raises(RequestError) as refused:
        written(spec)
    assert refused.value.field == f"image.{field}"


@given(pieces=st.lists(texts, min_size=1, max_size=4))
def test_scripts_and_folders_of_any_name_are_not_written_into_it(pieces: list[str]) -> None:
    """Their names are hashed, and travel in the context alone."""
    code = CodeSource(folder="/" + "/".join(pieces), subfolder=pieces[0])
    recipe = write_recipe(
        PLAIN,
        code,
        snapshot(files=tuple(pieces)),
        catalogue=CATALOGUE,
        dependencies=NUMPY,
        pip=PipSettings(),
        base_map={},
        name="x",
    )
    assert recipe.dockerfile == written(PLAIN).dockerfile


def test_a_tab_in_a_variable_is_kept() -> None:
    assert variables(written(replace(PLAIN, env=(("TAB", "a\tb"),))).dockerfile)["TAB"] == "a\tb"


def test_the_reader_of_this_test_sees_an_instruction_that_was_smuggled_in() -> None:
    """The tests above would be worth nothing if the reader did not see what they forbid."""
    assert keywords('FROM a\nENV A="x\nRUN touch /x"\n') == ["FROM", "ENV", "RUN"]
    assert keywords("FROM a\\\nRUN b\n") == ["FROM"]
    assert variables('ENV A="x \\"y\\\\ \\$z" B=c') == {"A": 'x "y\\ $z', "B": "c"}
    with pytest.raises(AssertionError):
        variables('ENV A="$HOME"')


def test_the_spec_that_is_kept_names_what_was_taken() -> None:
    recipe = written(ImageSpec(framework="pytorch"))
    assert recipe.spec.version
    assert recipe.spec.python == recipe.python
    again = written(recipe.spec)
    assert (again.dockerfile, again.digest) == (recipe.dockerfile, recipe.digest)
    assert json.dumps(recipe.spec.env) == "[]"
