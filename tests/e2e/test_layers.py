"""What a build was given to reach packages is in no layer of the image, nor in its history or settings."""

from __future__ import annotations

import base64
import http.server
import io
import json
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pytest

from tests.e2e.conftest import Program

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TOKEN = "token-7f3a9c51d2"
PROXY_PASSWORD = "proxy-password-88b1"
CA_MARK = "# certificate-mark-5d20"
RUN_SECRET = "run-secret-31ab77"


def wheel(name: str) -> bytes:
    """A wheel that holds one module of that name."""
    info = f"{name}-1.0.dist-info"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}.py", "VALUE = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return data.getvalue()


@dataclass
class PackageServer:
    """An index behind a password, and the proxy in front of it, on one port of this machine."""

    port: int = 0
    host: str = ""
    asked: list[str] = field(default_factory=list)
    """Paths that were fetched with the right password and through the proxy."""
    refused: list[str] = field(default_factory=list)

    @property
    def index_url(self) -> str:
        return f"http://someone:{TOKEN}@{self.host}:{self.port}/simple"

    @property
    def proxy_url(self) -> str:
        return f"http://someone:{PROXY_PASSWORD}@{self.host}:{self.port}"


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"someone:{password}".encode()).decode()


@pytest.fixture
def packages() -> Iterator[PackageServer]:
    docker = shutil.which("docker")
    assert docker
    subnet = json.loads(
        subprocess.run([docker, "network", "inspect", "bridge"], check=True, capture_output=True).stdout
    )[0]["IPAM"]["Config"][0]
    # A build's containers reach this machine at the bridge's own address: the gateway, by default the first one.
    host = subnet.get("Gateway") or subnet["Subnet"].rpartition(".")[0] + ".1"
    state = PackageServer(host=host)
    file = "indexed-1.0-py3-none-any.whl"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            through_proxy = self.headers.get("Proxy-Authorization") == _basic(PROXY_PASSWORD)
            if self.headers.get("Authorization") != _basic(TOKEN) or not through_proxy:
                state.refused.append(self.path)
                self.answer(401, b"", ("WWW-Authenticate", 'Basic realm="packages"'))
            elif path == "/simple/indexed/":
                state.asked.append(path)
                self.answer(
                    200, f'<a href="/files/{file}">{file}</a>'.encode(), ("Content-Type", "text/html")
                )
            elif path == f"/files/{file}":
                state.asked.append(path)
                self.answer(200, wheel("indexed"))
            else:
                self.answer(404, b"")

        def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, name="package server")
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def _files_of(image: str) -> Iterator[tuple[str, bytes]]:
    """Every file of `docker save`, and every file inside every layer, with its name and content."""
    saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as outer:
        for member in outer:
            if not member.isfile():
                continue
            stream = outer.extractfile(member)
            assert stream
            content = stream.read()
            if not member.name.endswith(".tar") and content[257:262] != b"ustar":
                yield member.name, content
                continue
            with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                for inner in layer:
                    extracted = layer.extractfile(inner) if inner.isfile() else None
                    yield f"{member.name}:{inner.name}", extracted.read() if extracted else b""


def test_nothing_that_the_build_was_given_stays_in_the_image(
    program: Program, packages: PackageServer, project: Callable[..., Path], tmp_path: Path
) -> None:
    folder = project(
        train="import os, indexed, housed\nprint('sum', indexed.VALUE + housed.VALUE, len(os.environ['API_KEY']))\n",
        requirements="indexed==1.0\nhoused==1.0\n",
    )
    house = tmp_path / "wheelhouse-mark-9e44"
    house.mkdir()
    (house / "housed-1.0-py3-none-any.whl").write_bytes(wheel("housed"))
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"{CA_MARK}\n{Path(certifi.where()).read_text()}")

    program("settings", "set", "pip.trusted_hosts", packages.host)
    done = program(
        *("run", folder, "--framework", "python", "--secret", "API_KEY"),
        *("--index-url", packages.index_url, "--proxy", packages.proxy_url),
        *("--find-links", house, "--cert", bundle),
        API_KEY=RUN_SECRET,
        PIP_EXTRA_INDEX_URL="",
        NO_PROXY="",
        no_proxy="",
    )
    assert f"sum 84 {len(RUN_SECRET)}" in done.stdout
    assert any(path.endswith(".whl") for path in packages.asked), packages.refused

    image = program.run()["image_id"]
    marks = {
        "index's password": TOKEN,
        "proxy's password": PROXY_PASSWORD,
        "certificates": CA_MARK,
        "server's address": f"{packages.host}:{packages.port}",
        "wheelhouse": house.name,
        "run's secret": RUN_SECRET,
    }
    told = [
        subprocess.run(["docker", *words, image], check=True, capture_output=True, text=True).stdout
        for words in (["history", "--no-trunc"], ["inspect"])
    ]
    found = [
        (what, "history or settings") for what, mark in marks.items() if any(mark in text for text in told)
    ]
    seen = 0
    for name, content in _files_of(image):
        seen += 1
        found += [(what, name) for what, mark in marks.items() if mark.encode() in content or mark in name]
        if name.endswith(("/pip.conf", "-1.0-py3-none-any.whl", "/bundle.pem")):
            found.append(("file of the build", name))
    assert seen > 1000  # We did look.
    assert not found

    # What is written down about the run knows none of the passwords either.
    for path in program.home.rglob("*"):
        if path.is_file() and path.name != "settings.toml":
            content = path.read_bytes()
            assert not [
                what for what, mark in marks.items() if "password" in what and mark.encode() in content
            ], path
            assert RUN_SECRET.encode() not in content, path
