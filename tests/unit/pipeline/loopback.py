"""A server on loopback for as long as a block runs: what every stand-in is."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Loopback:
    """Answers on a free port by its ``handler``, whose ``server_of`` is this object.

    Attributes:
        handler: made anew for each request.
        address, url: where it answers.
    """

    handler: type[BaseHTTPRequestHandler]

    def __enter__(self) -> Self:
        bound: Any = type("Handler", (self.handler,), {"server_of": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
