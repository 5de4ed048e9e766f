"""A stand-in for an MLflow server: does it answer, by which name, and which versions have a tag."""

import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .loopback import Loopback

INVALID_HOST = "Invalid Host header - possible DNS rebinding attack detected"  # as MLflow 3.17 says it


class _MlflowHandler(BaseHTTPRequestHandler):
    server_of: "MlflowStandIn"

    def do_GET(self) -> None:
        mlflow, host = self.server_of, self.headers["Host"]
        mlflow.asked.append((self.path, self.headers.get("Authorization"), host))
        self.send_response(403 if host in mlflow.refused else mlflow.status)
        self.end_headers()
        self.wfile.write((INVALID_HOST if host in mlflow.refused else mlflow.answer(self.path)).encode())

    def log_message(self, *_: object) -> None:
        pass


class MlflowStandIn(Loopback):
    """Answers every question with one status, as an MLflow server does that is up, or is not ours.

    Attributes:
        tags: of the versions of the one registered model, ``net``.
        refused: host names by which it will not be asked.
        asked: path, login and host name of every question.
    """

    handler = _MlflowHandler

    def __init__(self) -> None:
        self.status, self.text = 200, "{}"
        self.tags: list[dict[str, str]] = []
        self.refused: set[str] = set()
        self.asked: list[tuple[str, str | None, str]] = []

    def answer(self, path: str) -> str:
        """The versions with the tag that is asked for, or else the same text as ever."""
        asked = urlsplit(path)
        if not asked.path.endswith("/model-versions/search"):
            return self.text
        wanted = re.fullmatch(r"tags\.`(.+)` = '(.+)'", parse_qs(asked.query)["filter"][0])
        assert wanted
        found = [
            _version(number, tags)
            for number, tags in enumerate(self.tags, start=1)
            if tags.get(wanted[1]) == wanted[2]
        ]
        return json.dumps({"model_versions": found})


def _version(number: int, tags: dict[str, str]) -> dict[str, Any]:
    told = [{"key": key, "value": value} for key, value in tags.items()]
    return {"name": "net", "version": str(number), "tags": told}
