"""The shipped catalogue is complete, and whoever asks for something else hears what there is."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlstudio.images.catalogue import PLAIN, Catalogue, load_catalogue
from mlstudio.images.import_names import DISTRIBUTION_OF
from mlstudio.model.errors import DefectError, RequestError
from mlstudio.model.image import Framework, FrameworkVersion, Variant

SHIPPED = load_catalogue()
FOLDER = Path(__file__).resolve().parents[2] / "resources" / "frameworks"
FRAMEWORKS = [pytest.param(framework, id=framework.name) for framework in SHIPPED.frameworks]
VERSIONS = [
    pytest.param(framework, version, id=f"{framework.name}-{version.version}")
    for framework in SHIPPED.frameworks
    for version in framework.versions
]
VARIANTS = [
    pytest.param(framework, version, variant, id=f"{framework.name}-{version.version}-{variant.name}")
    for framework in SHIPPED.frameworks
    for version in framework.versions
    for variant in version.variants
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped catalogue that may be damaged."""
    return shutil.copytree(FOLDER, tmp_path / "frameworks")


# ── the shipped entries ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_file_is_an_entry_and_plain_python_comes_last() -> None:
    names = [framework.name for framework in SHIPPED.frameworks]
    assert sorted(names) == sorted(path.stem for path in FOLDER.glob("[!_]*.toml"))
    assert {"pytorch", "tensorflow", "keras", "jax", "scikit-learn", "transformers"} < set(names)
    assert names[-1] == PLAIN
    assert len({framework.title for framework in SHIPPED.frameworks}) == len(names)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_entry_says_what_it_is_and_how_it_is_tried(framework: Framework) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", framework.name)
    assert framework.title.strip() == framework.title != ""
    assert framework.summary.endswith(".")
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", name) for name in framework.system_packages)
    for requirement in framework.extra_requirements:
        Requirement(requirement)
    if framework.name == PLAIN:
        assert not framework.versions
        assert not framework.packages
        assert framework.smoke_import == ""
        return
    assert framework.versions
    assert framework.packages == tuple(map(canonicalize_name, framework.packages))
    assert len(set(framework.packages)) == len(framework.packages)


@pytest.mark.parametrize("framework", [param for param in FRAMEWORKS if param.id != PLAIN])
def test_what_is_imported_to_try_an_image_is_what_was_installed(framework: Framework) -> None:
    (statement,) = ast.parse(framework.smoke_import).body
    assert isinstance(statement, ast.Import)
    first = statement.names[0].name
    assert canonicalize_name(DISTRIBUTION_OF.get(first, first)) in framework.packages
    for version in framework.versions:
        for variant in version.variants:
            installed = {canonicalize_name(Requirement(line).name) for line in variant.requirements}
            for alias in statement.names:
                distribution = canonicalize_name(DISTRIBUTION_OF.get(alias.name, alias.name))
                assert {distribution, f"{distribution}-cpu"} & installed


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_versions_stand_newest_first_and_once(framework: Framework) -> None:
    versions = [Version(version.version) for version in framework.versions]
    assert versions == sorted(set(versions), reverse=True)
    assert not any(version.is_prerelease for version in versions)


@pytest.mark.parametrize(("framework", "version"), VERSIONS)
def test_a_version_has_pythons_with_a_base_image_and_a_cpu_variant_first(
    framework: Framework, version: FrameworkVersion
) -> None:
    assert version.pythons
    assert len(set(version.pythons)) == len(version.pythons)
    assert SHIPPED.pythons(framework, version) == version.pythons
    for python in version.pythons:
        assert re.fullmatch(r"python:3\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", SHIPPED.base_image(python))
        assert python in SHIPPED.base_image(python)
    names = [variant.name for variant in version.variants]
    assert names[0] == "cpu"
    assert len(set(names)) == len(names)
    assert SHIPPED.version(framework, version.version) is version


@pytest.mark.parametrize(("framework", "version", "variant"), VARIANTS)
def test_a_variant_installs_exactly_its_version(
    framework: Framework, version: FrameworkVersion, variant: Variant
) -> None:
    assert SHIPPED.variant(framework, version, variant.name) is variant
    assert "{" not in " ".join((*variant.requirements, variant.index_url))
    main, *others = [Requirement(line) for line in variant.requirements]
    assert str(main.specifier) == f"=={version.version}"
    assert canonicalize_name(main.name) in framework.packages
    assert all(other.name for other in others)
    assert not variant.index_url or variant.index_url.startswith("https://")
    assert variant.shm_bytes % (1024 * 1024) == 0


