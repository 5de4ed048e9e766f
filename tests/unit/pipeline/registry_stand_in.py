"""A stand-in for an image registry: the part of the OCI distribution API that looks an image up."""

import json
from http.server import BaseHTTPRequestHandler

from .loopback import Loopback


class _RegistryHandler(BaseHTTPRequestHandler):
    server_of: "RegistryStandIn"

    def do_HEAD(self) -> None:
        registry = self.server_of
        registry.asked.append(self.path)
        let_in = registry.token in (None, (self.headers["Authorization"] or "").removeprefix("Bearer "))
        self.send_response(401 if not let_in else 404 if self.path.endswith(registry.missing) else 200)
        if not let_in:
            challenge = f'Bearer realm="{registry.url}/token",service="here",scope="repository:t:pull"'
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()

    def do_GET(self) -> None:
        registry = self.server_of
        registry.asked.append(self.path)
        self.send_response(200 if registry.gives_token else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"token": registry.token}).encode())

    def log_message(self, *_: object) -> None:
        pass


class RegistryStandIn(Loopback):
    """An image registry that has every image, but for those that ``missing`` ends the names of.

    Attributes:
        token: what it wants; None for no login.
        gives_token: whether it gives that token to anybody.
    """

    handler = _RegistryHandler

    def __init__(self) -> None:
        self.missing: tuple[str, ...] = ()
        self.token: str | None = None
        self.gives_token = False
        self.asked: list[str] = []
