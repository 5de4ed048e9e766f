"""A stand-in for a company's proxy, which wants a login."""

import json
from base64 import b64encode
from http.server import BaseHTTPRequestHandler

from .loopback import Loopback

LOGIN = "me:pass%40word"
_HEADER = f"Basic {b64encode(b'me:pass@word').decode()}"
# Of Kubeflow Pipelines, and of Kubernetes, whose client misses any of these.
_VERSION = "major minor platform compiler buildDate goVersion gitVersion gitCommit gitTreeState"
_ANSWER = {"multi_user": False, **dict.fromkeys(_VERSION.split(), "1")}


class _ProxyHandler(BaseHTTPRequestHandler):
    server_of: "ProxyStandIn"

    def do_GET(self) -> None:
        let_in = self.headers.get("Proxy-Authorization") == _HEADER
        if let_in:
            self.server_of.asked.append(self.path)
        self.send_response(200 if let_in else 407)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(_ANSWER if let_in else {}).encode())

    def log_message(self, *_: object) -> None:
        pass


class ProxyStandIn(Loopback):
    """Answers, to those who log in, for whatever server lies behind it.

    Attributes:
        asked: the addresses.
    """

    handler = _ProxyHandler

    def __init__(self) -> None:
        self.asked: list[str] = []
