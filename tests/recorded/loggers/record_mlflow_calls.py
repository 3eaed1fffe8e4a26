"""Records what MLflow's client says to MLflow's own server, and the answers: `python record_mlflow_calls.py FOLDER`.

Written are ``mlflow<version>-calls.json``, the calls in order, and ``mlflow<version>-found.json``: what was read back.
"""

from __future__ import annotations

import http.client
import http.server
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

CALLS: list[dict[str, Any]] = []
SERVER_PORT = 0


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes a call on, and writes it down."""

    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", SERVER_PORT)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        CALLS.append(
            {
                "method": self.command,
                "path": self.path,
                "headers": {
                    name: headers[name] for name in ("User-Agent", "Content-Type") if name in headers
                },
                "body": _parsed(body),
                "status": response.status,
                "answer": _parsed(answer),
            }
        )
        self.send_response(response.status)
        self.send_header("Content-Type", response.getheader("Content-Type") or "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _any

    def log_message(self, *_: Any) -> None:
        pass


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode("latin-1")[:2000]


def main() -> None:
    global SERVER_PORT
    out = Path(sys.argv[1])
    version = importlib.metadata.version("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        SERVER_PORT = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(
            os.environ,
            MLFLOW_DISABLE_TELEMETRY="true",
            PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        )
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--port", str(SERVER_PORT), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--no-serve-artifacts"),
                *("--default-artifact-root", f"file://{folder}/artifacts"),
            ],
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", SERVER_PORT)).close()
                break
            except OSError:
                time.sleep(0.2)
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{proxy.server_address[1]}"
        script = Path(__file__).with_name("mlflow_script.py")
        try:
            done = subprocess.run(
                [sys.executable, str(script), *sys.argv[2:]],
                env=environment,
                cwd=folder,
                stdout=subprocess.PIPE,
                check=True,
            )
        finally:
            os.killpg(server.pid, 15)
        name = f"mlflow{version.split('.')[0]}"
        calls = json.dumps({"version": version, "calls": CALLS}, indent=0, sort_keys=True)
        (out / f"{name}-calls.json").write_text(calls.replace(folder, "/FOLDER") + "\n")
        text = done.stdout.decode()
        (out / f"{name}-found.json").write_text(text[text.index("\n{") + 1 if "\n{" in text else 0 :])


main()
