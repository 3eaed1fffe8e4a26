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

MAX_BODY = 32 * 1024 * 1024
MAX_CONNECTIONS = 64
_SILENCE_S = 120.0
"""A connection on which nothing comes for so long is closed; clients make a new one."""
_STATUS = {
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL_ERROR": 500,
}


class MlflowEndpoint(Collector):
    """Takes what MLflow's client sends."""

    name = "mlflow"

    def __init__(self, config: ProbeConfig, intake: Intake, root: str) -> None:
        super().__init__(config, intake, root)
        self._socket: Optional[socket.socket] = None
        self._token = ""
        self._lock = threading.Lock()
        self._connections: Dict[int, socket.socket] = {}
        self._busy = 0
        self._idle = threading.Condition()
        self._calls: Any = None
        self._was_told = False
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
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

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
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                continue
            self._connections[id(connection)] = connection
            thread = threading.Thread(
                target=self._serve, args=(connection, address), name="mlflow", daemon=True
            )
            thread.start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        try:
            from mlstudio.probe.mlflow_http import Handler

            connection.settimeout(_SILENCE_S)
            server: Any = self
            Handler(connection, address, server)
        except Exception:  # noqa: BLE001 — a connection's edge: nothing that comes over it may end a training
            pass
        finally:
            self._connections.pop(id(connection), None)
            try:
                connection.close()
            except OSError:
                pass

    # -- requests -------------------------------------------------------------------------------------------------

    def may(self, authorization: str) -> bool:
        """Whether the request came from the run."""
        return hmac.compare_digest(authorization.encode(), ("Bearer %s" % self._token).encode())

    def answer(self, method: str, path: str, words: Dict[str, Any], agent: str) -> Tuple[int, Any]:
        """(status, what is answered) of a call; `path` begins behind ``mlflow/``."""
        from mlstudio.probe.mlflow_store import Refused

        with self._idle:
            self._busy += 1
        try:
            with self._lock:
                calls = self._ready(agent)
                try:
                    return 200, calls.answer(method, path, words)
                except Refused as error:
                    return _STATUS.get(error.code, 400), {"error_code": error.code, "message": error.message}
                except ValueError as error:
                    return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": str(error)[:2000]}
        except Exception as error:  # noqa: BLE001 — a defect of ours is the caller's "internal error"
            words_ = "%s: %s" % (type(error).__name__, error)
            return 500, {"error_code": "INTERNAL_ERROR", "message": words_[:2000]}
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _ready(self, agent: str) -> Any:
        if self._calls is None:
            from mlstudio.probe.mlflow_rest import Calls
            from mlstudio.probe.mlflow_store import Store

            folder = os.path.join(self.root, "run", "mlflow")
            # The script, which runs as somebody else, writes its artifacts there itself.
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, 0o1777)
            self._calls = Calls(Store(self.intake, folder))
        if not self._was_told:
            self._was_told = True
            version = agent.rpartition("/")[2] if agent.startswith("mlflow") else ""
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
    found = json.loads(data.decode("utf-8"))
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
