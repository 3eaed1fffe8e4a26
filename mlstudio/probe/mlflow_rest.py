"""MLflow's REST calls (https://mlflow.org/docs/latest/rest-api.html), as its Python client (2 and 3) makes them."""

from __future__ import annotations

import json

from mlstudio.probe.mlflow_search import holds, ordered, parse_filter, parse_orders
from mlstudio.probe.mlflow_store import Store
from mlstudio.probe.mlflow_words import (
    Refused,
    entity_look,
    key_values,
    metric_json,
    milliseconds,
    page,
    pairs,
    plain,
    texts,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Callable, Dict, Iterator, List

    Words = Dict[str, Any]
    Call = Callable[[Words], Any]

VERSION = "3.0.0"
"""What we say we are: clients ask, to know which calls there are."""
_POINTS_A_PIECE = 2000
_MAX_BULK = 25_000
"""Points that MLflow's server, too, gives of several runs at most."""


class Calls:
    """The calls by method and path; each takes the request's words and gives the answer's."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._table: Dict[str, Call] = {
            "POST experiments/create": self._create_experiment,
            "GET experiments/get": lambda w: {"experiment": self._experiment(store.experiment(_id(w, "experiment_id")))},
            "GET experiments/get-by-name": self._experiment_by_name,
            "POST experiments/search": self._search_experiments,
            "GET experiments/search": self._search_experiments,
            "GET experiments/list": self._search_experiments,
            "POST experiments/update": self._update_experiment,
            "POST experiments/delete": lambda w: self._set_stage(w, "deleted"),
            "POST experiments/restore": lambda w: self._set_stage(w, "active"),
            "POST experiments/set-experiment-tag": self._tag_experiment,
            "POST experiments/delete-experiment-tag": self._untag_experiment,
            "POST runs/create": lambda w: {"run": store.create_run(w).as_json()},
            "GET runs/get": lambda w: {"run": store.run(_run_id(w)).as_json()},
            "POST runs/update": self._update_run,
            "POST runs/delete": lambda w: self._set_run_stage(w, "deleted"),
            "POST runs/restore": lambda w: self._set_run_stage(w, "active"),
            "POST runs/search": self._search_runs,
            "POST runs/log-metric": self._log_metric,
            "POST runs/log-batch": self._log_batch,
            "POST runs/log-parameter": self._log_parameter,
            "POST runs/set-tag": self._set_tag,
            "POST runs/delete-tag": self._delete_tag,
            "POST runs/log-inputs": self._log_inputs,
            "POST runs/log-model": lambda w: {},
            "POST runs/outputs": self._outputs,
            "GET metrics/get-history": self._history,
            "GET metrics/get-history-bulk": self._history_bulk,
            "GET metrics/get-history-bulk-interval": self._history_bulk,
            "GET artifacts/list": self._list_artifacts,
            "POST registered-models/create": self._create_registered,
            "GET registered-models/get": self._get_registered,
            "PATCH registered-models/update": self._update_registered,
            "POST registered-models/rename": self._rename_registered,
            "DELETE registered-models/delete": self._delete_registered,
            "GET registered-models/search": self._search_registered,
            "GET registered-models/list": self._search_registered,
            "POST registered-models/get-latest-versions": self._latest_versions,
            "GET registered-models/get-latest-versions": self._latest_versions,
            "POST registered-models/set-tag": lambda w: self._tag(store.registered_model(_id(w, "name")), w),
            "DELETE registered-models/delete-tag": lambda w: self._untag(store.registered_model(_id(w, "name")), w),
            "POST registered-models/alias": self._set_alias,
            "GET registered-models/alias": self._by_alias,
            "DELETE registered-models/alias": self._delete_alias,
            "POST model-versions/create": lambda w: {"model_version": self._version(store.create_version(w))},
            "GET model-versions/get": lambda w: {"model_version": self._version(_the_version(store, w))},
            "PATCH model-versions/update": self._update_version,
            "DELETE model-versions/delete": self._delete_version,
            "GET model-versions/search": self._search_versions,
            "POST model-versions/transition-stage": self._transition,
            "GET model-versions/get-download-uri": lambda w: {"artifact_uri": store.download_uri(_the_version(store, w))},
            "POST model-versions/set-tag": lambda w: self._tag(_the_version(store, w), w),
            "DELETE model-versions/delete-tag": lambda w: self._untag(_the_version(store, w), w),
            "POST logged-models": lambda w: {"model": _model(store.create_model(w))},
            "POST logged-models/search": self._search_models,
            "POST traces": self._add_trace,
            "POST traces/search": self._search_traces,
            "GET traces": lambda w: {"traces": []},
            "GET traces/batchGet": self._get_traces,
        }  # fmt: skip

    def answer(self, method: str, path: str, words: Words) -> Any:
        """The answer to a call. Raises Refused; ValueError for a filter that is none."""
        call = self._table.get("%s %s" % (method, path))
        if call is not None:
            return call(words)
        parts = path.split("/")
        if parts[0] == "logged-models" and len(parts) > 1:
            return self._one_model(method, parts[1:], words)
        if parts[0] in ("traces", "assessments", "scorers", "webhooks", "telemetry", "ui-telemetry"):
            return {}
        raise Refused("ENDPOINT_NOT_FOUND", "ML Studio's MLflow endpoint has no %s %s." % (method, path))

    # -- experiments ----------------------------------------------------------------------------------------------

    def _create_experiment(self, words: Words) -> Words:
        key = self.store.create_experiment(
            str(words.get("name") or ""),
            str(words.get("artifact_location") or ""),
            key_values(words.get("tags")),
        )
        return {"experiment_id": key}

    def _experiment(self, found: Words) -> Words:
        return {**found, "tags": pairs(found["tags"])}

    def _experiment_by_name(self, words: Words) -> Words:
        name = str(words.get("experiment_name") or "")
        for found in self.store.experiments.values():
            if found["name"] == name:
                return {"experiment": self._experiment(found)}
        raise Refused("RESOURCE_DOES_NOT_EXIST", "Could not find experiment with name '%s'" % name)

    def _search_experiments(self, words: Words) -> Words:
        found, token = self.store.search_experiments(words)
        return _paged("experiments", [self._experiment(one) for one in found], token)

    def _update_experiment(self, words: Words) -> Words:
        found = self.store.experiment(_id(words, "experiment_id"))
        new = str(words.get("new_name") or found["name"])
        if any(other["name"] == new and other is not found for other in self.store.experiments.values()):
            raise Refused("RESOURCE_ALREADY_EXISTS", "Experiment(name=%s) already exists." % new)
        self.store.keep(new)
        found["name"] = new
        found["last_update_time"] = milliseconds()
        return {}

    def _set_stage(self, words: Words, stage: str) -> Words:
        self.store.experiment(_id(words, "experiment_id"))["lifecycle_stage"] = stage
        return {}

    def _tag_experiment(self, words: Words) -> Words:
        return self._tag(self.store.experiment(_id(words, "experiment_id")), words)

    def _untag_experiment(self, words: Words) -> Words:
        return self._untag(self.store.experiment(_id(words, "experiment_id")), words)

    # -- runs -----------------------------------------------------------------------------------------------------

    def _update_run(self, words: Words) -> Words:
        run = self.store.run(_run_id(words))
        self.store.update_run(run, words)
        return {"run_info": run.info}

    def _set_run_stage(self, words: Words, stage: str) -> Words:
        self.store.run(_run_id(words)).info["lifecycle_stage"] = stage
        return {}

    def _search_runs(self, words: Words) -> Words:
        found, token = self.store.search_runs(words)
        return _paged("runs", [run.as_json() for run in found], token)

    def _log_metric(self, words: Words) -> Words:
        run = self.store.run(_run_id(words), active=True)
        self.store.log_metrics(run, [words])
        self.store.add_model_metrics(run, [words])
        return {}

    def _log_batch(self, words: Words) -> Words:
        run = self.store.run(_run_id(words), active=True)
        params, tags = key_values(words.get("params")), key_values(words.get("tags"))
        metrics = words.get("metrics") or []
        if not isinstance(metrics, list):
            raise Refused("INVALID_PARAMETER_VALUE", "Metrics are a list.")
        self.store.log_metrics(run, metrics)
        for key, value in params.items():
            self.store.set_param(run, key, value)
        self.store.add_model_metrics(run, metrics)
        for key, value in tags.items():
            self.store.set_tag(run, key, value)
        return {}

    def _log_parameter(self, words: Words) -> Words:
        run = self.store.run(_run_id(words), active=True)
        self.store.set_param(run, str(words.get("key") or ""), str(words.get("value", "")))
        return {}

    def _set_tag(self, words: Words) -> Words:
        run = self.store.run(_run_id(words), active=True)
        self.store.set_tag(run, str(words.get("key") or ""), str(words.get("value", "")))
        return {}

    def _delete_tag(self, words: Words) -> Words:
        run = self.store.run(_run_id(words), active=True)
        if run.tags.pop(str(words.get("key")), None) is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "No tag with name: %s in run" % words.get("key"))
        return {}

    def _log_inputs(self, words: Words) -> Words:
        run = self.store.run(_run_id(words), active=True)
        datasets, models = words.get("datasets") or [], words.get("models") or []
        if not isinstance(datasets, list) or not isinstance(models, list):
            raise Refused("INVALID_PARAMETER_VALUE", "Inputs are lists.")
        self.store.log_inputs(run, datasets, models)
        return {}

    def _outputs(self, words: Words) -> Words:
        run = self.store.run(_run_id(words))
        models = words.get("models") or []
        if isinstance(models, list):
            self.store.keep(models)
            run.model_outputs.extend(one for one in models if isinstance(one, dict))
        return {}

    def _history(self, words: Words) -> Any:
        run = self.store.run(_run_id(words))
        history = run.metrics.get(str(words.get("metric_key") or ""))
        if history is None:
            return {"metrics": []}
        count = len(history.times)
        most = max(0, whole(words.get("max_results"))) or count
        begin = max(0, whole(words.get("page_token")))
        end = min(count, begin + most)
        token = str(end) if end < count else ""
        # The client of MLflow 2 asks for all at once.
        if end - begin > _POINTS_A_PIECE:
            return _in_pieces(str(words["metric_key"]), history, begin, end, token)
        return _paged("metrics", _points(str(words["metric_key"]), history, begin, end), token)

    def _history_bulk(self, words: Words) -> Words:
        ids = words.get("run_id") or words.get("run_ids") or []
        found: List[Words] = []
        for key in (ids if isinstance(ids, list) else [ids])[:100]:
            history = self.store.run(str(key)).metrics.get(str(words.get("metric_key") or ""))
            if history is not None:
                end = min(_MAX_BULK - len(found), len(history.times))
                points = _points(str(words["metric_key"]), history, 0, end)
                found += [{**point, "run_id": str(key)} for point in points]
        return {"metrics": found}

    def _list_artifacts(self, words: Words) -> Words:
        run = self.store.run(_run_id(words))
        return {"root_uri": run.info["artifact_uri"], "files": []}

    # -- tags -----------------------------------------------------------------------------------------------------

    def _tag(self, entity: Words, words: Words) -> Words:
        self.store.put(entity["tags"], str(words.get("key") or ""), str(words.get("value", "")))
        return {}

    def _untag(self, entity: Words, words: Words) -> Words:
        entity["tags"].pop(str(words.get("key") or ""), None)
        return {}

    # -- registered models ----------------------------------------------------------------------------------------

    def _version(self, found: Words) -> Words:
        model = self.store.registered_model(found["name"])
        aliases = [alias for alias, number in model["aliases"].items() if number == found["version"]]
        return {**found, "tags": pairs(found["tags"]), "aliases": aliases}

    def _create_registered(self, words: Words) -> Words:
        return {"registered_model": _registered(self.store.create_registered_model(words))}

    def _get_registered(self, words: Words) -> Words:
        return {"registered_model": _registered(self.store.registered_model(_id(words, "name")))}

    def _update_registered(self, words: Words) -> Words:
        model = self.store.registered_model(_id(words, "name"))
        model["description"] = self.store.kept(str(words.get("description") or ""))
        model["last_updated_timestamp"] = milliseconds()
        return {"registered_model": _registered(model)}

    def _rename_registered(self, words: Words) -> Words:
        model = self.store.registered_model(_id(words, "name"))
        new = str(words.get("new_name") or "")
        if not new or new in self.store.registered:
            raise Refused("RESOURCE_ALREADY_EXISTS", "Registered Model (name=%s) already exists." % new)
        self.store.keep(new)
        del self.store.registered[model["name"]]
        model["name"] = new
        for version in model["versions"].values():
            version["name"] = new
        self.store.registered[new] = model
        return {"registered_model": _registered(model)}

    def _delete_registered(self, words: Words) -> Words:
        del self.store.registered[self.store.registered_model(_id(words, "name"))["name"]]
        return {}

    def _search_registered(self, words: Words) -> Words:
        clauses = parse_filter(str(words.get("filter") or ""))
        found = [one for one in self.store.registered.values() if holds(clauses, entity_look(one))]
        orders = parse_orders(texts(words.get("order_by"))) or [("attribute", "name", True)]
        some, token = page(ordered(found, orders, entity_look), words, 100)
        return _paged("registered_models", [_registered(one) for one in some], token)

    def _latest_versions(self, words: Words) -> Words:
        model = self.store.registered_model(_id(words, "name"))
        return {"model_versions": _latest(model)}

    def _set_alias(self, words: Words) -> Words:
        version = _the_version(self.store, words)
        alias = self.store.kept(_id(words, "alias"))
        self.store.registered_model(version["name"])["aliases"][alias] = version["version"]
        return {}

    def _by_alias(self, words: Words) -> Words:
        model = self.store.registered_model(_id(words, "name"))
        alias = str(words.get("alias") or "")
        number = model["aliases"].get(alias)
        if number is None:
            raise Refused("INVALID_PARAMETER_VALUE", "Registered model alias %s not found." % alias)
        return {"model_version": self._version(self.store.version(model["name"], number))}

    def _delete_alias(self, words: Words) -> Words:
        self.store.registered_model(_id(words, "name"))["aliases"].pop(str(words.get("alias") or ""), None)
        return {}

    def _update_version(self, words: Words) -> Words:
        version = _the_version(self.store, words)
        version["description"] = self.store.kept(str(words.get("description") or ""))
        version["last_updated_timestamp"] = milliseconds()
        return {"model_version": self._version(version)}

    def _delete_version(self, words: Words) -> Words:
        version = _the_version(self.store, words)
        model = self.store.registered_model(version["name"])
        del model["versions"][version["version"]]
        for alias in [alias for alias, number in model["aliases"].items() if number == version["version"]]:
            del model["aliases"][alias]
        return {}

    def _search_versions(self, words: Words) -> Words:
        clauses = parse_filter(str(words.get("filter") or ""))
        every = [
            version for model in self.store.registered.values() for version in model["versions"].values()
        ]
        found = [one for one in every if holds(clauses, entity_look(one))]
        found.sort(key=lambda one: (-one["last_updated_timestamp"], one["name"], -int(one["version"])))
        some, token = page(found, words, 200_000)
        return _paged("model_versions", [self._version(one) for one in some], token)

    def _transition(self, words: Words) -> Words:
        version = _the_version(self.store, words)
        version["current_stage"] = self.store.kept(str(words.get("stage") or "None"))
        version["last_updated_timestamp"] = milliseconds()
        return {"model_version": self._version(version)}

    # -- logged models --------------------------------------------------------------------------------------------

    def _search_models(self, words: Words) -> Words:
        clauses = parse_filter(str(words.get("filter") or ""))
        experiments = set(texts(words.get("experiment_ids")))
        found = [
            one
            for one in self.store.models.values()
            if one["info"]["experiment_id"] in experiments and holds(clauses, _model_look(one))
        ]
        found.sort(key=lambda one: -one["info"]["creation_timestamp_ms"])
        some, token = page(found, words, 100)
        return _paged("models", [_model(one) for one in some], token)

    def _one_model(self, method: str, parts: List[str], words: Words) -> Words:
        model = self.store.model(parts[0])
        rest = parts[1:]
        if not rest and method == "GET":
            return {"model": _model(model)}
        if not rest and method == "PATCH":
            model["info"]["status"] = self.store.kept(str(words.get("status") or model["info"]["status"]))
            model["info"]["last_updated_timestamp_ms"] = milliseconds()
            return {"model": _model(model)}
        if not rest and method == "DELETE":
            del self.store.models[parts[0]]
            return {}
        if rest == ["tags"]:
            model["tags"].update(self.store.kept(key_values(words.get("tags"))))
            return {"model": _model(model)}
        if rest[:1] == ["tags"] and method == "DELETE":
            model["tags"].pop("/".join(rest[1:]), None)
            return {}
        if rest == ["params"]:
            model["params"].update(self.store.kept(key_values(words.get("params"))))
            return {}
        if rest == ["artifacts", "directories"]:
            return {"root_uri": model["info"]["artifact_uri"], "files": []}
        raise Refused("ENDPOINT_NOT_FOUND", "There is no such call for logged models.")

    # -- traces: kept for reading back, and not recorded ----------------------------------------------------------

    def _add_trace(self, words: Words) -> Words:
        trace = words.get("trace")
        info = trace.get("trace_info") if isinstance(trace, dict) else None
        if not isinstance(info, dict) or len(self.store.traces) >= 1000:
            return {"trace": trace if isinstance(trace, dict) else {}}
        self.store.keep(info)
        self.store.traces[str(info.get("trace_id") or "")] = info
        return {"trace": {"trace_info": info}}

    def _search_traces(self, words: Words) -> Words:
        some, token = page(list(self.store.traces.values()), words, 100)
        return _paged("traces", some, token)

    def _get_traces(self, words: Words) -> Words:
        wanted = set(texts(words.get("trace_ids")))
        found = [info for key, info in self.store.traces.items() if key in wanted]
        return {"traces": [{"trace_info": info, "spans": []} for info in found]}


def _id(words: Words, name: str) -> str:
    found = str(words.get(name) or "")
    if not found:
        raise Refused("INVALID_PARAMETER_VALUE", "Missing value for required parameter '%s'." % name)
    return found


def _run_id(words: Words) -> str:
    found = str(words.get("run_id") or words.get("run_uuid") or "")
    if not found:
        raise Refused("INVALID_PARAMETER_VALUE", "Missing value for required parameter 'run_id'.")
    return found


def _the_version(store: Store, words: Words) -> Words:
    return store.version(_id(words, "name"), _id(words, "version"))


def _paged(name: str, found: List[Any], token: str) -> Words:
    answer: Words = {name: found}
    if token:
        answer["next_page_token"] = token
    return answer


def _points(key: str, history: Any, begin: int, end: int) -> List[Words]:
    return [
        metric_json(key, history.steps[at], history.times[at], history.values[at]) for at in range(begin, end)
    ]


def _in_pieces(key: str, history: Any, begin: int, end: int, token: str) -> Iterator[bytes]:
    """The answer with many points as JSON. Points that come meanwhile stand behind `end`."""
    yield b'{"metrics": ['
    for place in range(begin, end, _POINTS_A_PIECE):
        points = _points(key, history, place, min(end, place + _POINTS_A_PIECE))
        yield (", " if place > begin else "").encode() + json.dumps(points).encode("ascii")[1:-1]
    yield b"]" + (', "next_page_token": "%s"' % token if token else "").encode("ascii") + b"}"


def _latest(model: Words) -> List[Words]:
    latest: Dict[str, Words] = {}
    for version in model["versions"].values():
        latest[version["current_stage"]] = version
    return [{**version, "tags": pairs(version["tags"])} for version in latest.values()]


def _registered(model: Words) -> Words:
    return {
        "name": model["name"],
        "creation_timestamp": model["creation_timestamp"],
        "last_updated_timestamp": model["last_updated_timestamp"],
        "description": model["description"],
        "tags": pairs(model["tags"]),
        "aliases": [{"alias": alias, "version": number} for alias, number in model["aliases"].items()],
        "latest_versions": _latest(model),
    }


def _model(found: Words) -> Words:
    metrics = [
        {key: value for key, value in metric.items() if key != "number"} for metric in found["metrics"]
    ]
    return {
        "info": {**found["info"], "tags": pairs(found["tags"])},
        "data": {"params": pairs(found["params"]), "metrics": metrics},
    }


def _model_look(found: Words) -> Any:
    def look(kind: str, key: str) -> Any:
        if kind == "tag":
            return found["tags"].get(key)
        if kind == "param":
            return found["params"].get(key)
        if kind == "metric":
            return next((one["number"] for one in reversed(found["metrics"]) if one["key"] == key), None)
        return plain(found["info"].get(key))

    return look
