"""A stand-in for Kubeflow Pipelines' API server: the part of its v2beta1 API that a submitted run needs.

It runs nothing. Field names, refusals and their words are those of the real server (kubeflow/pipelines,
backend/src/apiserver, August 2026): unknown fields and wrongly typed parameters are refused, unset fields
are left out, times that are not known yet are the year 1 or 1970. A run moves on by one stage each time
somebody asks for it.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml

from .loopback import Loopback

INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS = 3, 5, 6
HTTP = {INVALID_ARGUMENT: 400, NOT_FOUND: 404, ALREADY_EXISTS: 409}
UPLOADED, VERSION = "7d0b9f1e-5a44-4c0c-9f5b-2f6f6d5c1a10", "a3f1c2d4-0b7e-4f7a-8c11-9d5e6b0c7f22"
NEVER, UNSET = "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"
STARTED = datetime(2026, 11, 22, 12, tzinfo=UTC)
STAGE = timedelta(seconds=30)
# What a parameter's type lets in, and what the real server says of anything else.
TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "NUMBER_DOUBLE": ((int, float), "type double or integer, but the parameter value is not of number"),
    "NUMBER_INTEGER": ((int, float), "type double or integer, but the parameter value is not of number"),
    "STRING": (str, "type string, but the input parameter is not of string"),
    "BOOLEAN": (bool, "type bool, but the input parameter is not of bool"),
    "LIST": (list, "type list, but the input parameter is not of list"),
    "STRUCT": (dict, "type struct, but the input parameter is not of struct"),
}


class RefusedError(Exception):
    """An answer with a gRPC code, as the gateway writes it."""

    def __init__(self, code: int, message: str, where: str = "") -> None:
        super().__init__(message)
        said = f"{where}Invalid input error: {message}" if code == INVALID_ARGUMENT else f"{where}{message}"
        detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": message}
        self.status, self.body = HTTP[code], {"code": code, "message": said, "details": [detail]}


class _Handler(BaseHTTPRequestHandler):
    server_of: KfpStandIn

    def do_GET(self) -> None:
        path, query = self._asked()
        if self._refused():
            return
        server = self.server_of
        if path == "/apis/v2beta1/healthz":
            self._answer(server.healthz)
        elif path == "/apis/v2beta1/experiments":
            self._answer(server.list_experiments, query)
        elif found := re.fullmatch(r"/apis/v2beta1/(experiments|pipelines|runs)/([^/:]+)", path):
            if found[1] == "runs" and server.hiccups:
                server.hiccups -= 1
                self._send(503, {"message": "upstream connect error"})
                return
            self._answer(getattr(server, f"get_{found[1][:-1]}"), found[2])
        elif path == f"/apis/v2beta1/pipelines/{UPLOADED}/versions/{VERSION}":
            self._answer(server.get_version)
        else:
            self._send(404, {"code": NOT_FOUND, "message": "Not Found", "details": []})

    def do_POST(self) -> None:
        path, query = self._asked()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._refused():
            return
        server = self.server_of
        if path == "/apis/v2beta1/pipelines/upload":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            part = [*BytesParser().parsebytes(head + content).walk()][-1]
            package = part.get_payload(decode=True)
            assert isinstance(package, bytes)
            self._answer(server.upload_pipeline, query, part.get_filename() or "", package.decode())
        elif path == "/apis/v2beta1/experiments":
            self._answer(server.create_experiment, json.loads(content))
        elif path == "/apis/v2beta1/runs":
            self._answer(server.create_run, json.loads(content))
        else:
            self._send(404, {"code": NOT_FOUND, "message": "Not Found", "details": []})

    def log_message(self, *_: object) -> None:
        pass

    def _asked(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        self.server_of.requests.append(f"{self.command} {url.path}")
        return url.path, {key: values[0] for key, values in parse_qs(url.query).items()}

    def _refused(self) -> bool:
        token = self.server_of.token
        if not token or self.headers.get("Authorization") == f"Bearer {token}":
            return False
        self._send(401, {"code": 16, "message": "Request header error: there is no user identity header."})
        return True

    def _answer(self, act: Any, *given: Any) -> None:
        try:
            self._send(200, act(*given))
        except RefusedError as error:
            self._send(error.status, error.body)

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class KfpStandIn(Loopback):
    """The server, on loopback, for as long as the block runs.

    Args:
        fail: the stage that fails; those after it are not started.
        fail_driver: the stage whose driver fails, so that it never starts.
        stall: a stage that never ends.
        no_image: whether the pod of the stage that stalls is never started.
        fail_inner: stages inside loops that fail, each by its run of the loop, counted from 0.
        stages_per_look: how many stages are done between one look at a run and the next.
        multi_user: whether every experiment needs a namespace.
        token: what the ``Authorization`` header must bear.
        hiccups: how many looks at a run are answered with 503 first.
        run_id: of the next run.

    Attributes:
        version: the tag that it was released under.
        uploaded: whether the run was started from an uploaded version, and has no spec of its own.
    """

    handler = _Handler

    def __init__(
        self,
        *,
        fail: str = "",
        fail_driver: str = "",
        stall: str = "",
        no_image: bool = False,
        fail_inner: dict[int, str] | None = None,
        stages_per_look: int = 1,
        multi_user: bool = False,
        token: str = "",
        hiccups: int = 0,
        run_id: str = "",
    ) -> None:
        self.fail, self.fail_driver, self.stall = fail, fail_driver, stall
        self.no_image, self.fail_inner = no_image, fail_inner or {}
        self.stages_per_look, self.multi_user = stages_per_look, multi_user
        self.token, self.hiccups, self.run_id = token, hiccups, run_id
        self.version = "2.17.0"
        self.uploaded = False
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.requests: list[str] = []

    @property
    def run(self) -> dict[str, Any]:
        """The only run that was created."""
        (run,) = self.runs.values()
        return run

    # --- what the API does ----------------------------------------------------------------------

    def healthz(self) -> dict[str, Any]:
        return {"commit_sha": "unknown", "tag_name": self.version, "multi_user": self.multi_user}

    def list_experiments(self, query: dict[str, str]) -> dict[str, Any]:
        self._namespace(query.get("namespace", ""), "An experiment")
        predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
        found = [
            experiment
            for experiment in self.experiments.values()
            if all(experiment[p["key"]] == p["stringValue"] for p in predicates)
        ]
        return {"experiments": found, "total_size": len(found)} if found else {}

    def create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        _known(body, kfp_server_api.V2beta1Experiment)
        self._namespace(body.get("namespace", ""), "An experiment")
        if any(e["display_name"] == body["display_name"] for e in self.experiments.values()):
            raise RefusedError(ALREADY_EXISTS, f"The name {body['display_name']} already exist")
        experiment = body | {
            "experiment_id": str(uuid.uuid4()),
            "created_at": _time(STARTED),
            "storage_state": "AVAILABLE",
            "last_run_created_at": UNSET,
        }
        self.experiments[experiment["experiment_id"]] = experiment
        return experiment

    def get_experiment(self, key: str) -> dict[str, Any]:
        return _get(self.experiments, key, "Experiment")

    def upload_pipeline(self, query: dict[str, str], file_name: str, package: str) -> dict[str, Any]:
        _check_spec(_documents(package))
        name = query.get("name") or query.get("display_name") or file_name
        if any(pipeline["name"] == name for pipeline in self.pipelines.values()):
            raise RefusedError(ALREADY_EXISTS, f"The name {name} already exist")
        ids = {"pipeline_id": str(uuid.uuid4()), "created_at": _time(STARTED)}
        pipeline = {**ids, "name": name, "display_name": query.get("display_name") or name}
        self.pipelines[pipeline["pipeline_id"]] = pipeline
        return pipeline

    def get_pipeline(self, key: str) -> dict[str, Any]:
        return _get(self.pipelines, key, "Pipeline")

    def create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        _known(body, kfp_server_api.V2beta1Run)
        _known(body.get("runtime_config", {}), kfp_server_api.V2beta1RuntimeConfig)
        where = "Failed to create a new run: "
        if not body.get("display_name"):
            raise RefusedError(INVALID_ARGUMENT, "The run name is empty. Please specify a valid name", where)
        self.get_experiment(body.get("experiment_id", ""))
        spec = body.get("pipeline_spec", {})
        _check_spec(spec, where)
        parameters = body.get("runtime_config", {}).get("parameters", {})
        where += "Failed to generate the ExecutionSpec: invalid pipeline job inputs: "
        _check_parameters(_pipeline(spec)["root"], parameters, where)
        run = body | {
            "run_id": self.run_id or str(uuid.uuid4()),
            "pipeline_spec": spec,
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            "created_at": _time(STARTED),
            "scheduled_at": _time(STARTED),
            "finished_at": UNSET,
            "state_history": [{"update_time": _time(STARTED), "state": "PENDING"}],
        }
        self.runs[run["run_id"]], self.looks[run["run_id"]] = run, 0
        return run

    def get_run(self, key: str) -> dict[str, Any]:
        run = _get(self.runs, key, "Run")
        self._advance(run)
        self.looks[key] += self.stages_per_look
        if not self.uploaded:
            return run
        reference = {"pipeline_id": UPLOADED, "pipeline_version_id": VERSION}
        without = {name: value for name, value in run.items() if name != "pipeline_spec"}
        return without | {"pipeline_version_reference": reference}

    def get_version(self) -> dict[str, Any]:
        return {"pipeline_id": UPLOADED, "pipeline_spec": self.run["pipeline_spec"]}

    # --- how a run moves on ---------------------------------------------------------------------

    def _advance(self, run: dict[str, Any]) -> None:
        """Fill in the states after as many looks; the first shows a run that has not started."""
        spec = _pipeline(run["pipeline_spec"])
        tasks = spec["root"]["dag"]["tasks"]
        names = _in_order(tasks)
        done = self.looks[run["run_id"]] - 1
        if done < 0:
            return
        details = [self._node("root-driver", 0, "SUCCEEDED")]
        state = "RUNNING" if done < len(names) else "SUCCEEDED"
        for index, name in enumerate(names[: done + 1]):
            now = "RUNNING" if index == done or name == self.stall else "SUCCEEDED"
            if name == self.fail_driver:
                now = "FAILED"
                details += [self._node(f"{name}-driver", index, now), self._node(name, index, "")]
            else:
                inner = spec["components"][tasks[name]["componentRef"]["name"]].get("dag")
                fails = name == self.fail or (inner and self.fail_inner)
                now = "FAILED" if fails and index < done else now
                if inner:
                    details += [self._node(name, index, now), *self._loop(_in_order(inner["tasks"]), now)]
                    if now == "FAILED":
                        state = now
                        break
                    continue
                pod = "PENDING" if self.no_image and name == self.stall else now
                details += [self._node(f"{name}-driver", index, "SUCCEEDED")]
                details += [self._node(name, index, now), self._node("executor", index, pod)]
            if now == "FAILED":
                state = "FAILED"
                details += [self._node(f"{later}-driver", index, "") for later in names[index + 1 :]]
                break
            if name == self.stall:
                state = "RUNNING"
                break
        details.append(self._node("root", 0, state))
        run["run_details"] = {"task_details": details}
        if run["state"] != state:
            run["state_history"].append({"update_time": _time(STARTED), "state": state})
        run["state"] = state
        if state != "RUNNING":
            run["finished_at"] = _time(STARTED + STAGE * len(names))

    def _loop(self, names: list[str], now: str) -> list[dict[str, Any]]:
        """The nodes of a loop of two runs, whose tasks have the same names in both."""
        details = [self._node("iteration-driver", 0, "SUCCEEDED"), self._node("iteration-iterations", 0, now)]
        for run in (0, 1):
            failing = self.fail_inner.get(run) if now == "FAILED" else None
            ended = "FAILED" if failing else "RUNNING" if now == "RUNNING" else "SUCCEEDED"
            name = f"iteration-iterations({run}:{run})"
            # With KFP 2.17 Argo retries this node too; its tries come after it, in any order.
            details += [self._node(name, 0, ended), self._node(f"{name}(0)", 0, "FAILED")]
            details += [self._node("iteration-item-driver", 0, "SUCCEEDED")]
            details += [self._node("iteration-item", 0, ended)]
            done = names[: names.index(failing) + 1] if failing else names
            for name in done:
                details += [self._node(f"{name}-driver", 0, "SUCCEEDED")]
                details += [
                    self._node(name, 0, "FAILED" if name == failing else ended.replace("FAILED", "SUCCEEDED"))
                ]
        return details

    def _node(self, name: str, index: int, state: str) -> dict[str, Any]:
        """A node of the workflow; a state that the server does not know (omitted) is left out."""
        ended = state in ("SUCCEEDED", "FAILED")
        node = {
            "task_id": str(uuid.uuid4()),
            "display_name": name,
            "create_time": _time(STARTED),
            "start_time": _time(STARTED + STAGE * index),
            "end_time": _time(STARTED + STAGE * (index + 1)) if ended else NEVER,
            "execution_id": "0",
        }
        return node | ({"state": state} if state else {})

    def _namespace(self, namespace: str, what: str) -> None:
        if self.multi_user and not namespace:
            raise RefusedError(INVALID_ARGUMENT, f"{what} cannot have an empty namespace in multi-user mode")


def _known(body: dict[str, Any], model: Any) -> None:
    """The gateway refuses a field that the message does not have."""
    for name in body:
        if name not in model.attribute_map.values():
            detail = {"code": INVALID_ARGUMENT, "message": f'proto: (line 1:1): unknown field "{name}"'}
            error = RefusedError(INVALID_ARGUMENT, "")
            error.body = detail | {"details": []}
            raise error


def _get(store: dict[str, dict[str, Any]], key: str, what: str) -> dict[str, Any]:
    if key not in store:
        raise RefusedError(NOT_FOUND, f"{what} {key} not found", "ResourceNotFoundError: ")
    return store[key]


def _documents(package: str) -> dict[str, Any]:
    """A package of one or two YAML documents, as a run carries it."""
    first, *rest = yaml.safe_load_all(package)
    return {"pipeline_spec": first, "platform_spec": rest[0]} if rest else first


def _pipeline(spec: dict[str, Any]) -> dict[str, Any]:
    pipeline: dict[str, Any] = spec.get("pipeline_spec", spec)
    return pipeline


def _check_spec(spec: dict[str, Any], where: str = "") -> None:
    pipeline = _pipeline(spec)
    if not pipeline:
        raise RefusedError(INVALID_ARGUMENT, "no pipeline spec is provided", where)
    version = pipeline.get("schemaVersion")
    if version != "2.1.0":
        said = f"KFP only supports schema version 2.1.0, but the pipeline spec has version {version}"
        raise RefusedError(INVALID_ARGUMENT, said, where)
    if not pipeline.get("pipelineInfo", {}).get("name"):
        raise RefusedError(INVALID_ARGUMENT, "invalid v2 pipeline spec: name is empty", where)


def _check_parameters(root: dict[str, Any], given: dict[str, Any], where: str) -> None:
    wanted = root.get("inputDefinitions", {}).get("parameters", {})
    for name, parameter in wanted.items():
        if name not in given:
            if not parameter.get("isOptional") and "defaultValue" not in parameter:
                said = "is not optional, yet has neither default value nor user provided value"
                raise RefusedError(INVALID_ARGUMENT, f"parameter {name} {said}", where)
            continue
        fits, said = TYPES[parameter["parameterType"]]
        value = given[name]
        if not isinstance(value, fits) or (isinstance(value, bool) and fits is not bool):
            raise RefusedError(INVALID_ARGUMENT, f"input parameter {name} requires {said} value type", where)
    if extra := sorted(given.keys() - wanted.keys()):
        said = f"parameter(s) provided are not required by pipeline: {', '.join(extra)}"
        raise RefusedError(INVALID_ARGUMENT, said, where)


def _in_order(tasks: dict[str, Any]) -> list[str]:
    """The tasks, each after those that it depends on."""
    order: list[str] = []
    while len(order) < len(tasks):
        order += [
            name
            for name, task in tasks.items()
            if name not in order and set(task.get("dependentTasks", ())) <= set(order)
        ]
    return order


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
