"""The doctor says what is wrong with a machine and how to mend it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstudio.engines.fake import FakeEngine
from mlstudio.model.host import EngineTrouble, Gpu
from mlstudio.model.image import PipSettings
from mlstudio.services.checks import Check, Level, worst
from mlstudio.services.doctor import file_system_of, reach_index
from mlstudio.services.studio import Studio


@pytest.fixture
def index() -> Iterator[tuple[str, list[int]]]:
    """A package index of this machine that answers with the status in the list."""
    status = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="index")
        thread.start()
        yield f"http://someone:sesame@127.0.0.1:{server.server_address[1]}/simple", status
        server.shutdown()
        thread.join()


def named(checks: tuple[Check, ...], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


def test_a_good_machine_is_ready(studio: Studio, index: tuple[str, list[int]]) -> None:
    studio.settings.set("pip.index_url", index[0])
    checks = studio.doctor.check()
    assert worst(checks) is not Level.ERROR
    assert named(checks, "engine local")[0].level is Level.OK
    assert named(checks, "packages")[0].level is Level.OK
    assert not any("sesame" in check.message for check in checks)


def test_a_chosen_engine_that_is_away_is_an_error(
    studio: Studio, fake: FakeEngine, index: tuple[str, list[int]]
) -> None:
    studio.settings.set("pip.index_url", index[0])
    fake.go_away(EngineTrouble.NOT_PERMITTED)
    (check,) = named(studio.doctor.check(), "engine local")
    assert check.level is Level.ERROR
    assert check.try_this
    studio.settings.set("engine", "process")
    assert named(studio.doctor.check(), "engine local")[0].level is Level.WARNING


def test_gpus_are_listed(home: Path, index: tuple[str, list[int]]) -> None:
    gpu = Gpu(index=0, uuid="GPU-1", name="H100", memory_total_bytes=80 * 10**9, driver="550.54", cuda="12.4")
    with Studio(home, engines={"local": FakeEngine("local", gpus=(gpu,))}) as studio:
        studio.settings.set("pip.index_url", index[0])
        (check,) = named(studio.doctor.check(), "gpu local")
        assert check.message == "GPU 0: H100, 80.0 GB, driver 550.54, CUDA up to 12.4."


def test_a_home_that_cannot_be_written_to_is_an_error(tmp_path: Path, index: tuple[str, list[int]]) -> None:
    (tmp_path / "file").write_text("")
    with Studio(tmp_path / "file" / "home", engines={"local": FakeEngine("local")}) as studio:
        checks = studio.doctor.check()
    assert named(checks, "home")[-1].level is Level.ERROR


@pytest.mark.parametrize(("code", "words"), [(401, "refuses access"), (503, "out of order")])
def test_an_index_that_refuses_is_told(index: tuple[str, list[int]], code: int, words: str) -> None:
    index[1][0] = code
    check = reach_index(PipSettings(index_url=index[0]))
    assert check.level is Level.WARNING
    assert words in check.message
    assert "sesame" not in check.message


def test_an_index_that_is_not_there_is_told() -> None:
    check = reach_index(PipSettings(index_url="http://127.0.0.1:9/simple"))
    assert check.level is Level.WARNING
    assert "cannot be reached" in check.message


def test_missing_certificates_and_wheelhouses_are_errors(studio: Studio) -> None:
    studio.settings.set("pip.wheelhouse", "/nonesuch")
    studio.settings.set("pip.index_url", "http://127.0.0.1:9/simple")
    assert named(studio.doctor.check(), "wheelhouse")[0].level is Level.ERROR
    studio.settings.set("pip.ca_bundle", "/nonesuch.pem")
    assert named(studio.doctor.check(), "certificates")[0].level is Level.ERROR


def test_the_file_system_of_a_path_is_known() -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(Path("/")) != "proc"
