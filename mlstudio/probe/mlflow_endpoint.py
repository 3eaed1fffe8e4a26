"""The endpoint to which MLflow's client speaks inside a run: on the loopback alone, with a token of its own.

Nothing of it runs until a client connects: a socket listens, and a thread waits for it. What a script logs is in the
intake before it is answered, so a client that was answered has lost nothing.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import threading
import time

from mlstudio.probe.collectors import Collector

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, List, Optional, Tuple

    from mlstudio.probe.config import ProbeConfig
    from mlstudio.probe.intake import Intake

MAX_BODY = 8 * 1024 * 1024
"""Of one request; MLflow's client sends a megabyte at most, MLflow's server takes no more of a batch."""
SMALL_BODY = 64 * 1024
MAX_BODIES = 16 * 1024 * 1024
"""Requests above `SMALL_BODY` that are in memory at a time."""
MAX_CONNECTIONS = 64
_SILENCE_S = 120.0
"""A connection on which nothing comes for so long is closed; clients make a new one."""
_LONGEST_NUMBER = 400
_STATUS = {
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "UNAUTHENTICATED": 401,
    "INTERNAL_ERROR": 500,
}
"""Others are 400, also what is too much: with 429 a client would try again until it gives up."""


class _Connection:
    __slots__ = ("is_busy", "is_known", "since", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.is_known = False
        """Whether it has brought the token."""
        self.is_busy = False
        self.since = time.monotonic()
        """When it was last busy."""


class MlflowEndpoint(Collector):
    """Takes what MLflow's client sends."""

    name = "mlflow"

    def __init__(self, config: ProbeConfig, intake: Intake, root: str) -> None:
        super().__init__(config, intake, root)
        self._socket: Optional[socket.socket] = None
        self._token = ""
        self._lock = threading.Lock()
        self._connections: Dict[int, _Connection] = {}
        self._busy = 0
        self._bodies = 0
        self._idle = threading.Condition()
        self._calls: Any = None
        self._was_told = False
        self._has_folder = False
        self._is_closed = False

    def prepare(self, environment: Dict[str, str]) -> None:
        if environment.get("MLFLOW_TRACKING_URI"):
            return  # The user's own server, or a folder that is wanted.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.bind(("127.0.0.1", 0))
            listening.listen(MAX_CONNECTIONS)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        self._token = os.urandom(24).hex()
        environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:%d" % listening.getsockname()[1]
        environment["MLFLOW_TRACKING_TOKEN"] = self._token
        environment.pop("MLFLOW_TRACKING_USERNAME", None)
        environment.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        # There are no pages behind this address.
        environment.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        for name in ("NO_PROXY", "no_proxy"):
            if any(
                environment.get(proxy) for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
            ):
                known = environment.get(name, "")
                environment[name] = "%s,127.0.0.1" % known if known else "127.0.0.1"
        threading.Thread(target=self._accept, args=(listening,), name="mlflow", daemon=True).start()

    def finish(self, deadline: float) -> None:
        self._is_closed = True
        if self._socket is not None:
            # A thread that waits in accept is not woken by close alone.
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._socket.close()
        with self._idle:
            while self._busy and time.monotonic() < deadline:
                self._idle.wait(max(0.01, deadline - time.monotonic()))
        if self._calls is not None:
            with self._lock:
                self._calls.store.look_for_files()
        for connection in list(self._connections.values()):
            _shut(connection.socket)

    # -- connections ----------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, address = listening.accept()
            except OSError:
                # Closed; or out of descriptors, which may pass.
                if listening.fileno() < 0 or self._is_closed:
                    return
                time.sleep(0.1)
                continue
            self._make_room()
            self._connections[id(connection)] = _Connection(connection)
            thread = threading.Thread(
                target=self._serve, args=(connection, address), name="mlflow", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # No more threads in this container for now: clients try again.
                self._connections.pop(id(connection), None)
                connection.close()

    def _make_room(self) -> None:
        """Close a connection where there are too many: one that has not brought the token, or has long been quiet."""
        with self._idle:
            while len(self._connections) >= MAX_CONNECTIONS and not self._is_closed:
                quiet = [one for one in self._connections.values() if not one.is_busy]
                if quiet:
                    gone = min(quiet, key=lambda one: (one.is_known, one.since))
                    self._connections.pop(id(gone.socket), None)
                    _shut(gone.socket)
                else:
                    self._idle.wait(0.5)

    def _serve(self, connection: socket.socket, address: Any) -> None:
        try:
            from mlstudio.probe.mlflow_http import Handler

            connection.settimeout(_SILENCE_S)
            server: Any = self
            Handler(connection, address, server)
        except Exception:  # noqa: BLE001 — a connection's edge: nothing that comes over it may end a training
            pass
        finally:
            with self._idle:
                self._connections.pop(id(connection), None)
                self._idle.notify_all()
            try:
                connection.close()
            except OSError:
                pass

    def begin(self, connection: socket.socket, size: int) -> None:
        """A request with the token begins, with a body of `size` bytes; waits while too many large ones are here."""
        with self._idle:
            known = self._connections.get(id(connection))
            if known is not None:
                known.is_known = known.is_busy = True
            if size > SMALL_BODY:
                while self._bodies and self._bodies + size > MAX_BODIES:
                    self._idle.wait()
                self._bodies += size

    def end(self, connection: socket.socket, size: int) -> None:
        """It was answered."""
        with self._idle:
            known = self._connections.get(id(connection))
            if known is not None:
                known.is_busy = False
                known.since = time.monotonic()
            if size > SMALL_BODY:
                self._bodies -= size
            self._idle.notify_all()

    # -- requests -------------------------------------------------------------------------------------------------

    def may(self, authorization: str) -> bool:
        """Whether the request came from the run."""
        return hmac.compare_digest(authorization.encode(), ("Bearer %s" % self._token).encode())

    def answer(self, method: str, path: str, words: Dict[str, Any], agent: str) -> Tuple[int, Any]:
        """(status, what is answered) of a call; `path` begins behind ``mlflow/``."""
        from mlstudio.probe.mlflow_words import Refused

        with self._idle:
            self._busy += 1
        try:
            with self._lock:
                calls = self._ready(agent)
                try:
                    return 200, calls.answer(method, path, words)
                except Refused as error:
                    return _STATUS.get(error.code, 400), _error(error.code, error.message)
                except ValueError as error:
                    return 400, _error("INVALID_PARAMETER_VALUE", str(error))
        except Exception as error:  # noqa: BLE001 — a defect of ours is the caller's "internal error"
            return 500, _error("INTERNAL_ERROR", "%s: %s" % (type(error).__name__, error))
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _ready(self, agent: str) -> Any:
        if self._calls is None:
            from mlstudio.probe.mlflow_rest import Calls
            from mlstudio.probe.mlflow_store import Store

            self._calls = Calls(Store(self.intake, os.path.join(self.root, "run", "mlflow")))
        if not self._has_folder:
            folder = self._calls.store.folder
            try:
                # The script, which runs as somebody else, writes its artifacts there itself.
                os.makedirs(folder, exist_ok=True)
                os.chmod(folder, 0o1777)
                self._has_folder = True
            except OSError:
                pass  # A full disk, say: that concerns artifacts alone, and may pass.
        if not self._was_told:
            self._was_told = True
            version = agent.rpartition("/")[2][:50] if agent.startswith("mlflow") else ""
            self.intake.event(
                {
                    "type": "logger",
                    "logger": "mlflow",
                    "what": "127.0.0.1",
                    "how": "MLflow's client%s" % (" %s" % version if version else ""),
                    "version": version,
                }
            )
        return self._calls


def parse_body(data: bytes) -> Dict[str, Any]:
    """The words of a request. Raises ValueError."""
    if not data:
        return {}
    found = json.loads(data.decode("utf-8"), parse_int=_whole)
    if not isinstance(found, dict):
        raise ValueError("The body is no JSON object.")
    return found


def parse_query(query: str) -> Dict[str, Any]:
    """Words of an address; those that come several times are lists."""
    from urllib.parse import parse_qs

    found: Dict[str, Any] = {}
    for name, values in parse_qs(query, keep_blank_values=True, max_num_fields=1000).items():
        plain: List[str] = values
        found[name] = plain if len(plain) > 1 or name in ("run_ids", "order_by", "trace_ids") else plain[0]
    return found


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        # Older Pythons would be at it for minutes.
        raise ValueError("A number has too many digits.")
    return int(digits)


def _error(code: str, message: str) -> Dict[str, str]:
    return {"error_code": code, "message": message[:2000]}


def _shut(connection: socket.socket) -> None:
    """Wake the thread that reads from it, which closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
