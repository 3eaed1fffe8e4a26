"""What MLflow's client was told, kept in memory for as long as the run lives: experiments, runs, models, traces.

Runs of MLflow are parts of this one: the first keeps its names, those of further and nested ones begin with the run's
name. What was logged goes into the intake; here it stays so that scripts can read it back.
"""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from array import array
from collections import OrderedDict

from mlstudio.probe.mlflow_search import holds, ordered, parse_filter, parse_orders
from mlstudio.probe.mlflow_words import (
    MAX_NAME,
    Refused,
    check_key,
    entity_look,
    in_view,
    key_values,
    metric_json,
    milliseconds,
    page,
    pairs,
    plain,
    point,
    shown,
    texts,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: `typing` costs the start of every run 5 ms.
    from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

    from mlstudio.probe.intake import Intake

LOGGER = "mlflow"
_MAX_POINTS = 4_000_000
"""Beyond it points are recorded, and cannot be read back."""
_MAX_RECENT = 20_000
"""Points among which one that was sent twice is noticed, as a client does whose connection broke."""
_MAX_ENTITIES = 20_000
_MAX_KEPT = 64 * 1024 * 1024
"""Bytes of texts (parameters, tags, inputs, …) that can be read back, of one run in all."""
_MAX_VALUE = 60_000
_FINAL = ("FINISHED", "FAILED", "KILLED")


class History:
    """Points of one metric."""

    def __init__(self) -> None:
        self.times = array("q")
        self.steps = array("q")
        self.values = array("d")
        self.has_any = False
        self.best: Tuple[int, int, float] = (0, 0, 0.0)
        """(step, time in milliseconds, value) of the latest."""

    def latest(self, step: int, moment: int, value: float) -> None:
        new = (step, moment, value)
        if not self.has_any or new > self.best or new[:2] > self.best[:2]:
            self.has_any = True
            self.best = new


class Run:
    def __init__(self, info: Dict[str, Any], prefix: str) -> None:
        self.info = info
        self.prefix = prefix
        self.params: Dict[str, str] = {}
        self.tags: Dict[str, str] = {}
        self.metrics: Dict[str, History] = {}
        self.inputs: List[Dict[str, Any]] = []
        self.model_inputs: List[Dict[str, Any]] = []
        self.model_outputs: List[Dict[str, Any]] = []

    def look(self, kind: str, key: str) -> Any:
        if kind == "metric":
            history = self.metrics.get(key)
            return None if history is None else history.best[2]
        if kind == "param":
            return self.params.get(key)
        if kind == "tag":
            return self.tags.get(key)
        if kind == "dataset":
            found = self.inputs[0]["dataset"] if self.inputs else {}
            return plain(found.get(key))
        names = {
            "run_name": "run_name",
            "run name": "run_name",
            "name": "run_name",
            "run_id": "run_id",
            "created": "start_time",
        }
        return self.info.get(names.get(key, key))

    def as_json(self) -> Dict[str, Any]:
        data: Dict[str, Any] = {
            "metrics": [metric_json(key, *found.best) for key, found in self.metrics.items()],
            "params": pairs(self.params),
            "tags": pairs(self.tags),
        }
        answer: Dict[str, Any] = {"info": self.info, "data": data}
        inputs: Dict[str, Any] = {}
        if self.inputs:
            inputs["dataset_inputs"] = self.inputs
        if self.model_inputs:
            inputs["model_inputs"] = self.model_inputs
        answer["inputs"] = inputs
        answer["outputs"] = {"model_outputs": self.model_outputs} if self.model_outputs else {}
        return answer


class Store:
    """All of it. Not thread-safe: the endpoint lets one request in at a time."""

    def __init__(self, intake: Intake, folder: str) -> None:
        self.intake = intake
        self.folder = folder
        """Where the client itself writes artifacts."""
        self.experiments: Dict[str, Dict[str, Any]] = {}
        self.runs: Dict[str, Run] = {}
        self.registered: Dict[str, Dict[str, Any]] = {}
        self.models: Dict[str, Dict[str, Any]] = {}
        self.traces: Dict[str, Dict[str, Any]] = {}
        self._points = 0
        self._histories = 0
        self._kept = 0
        self._recent: OrderedDict[Tuple[str, str, int, int, str], None] = OrderedDict()
        self._prefixes: Set[str] = set()
        self._was_told: Set[Tuple[str, str]] = set()
        self._files: Dict[str, Tuple[int, int]] = {}
        self.create_experiment("Default")

    # -- experiments ----------------------------------------------------------------------------------------------

    def create_experiment(self, name: str, location: str = "", tags: Optional[Dict[str, str]] = None) -> str:
        if not name:
            raise Refused("INVALID_PARAMETER_VALUE", "An experiment needs a name.")
        if any(found["name"] == name for found in self.experiments.values()):
            raise Refused("RESOURCE_ALREADY_EXISTS", "Experiment(name=%s) already exists." % name)
        self._room(self.experiments)
        self.keep([name, location, tags])
        key = str(len(self.experiments))
        now = milliseconds()
        self.experiments[key] = {
            "experiment_id": key,
            "name": name,
            "artifact_location": location or self._uri(key),
            "lifecycle_stage": "active",
            "creation_time": now,
            "last_update_time": now,
            "tags": dict(tags or {}),
        }
        return key

    def experiment(self, key: str) -> Dict[str, Any]:
        found = self.experiments.get(key)
        if found is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "No Experiment with id=%s exists" % key)
        return found

    def search_experiments(self, words: Dict[str, Any]) -> Tuple[List[Dict[str, Any]], str]:
        clauses = parse_filter(str(words.get("filter") or ""))
        view = str(words.get("view_type") or "ACTIVE_ONLY")
        found = [one for one in self.experiments.values() if in_view(one["lifecycle_stage"], view)]
        found = [one for one in found if holds(clauses, entity_look(one))]
        orders = parse_orders(texts(words.get("order_by"))) or [("attribute", "creation_time", False)]
        return page(ordered(found, orders, entity_look), words, 1000)

    # -- runs -----------------------------------------------------------------------------------------------------

    def create_run(self, words: Dict[str, Any]) -> Run:
        experiment = self.experiment(str(words.get("experiment_id") or "0"))
        self._room(self.runs)
        tags = key_values(words.get("tags"))
        for tag in tags:
            check_key(tag)
        key = uuid.uuid4().hex
        name = str(words.get("run_name") or tags.get("mlflow.runName") or "run-" + key[:8])
        name = name[:MAX_NAME]
        info = {
            "run_id": key,
            "run_uuid": key,
            "run_name": name,
            "experiment_id": experiment["experiment_id"],
            "user_id": str(words.get("user_id") or tags.get("mlflow.user") or "")[:MAX_NAME],
            "status": "RUNNING",
            "start_time": whole(words.get("start_time")) or milliseconds(),
            "artifact_uri": "%s/%s/artifacts" % (experiment["artifact_location"], key),
            "lifecycle_stage": "active",
        }
        run = Run(info, self._prefix(key, name))
        self.runs[key] = run
        run.tags["mlflow.runName"] = name
        for tag, value in tags.items():
            self.set_tag(run, tag, value)
        return run

    def _prefix(self, key: str, name: str) -> str:
        """By which the names of a run's series begin; nothing for the first run."""
        prefix = "" if not self.runs else shown(name[:200]) + "/"
        if prefix in self._prefixes:
            prefix = "%s %s/" % (shown(name[:200]), key[:8])
        self._prefixes.add(prefix)
        return prefix

    def run(self, key: str, *, active: bool = False) -> Run:
        found = self.runs.get(key)
        if found is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "Run with id=%s not found" % key)
        if active and found.info["lifecycle_stage"] != "active":
            raise Refused(
                "INVALID_PARAMETER_VALUE",
                "The run %s must be in the 'active' state. Current state is deleted." % key,
            )
        return found

    def update_run(self, run: Run, words: Dict[str, Any]) -> None:
        if words.get("status"):
            run.info["status"] = str(words["status"])[:MAX_NAME]
        if words.get("end_time"):
            run.info["end_time"] = whole(words["end_time"])
        if words.get("run_name"):
            run.info["run_name"] = run.tags["mlflow.runName"] = self.kept(str(words["run_name"]))
        if run.info["status"] in _FINAL:
            # Its own alone: a search of parameters ends thousands of runs.
            self.look_for_files(
                os.path.join(self.folder, run.info["experiment_id"], run.info["run_id"], "artifacts")
            )

    def set_param(self, run: Run, key: str, value: str) -> None:
        check_key(key)
        known = run.params.get(key)
        if known is not None:
            if known != value:
                raise Refused(
                    "INVALID_PARAMETER_VALUE",
                    "Changing param values is not allowed. Param with key='%s' was already logged with value='%s' for "
                    "run ID='%s'. Attempted logging new value '%s'."
                    % (key, known, run.info["run_id"], value),
                )
            return
        self._room(run.params)
        self.put(run.params, key, value)
        self.intake.event(
            {"type": "param", "name": shown(run.prefix + key), "value": value[:_MAX_VALUE], "logger": LOGGER}
        )

    def set_tag(self, run: Run, key: str, value: str) -> None:
        if key not in run.tags:
            self._room(run.tags)
        self.put(run.tags, key, value)
        if key == "mlflow.runName":
            run.info["run_name"] = value
        elif key == "mlflow.note.content" and not run.prefix:
            self._tell("note", value)
        elif not key.startswith("mlflow.") and not run.prefix:
            self._tell("tag", "%s=%s" % (key, value) if value else key)

    def _tell(self, kind: str, text: str) -> None:
        text = text[:_MAX_VALUE] if kind == "note" else " ".join(text.split())[:200]
        if text and (kind, text) not in self._was_told and len(self._was_told) < 1000:
            self._was_told.add((kind, text))
            self.intake.event({"type": kind, "text" if kind == "note" else "tag": text, "logger": LOGGER})

    def log_metrics(self, run: Run, metrics: Iterable[Dict[str, Any]]) -> None:
        points: Dict[str, Tuple[array, array, array]] = {}  # type: ignore[type-arg]
        checked = [point(metric) for metric in metrics]
        for key, value, moment, step in checked:
            mark = (run.info["run_id"], key, moment, step, repr(value))
            if mark in self._recent:
                continue
            self._recent[mark] = None
            if len(self._recent) > _MAX_RECENT:
                self._recent.popitem(last=False)
            history = run.metrics.get(key)
            if history is None and self._histories < _MAX_ENTITIES:
                self._histories += 1
                history = run.metrics[key] = History()
            if history is not None:
                history.latest(step, moment, value)
            if history is not None and self._points < _MAX_POINTS:
                self._points += 1
                history.times.append(moment)
                history.steps.append(step)
                history.values.append(value)
            columns = points.get(key)
            if columns is None:
                columns = points[key] = (array("q"), array("d"), array("d"))
            columns[0].append(step)
            columns[1].append(moment / 1000.0)
            columns[2].append(value)
        for key, (steps, times, values) in points.items():
            self.intake.points(LOGGER, shown(run.prefix + key), steps, times, values)

    def search_runs(self, words: Dict[str, Any]) -> Tuple[List[Run], str]:
        clauses = parse_filter(str(words.get("filter") or ""))
        orders = parse_orders(texts(words.get("order_by")))
        experiments = set(texts(words.get("experiment_ids")))
        view = str(words.get("run_view_type") or "ACTIVE_ONLY")
        found = [
            run
            for run in self.runs.values()
            if run.info["experiment_id"] in experiments
            and in_view(run.info["lifecycle_stage"], view)
            and holds(clauses, run.look)
        ]
        found.sort(key=lambda run: (-run.info["start_time"], run.info["run_id"]))
        return page(ordered(found, orders, lambda run: run.look), words, 1000)

    def log_inputs(self, run: Run, datasets: List[Any], models: List[Any]) -> None:
        for one in datasets:
            tags = one.get("tags") or [] if isinstance(one, dict) else None
            if not isinstance(tags, list) or not isinstance(one.get("dataset"), dict):
                raise Refused(
                    "INVALID_PARAMETER_VALUE", "A dataset input needs a dataset, and tags are a list."
                )
        self.keep([datasets, models])
        for one in datasets:
            run.inputs.append(one)
            name, digest = one["dataset"].get("name"), one["dataset"].get("digest")
            contexts = [pair.get("value") for pair in one.get("tags") or [] if isinstance(pair, dict)]
            label = "dataset.%s" % contexts[0] if contexts else "dataset"
            self.intake.event(
                {
                    "type": "param",
                    "name": shown(run.prefix + label)[:MAX_NAME],
                    "value": ("%s (%s)" % (name, digest))[:_MAX_VALUE],
                    "logger": LOGGER,
                }
            )
        run.model_inputs.extend(one for one in models if isinstance(one, dict))

    # -- registered models ----------------------------------------------------------------------------------------

    def registered_model(self, name: str) -> Dict[str, Any]:
        found = self.registered.get(name)
        if found is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "Registered Model with name=%s not found" % name)
        return found

    def create_registered_model(self, words: Dict[str, Any]) -> Dict[str, Any]:
        name = str(words.get("name") or "")
        if not name:
            raise Refused("INVALID_PARAMETER_VALUE", "A registered model needs a name.")
        if name in self.registered:
            raise Refused("RESOURCE_ALREADY_EXISTS", "Registered Model (name=%s) already exists." % name)
        self._room(self.registered)
        self.keep(words)
        now = milliseconds()
        self.registered[name] = {
            "name": name,
            "creation_timestamp": now,
            "last_updated_timestamp": now,
            "description": str(words.get("description") or ""),
            "tags": key_values(words.get("tags")),
            "aliases": {},
            "versions": {},
            "next": 1,
        }
        return self.registered[name]

    def create_version(self, words: Dict[str, Any]) -> Dict[str, Any]:
        model = self.registered_model(str(words.get("name") or ""))
        self._room(model["versions"])
        self.keep(words)
        now = milliseconds()
        source = str(words.get("source") or "")
        model_id = str(words.get("model_id") or (source[8:] if source.startswith("models:/") else ""))
        logged = self.models.get(model_id)
        version = {
            "name": model["name"],
            "version": str(model["next"]),
            "creation_timestamp": now,
            "last_updated_timestamp": now,
            "current_stage": "None",
            "description": str(words.get("description") or ""),
            "source": source,
            "run_id": str(words.get("run_id") or (logged["info"]["source_run_id"] if logged else "")),
            "run_link": str(words.get("run_link") or ""),
            "status": "READY",
            "tags": key_values(words.get("tags")),
        }
        if words.get("model_id"):
            version["model_id"] = str(words["model_id"])
        if logged is not None:
            logged["versions"].append({"name": version["name"], "version": model["next"]})
            self.put(logged["tags"], "mlflow.modelVersions", json.dumps(logged["versions"][-1000:]))
        model["next"] += 1
        model["versions"][version["version"]] = version
        model["last_updated_timestamp"] = now
        return version

    def version(self, name: str, number: str) -> Dict[str, Any]:
        found: Optional[Dict[str, Any]] = self.registered_model(name)["versions"].get(str(number))
        if found is None:
            raise Refused(
                "RESOURCE_DOES_NOT_EXIST", "Model Version (name=%s, version=%s) not found" % (name, number)
            )
        return found

    def download_uri(self, version: Dict[str, Any]) -> str:
        source = str(version["source"])
        if version.get("model_id") in self.models:
            return str(self.models[version["model_id"]]["info"]["artifact_uri"])
        if source.startswith("models:/") and source[8:] in self.models:
            return str(self.models[source[8:]]["info"]["artifact_uri"])
        if source.startswith("runs:/"):
            key, _, path = source[6:].partition("/")
            if key in self.runs:
                return "%s/%s" % (self.runs[key].info["artifact_uri"], path)
        return source

    # -- logged models (MLflow 3) ---------------------------------------------------------------------------------

    def create_model(self, words: Dict[str, Any]) -> Dict[str, Any]:
        experiment = self.experiment(str(words.get("experiment_id") or "0"))
        self._room(self.models)
        self.keep(words)
        key = "m-" + uuid.uuid4().hex
        now = milliseconds()
        self.models[key] = {
            "info": {
                "model_id": key,
                "experiment_id": experiment["experiment_id"],
                "name": str(words.get("name") or "model-" + key[2:10]),
                "creation_timestamp_ms": now,
                "last_updated_timestamp_ms": now,
                "artifact_uri": "%s/models/%s/artifacts" % (experiment["artifact_location"], key),
                "status": "LOGGED_MODEL_PENDING",
                "model_type": str(words.get("model_type") or ""),
                "source_run_id": str(words.get("source_run_id") or ""),
            },
            "tags": key_values(words.get("tags")),
            "params": key_values(words.get("params")),
            "metrics": [],
            "versions": [],
        }
        return self.models[key]

    def model(self, key: str) -> Dict[str, Any]:
        found = self.models.get(key)
        if found is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "Logged model with ID '%s' not found." % key)
        return found

    def add_model_metrics(self, run: Run, metrics: List[Any]) -> None:
        for metric in metrics:
            model = self.models.get(str(metric.get("model_id") or "")) if isinstance(metric, dict) else None
            if model is None or len(model["metrics"]) >= 10_000:
                continue
            key, number, moment, step = point(metric)
            kept = metric_json(key, step, moment, number)
            kept.update(run_id=run.info["run_id"], model_id=model["info"]["model_id"], number=number)
            for name in ("dataset_name", "dataset_digest"):
                if metric.get(name):
                    kept[name] = str(metric[name])[:MAX_NAME]
            model["metrics"].append(kept)

    # -- files ----------------------------------------------------------------------------------------------------

    def look_for_files(self, below: str = "") -> None:
        """Tell of artifacts that the client has written since the last look; pictures are media, too."""
        seen = 0
        for folder, names, files in os.walk(below or self.folder):
            names.sort()
            for name in sorted(files):
                seen += 1
                if seen > _MAX_ENTITIES:
                    return
                path = os.path.join(folder, name)
                try:
                    about = os.lstat(path)
                except OSError:
                    continue
                if not stat.S_ISREG(about.st_mode):
                    continue
                mark = (about.st_mtime_ns, about.st_size)
                if self._files.get(path) != mark:
                    is_new = path not in self._files
                    self._files[path] = mark
                    if is_new:
                        self.intake.event({"type": "artifact", "path": path, "size_bytes": about.st_size})
                    self._picture(path, about.st_size)

    def _picture(self, path: str, size: int) -> None:
        from mlstudio.probe.event_files import image_mime

        if (
            os.path.splitext(path)[1].lower() not in (".png", ".jpg", ".jpeg", ".gif")
            or size > 4 * 1024 * 1024
        ):
            return
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(4 * 1024 * 1024 + 1)
        except OSError:
            return
        mime = image_mime(data)
        if mime != "application/octet-stream":
            name = path.rpartition("/artifacts/")[2]
            self.intake.medium(LOGGER, name, "image", 0, time.time(), mime, data)

    def _uri(self, experiment: str) -> str:
        from urllib.parse import quote

        return "file://%s/%s" % (quote(self.folder), experiment)

    def put(self, found: Dict[str, str], key: str, value: str) -> None:
        """Keep a text under a name, in place of the one that was there."""
        check_key(key)
        self._count(len(key) + len(value) - (len(key) + len(found[key]) if key in found else 0))
        found[key] = value

    def keep(self, words: Any) -> None:
        """Count what is kept for reading back. Raises Refused when it would be too much."""
        try:
            self._count(len(words) if isinstance(words, str) else len(json.dumps(words)))
        except RecursionError:
            raise Refused("INVALID_PARAMETER_VALUE", "This is too deeply nested.") from None

    def _count(self, size: int) -> None:
        if self._kept + size > _MAX_KEPT:
            raise Refused(
                "RESOURCE_EXHAUSTED",
                "ML Studio keeps at most %d MB of texts in a run." % (_MAX_KEPT // 2**20),
            )
        self._kept += size

    def kept(self, words: Any) -> Any:
        """The same, counted."""
        self.keep(words)
        return words

    @staticmethod
    def _room(entities: Any) -> None:
        if len(entities) >= _MAX_ENTITIES:
            raise Refused(
                "RESOURCE_EXHAUSTED", "ML Studio keeps at most %d of these in a run." % _MAX_ENTITIES
            )