@pytest.mark.parametrize(("framework", "version", "variant"), VARIANTS)
def test_a_variant_for_cuda_says_which_and_which_driver_it_needs(
    framework: Framework, version: FrameworkVersion, variant: Variant
) -> None:
    if variant.name == "cpu":
        assert (variant.title, variant.cuda, variant.min_driver) == ("CPU", "", "")
        return
    assert re.fullmatch(r"cu1\d\d", variant.name)
    assert variant.name == "cu" + variant.cuda.replace(".", "")
    assert variant.title == f"CUDA {variant.cuda}"
    # The driver that came with CUDA 11 was 450 at least, that of CUDA 13 is 580 at least.
    major = {"11": 450, "12": 525, "13": 580}[variant.cuda.partition(".")[0]]
    assert re.fullmatch(r"\d{3}\.\d{2,3}(\.\d{2})?", variant.min_driver)
    assert int(variant.min_driver.partition(".")[0]) >= major


def test_a_newer_cuda_never_needs_an_older_driver() -> None:
    drivers = {
        tuple(map(int, variant.cuda.split("."))): tuple(map(int, variant.min_driver.split(".")))
        for framework in SHIPPED.frameworks
        for version in framework.versions
        for variant in version.variants
        if variant.cuda
    }
    assert [drivers[cuda] for cuda in sorted(drivers)] == sorted(drivers.values())


def test_no_package_means_two_frameworks_and_each_is_found_by_its_own() -> None:
    packages = [package for framework in SHIPPED.frameworks for package in framework.packages]
    assert len(set(packages)) == len(packages)
    for framework in SHIPPED.frameworks:
        for package in framework.packages:
            assert SHIPPED.framework_of(package) is framework
    assert SHIPPED.framework_of("requests") is None


def test_companions_and_defaults_belong_to_entries_that_exist() -> None:
    for name, packages in SHIPPED.companions:
        assert packages
        assert all(variant.index_url for variant in SHIPPED.get(name).versions[0].variants)
    for name, version in SHIPPED.defaults:
        assert SHIPPED.version(SHIPPED.get(name), version)


def test_plain_python_can_be_had_in_every_release_that_has_a_base() -> None:
    plain = SHIPPED.get(PLAIN)
    assert SHIPPED.version(plain, "") is None
    assert SHIPPED.version(plain, "3") is None
    assert set(SHIPPED.pythons(plain, None)) == {python for python, _ in SHIPPED.bases}


def test_no_version_means_the_newest_or_the_stated_default(folder: Path) -> None:
    pytorch = SHIPPED.get("pytorch")
    assert SHIPPED.version(pytorch, "") is pytorch.versions[0]
    text = (folder / "pytorch.toml").read_text()
    older = pytorch.versions[2].version
    (folder / "pytorch.toml").write_text(
        text.replace('name = "pytorch"', f'name = "pytorch"\ndefault = "{older}"', 1)
    )
    changed = load_catalogue(folder)
    chosen = changed.version(changed.get("pytorch"), "")
    assert chosen is not None
    assert chosen.version == older


# ── what there is not ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["", "torch", "PyTorch", "pytorch ", "../pytorch", "theano"])
def test_an_unknown_framework_is_answered_with_all_that_exist(name: str) -> None:
    with pytest.raises(RequestError) as raised:
        SHIPPED.get(name)
    assert raised.value.field == "image.framework"
    assert f"“{name}”" in str(raised.value)
    for framework in SHIPPED.frameworks:
        assert framework.name in raised.value.try_this


@pytest.mark.parametrize("framework", [param for param in FRAMEWORKS if param.id != PLAIN])
def test_an_unknown_version_is_answered_with_all_that_exist(framework: Framework) -> None:
    with pytest.raises(RequestError) as raised:
        SHIPPED.version(framework, "0.0.1")
    assert raised.value.field == "image.version"
    assert f"{framework.title} 0.0.1" in str(raised.value)
    for version in framework.versions:
        assert version.version in raised.value.try_this
    assert "plain Python" in raised.value.try_this


@pytest.mark.parametrize(("framework", "version"), VERSIONS)
def test_an_unknown_variant_is_answered_with_all_that_exist(
    framework: Framework, version: FrameworkVersion
) -> None:
    with pytest.raises(RequestError) as raised:
        SHIPPED.variant(framework, version, "cu90")
    assert raised.value.field == "image.variant"
    assert f"{framework.title} {version.version}" in str(raised.value)
    assert raised.value.try_this == f"There are: {', '.join(variant.name for variant in version.variants)}."


