"""HTTP as MLflow's client speaks it. Imported when one connects."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from mlstudio.probe.mlflow_endpoint import MAX_BODY, parse_body, parse_query
from mlstudio.probe.mlflow_rest import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any

_CALL = re.compile(r"/(?:ajax-)?api/[23]\.0/(?:preview/)?mlflow/(.+)")


class Handler(BaseHTTPRequestHandler):
    """One connection; `server` is the endpoint."""

    protocol_version = "HTTP/1.1"
    server_version = "mlstudio"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed: it would stand in the run's log."""

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 — the server's names

    def _handle(self) -> None:
        endpoint: Any = self.server
        data = self._body()
        if data is None:
            return
        address = urlsplit(self.path)
        path = unquote(address.path)
        if path == "/health":
            self._send(200, b"OK", "text/plain")
            return
        if not endpoint.may(self.headers.get("Authorization", "")):
            self._send_json(
                401,
                {
                    "error_code": "UNAUTHENTICATED",
                    "message": "This endpoint is the run's own: MLFLOW_TRACKING_TOKEN in its environment opens it.",
                },
            )
            return
        if path == "/version":
            self._send(200, VERSION.encode(), "text/plain")
            return
        if path.startswith("/v1/traces"):
            self._send_json(200, {})
            return
        found = _CALL.fullmatch(path)
        if found is None:
            self._send_json(
                404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "There is no %s." % path[:200]}
            )
            return
        try:
            words = parse_query(address.query)
            words.update(parse_body(data))
        except (ValueError, RecursionError) as error:
            self._send_json(
                400, {"error_code": "BAD_REQUEST", "message": "This is no JSON: %s" % str(error)[:500]}
            )
            return
        status, answer = endpoint.answer(
            self.command, found.group(1).strip("/"), words, self.headers.get("User-Agent", "")
        )
        self._send_json(status, answer)

    def _body(self) -> bytes | None:
        """The request's body; None where it was refused and the connection is closed."""
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self._send_json(411, {"error_code": "BAD_REQUEST", "message": "Say how long the body is."})
            return None
        text = self.headers.get("Content-Length") or "0"
        length = int(text) if text.isdigit() and len(text) < 12 else -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            words = "A request has at most %d bytes." % MAX_BODY
            self._send_json(413, {"error_code": "BAD_REQUEST", "message": words})
            return None
        data = self.rfile.read(length) if length else b""
        if len(data) < length:
            self.close_connection = True
            return None
        return data

    def _send_json(self, status: int, answer: Any) -> None:
        self._send(status, json.dumps(answer).encode("ascii"), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
