"""pip's settings are found as pip finds them, and their passwords stay out of all that is kept or shown."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstudio.images.catalogue import load_catalogue
from mlstudio.images.mounts import ca_bundle, pip_configuration, proxy_arguments, wheel_names
from mlstudio.images.pip_settings import configuration_files, discover_pip
from mlstudio.images.recipe import write_recipe
from mlstudio.model.code import CodeSnapshot, CodeSource, Travel
from mlstudio.model.errors import StudioError
from mlstudio.model.image import Dependencies, ImageSpec, PipSettings, Recipe


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def conf(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def machine(home: Path, **more: str) -> dict[str, str]:
    """An environment whose global files lie in `home` too."""
    return {"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), **more}


def found(home: Path, **more: str) -> PipSettings:
    """As on a machine on which nobody wrote /etc/pip.conf or one for this Python."""
    env = machine(home, **more)
    own = {Path("/etc/pip.conf"), Path(sys.prefix) / "pip.conf"}
    return discover_pip(env, [path for path in configuration_files(env) if path not in own])


# -- where they are found, and what goes first ------------------------------------------------------------------------


def test_a_machine_without_settings_has_none(home: Path) -> None:
    assert found(home) == PipSettings()


def test_every_setting_is_read_from_a_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "ca.pem").write_text("x")
    conf(
        home / ".config/pip/pip.conf",
        f"""\
# how we do it here
[global]
index-url = https://pypi.example.org/simple
extra-index-url =
    https://a.example.org/simple
    https://b.example.org/simple
find_links = {tmp_path / "wheels"}
cert = {tmp_path / "ca.pem"}
proxy = http://proxy.example.org:3128
trusted-host = a.example.org b.example.org
timeout = 60
[list]
index-url = https://wrong.example.org
""",
    )
    assert found(home, NO_PROXY="localhost,.example.org") == PipSettings(
        index_url="https://pypi.example.org/simple",
        extra_index_urls=("https://a.example.org/simple", "https://b.example.org/simple"),
        wheelhouse=str(tmp_path / "wheels"),
        ca_bundle=str(tmp_path / "ca.pem"),
        proxy="http://proxy.example.org:3128",
        no_proxy="localhost,.example.org",
        trusted_hosts=("a.example.org", "b.example.org"),
    )


def index(name: str, *, section: str = "global") -> str:
    return f"[{section}]\nindex-url = https://{name}.example.org/simple\n"


def test_the_nearer_file_wins(home: Path) -> None:
    """Weakest first; the one that was written last in this list is what counts until the next one is there."""
    places = [
        (home / "xdg/pip/pip.conf", "everybody"),
        (home / ".pip/pip.conf", "old"),
        (home / ".config/pip/pip.conf", "mine"),
    ]
    for path, name in places:
        conf(path, index(name))
        assert found(home).index_url == f"https://{name}.example.org/simple"
    other = conf(home / "other.conf", index("named"))
    assert found(home, PIP_CONFIG_FILE=str(other)).index_url == "https://named.example.org/simple"
    both = {"PIP_CONFIG_FILE": str(other), "PIP_INDEX_URL": "https://env.example.org/simple"}
    assert found(home, **both).index_url == "https://env.example.org/simple"


def test_the_order_of_files_is_pips() -> None:
    env = {"HOME": "/home/me", "XDG_CONFIG_DIRS": "/x/a:/x/b", "XDG_CONFIG_HOME": "/x/mine"}
    assert [str(path) for path in configuration_files(env)] == [
        "/x/a/pip/pip.conf",
        "/x/b/pip/pip.conf",
        "/etc/pip.conf",
        "/home/me/.pip/pip.conf",
        "/x/mine/pip/pip.conf",
        str(Path(sys.prefix) / "pip.conf"),
    ]


def test_a_named_file_stands_in_for_the_users_own(home: Path) -> None:
    """As pip does: its `_load_config_files` leaves the user's files out where PIP_CONFIG_FILE is there."""
    conf(home / ".config/pip/pip.conf", "[global]\nproxy = http://mine.example.org\n")
    other = conf(home / "other.conf", index("named"))
    assert found(home, PIP_CONFIG_FILE=str(other)).proxy == ""
    gone = found(home, PIP_CONFIG_FILE=str(home / "gone.conf"))
    assert gone.proxy == "http://mine.example.org"


def test_files_can_be_switched_off(home: Path) -> None:
    conf(home / ".config/pip/pip.conf", index("mine"))
    assert configuration_files(machine(home, PIP_CONFIG_FILE=os.devnull)) == []
    assert discover_pip(machine(home, PIP_CONFIG_FILE=os.devnull)) == PipSettings()


def test_the_section_for_installing_goes_before_the_global_one_of_any_file(home: Path) -> None:
    conf(home / "xdg/pip/pip.conf", index("install", section="install"))
    conf(home / ".config/pip/pip.conf", index("mine"))
    assert found(home).index_url == "https://install.example.org/simple"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PIP_INDEX_URL", "https://env.example.org/simple"), ("PIP_EXTRA_INDEX_URL", "https://env.example.org/simple")],
)  # fmt: skip
def test_variables_are_read(home: Path, name: str, value: str) -> None:
    settings = found(home, **{name: value})
    assert value in (settings.index_url, *settings.extra_index_urls)
    assert found(home, **{name: ""}) == PipSettings()


