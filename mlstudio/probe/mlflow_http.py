"""HTTP as MLflow's client speaks it. Imported when one connects."""

from __future__ import annotations

import json
import re
import socket
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from mlstudio.probe.mlflow_endpoint import MAX_BODY, parse_body, parse_query
from mlstudio.probe.mlflow_rest import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Iterator

_CALL = re.compile(r"/(?:ajax-)?api/[23]\.0/(?:preview/)?mlflow/(.+)")
_MAX_UNREAD = 256 * 1024 * 1024
_LINGER_S = 5.0


class Handler(BaseHTTPRequestHandler):
    """One connection; `server` is the endpoint."""

    protocol_version = "HTTP/1.1"
    server_version = "mlstudio"
    sys_version = ""
    # Head and body of an answer leave together, at once. Apart, the second waits 40 ms for the first to be confirmed.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed: it would stand in the run's log."""

    def handle_expect_100(self) -> bool:
        may_go_on = super().handle_expect_100()
        self.wfile.flush()
        return may_go_on

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 — the server's names

    def _handle(self) -> None:
        endpoint: Any = self.server
        try:
            address = urlsplit(self.path)
        except ValueError:
            self._refuse(400, "BAD_REQUEST", "This is no address: %s" % self.path[:200])
            return
        path = unquote(address.path)
        if self.headers.get("Transfer-Encoding"):
            self._refuse(411, "BAD_REQUEST", "Say how long the body is.")
            return
        size = self._size()
        if path != "/health" and not endpoint.may(self.headers.get("Authorization", "")):
            # Before its body is read: others on this machine shall not fill our memory.
            words = "This endpoint is the run's own: MLFLOW_TRACKING_TOKEN in its environment opens it."
            self._refuse(401, "UNAUTHENTICATED", words)
        elif size < 0:
            self._refuse(400, "BAD_REQUEST", "The body's length is no number.")
        elif path == "/health" and not size:
            self._send(200, b"OK", "text/plain")
        elif path.startswith("/v1/traces") and size <= _MAX_UNREAD:
            if self._pass_over(size):
                self._send_json(200, {})
        elif size > MAX_BODY or path == "/health":
            self._refuse(413, "BAD_REQUEST", "A request has at most %d bytes." % MAX_BODY)
        else:
            endpoint.begin(self.request, size)
            try:
                self._call(path, address.query, size)
            finally:
                endpoint.end(self.request, size)

    def _call(self, path: str, query: str, size: int) -> None:
        endpoint: Any = self.server
        data = self.rfile.read(size) if size else b""
        if len(data) < size:
            self.close_connection = True
            return
        if path == "/version":
            self._send(200, VERSION.encode(), "text/plain")
            return
        found = _CALL.fullmatch(path)
        if found is None:
            words = "There is no %s." % path[:200]
            self._send_json(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": words})
            return
        try:
            said = parse_query(query)
            said.update(parse_body(data))
        except (ValueError, RecursionError) as error:
            words = "This is no JSON: %s" % str(error)[:500]
            self._send_json(400, {"error_code": "BAD_REQUEST", "message": words})
            return
        del data
        agent = self.headers.get("User-Agent", "")
        status, answer = endpoint.answer(self.command, found.group(1).strip("/"), said, agent)
        if isinstance(answer, dict):
            self._send_json(status, answer)
        else:
            self._send_pieces(answer)

    def _size(self) -> int:
        """Of the body that follows; -1 where that is not said as it should be."""
        text = self.headers.get("Content-Length") or "0"
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1

    def _pass_over(self, size: int) -> bool:
        """Read what follows, and keep nothing of it."""
        while size:
            piece = self.rfile.read(min(size, 64 * 1024))
            if not piece:
                self.close_connection = True
                return False
            size -= len(piece)
        return True

    def _refuse(self, status: int, code: str, words: str) -> None:
        """Answer without having read the body, and close the connection so that the answer arrives all the same."""
        self.close_connection = True
        self._send_json(status, {"error_code": code, "message": words})
        self.wfile.flush()
        # A socket that is closed with something unread takes back what it has sent.
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_LINGER_S)
        deadline = time.monotonic() + _LINGER_S
        try:
            while time.monotonic() < deadline and self.connection.recv(64 * 1024):
                pass
        except OSError:
            pass

    def _send_json(self, status: int, answer: Any) -> None:
        try:
            data = json.dumps(answer).encode("ascii")
        except RecursionError:
            status, data = 500, b'{"error_code": "INTERNAL_ERROR", "message": "Too deeply nested."}'
        self._send(status, data, "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _send_pieces(self, pieces: Iterator[bytes]) -> None:
        """A long answer, of which only a piece is in memory at a time."""
        in_chunks = self.request_version >= "HTTP/1.1"
        self.close_connection = self.close_connection or not in_chunks
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header(*("Transfer-Encoding", "chunked") if in_chunks else ("Connection", "close"))
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if in_chunks else piece)
        if in_chunks:
            self.wfile.write(b"0\r\n\r\n")
