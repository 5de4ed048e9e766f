"""A stand-in for an MLflow server, as far as preflight asks one: does it answer, and by which name."""

from http.server import BaseHTTPRequestHandler

from .loopback import Loopback

INVALID_HOST = "Invalid Host header - possible DNS rebinding attack detected"  # as MLflow 3.17 says it


class _MlflowHandler(BaseHTTPRequestHandler):
    server_of: "MlflowStandIn"

    def do_GET(self) -> None:
        mlflow, host = self.server_of, self.headers["Host"]
        mlflow.asked.append((self.path, self.headers.get("Authorization"), host))
        self.send_response(403 if host in mlflow.refused else mlflow.status)
        self.end_headers()
        self.wfile.write((INVALID_HOST if host in mlflow.refused else mlflow.text).encode())

    def log_message(self, *_: object) -> None:
        pass


class MlflowStandIn(Loopback):
    """Answers every question with one status, as an MLflow server does that is up, or is not ours.

    Attributes:
        refused: host names by which it will not be asked.
        asked: path, login and host name of every question.
    """

    handler = _MlflowHandler

    def __init__(self) -> None:
        self.status, self.text = 200, "{}"
        self.refused: set[str] = set()
        self.asked: list[tuple[str, str | None, str]] = []
