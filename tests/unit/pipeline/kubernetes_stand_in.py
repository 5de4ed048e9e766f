"""A stand-in for a Kubernetes API server: the reads, access reviews and secrets that preflight asks for.

It schedules nothing. What it holds and what it takes is checked against Kubernetes' own schemas
(kubernetes-validate); what it refuses, it refuses with a ``Status`` as the real server does.
"""

from __future__ import annotations

import base64
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from .loopback import Loopback

VERSION = "1.33"
TOKEN = "cluster-token"
NAMESPACE = "kubeflow"
KINDS = {
    "namespaces": ("v1", "Namespace"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "secrets": ("v1", "Secret"),
    "nodes": ("v1", "Node"),
    "resourcequotas": ("v1", "ResourceQuota"),
}
_PATH = re.compile(
    r"/(api/v1|apis/[a-z.0-9]+/v1)(/namespaces/(?P<space>[^/]+)(?=/))?/(?P<kind>[a-z]+)(/(?P<name>[^/]+))?"
)


class _Handler(BaseHTTPRequestHandler):
    server_of: KubernetesStandIn

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(self._body())

    def do_PATCH(self) -> None:
        self._serve(self._body())

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def _serve(self, body: dict[str, Any] | None) -> None:
        status, answer = self._answer(body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, body: dict[str, Any] | None) -> tuple[int, Any]:
        server = self.server_of
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if self.path == "/version/":
            return 200, _version()
        path = _PATH.fullmatch(self.path)
        if path is None:
            return _status(404, "NotFound", "the server could not find the requested resource")
        resource, name, namespace = path["kind"], path["name"], path["space"]
        if resource in server.forbidden:
            return _status(403, "Forbidden", f'{resource} is forbidden: User "me" cannot touch it')
        if body is None:
            return server.read(resource, name)
        if resource == "localsubjectaccessreviews":
            return server.review(namespace, body)
        return server.write_secret(body, name)


class KubernetesStandIn(Loopback):
    """The server, on loopback, for as long as the block runs.

    Attributes:
        objects: what is there, by resource and name.
        forbidden: resources that the user may not touch.
        denied: (verb, resource) that service accounts may not do.
        broken: whether writes fail with an answer that repeats what was sent.
        written: every body that a secret was written with.
    """

    handler = _Handler

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {resource: {} for resource in KINDS}
        self.forbidden: set[str] = set()
        self.denied: set[tuple[str, str]] = set()
        self.broken = False
        self.token = TOKEN
        self.reviews: list[dict[str, Any]] = []
        self.written: list[dict[str, Any]] = []

    def add(self, resource: str, name: str, **content: Any) -> dict[str, Any]:
        """Put an object there."""
        version, kind = KINDS[resource]
        metadata = {"name": name} | content.pop("metadata", {})
        if resource in ("serviceaccounts", "secrets", "resourcequotas"):
            metadata["namespace"] = NAMESPACE
        made = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
        kubernetes_validate.validate(made, VERSION, strict=True)
        self.objects[resource][name] = made
        return made

    def secret(self, name: str) -> dict[str, str]:
        """What a secret holds."""
        data = self.objects["secrets"][name]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "me"}}],
            "current-context": "stand-in",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # --- what the API does ----------------------------------------------------------------------

    def read(self, resource: str, name: str | None) -> tuple[int, Any]:
        if resource not in KINDS:
            return _status(404, "NotFound", "the server could not find the requested resource")
        version, kind = KINDS[resource]
        if name is None:
            items = list(self.objects[resource].values())
            return 200, {"apiVersion": version, "kind": f"{kind}List", "metadata": {}, "items": items}
        found = self.objects[resource].get(name)
        return (200, found) if found else _status(404, "NotFound", f'{resource} "{name}" not found')

    def review(self, namespace: str, body: dict[str, Any]) -> tuple[int, Any]:
        # The path says already what it is.
        named = {"apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview"} | body
        kubernetes_validate.validate(named, VERSION, strict=True)
        self.reviews.append(body["spec"])
        asked = body["spec"]["resourceAttributes"]
        if asked["namespace"] != namespace:
            return _status(
                400, "BadRequest", "spec.resourceAttributes.namespace must match metadata.namespace"
            )
        allowed = (asked["verb"], asked["resource"]) not in self.denied
        return 201, body | {"status": {"allowed": allowed}}

    def write_secret(self, body: dict[str, Any], name: str | None) -> tuple[int, Any]:
        """Create (without a name) or patch."""
        kubernetes_validate.validate(body, VERSION, strict=True)
        self.written.append(body)
        if self.broken:
            return _status(500, "InternalError", f"error found in #10 byte of ...|{json.dumps(body)}|...")
        there = self.objects["secrets"].get(body["metadata"]["name"])
        if there and not name:
            return _status(409, "AlreadyExists", f'secrets "{body["metadata"]["name"]}" already exists')
        before = there.get("type", "Opaque") if there else "Opaque"
        kind = body.get("type") or before
        if there and kind != before:
            return _status(422, "Invalid", "Secret is invalid: type: field is immutable")
        data = dict(there["data"]) if there else {}
        given = body.get("stringData", {}).items()
        data |= {key: base64.b64encode(value.encode()).decode() for key, value in given}
        made = self.add("secrets", body["metadata"]["name"], type=kind, data=data)
        return (200 if name else 201), made


def _version() -> dict[str, str]:
    names = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
    return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"} | dict.fromkeys(names, "")


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