def test_an_empty_variable_leaves_the_files_as_they_are(home: Path) -> None:
    conf(home / ".config/pip/pip.conf", index("mine"))
    assert found(home, PIP_INDEX_URL="").index_url == "https://mine.example.org/simple"


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({"HTTP_PROXY": "http://d"}, "http://d"),
        ({"HTTP_PROXY": "http://d", "http_proxy": "http://c"}, "http://d"),
        ({"https_proxy": "http://b", "HTTP_PROXY": "http://d"}, "http://b"),
        ({"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}, "http://a"),
        ({"PIP_PROXY": "http://pip", "HTTPS_PROXY": "http://a"}, "http://pip"),
        ({"HTTPS_PROXY": "", "http_proxy": "http://c"}, "http://c"),
    ],
)
def test_a_proxy_is_found(home: Path, env: dict[str, str], proxy: str) -> None:
    assert found(home, **env).proxy == proxy


def test_the_proxy_of_the_file_goes_before_the_machines(home: Path) -> None:
    conf(home / ".config/pip/pip.conf", "[global]\nproxy = http://file\n")
    assert found(home, HTTPS_PROXY="http://env").proxy == "http://file"


def test_a_ca_bundle_is_found_in_pips_order(home: Path, tmp_path: Path) -> None:
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
    env: dict[str, str] = {}
    for name in names:
        (tmp_path / name).write_text("x")
        env[name] = str(tmp_path / name)
        assert found(home, **env).ca_bundle == env[name]
    conf(home / ".config/pip/pip.conf", f"[global]\ncert = {tmp_path / 'SSL_CERT_FILE'}\n")
    assert found(home, REQUESTS_CA_BUNDLE=env["PIP_CERT"]).ca_bundle == env["SSL_CERT_FILE"]


def test_a_ca_bundle_that_is_not_there_is_left_out(home: Path) -> None:
    assert found(home, PIP_CERT=str(home / "gone.pem")).ca_bundle == ""
    assert found(home, PIP_CERT=str(home)).ca_bundle == ""


def test_the_wheelhouse_is_the_first_folder_that_is_here(home: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "a b").mkdir()
    wheels = str(tmp_path / "wheels")
    links = f"https://links.example.org/x.html {tmp_path}/gone {wheels} {tmp_path}"
    assert found(home, PIP_FIND_LINKS=links).wheelhouse == wheels
    assert found(home, PIP_FIND_LINKS=f"file://{wheels}").wheelhouse == wheels
    assert found(home, PIP_FIND_LINKS=f"file://localhost{wheels}").wheelhouse == wheels
    assert found(home, PIP_FIND_LINKS=f"file://{tmp_path}/a%20b").wheelhouse == str(tmp_path / "a b")
    assert found(home, PIP_FIND_LINKS="https://links.example.org/x.html").wheelhouse == ""


def test_indexes_in_folders_of_this_machine_are_not_there_in_a_build(home: Path) -> None:
    settings = found(
        home, PIP_INDEX_URL="file:///srv/simple", PIP_EXTRA_INDEX_URL="/srv/x https://a.example.org file:///y"
    )
    assert (settings.index_url, settings.extra_index_urls) == ("", ("https://a.example.org",))


def test_the_file_with_logins_is_never_read(home: Path) -> None:
    conf(home / ".netrc", "machine pypi.example.org login me password hunter2\n")
    env = machine(home, PIP_INDEX_URL="https://pypi.example.org/simple")
    assert not any(path.name == ".netrc" for path in configuration_files(env))
    assert found(home, PIP_INDEX_URL="https://pypi.example.org/simple") == PipSettings(
        index_url="https://pypi.example.org/simple"
    )


@pytest.mark.parametrize(
    "damaged",
    [
        b"no section\n",
        b"[global\nindex-url = x\n",
        b"\xff\xfe\x00",
        b"[global]\nx\n y\n",
        b"[global]\n" * 3,
        b"",
    ],
)
def test_a_damaged_file_counts_as_empty(home: Path, damaged: bytes) -> None:
    path = home / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True)
    path.write_bytes(damaged)
    assert found(home, PIP_INDEX_URL="https://a.example.org").index_url == "https://a.example.org"


def test_an_option_that_stands_twice_is_taken_as_it_stands_last(home: Path) -> None:
    conf(home / ".config/pip/pip.conf", index("first") + index("last"))
    assert found(home).index_url == "https://last.example.org/simple"


VARIABLES = st.sampled_from(
    ["PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_CONFIG_FILE", "PIP_PROXY", "HTTPS_PROXY", "NO_PROXY",
     "PIP_TRUSTED_HOST", "PIP_EXTRA_INDEX_URL", "REQUESTS_CA_BUNDLE", "PIP_", "PIP_INDEX"]
)  # fmt: skip
HOSTILE = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["http://[::1", "file://[", "~nobody-by-that-name/x", "\0", "x" * 5000, "file://" + "y" * 5000, "://"]
    ),
)


