"""What a build may see without keeping it: settings and wheels reach single steps as mounts, and never a layer."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.images.catalogue import load_catalogue
from mlstudio.images.mounts import (
    PIP_TARGET,
    WHEELS_TARGET,
    pip_configuration,
    pip_mount_image,
    proxy_arguments,
    wheel_names,
    wheels_mount,
    wheels_mount_image,
)
from mlstudio.images.recipe import write_recipe
from mlstudio.model.code import CodeSnapshot, CodeSource
from mlstudio.model.errors import RequestError
from mlstudio.model.image import Dependencies, ImageSpec, PipSettings, Recipe

CATALOGUE = load_catalogue()


def recipe(pip: PipSettings, framework: str = "python", requirements: tuple[str, ...] = ("numpy",)) -> Recipe:
    return write_recipe(
        ImageSpec(framework=framework, python="3.11", system_packages=("ffmpeg",)),
        CodeSource(folder="/somewhere"),
        CodeSnapshot(tree_hash="sha256:1", files=("train.py",), size_bytes=1),
        catalogue=CATALOGUE,
        dependencies=Dependencies(requirements=requirements),
        pip=pip,
        base_map={},
        name="x",
    )


@pytest.fixture
def everything(tmp_path: Path) -> PipSettings:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "mine-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "ca.pem").write_text("certificate")
    return PipSettings(
        index_url="https://pypi.example.org/simple",
        extra_index_urls=("https://a.example.org/simple", "https://b.example.org/simple"),
        wheelhouse=str(wheels),
        ca_bundle=str(tmp_path / "ca.pem"),
        proxy="proxy.example.org:3128",
        no_proxy=".example.org",
        trusted_hosts=("b.example.org", "a.example.org"),
    )


def test_pip_is_told_everything_in_its_own_file(everything: PipSettings) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(pip_configuration(everything))
    options = dict(parser.items("global"))
    assert options["extra-index-url"].split() == list(everything.extra_index_urls)
    assert options["trusted-host"].split() == ["a.example.org", "b.example.org"]
    del options["extra-index-url"], options["trusted-host"]
    assert options == {
        "index-url": "https://pypi.example.org/simple",
        "find-links": WHEELS_TARGET,
        "cert": f"{PIP_TARGET}/ca.pem",
    }


def test_without_settings_there_is_nothing_to_mount() -> None:
    assert pip_configuration(PipSettings()) == pip_mount_image(PipSettings()) == ""
    assert wheels_mount_image(PipSettings()) == ""
    assert wheels_mount(PipSettings()) is None
    assert proxy_arguments(PipSettings()) == ()
    assert "type=bind" not in recipe(PipSettings()).dockerfile
    assert "PIP_CONFIG_FILE" not in recipe(PipSettings()).dockerfile


def test_only_the_steps_of_pip_see_them_and_no_layer_keeps_them(everything: PipSettings) -> None:
    made = recipe(everything, framework="pytorch")
    mounts = {pip_mount_image(everything), wheels_mount_image(everything)}
    seeing = [layer.text for layer in made.layers if "mlstudio-mount/" in layer.text]
    assert len(seeing) == 2
    for text in seeing:
        assert "pip install" in text
        found = re.findall(r"--mount=type=bind,from=(\S+),target=(\S+)", text)
        assert {image for image, _ in found} == mounts
        assert {target for _, target in found} == {PIP_TARGET, WHEELS_TARGET}
        assert f"PIP_CONFIG_FILE={PIP_TARGET}/pip.conf pip install" in text
    kept = [
        layer.text for layer in made.layers if layer.text.startswith(("COPY", "ADD", "ENV", "ARG", "FROM"))
    ]
    assert not any("mlstudio-mount" in text or "/run/mlstudio" in text for text in kept)
    assert "example.org" not in made.dockerfile
    assert [name for name, _ in made.context_files] == ["requirements.txt"]


def test_a_proxy_is_an_argument_that_docker_does_not_keep(everything: PipSettings) -> None:
    assert dict(proxy_arguments(everything)) == {
        "HTTP_PROXY": "http://proxy.example.org:3128",
        "HTTPS_PROXY": "http://proxy.example.org:3128",
        "http_proxy": "http://proxy.example.org:3128",
        "https_proxy": "http://proxy.example.org:3128",
        "NO_PROXY": ".example.org",
        "no_proxy": ".example.org",
    }
    assert "proxy" not in recipe(everything).dockerfile.lower()


@pytest.mark.parametrize("proxy", ["http://", "http://:3128", "http://[::1", "://"])
def test_a_proxy_without_a_host_is_refused(proxy: str) -> None:
    with pytest.raises(RequestError, match="names no host") as refused:
        proxy_arguments(PipSettings(proxy=proxy))
    assert refused.value.field == "pip.proxy"


def test_git_trusts_the_bundle_where_something_comes_from_git(everything: PipSettings) -> None:
    with_git = recipe(everything, requirements=("x @ git+https://git.example.org/x",))
    assert f"GIT_SSL_CAINFO={PIP_TARGET}/ca.pem " in with_git.dockerfile
    assert "GIT_SSL_CAINFO" not in recipe(everything).dockerfile


def test_whatever_changes_a_mount_changes_the_line_that_uses_it(everything: PipSettings) -> None:
    first = pip_mount_image(everything)
    assert pip_mount_image(everything) == first
    Path(everything.ca_bundle).write_text("another certificate")
    second = pip_mount_image(everything)
    assert second != first
    wheels = wheels_mount_image(everything)
    (Path(everything.wheelhouse) / "other-1.0-py3-none-any.whl").write_bytes(b"x")
    assert wheels_mount_image(everything) != wheels
    assert pip_mount_image(everything) == second


def test_the_wheelhouse_gives_packages_alone(everything: PipSettings) -> None:
    folder = Path(everything.wheelhouse)
    for name in ("notes.txt", "old-1.tar.gz", "older-1.zip", ".hidden"):
        (folder / name).write_text("x")
    (folder / "folder.whl").mkdir()
    assert wheel_names(everything) == ("mine-1.0-py3-none-any.whl", "old-1.tar.gz", "older-1.zip")
    mount = wheels_mount(everything)
    assert mount is not None
    assert mount.files == tuple((name, folder / name) for name in wheel_names(everything))


@pytest.mark.parametrize(
    ("wheel", "local"),
    [
        ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl", False),
        ("torch-1.0.0-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("torchvision-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl", False),
    ],
)
def test_a_framework_in_the_wheelhouse_needs_no_other_index(tmp_path: Path, wheel: str, local: bool) -> None:
    (tmp_path / wheel).write_bytes(b"x")
    made = recipe(PipSettings(wheelhouse=str(tmp_path)), framework="pytorch")
    assert made.requirements[0] == "torch==2.13.0"
    assert (made.index_url == "") is local
    assert ("--extra-index-url" not in made.dockerfile) is local


@given(
    url=st.one_of(
        st.text(max_size=30),
        st.sampled_from(["\udce9", "a\nb = c", "a\n    b", "a\n[x]", "a#b", "a ; b", "%(x)s"]),
    )
)
def test_no_url_adds_a_line_to_pips_file(url: str) -> None:
    try:
        text = pip_configuration(PipSettings(index_url=f"https://{url}"))
    except RequestError:
        assert any(ord(letter) < 32 or letter == "\udce9" for letter in url)
        return
    assert text.split("\n") == ["[global]", f"index-url = https://{url}", ""]
