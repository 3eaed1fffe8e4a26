"""Requests to the engine whose answers never end by themselves: output that is followed, builds, a container's stdin.

Client libraries block in them without a time-out. Here every wait is short, so that a follower can be told to end, and
a broken connection is told from a proper end (HTTP/1.1 chunked transfer, RFC 9112 section 7.1).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import urlencode

from mlstudio.engines.docker_host import Endpoint
from mlstudio.model.errors import EngineAway

_BLOCK = 256 * 1024
_MAX_HEAD = 64 * 1024
_SEND_TIMEOUT_S = 60.0
"""An engine that is busy unpacking takes a while to read on."""


class Refused(Exception):
    """The engine answered with an error status; `message` is its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Stream:
    """One request on a connection of its own. Not thread-safe; use it with ``with``."""

    def __init__(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        has_body: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._is_chunked = False
        self._left: int | None = None
        """Bytes left of the current chunk (or of the body); None between chunks, or where the body has no length."""
        self._has_ended = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self._socket = endpoint.connect(timeout_s)
        lines = [f"{method} {path}{'?' + urlencode(query) if query else ''} HTTP/1.1", "Host: docker"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if has_body:
            lines.append("Transfer-Encoding: chunked")
        elif method == "POST":
            lines.append("Content-Length: 0")
        try:
            self._send(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the engine gives up what it was doing for it."""
        self._socket.close()

    # -- sending ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Send a piece of the request's body; named as `tarfile` and friends expect it."""
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))
        return len(data)

    def end_body(self) -> None:
        self._send(b"0\r\n\r\n")

    def send_raw(self, data: bytes) -> None:
        """Send on a connection that the engine has upgraded (a container's stdin), then end that direction."""
        self._send(data)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The other side was quicker.

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(_SEND_TIMEOUT_S)
            self._socket.sendall(data)
        except OSError as error:
            raise lost(error) from error

    # -- receiving ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read the answer's head. Raises Refused for an error status, EngineAway if the connection breaks."""
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_HEAD:
                raise lost("its answer is not HTTP")
            if not self._fill(self._timeout_s):
                raise lost("it took too long to answer")
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        try:
            self.status = int(first.split(" ", 2)[1])
        except (IndexError, ValueError):
            raise lost("its answer is not HTTP") from None
        self.headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self._is_chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        if not self._is_chunked and "content-length" in self.headers:
            self._left = int(self.headers["content-length"])
            self._has_ended = self._left == 0
        if self.status >= 400:
            raise Refused(self.status, self._error_words())

    def read(self, timeout_s: float) -> bytes | None:
        """The next piece of the body; None if nothing came for `timeout_s`, ``b""`` at its proper end.

        Raises EngineAway if the connection breaks before that end.
        """
        while not self._has_ended:
            found = self._take()
            if found or self._has_ended:
                return found
            try:
                if not self._fill(timeout_s):
                    return None
            except _Closed:
                if self._is_chunked or self._left is not None:
                    raise
                self._has_ended = True
        return b""

    def _take(self) -> bytes:
        """What of the body lies in the buffer already."""
        if not self._is_chunked:
            size = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
            found = self._cut(size)
            if self._left is not None:
                self._left -= size
                self._has_ended = self._left == 0
            return found
        parts = []
        while True:
            if self._left is None:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    break
                size = int(bytes(self._buffer[:end]).split(b";")[0], 16)
                if size == 0:
                    self._has_ended = True
                    break
                del self._buffer[: end + 2]
                # With the two bytes that end a chunk.
                self._left = size + 2
            data = self._cut(max(0, min(self._left - 2, len(self._buffer))))
            self._left -= len(data)
            parts.append(data)
            if self._left > 2 or len(self._buffer) < 2:
                break
            del self._buffer[:2]
            self._left = None
        return b"".join(parts)

    def _cut(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _fill(self, timeout_s: float) -> bool:
        """Wait for bytes; False if none came in time. Raises EngineAway when the other side is gone."""
        try:
            self._socket.settimeout(timeout_s)
            data = self._socket.recv(_BLOCK)
        except TimeoutError:
            return False
        except OSError as error:
            raise lost(error) from error
        if not data:
            raise _Closed(
                "The connection to Docker broke.", why="It was closed by the other side.", can_retry=True
            )
        self._buffer += data
        return True

    def _error_words(self) -> str:
        body = bytearray()
        while len(body) < _MAX_HEAD:
            data = self.read(self._timeout_s)
            if not data:
                break
            body += data
        return error_words(bytes(body)) or f"status {self.status}"


class _Closed(EngineAway):
    """The other side closed the connection."""


def error_words(body: bytes) -> str:
    """The sentence in an engine's error answer, which is JSON with ``message``, or plain text."""
    try:
        found = json.loads(body)
        return str(found["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()


def lost(reason: object) -> EngineAway:
    """The error for a connection that broke."""
    return EngineAway(
        "The connection to Docker broke.",
        why=f"The system says: {reason}.",
        try_this="Check that Docker is running: systemctl status docker",
        can_retry=True,
    )