@given(env=st.dictionaries(VARIABLES, HOSTILE, max_size=6), text=HOSTILE)
def test_no_setting_of_a_machine_breaks_it(
    tmp_path_factory: pytest.TempPathFactory, env: dict[str, str], text: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    conf(folder / ".config/pip/pip.conf", f"[global]\nfind-links = {text}\ncert = {text}\n{text}")
    settings = discover_pip(machine(folder, **env))
    assert settings.index_url == "" or settings.index_url.startswith(("http://", "https://"))
    try:
        pip_configuration(settings)
        proxy_arguments(settings)
        wheel_names(settings)
    except StudioError as refused:
        assert refused.what.endswith(".")  # noqa: PT017


# -- passwords --------------------------------------------------------------------------------------------------------

SECRET = "hunter2/@:,ö"
SECRETS = PipSettings(
    index_url=f"https://me:{SECRET}1@pypi.example.org/simple",
    extra_index_urls=(f"https://{SECRET}2@a.example.org/simple", "https://b.example.org/simple"),
    proxy=f"http://me:{SECRET}3@proxy.example.org:3128",
    trusted_hosts=("pypi.example.org",),
)


def recipe(settings: PipSettings, travel: Travel = Travel.BAKED) -> Recipe:
    return write_recipe(
        ImageSpec(framework="pytorch", python="3.11", env=(("A", "b"),)),
        CodeSource(folder="/somewhere", travel=travel),
        CodeSnapshot(tree_hash="sha256:1", files=("train.py",), size_bytes=1),
        catalogue=load_catalogue(),
        dependencies=Dependencies(requirements=("numpy", "private @ git+https://git.example.org/x")),
        pip=settings,
        base_map={},
        name="x",
    )


@pytest.mark.parametrize("travel", list(Travel))
def test_no_password_is_in_the_recipe(travel: Travel) -> None:
    made = recipe(SECRETS, travel)
    assert "mlstudio-mount/pip:" in made.dockerfile
    for kept in (made.dockerfile, repr(made), pickle.dumps(made).decode("latin-1")):
        assert "hunter2" not in kept
        assert "proxy.example.org" not in kept


def test_no_password_is_in_what_is_printed() -> None:
    for text in (repr(SECRETS), str(SECRETS), f"{SECRETS}", f"{[SECRETS]!r}"):
        assert "hunter2" not in text
        assert "me:" not in text
        assert "https://[redacted]@pypi.example.org/simple" in text
        assert "http://[redacted]@proxy.example.org:3128" in text
        assert "https://b.example.org/simple" in text
    assert "hunter2" not in repr(PipSettings(proxy="me:hunter2@proxy:3128"))
    assert repr(PipSettings()) == "PipSettings()"


def test_settings_with_other_passwords_are_other_settings() -> None:
    """What is printed leaves passwords out; comparing does not."""
    other = PipSettings(index_url="https://me:other@pypi.example.org/simple")
    same = PipSettings(index_url="https://me:other@pypi.example.org/simple")
    assert other == same
    assert other != PipSettings(index_url="https://me:hunter2@pypi.example.org/simple")


@pytest.mark.parametrize(
    "settings",
    [
        PipSettings(index_url="https://me:hunter2@a\r\nproxy = http://evil"),
        PipSettings(index_url="https://me:hunter2@a\nproxy = http://evil"),
        PipSettings(extra_index_urls=("https://me:hunter2@a\0",)),
        PipSettings(proxy="http://me:hunter2@"),
        PipSettings(proxy="http://me:hunter2@[::1"),
        PipSettings(proxy="me:hunter2@"),
    ],
)
def test_what_cannot_be_used_is_refused_without_its_password(settings: PipSettings) -> None:
    with pytest.raises(StudioError) as refused:
        (pip_configuration(settings), proxy_arguments(settings))
    error = refused.value
    assert "hunter2" not in f"{error} {error!r} {error.why} {error.try_this}"
    assert error.__cause__ is None


@pytest.mark.parametrize("path", ["gone.pem", "~nobody-by-that-name/x.pem", ".", "\0"])
def test_a_ca_bundle_that_cannot_be_read_is_refused_with_its_field(tmp_path: Path, path: str) -> None:
    settings = PipSettings(ca_bundle=path if path.startswith("~") else str(tmp_path / path))
    with pytest.raises(StudioError, match="CA bundle") as refused:
        ca_bundle(settings)
    assert getattr(refused.value, "field", "") == "pip.ca_bundle"


@pytest.mark.parametrize("path", ["gone", "~nobody-by-that-name/x", "file"])
def test_a_wheelhouse_that_cannot_be_read_is_refused_with_its_field(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("x")
    settings = PipSettings(wheelhouse=path if path.startswith("~") else str(tmp_path / path))
    with pytest.raises(StudioError, match="wheelhouse") as refused:
        wheel_names(settings)
    assert getattr(refused.value, "field", "") == "pip.wheelhouse"
