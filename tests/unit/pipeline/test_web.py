"""HTTP from this machine: no login but those that are given, no detours, no certificates but the trusted."""

from base64 import b64encode
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from pipeline import web

from .loopback import Loopback


class _Handler(BaseHTTPRequestHandler):
    server_of: "Elsewhere"

    def do_GET(self) -> None:
        self.server_of.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(302)
        self.send_header("Location", f"{self.server_of.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Elsewhere(Loopback):
    """Sends everybody somewhere else, and notes their logins."""

    handler = _Handler

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []


def test_a_request_takes_no_login_of_this_user_and_follows_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password planted\n")
    with Elsewhere() as server:
        for login in ({}, {"Authorization": "Bearer given"}):
            assert web.ask("GET", f"{server.url}/here", login).status_code == 302
    assert server.asked == [("/here", None), ("/here", "Bearer given")]


@pytest.mark.parametrize(
    ("bundle", "file", "trusted"),
    [("/bundle.pem", "/file.pem", "/bundle.pem"), ("", "/file.pem", "/file.pem"), ("", "", True)],
)
def test_certificates_that_the_environment_names_are_trusted(
    monkeypatch: pytest.MonkeyPatch, bundle: str, file: str, trusted: str | bool
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("SSL_CERT_FILE", file)
    given: dict[str, Any] = {}
    monkeypatch.setattr("requests.request", lambda *_, **options: given.update(options))
    web.ask("GET", "https://r.example", {})
    assert given["verify"] == trusted
    assert given["timeout"]


@pytest.mark.parametrize(
    ("address", "login"),
    [("http://me:pass%40word@proxy:3128", "me:pass@word"), ("http://me@proxy:3128", "me:")],
)
def test_the_login_of_a_proxy_is_that_of_its_address(address: str, login: str) -> None:
    told = {"proxy-authorization": f"Basic {b64encode(login.encode()).decode()}"}
    assert web.proxy_login(address) == told


@pytest.mark.parametrize("address", [None, "http://proxy:3128"])
def test_a_proxy_without_a_login_gets_none(address: str | None) -> None:
    assert web.proxy_login(address) is None