@pytest.mark.parametrize("python", ["", "2.7", "3", "3.11.4"])
def test_an_unknown_python_is_answered_with_all_that_exist(python: str) -> None:
    with pytest.raises(RequestError) as raised:
        SHIPPED.base_image(python)
    assert raised.value.field == "image.python"
    assert python or "(none)" in str(raised.value)
    for release, _ in SHIPPED.bases:
        assert release in raised.value.try_this


# ── another and a damaged catalogue ────────────────────────────────────────────────────────────────────────────────


def test_a_new_framework_is_one_file(folder: Path) -> None:
    (folder / "thing.toml").write_text(
        'name = "thing"\ntitle = "Thing"\nsummary = "A thing."\norder = 0\npackages = ["thing"]\n'
        'smoke_import = "import thing"\nrequirement = "thing=={version}"\nshm_mb = 3\nenv = {B = "2", A = "1"}\n'
        'cuda_requirement = "thing[cuda{cuda_major}]=={version}"\nwith_cuda = ["extra"]\n'
        'index = "https://example.org/{variant}"\n'
        '[[versions]]\nversion = "1.0"\npythons = ["3.11"]\nvariants = ["cpu", "cu126"]\n'
    )
    (folder / "_notes.toml").write_text("not = 'an entry'\n")
    changed = load_catalogue(folder)
    thing = changed.frameworks[0]
    cpu, cuda = thing.versions[0].variants
    assert (cpu.requirements, cpu.index_url) == (("thing==1.0",), "https://example.org/cpu")
    assert (cuda.requirements, cuda.index_url) == (
        ("thing[cuda12]==1.0", "extra"),
        "https://example.org/cu126",
    )
    assert (cuda.env, cuda.shm_bytes) == ((("A", "1"), ("B", "2")), 3 * 1024 * 1024)
    assert changed.framework_of("thing") is thing


def test_a_pinned_base_carries_its_digest(folder: Path) -> None:
    (folder / "_bases.toml").write_text(
        '[[base]]\npython = "3.11"\nimage = "python:3.11-slim"\ndigest = "sha256:00"\n'
    )
    assert load_catalogue(folder).base_image("3.11") == "python:3.11-slim@sha256:00"


def damage(folder: Path, how: str) -> None:
    pytorch = folder / "pytorch.toml"
    match how:
        case "no folder":
            shutil.rmtree(folder)
        case "no plain Python":
            (folder / "python.toml").unlink()
        case "no drivers" | "no bases":
            (folder / ("_cuda.toml" if how == "no drivers" else "_bases.toml")).unlink()
        case "no table of drivers":
            (folder / "_cuda.toml").write_text("")
        case "drivers are a text":
            (folder / "_cuda.toml").write_text("min_driver = 'all'")
        case "bases are a text":
            (folder / "_bases.toml").write_text("base = ['all']")
        case "unknown CUDA":
            pytorch.write_text(pytorch.read_text().replace('"cu126"', '"cu199"'))
        case "no TOML":
            pytorch.write_text("[[[")
        case "no text":
            pytorch.write_bytes(b"\xff\xfe\x00")
        case "misspelt":
            pytorch.write_text("sumary = 'x'\n" + pytorch.read_text())
        case "missing":
            pytorch.write_text(re.sub(r"(?m)^title.*\n", "", pytorch.read_text()))
        case "wrong kind":
            pytorch.write_text(re.sub(r"(?m)^order.*\n", "order = 'first'\n", pytorch.read_text()))
        case "unknown placeholder":
            pytorch.write_text(pytorch.read_text().replace("torch=={version}", "torch=={release}"))
        case "numbered placeholder":
            pytorch.write_text(pytorch.read_text().replace("torch=={version}", "torch=={}"))


@pytest.mark.parametrize(
    "how",
    ["no folder", "no plain Python", "no drivers", "no bases", "no table of drivers", "drivers are a text",
     "bases are a text", "unknown CUDA", "no TOML", "no text", "misspelt", "missing", "wrong kind", "unknown placeholder",
     "numbered placeholder"],
)  # fmt: skip
def test_a_damaged_catalogue_is_said_to_be_one(folder: Path, how: str) -> None:
    assert isinstance(load_catalogue(folder), Catalogue)
    damage(folder, how)
    with pytest.raises(DefectError) as raised:
        load_catalogue(folder)
    assert str(folder) in str(raised.value)
    assert "Install" in raised.value.try_this
