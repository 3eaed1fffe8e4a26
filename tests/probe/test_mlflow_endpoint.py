"""The MLflow endpoint of a run, over real HTTP: what is logged arrives once and can be read back; nothing stops it."""

from __future__ import annotations

import gzip
import http.client
import json
import math
import os
import re
import socket
import statistics
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstudio.probe import mlflow_endpoint, mlflow_http, mlflow_rest, mlflow_search, mlflow_store
from mlstudio.probe.config import ProbeConfig
from mlstudio.probe.intake import Intake
from mlstudio.probe.mlflow_endpoint import MAX_BODY, MAX_CONNECTIONS, MlflowEndpoint
from mlstudio.probe.mlflow_rest import Calls
from tests.conftest import wait_until
from tests.probe.runs import Bench

RECORDED = Path(__file__).parents[1] / "recorded" / "loggers" / "mlflow3-calls.json.gz"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8ffff3f0005fe02fe"
    "a735e2850000000049454e44ae426082"
)


class Client:
    """Speaks as MLflow's client does, over one connection."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.address = ("127.0.0.1", int(environment["MLFLOW_TRACKING_URI"].rpartition(":")[2]))
        self.token = environment["MLFLOW_TRACKING_TOKEN"]
        self.connection = http.client.HTTPConnection(*self.address, timeout=20)

    def send(
        self, method: str, path: str, body: bytes | None = None, *, authorization: str | None = None
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}" if authorization is None else authorization}
        headers = {name: value for name, value in headers.items() if value}
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def call(self, method: str, path: str, words: Any = None, **query: Any) -> tuple[int, Any]:
        where = f"/api/2.0/mlflow/{path}" + (f"?{urllib.parse.urlencode(query, doseq=True)}" if query else "")
        status, data = self.send(method, where, None if words is None else json.dumps(words).encode())
        return status, json.loads(data)

    def ok(self, method: str, path: str, words: Any = None, **query: Any) -> Any:
        status, answer = self.call(method, path, words, **query)
        assert status == 200, (method, path, answer)
        return answer

    def refused(self, method: str, path: str, words: Any = None, **query: Any) -> str:
        status, answer = self.call(method, path, words, **query)
        assert 400 <= status < 500
        assert answer["message"]
        return str(answer["error_code"])

    def new_run(self, name: str = "first", **words: Any) -> str:
        answer = self.ok("POST", "runs/create", {"experiment_id": "0", "run_name": name, **words})
        return str(answer["run"]["info"]["run_id"])

    def raw(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)


class World:
    """An endpoint, what arrives in its intake, and a client."""

    def __init__(self, root: Path, environment: dict[str, str] | None = None) -> None:
        self.root = root
        (root / "run").mkdir(parents=True, exist_ok=True)
        self.intake = Intake()
        self.endpoint = MlflowEndpoint(ProbeConfig(run_id="r", command=["true"]), self.intake, str(root))
        self.environment = dict(environment or {})
        self.endpoint.prepare(self.environment)
        self.events: list[dict[str, Any]] = []
        self.points: dict[str, list[tuple[int, float, float]]] = {}
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.environment))
        return self.clients[-1]

    def take(self) -> None:
        points, events = self.intake.take()
        self.events += events
        for (logger, name), series in points.items():
            assert logger == "mlflow"
            rows = zip(series.steps, series.times, series.values, strict=True)
            self.points.setdefault(name, []).extend(rows)

    def said(self, kind: str) -> list[Any]:
        """What the events of one kind say."""
        self.take()
        shown = {"param": ("name", "value"), "tag": ("tag",), "note": ("text",), "artifact": ("path",)}
        found = [event for event in self.events if event["type"] == kind]
        if kind not in shown:
            return found
        rows = [tuple(event[name] for name in shown[kind]) for event in found]
        return [row[0] if len(row) == 1 else row for row in rows]

    def series(self, name: str) -> list[tuple[int, float]]:
        self.take()
        return [(step, value) for step, _, value in self.points.get(name, [])]

    def close(self) -> None:
        for client in self.clients:
            client.connection.close()
        self.intake.close()
        self.endpoint.finish(time.monotonic() + 5)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "root")
    yield made
    made.close()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


# ── the door ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer x", "bearer {}", "Basic {}", "{}", "Bearer {}x"]
)
@pytest.mark.parametrize(
    "path",
    ["/version", "/api/2.0/mlflow/runs/create", "/v1/traces", "/elsewhere", "/api/2.0/mlflow/runs/search"],
)
def test_nobody_enters_without_the_token(world: World, client: Client, authorization: str, path: str) -> None:
    body = json.dumps({"experiment_id": "0"}).encode()
    status, answer = client.send("POST", path, body, authorization=authorization.format(client.token))
    assert status == 401
    assert json.loads(answer)["error_code"] == "UNAUTHENTICATED"
    assert client.token.encode() not in answer
    assert world.said("logger") == []
    assert client.send("GET", "/health", authorization="") == (200, b"OK")


def test_a_body_without_the_token_is_not_read(client: Client) -> None:
    with client.raw() as stranger:
        stranger.sendall(b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n")
        # Nothing of it has been sent yet.
        assert stranger.recv(100).startswith(b"HTTP/1.1 401 ")


def test_every_run_has_a_token_of_its_own(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name) for name in "ab"]
    one, other = (world.client() for world in worlds)
    assert one.token != other.token
    assert len(one.token) >= 32
    assert one.send("GET", "/version")[0] == 200
    assert one.send("GET", "/version", authorization=f"Bearer {other.token}")[0] == 401
    for world in worlds:
        world.close()


def test_the_users_own_server_is_left_alone(tmp_path: Path) -> None:
    said = {"MLFLOW_TRACKING_URI": "https://mlflow.example", "MLFLOW_TRACKING_TOKEN": "theirs"}
    world = World(tmp_path, said)
    assert world.environment == said
    world.close()


def test_a_proxy_is_not_asked(tmp_path: Path) -> None:
    said = {"https_proxy": "x", "HTTP_PROXY": "http://proxy.example", "NO_PROXY": "a.example"}
    world = World(tmp_path, {**said, "MLFLOW_TRACKING_USERNAME": "me"})
    assert world.environment["NO_PROXY"] == "a.example,127.0.0.1"
    assert world.environment["no_proxy"] == "127.0.0.1"
    # A client that knows a name takes it in place of the token.
    assert "MLFLOW_TRACKING_USERNAME" not in world.environment
    world.close()


def test_it_says_once_who_speaks(world: World) -> None:
    for _ in range(3):
        connection = world.client()
        headers = {"Authorization": f"Bearer {connection.token}", "User-Agent": "mlflow-python-client/3.17.2"}
        connection.connection.request("POST", "/api/2.0/mlflow/experiments/search", b"{}", headers)
        assert connection.connection.getresponse().read()
    (event,) = world.said("logger")
    assert (event["logger"], event["version"]) == ("mlflow", "3.17.2")


# ── experiments and runs ───────────────────────────────────────────────────────────────────────────────────────────


def test_experiments(client: Client) -> None:
    assert client.ok("GET", "experiments/get", experiment_id="0")["experiment"]["name"] == "Default"
    words = {"name": "digits", "tags": [{"key": "for", "value": "tests"}]}
    key = client.ok("POST", "experiments/create", words)["experiment_id"]
    assert client.refused("POST", "experiments/create", words) == "RESOURCE_ALREADY_EXISTS"
    assert client.refused("POST", "experiments/create", {}) == "INVALID_PARAMETER_VALUE"
    client.ok("POST", "experiments/update", {"experiment_id": key, "new_name": "numbers"})
    taken = {"experiment_id": key, "new_name": "Default"}
    assert client.refused("POST", "experiments/update", taken) == "RESOURCE_ALREADY_EXISTS"
    client.ok("POST", "experiments/set-experiment-tag", {"experiment_id": key, "key": "more", "value": "x"})
    found = client.ok("GET", "experiments/get-by-name", experiment_name="numbers")["experiment"]
    assert (found["experiment_id"], found["lifecycle_stage"]) == (key, "active")
    assert found["tags"] == [{"key": "for", "value": "tests"}, {"key": "more", "value": "x"}]
    client.ok("POST", "experiments/delete", {"experiment_id": key})

    def names(**words: Any) -> list[str]:
        return [one["name"] for one in client.ok("POST", "experiments/search", words)["experiments"]]

    assert names() == ["Default"]
    assert names(view_type="DELETED_ONLY") == ["numbers"]
    client.ok("POST", "experiments/restore", {"experiment_id": key})
    assert names(filter="tags.`for` = 'tests' AND name LIKE 'num%'") == ["numbers"]
    assert names(order_by=["name DESC"]) == ["numbers", "Default"]
    # What has no order changes none.
    assert names(order_by=["tags DESC", "name"]) == ["Default", "numbers"]
    page = client.ok("POST", "experiments/search", {"max_results": 1, "order_by": ["name"]})
    more = {"max_results": 1, "order_by": ["name"], "page_token": page["next_page_token"]}
    rest = client.ok("POST", "experiments/search", more)
    assert [page["experiments"][0]["name"], rest["experiments"][0]["name"]] == ["Default", "numbers"]
    assert "next_page_token" not in rest
    # Whoever is sent back to the first page may ask for ever.
    wrong = {"max_results": 1, "page_token": "eyJvZmZzZXQiOiAzfQ=="}
    assert client.refused("POST", "experiments/search", wrong) == "INVALID_PARAMETER_VALUE"
    assert client.refused("GET", "experiments/get", experiment_id="77") == "RESOURCE_DOES_NOT_EXIST"
    assert client.refused("GET", "experiments/get-by-name", experiment_name="?") == "RESOURCE_DOES_NOT_EXIST"


def test_a_run_from_its_beginning_to_its_end(world: World, client: Client) -> None:
    tags = [{"key": "team", "value": "vision"}, {"key": "mlflow.note.content", "value": "a *note*"}]
    key = client.new_run(tags=tags, start_time=1_700_000_000_000)
    client.ok("POST", "runs/log-parameter", {"run_id": key, "key": "lr", "value": "0.1"})
    client.ok("POST", "runs/log-parameter", {"run_id": key, "key": "lr", "value": "0.1"})
    other = {"run_id": key, "key": "lr", "value": "0.2"}
    assert client.refused("POST", "runs/log-parameter", other) == "INVALID_PARAMETER_VALUE"
    client.ok("POST", "runs/set-tag", {"run_id": key, "key": "stage", "value": "dev"})
    client.ok("POST", "runs/set-tag", {"run_id": key, "key": "gone", "value": ""})
    client.ok("POST", "runs/delete-tag", {"run_id": key, "key": "gone"})
    assert (
        client.refused("POST", "runs/delete-tag", {"run_id": key, "key": "gone"}) == "RESOURCE_DOES_NOT_EXIST"
    )
    end = {"run_id": key, "status": "FINISHED", "end_time": 1_700_000_050_000, "run_name": "done"}
    client.ok("POST", "runs/update", end)
    run = client.ok("GET", "runs/get", run_id=key)["run"]
    info = {
        name: run["info"][name]
        for name in ("run_name", "status", "start_time", "end_time", "lifecycle_stage")
    }
    assert list(info.values()) == ["done", "FINISHED", 1_700_000_000_000, 1_700_000_050_000, "active"]
    assert run["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert {tag["key"]: tag["value"] for tag in run["data"]["tags"]} == {
        "team": "vision", "stage": "dev", "mlflow.note.content": "a *note*", "mlflow.runName": "done",
    }  # fmt: skip
    assert world.said("param") == [("lr", "0.1")]
    assert world.said("tag") == ["team=vision", "stage=dev", "gone"]
    assert world.said("note") == ["a *note*"]
    client.ok("POST", "runs/delete", {"run_id": key})
    late = {"run_id": key, "key": "loss", "value": 1}
    assert client.refused("POST", "runs/log-metric", late) == "INVALID_PARAMETER_VALUE"
    client.ok("POST", "runs/restore", {"run_id": key})
    client.ok("POST", "runs/log-metric", late)
    assert client.refused("GET", "runs/get", run_id="0" * 32) == "RESOURCE_DOES_NOT_EXIST"
    assert client.refused("GET", "runs/get") == "INVALID_PARAMETER_VALUE"


def test_names_of_further_runs_begin_with_the_runs(world: World, client: Client) -> None:
    for name in ("outer", "fold 1", "fold 1", "two\nlines"):
        key = client.new_run(name)
        client.ok("POST", "runs/log-metric", {"run_id": key, "key": "loss", "value": 1})
        client.ok("POST", "runs/log-parameter", {"run_id": key, "key": "lr", "value": "1"})
        client.ok("POST", "runs/set-tag", {"run_id": key, "key": name, "value": ""})
    world.take()
    shown = sorted(re.sub("[0-9a-f]{8}", "ID", name) for name in world.points)
    assert shown == ["fold 1 ID/loss", "fold 1/loss", "loss", "two lines/loss"]
    assert [re.sub("[0-9a-f]{8}", "ID", name) for name, _ in world.said("param")] == [
        "lr", "fold 1/lr", "fold 1 ID/lr", "two lines/lr",
    ]  # fmt: skip
    # Tags are the whole run's: those of parts would say what does not hold for the others.
    assert world.said("tag") == ["outer"]


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_metrics_arrive_and_are_read_back(world: World, client: Client) -> None:
    key = client.new_run()
    values: list[Any] = [0.1, 2, "NaN", "Infinity", "-Infinity", 1e-300, "0.25"]
    for step, value in enumerate(values):
        words = {
            "run_id": key,
            "key": "odd one",
            "value": value,
            "step": str(step),
            "timestamp": 1_700_000_000_000 + step,
        }
        client.ok("POST", "runs/log-metric", words)
    # Protocol buffers leave out what is zero.
    client.ok("POST", "runs/log-metric", {"run_id": key, "key": "zero"})
    world.take()
    assert [step for step, _, _ in world.points["odd one"]] == list(range(7))
    assert [moment for _, moment, _ in world.points["odd one"]] == [
        1_700_000_000 + step / 1000 for step in range(7)
    ]
    numbers = [value for _, value in world.series("odd one")]
    assert numbers[:2] == [0.1, 2]
    assert math.isnan(numbers[2])
    assert numbers[3:] == [math.inf, -math.inf, 1e-300, 0.25]
    assert world.series("zero") == [(0, 0.0)]
    found = client.ok("GET", "metrics/get-history", run_id=key, metric_key="odd one")["metrics"]
    assert [point["value"] for point in found] == [0.1, 2, "NaN", "Infinity", "-Infinity", 1e-300, 0.25]
    data = client.ok("GET", "runs/get", run_id=key)["run"]["data"]["metrics"]
    assert {metric["key"]: (metric["step"], metric["value"]) for metric in data} == {
        "odd one": (6, 0.25),
        "zero": (0, 0),
    }
    assert client.ok("GET", "metrics/get-history", run_id=key, metric_key="nothing") == {"metrics": []}


def test_a_batch_that_comes_twice_is_taken_once(world: World, client: Client) -> None:
    key = client.new_run()
    batch = {
        "run_id": key,
        "metrics": [
            {"key": "loss", "value": 1 / (step + 1), "step": step, "timestamp": 5} for step in range(500)
        ],
        "params": [{"key": "depth", "value": "3"}],
        "tags": [{"key": "a", "value": "b"}],
    }
    for _ in range(3):
        client.ok("POST", "runs/log-batch", batch)
    assert world.series("loss") == [(step, 1 / (step + 1)) for step in range(500)]
    assert (world.said("param"), world.said("tag")) == ([("depth", "3")], ["a=b"])
    assert len(client.ok("GET", "metrics/get-history", run_id=key, metric_key="loss")["metrics"]) == 500
    # The same number at another moment is another point.
    again = {"run_id": key, "key": "loss", "value": 1.0, "step": 0, "timestamp": 6}
    client.ok("POST", "runs/log-metric", again)
    assert len(world.series("loss")) == 501


def test_of_a_batch_with_a_mistake_nothing_is_taken(world: World, client: Client) -> None:
    key = client.new_run()
    wrong: Any
    for wrong in ({"key": "b", "value": "no number"}, {"value": 1}, [], "x", {"key": "b" * 1001, "value": 1}):
        batch = {
            "run_id": key,
            "metrics": [{"key": "a", "value": 1}, wrong],
            "params": [{"key": "p", "value": "1"}],
        }
        assert client.refused("POST", "runs/log-batch", batch) == "INVALID_PARAMETER_VALUE"
    assert world.series("a") == []
    assert world.said("param") == []


def test_a_long_history_comes_in_pieces_and_is_whole(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = client.new_run()
    count = 7001
    for begin in range(0, count, 1000):
        steps = range(begin, min(count, begin + 1000))
        metrics = [{"key": "loss", "value": step, "step": step, "timestamp": step} for step in steps]
        client.ok("POST", "runs/log-batch", {"run_id": key, "metrics": metrics})
    found = client.ok("GET", "metrics/get-history", run_id=key, metric_key="loss")["metrics"]
    assert [point["value"] for point in found] == list(range(count))
    token, paged = "", []
    while True:
        words = {"max_results": 2500, **({"page_token": token} if token else {})}
        page = client.ok("GET", "metrics/get-history", run_id=key, metric_key="loss", **words)
        paged += page["metrics"]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert paged == found
    # Also for a client that does not know of pieces.
    with client.raw() as old:
        path = f"/api/2.0/mlflow/metrics/get-history?run_id={key}&metric_key=loss"
        old.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {client.token}\r\n\r\n".encode())
        data = b"".join(iter(lambda: old.recv(65536), b""))
    assert json.loads(data.partition(b"\r\n\r\n")[2])["metrics"] == found
    monkeypatch.setattr(mlflow_rest, "_MAX_BULK", 8000)
    bulk = client.ok("GET", "metrics/get-history-bulk", run_id=[key, key], metric_key="loss")["metrics"]
    assert len(bulk) == 8000


def test_what_cannot_be_read_back_any_more_is_recorded_all_the_same(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_store, "_MAX_POINTS", 10)
    monkeypatch.setattr(mlflow_store, "_MAX_ENTITIES", 3)
    key = client.new_run()
    for name in "abcde":
        for step in range(5):
            client.ok("POST", "runs/log-metric", {"run_id": key, "key": name, "value": step, "step": step})
    for name in "abcde":
        assert world.series(name) == [(step, step) for step in range(5)]
    data = client.ok("GET", "runs/get", run_id=key)["run"]["data"]["metrics"]
    assert [(metric["key"], metric["value"]) for metric in data] == [("a", 4), ("b", 4), ("c", 4)]


def test_calls_are_answered_at_once(client: Client) -> None:
    key = client.new_run()
    took = []
    for step in range(100):
        begin = time.perf_counter()
        client.ok("POST", "runs/log-metric", {"run_id": key, "key": "loss", "value": 1, "step": step})
        took.append(time.perf_counter() - begin)
    # Head and body in two parts take 40 ms: the second waits until the first was confirmed.
    assert statistics.median(took) < 0.02


def test_many_threads_lose_nothing(world: World) -> None:
    first = world.client()
    key = first.new_run()
    failures: list[BaseException] = []

    def work(number: int, client: Client) -> None:
        try:
            for step in range(50):
                client.ok(
                    "POST",
                    "runs/log-metric",
                    {"run_id": key, "key": f"m{number}", "value": step, "step": step},
                )
        except BaseException as error:  # noqa: BLE001 — shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number, world.client())) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number in range(12):
        assert world.series(f"m{number}") == [(step, step) for step in range(50)]


# ── searching ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def searched(client: Client) -> Client:
    for number, name in enumerate(("Ada", "Bob", "Cy")):
        key = client.new_run(name, start_time=1000 + number)
        client.ok(
            "POST", "runs/log-metric", {"run_id": key, "key": "val/loss", "value": [0.5, "NaN", 0.1][number]}
        )
        if number != 1:
            client.ok("POST", "runs/log-parameter", {"run_id": key, "key": "lr", "value": f"{number}.5"})
        client.ok("POST", "runs/set-tag", {"run_id": key, "key": "it's", "value": f"100%_{name}"})
    client.ok("POST", "runs/update", {"run_id": key, "status": "FAILED"})
    return client


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", "Cy Bob Ada"),
        ("metrics.`val/loss` > 0.2", "Ada"),
        ('metrics."val/loss" <= 0.5', "Cy Ada"),
        ("metrics.`val/loss` != 0.5", "Cy Bob"),
        ("params.lr = '0.5'", "Ada"),
        ("params.lr IS NULL", "Bob"),
        ("parameter.lr is not null and attributes.status = 'RUNNING'", "Ada"),
        ("tags.`it's` LIKE '100%^_Bob'", ""),
        ("tags.`it's` LIKE '100__Bob'", "Bob"),
        ("tags.`it's` ILIKE '%CY'", "Cy"),
        ("attributes.run_name IN ('Ada', 'Cy')", "Cy Ada"),
        ("attr.run_name NOT IN ('Ada', 'Cy')", "Bob"),
        ("start_time >= 1001 AND start_time < 1002", "Bob"),
        ("run_name = 'a''b'", ""),
        ("metrics.nothing > 0", ""),
    ],
)
def test_filters(searched: Client, words: str, names: str) -> None:
    found = searched.ok("POST", "runs/search", {"experiment_ids": ["0"], "filter": words})["runs"]
    assert [run["info"]["run_name"] for run in found] == names.split()


@pytest.mark.parametrize(
    ("orders", "names"),
    [
        (["metrics.`val/loss` DESC"], "Ada Cy Bob"),
        (["metrics.`val/loss`"], "Cy Ada Bob"),
        (["params.lr DESC"], "Cy Ada Bob"),
        (["attributes.status", "run_name DESC"], "Cy Bob Ada"),
        (["attributes.start_time ASC"], "Ada Bob Cy"),
    ],
)
def test_orders(searched: Client, orders: list[str], names: str) -> None:
    words = {"experiment_ids": ["0"], "order_by": orders}
    found = searched.ok("POST", "runs/search", words)["runs"]
    assert [run["info"]["run_name"] for run in found] == names.split()


@pytest.mark.parametrize(
    "words",
    [
        "metrics.loss >", "metrics.loss", "nothing.at = 'all'", "metrics.loss = 'a'", "params.lr = 1",
        "lr = 'a' or b = 'c'",
        "and", "params.lr = 'a' and", "params.lr IN ()", "params.lr IN ('a'", "params.lr = 'a", "x" * 20_001,
        "params.lr LIKE '%s'" % ("%" * 1001), " and ".join(["a = 'b'"] * 101), "metrics.loss > 1e400 > 2",
    ],
)  # fmt: skip
def test_filters_that_are_none(client: Client, words: str) -> None:
    assert (
        client.refused("POST", "runs/search", {"experiment_ids": ["0"], "filter": words})
        == "INVALID_PARAMETER_VALUE"
    )


WORDS = st.sampled_from(
    [
        "metrics.", "params.lr", "tags.`a`", "=", "'x'", "1.5", "AND", "IN", "(", ")", ",", "LIKE", "'%_'", "IS", "NULL",
        "NOT", "`", '"', "'", "\\",
    ]
)  # fmt: skip


@given(st.lists(WORDS | st.text(max_size=5), max_size=12).map(" ".join))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    run = mlflow_store.Run({"run_id": "a", "start_time": 1}, "")
    run.tags["a"] = "x"
    try:
        clauses = mlflow_search.parse_filter(text)
    except mlflow_search.BadFilter:
        return
    assert mlflow_search.holds(clauses, run.look) in (True, False)


@given(st.text("ab%_", max_size=12), st.text("ab", max_size=12))
def test_patterns_fit_as_in_sql(pattern: str, text: str) -> None:
    plain = re.compile(pattern.replace("%", ".*").replace("_", "."), re.DOTALL)
    assert mlflow_search.like(text, pattern, ignores_case=False) is (plain.fullmatch(text) is not None)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_artifacts_are_told_and_pictures_shown(world: World, client: Client, tmp_path: Path) -> None:
    key = client.new_run()
    uri = client.ok("GET", "runs/get", run_id=key)["run"]["info"]["artifact_uri"]
    folder = Path(urllib.parse.unquote(uri.removeprefix("file://")))
    assert folder == world.root / "run" / "mlflow" / "0" / key / "artifacts"
    # The client, which may be somebody else, makes folders there itself.
    assert (world.root / "run" / "mlflow").stat().st_mode & 0o7777 == 0o1777
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "curve.png").write_bytes(PNG)
    (folder / "no picture.png").write_bytes(b"text")
    (folder / "model.bin").write_bytes(b"x" * 1000)
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    (folder / "link.png").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    for _ in range(2):
        client.ok("POST", "runs/update", {"run_id": key, "status": "FINISHED"})
    assert sorted(world.said("artifact")) == sorted(
        str(folder / name) for name in ("plots/curve.png", "no picture.png", "model.bin")
    )
    (medium,) = world.said("media")
    assert (medium["name"], medium["kind"], medium["mime"]) == ("plots/curve.png", "image", "image/png")
    # What came after the end is found when everything ends.
    (folder / "late.txt").write_text("late")
    world.endpoint.finish(time.monotonic() + 5)
    assert world.said("artifact")[-1] == str(folder / "late.txt")


def test_folders_elsewhere_are_not_looked_at(world: World, client: Client, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("x")
    for number, place in enumerate(
        (f"file://{tmp_path}", "../..", "file:///etc", "s3://x/../y", "\x00", "/")
    ):
        words = {"name": f"e{number}", "artifact_location": place}
        experiment = client.ok("POST", "experiments/create", words)["experiment_id"]
        key = client.new_run(experiment_id=experiment)
        client.ok("POST", "runs/update", {"run_id": key, "status": "FINISHED"})
        assert client.ok("GET", "artifacts/list", {"run_id": key, "path": "../../.."})["files"] == []
    world.endpoint.finish(time.monotonic() + 5)
    assert world.said("artifact") == []


def test_without_room_for_files_numbers_still_come(tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    blocked = world.root / "run" / "mlflow"
    blocked.write_text("in the way")
    client = world.client()
    key = client.new_run()
    client.ok("POST", "runs/log-metric", {"run_id": key, "key": "loss", "value": 1})
    client.ok("POST", "runs/update", {"run_id": key, "status": "FINISHED"})
    assert world.series("loss") == [(0, 1)]
    blocked.unlink()
    client.ok("POST", "runs/update", {"run_id": key, "status": "FINISHED"})
    assert blocked.is_dir()
    world.close()


# ── hostile ────────────────────────────────────────────────────────────────────────────────────────────────────────


def alive(world: World) -> bool:
    """Whether somebody who comes now is served."""
    return world.client().send("GET", "/version")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"7", b"null", b'"x"', b"\xff\xfe", b"\x00", b"\xef\xbb\xbf{}", b'{"a": "\\ud800"',
        b"[" * 100_000, b'{"a":' * 100_000, b'{"name": ' + b"9" * 100_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json(world: World, client: Client, body: bytes) -> None:
    for path in ("runs/create", "runs/log-batch", "experiments/create"):
        status, answer = client.send("POST", f"/api/2.0/mlflow/{path}", body)
        assert status == 400
        assert json.loads(answer)["error_code"] == "BAD_REQUEST"
    assert alive(world)


ODD: list[Any] = [
    None,
    True,
    -1,
    1e308,
    2**70,
    "",
    "x",
    "\ud800",
    "\x00\n",
    [],
    [None],
    [[]],
    ["x"],
    {},
    {"key": {}},
    [{"key": []}],
    [{}],
]


def _calls() -> list[str]:
    return sorted(Calls(mlflow_store.Store(Intake(), "/nowhere"))._table)


@pytest.mark.parametrize(
    "call", [*_calls(), "PATCH logged-models/x", "POST logged-models/x/tags", "GET traces/x", "PUT y"]
)
def test_wrong_types_are_refused(world: World, client: Client, call: str) -> None:
    method, _, path = call.partition(" ")
    run = client.new_run()
    client.ok("POST", "registered-models/create", {"name": "m"})
    client.ok("POST", "model-versions/create", {"name": "m", "source": "x"})
    names = [
        "experiment_id", "experiment_ids", "name", "new_name", "key", "value", "step", "timestamp", "metrics",
        "params", "tags", "filter", "order_by", "max_results", "page_token", "run_view_type", "view_type",
        "datasets", "models", "metric_key", "run_ids", "status", "end_time", "start_time", "description", "alias",
        "version", "stage", "trace", "trace_ids", "experiment_name", "artifact_location", "run_name", "user_id",
        "source", "model_id",
    ]  # fmt: skip
    for odd in ODD:
        said: dict[str, Any]
        for said in (
            {"run_id": odd},
            {"run_id": run},
            {"run_id": run, "name": "m", "version": "1", "experiment_id": "0"},
        ):
            words = dict.fromkeys(names, odd) | said
            status, answer = client.call(method, path, words)
            assert status in (200, 400, 404), answer
    world.take()
    json.dumps(world.events)
    assert alive(world)


def test_datasets_that_are_none(client: Client) -> None:
    key = client.new_run()
    for odd in ([5], [{"dataset": 5}], [{"dataset": {}, "tags": 5}], 7):
        words = {"run_id": key, "datasets": odd}
        assert client.refused("POST", "runs/log-inputs", words) == "INVALID_PARAMETER_VALUE"
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    client.ok(
        "POST", "runs/log-inputs", {"run_id": key, "datasets": [{"dataset": {"name": "d", "profile": deep}}]}
    )
    assert client.ok("GET", "runs/get", run_id=key)["run"]["inputs"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Content-Length: 8388609", 413), ("Content-Length: 99999999999", 413), ("Content-Length: -1", 400),
        ("Content-Length: 1e3", 400), ("Content-Length: \xb2", 400), ("Content-Length: 99999999999999999999999", 400),
        ("Transfer-Encoding: chunked", 411),
    ],
)  # fmt: skip
def test_bodies_that_are_too_large_or_say_nothing(
    world: World, client: Client, head: str, status: int
) -> None:
    assert MAX_BODY == 8388608
    with client.raw() as one:
        start = f"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nAuthorization: Bearer {client.token}\r\n{head}\r\n\r\n"
        one.sendall(start.encode("latin-1"))
        assert one.recv(100).startswith(f"HTTP/1.1 {status} ".encode())
    assert alive(world)


def test_a_body_that_is_refused_is_answered_although_it_was_sent(client: Client) -> None:
    # http.client sends all of it before it reads.
    status, answer = client.send("POST", "/api/2.0/mlflow/runs/create", b" " * (MAX_BODY + 20_000_000))
    assert (status, json.loads(answer)["error_code"]) == (413, "BAD_REQUEST")
    client.connection.close()
    status, _ = client.send(
        "POST", "/api/2.0/mlflow/runs/create", b" " * 20_000_000, authorization="Bearer x"
    )
    assert status == 401


@pytest.mark.parametrize(
    "line",
    [
        "GET //[ HTTP/1.1", "GET http://[x/ HTTP/1.1", "GET /%00%ff/../../etc/passwd HTTP/1.1", "BREW /pot HTTP/1.1",
        "GET /api/2.0/mlflow/../../x HTTP/1.1", "GET /api/2.0/mlflow/ HTTP/1.1", "GET / HTTP/9.9", "GET", "\x16\x03\x01",
        f"GET /{'x' * 70_000} HTTP/1.1", f"GET /api/2.0/mlflow/runs/search?{'a&' * 2000} HTTP/1.1", "HEAD / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
    ],
)  # fmt: skip
def test_requests_that_are_none(world: World, client: Client, line: str) -> None:
    with client.raw() as one:
        one.sendall(f"{line}\r\nAuthorization: Bearer {client.token}\r\n\r\n".encode("latin-1"))
        one.shutdown(socket.SHUT_WR)
        try:
            answer = b"".join(iter(lambda: one.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or re.search(rb"(HTTP/1.1 |Error code: )[45]\d\d", answer), answer[:200]
    assert b"root:" not in answer
    assert alive(world)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes(world: World, data: bytes) -> None:
    first = world.client()
    with first.raw() as one:
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        try:
            while one.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert first.send("GET", "/version")[0] == 200
    first.connection.close()


def test_texts_have_room_up_to_a_limit(world: World, client: Client) -> None:
    key = client.new_run()
    large = "x" * 7_000_000
    codes = []
    for number in range(12):
        status, answer = client.call(
            "POST", "runs/set-tag", {"run_id": key, "key": f"t{number}", "value": large}
        )
        codes.append(answer.get("error_code", status))
    assert codes == [200] * 9 + ["RESOURCE_EXHAUSTED"] * 3
    # A text in place of another takes no more room, and what is full refuses no numbers.
    for _ in range(3):
        client.ok("POST", "runs/set-tag", {"run_id": key, "key": "t1", "value": large})
    client.ok("POST", "runs/log-metric", {"run_id": key, "key": "loss", "value": 1})
    assert world.series("loss") == [(0, 1)]


def test_large_requests_wait_for_each_other(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_endpoint, "MAX_BODIES", 1_000_000)
    key = client.new_run()
    head = f"POST /api/2.0/mlflow/runs/set-tag HTTP/1.1\r\nAuthorization: Bearer {client.token}\r\n"
    bodies = [
        json.dumps({"run_id": key, "key": f"t{number}", "value": "x" * 700_000}).encode()
        for number in range(2)
    ]
    with client.raw() as slow, client.raw() as other:
        for one, body in zip((slow, other), bodies, strict=True):
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
            assert wait_until(lambda: world.endpoint._bodies > 0)
        # Small ones do not wait.
        assert alive(world)
        assert world.endpoint._bodies == len(bodies[0])
        for one, body in zip((slow, other), bodies, strict=True):
            one.sendall(body[len(body) // 2 :])
            assert one.recv(100).startswith(b"HTTP/1.1 200 ")
    assert wait_until(lambda: world.endpoint._bodies == 0)


def test_many_connections_shut_nobody_out(world: World, client: Client) -> None:
    key = client.new_run()
    silent = [client.raw() for _ in range(3 * MAX_CONNECTIONS)]
    try:
        # Half a request each.
        for one in silent[-20:]:
            one.sendall(b"POST /api/2.0/mlflow/runs/cre")
        client.ok("POST", "runs/log-metric", {"run_id": key, "key": "loss", "value": 1})
        assert len(world.endpoint._connections) <= MAX_CONNECTIONS
    finally:
        for one in silent:
            one.close()
    # As many processes of one training, each of which keeps its connection.
    workers = [world.client() for _ in range(2 * MAX_CONNECTIONS)]
    for number, worker in enumerate(workers):
        worker.ok("POST", "runs/log-metric", {"run_id": key, "key": "many", "value": number, "step": number})
    assert len(world.series("many")) == len(workers)
    assert len(world.endpoint._connections) <= MAX_CONNECTIONS


def test_a_slow_client_holds_nobody_up(world: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_http, "_LINGER_S", 0.5)
    key = client.new_run()
    with client.raw() as slow, client.raw() as slower:
        head = f"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nAuthorization: Bearer {client.token}\r\n"
        slow.sendall(f"{head}Content-Length: 100\r\n\r\n".encode() + b'{"run_id"')
        slower.sendall(head.encode())
        client.ok("POST", "runs/log-metric", {"run_id": key, "key": "loss", "value": 1})
        # Nor does it hold up the end.
        begin = time.monotonic()
        world.endpoint.finish(begin + 5)
        assert time.monotonic() - begin < 2
        assert slow.recv(100) == b""
    assert world.series("loss") == [(0, 1)]


def test_when_no_thread_can_begin_it_goes_on_later(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    failures = [RuntimeError("can't start new thread")] * 2

    def sometimes(thread: threading.Thread) -> None:
        if failures and thread.name == "mlflow":
            raise failures.pop()
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", sometimes)
        for _ in range(2):
            with client.raw() as one:
                assert one.recv(1) == b""
        assert client.send("GET", "/version")[0] == 200
    assert not failures


def test_a_full_intake_costs_time_and_not_memory(tmp_path: Path) -> None:
    world = World(tmp_path / "root")
    world.intake._limit = 100_000
    client = world.client()
    key = client.new_run()
    done = threading.Event()

    def log() -> None:
        for number in range(100):
            client.ok(
                "POST", "runs/log-parameter", {"run_id": key, "key": f"p{number}", "value": "é" * 10_000}
            )
        done.set()

    thread = threading.Thread(target=log)
    thread.start()
    assert wait_until(lambda: world.intake.is_full)
    assert not done.is_set()
    most = 0
    while not done.is_set():
        _, events = world.intake.take()
        world.events += events
        # As long as they will be in a frame, where a letter may take six bytes.
        most = max(most, len(json.dumps(events)))
    thread.join()
    assert most < 300_000
    assert len(world.said("param")) == 100
    world.close()


# ── beside MLflow ──────────────────────────────────────────────────────────────────────────────────────────────────


LEARNED = frozenset(
    (
        "run_id", "run_uuid", "run_name", "experiment_id", "model_id", "source_run_id", "artifact_uri",
        "artifact_location", "next_page_token",
    )
)  # fmt: skip
OTHERWISE = frozenset(
    (
        "message", "error_class", "sqlstate", "workspace", "creation_time", "last_update_time", "creation_timestamp",
        "last_updated_timestamp", "creation_timestamp_ms", "last_updated_timestamp_ms", "root_uri", "user_id", "trace",
        "traces", "trace_info",
    )
)  # fmt: skip
"""What differs for good reason: moments, places, words; traces are not kept."""


class Replay:
    """Compares answers, and learns by which names we call what the recorded server called otherwise."""

    def __init__(self) -> None:
        self.ours: dict[str, str] = {}
        self.differences: list[str] = []

    def translated(self, text: str) -> str:
        for theirs in sorted(self.ours, key=len, reverse=True):
            text = text.replace(theirs, self.ours[theirs])
        return text

    def compare(self, where: str, theirs: Any, ours: Any, name: str = "") -> None:
        if name in OTHERWISE:
            return
        if isinstance(theirs, dict) and isinstance(ours, dict):
            # A run's name is also a tag: learned first.
            for key, value in sorted(theirs.items(), key=lambda item: item[0] != "info"):
                if key in ours:
                    self.compare(f"{where}.{key}", value, ours[key], key)
                elif value not in ("", [], {}) and key not in OTHERWISE:
                    self.differences.append(f"{where}.{key} is missing")
        elif isinstance(theirs, list) and isinstance(ours, list):
            one, other = self._sorted(theirs), sorted(ours, key=self._order)
            if len(one) != len(other):
                self.differences.append(f"{where}: {theirs!r:.600} and not {ours!r:.600}")
            for left, right in zip(one, other, strict=False):
                self.compare(f"{where}[]", left, right, name)
        elif name in LEARNED and isinstance(theirs, str) and len(theirs) > 5:
            if self.ours.setdefault(theirs, ours) != ours:
                self.differences.append(f"{where}: {theirs!r} is called {self.ours[theirs]!r} and {ours!r}")
        elif isinstance(theirs, str) and isinstance(ours, str):
            left, right = self.translated(theirs), ours
            if left != right and not (left.startswith("{") and json.loads(left) == json.loads(right)):
                self.differences.append(f"{where}: {left!r} and not {right!r}")
        # MLflow's own database has no infinities: it keeps the largest number.
        elif theirs != {"Infinity": sys.float_info.max, "-Infinity": -sys.float_info.max}.get(ours, ours):
            self.differences.append(f"{where}: {theirs!r} and not {ours!r}")

    def _sorted(self, found: list[Any]) -> list[Any]:
        return sorted(found, key=lambda one: self._order(json.loads(self.translated(json.dumps(one)))))

    @staticmethod
    def _order(one: Any) -> str:
        """Tags and parameters come in any order; runs and versions have a number or a name to go by."""
        if isinstance(one, dict):
            info = one.get("info", one)
            names = ("key", "run_id", "name", "version", "step", "timestamp", "model_id", "alias", "value")
            known = [str(info.get(name, "")) for name in names]
            return repr(known)
        return repr(one)


def test_what_a_real_client_said_is_answered_as_by_mlflow(client: Client) -> None:
    """204 calls of MLflow 3.17.2's client, recorded beside MLflow's own server (`record_mlflow_calls.py`)."""
    replay = Replay()
    calls = json.loads(gzip.decompress(RECORDED.read_bytes()))["calls"]
    assert len(calls) > 200
    for number, call in enumerate(calls):
        where = f"{number} {call['method']} {call['path'].partition('?')[0]}"
        path = replay.translated(call["path"])
        body = None if call["body"] is None else replay.translated(json.dumps(call["body"])).encode()
        status, data = client.send(call["method"], path, body)
        if call["path"] == "/version":
            continue
        answer = json.loads(data)
        if status != call["status"]:
            replay.differences.append(f"{where}: {call['status']} and not {status}: {answer}")
            continue
        if status != 200:
            assert answer["error_code"] == call["answer"]["error_code"], where
        elif call["answer"]:
            replay.compare(where, call["answer"], answer)
    assert replay.differences == [], "\n".join(replay.differences)


def test_a_run_that_speaks_to_it(bench: Bench) -> None:
    outcome = bench.script(
        """
import json, os, urllib.request
def call(path, words):
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path, json.dumps(words).encode(),
        {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "User-Agent": "mlflow-python-client/9.9"},
    )
    return json.load(urllib.request.urlopen(request))
run = call("runs/create", {"run_name": "first"})["run"]["info"]
folder = run["artifact_uri"][len("file://"):]
for step in range(50):
    point = {"key": "loss", "value": 1 / (step + 1), "step": step, "timestamp": step}
    call("runs/log-metric", {"run_id": run["run_id"], **point})
call("runs/log-parameter", {"run_id": run["run_id"], "key": "lr", "value": "0.1"})
os.makedirs(folder)
open(folder + "/last.txt", "w").write("x")
""",
        env={"http_proxy": "", "MLFLOW_TRACKING_URI": ""},
    )
    assert outcome.code == 0, outcome.log
    assert outcome.points("loss") == [(step, 1 / (step + 1)) for step in range(50)]
    (event,) = outcome.events("logger")
    assert (event["logger"], event["version"]) == ("mlflow", "9.9")
    assert [(event["name"], event["value"]) for event in outcome.events("param")] == [("lr", "0.1")]
    # Written after the last call.
    assert [Path(event["path"]).name for event in outcome.events("artifact")] == ["last.txt"]
