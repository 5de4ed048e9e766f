"""Kubeflow Pipelines' server: how it is reached and logged in to, and what is said where there is none."""

import argparse
import io
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp_server_api import ApiException

from pipeline import __main__, progress, settings
from pipeline.server import (
    KubeflowError,
    UnreachableError,
    connect,
    endpoint,
    namespace,
    one_line_errors,
    run_page,
    version,
)

from .kfp_stand_in import KfpStandIn
from .proxy_stand_in import ProxyStandIn
from .submitting import RUN_ID, refused, submit

pytestmark = pytest.mark.usefixtures("at_home", "check_current")


@pytest.mark.parametrize(
    ("flag", "variable", "found"),
    [
        ("http://flag", "http://variable", "http://flag"),
        (None, "http://variable", "http://variable"),
        (None, "", settings.load().endpoint),
    ],
)
def test_the_flag_wins_over_the_environment_and_that_over_the_settings(
    monkeypatch: pytest.MonkeyPatch, flag: str | None, variable: str, found: str
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", variable)
    assert endpoint(argparse.Namespace(endpoint=flag), settings.load()) == found


@pytest.mark.parametrize(("flag", "found"), [("team-a", "team-a"), (None, settings.load().namespace)])
def test_the_namespace_is_the_flag_s_or_the_settings(flag: str | None, found: str) -> None:
    assert namespace(argparse.Namespace(namespace=flag), settings.load()) == found


def test_a_server_of_several_users_gets_the_namespace() -> None:
    with KfpStandIn(multi_user=True) as kfp:
        assert submit(kfp, "--namespace", "team-a") == 0
        assert [experiment["namespace"] for experiment in kfp.experiments.values()] == ["team-a"]


def test_a_server_of_one_user_gets_none(kfp: KfpStandIn) -> None:
    assert submit(kfp, "--namespace", "team-a") == 0
    assert [experiment.get("namespace", "") for experiment in kfp.experiments.values()] == [""]


def test_a_login(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(token="planted") as kfp:
        assert submit(kfp) == 2
        said = refused(capsys)
        assert "no user identity header" in said
        assert said.endswith(
            "(HTTP 401); set KF_PIPELINES_TOKEN, KF_PIPELINES_SA_TOKEN_PATH or KF_PIPELINES_COOKIE"
        )
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "planted")
        assert submit(kfp) == 0
        printed = capsys.readouterr()
        assert "planted" not in printed.out + printed.err


@pytest.mark.parametrize("variable", ["KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE"])
def test_a_login_that_cannot_be_sent_is_not_repeated(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "planted\n")
    assert submit(kfp) == 2
    assert refused(capsys) == f"{variable}: expected one line of ASCII characters, found a line break in it"


def test_nor_one_of_a_file(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("planted\nplanted")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert submit(kfp) == 2
    assert "no answer: Invalid header value …" in refused(capsys)


def test_an_address_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["submit", "--endpoint", "http://[::1"]) == 2
    assert "cannot reach http://[::1: no answer: " in refused(capsys)


@pytest.mark.usefixtures("judged")
def test_a_token_that_is_renewed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the projected token of a pod is, which lives shorter than a training lasts."""
    file = tmp_path / "token"
    file.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    with KfpStandIn(token="first", run_id=RUN_ID) as kfp:
        assert submit(kfp) == 0

        def renewed(_: float) -> None:
            kfp.token = f"token-{kfp.looks[RUN_ID]}"
            file.write_text(kfp.token)

        watching = progress.Watch(connect(kfp.url, "kubeflow"), RUN_ID, "kubeflow", {}, out=io.StringIO())
        assert watching.follow(sleep=renewed).state == "SUCCEEDED"


class KfpClient:
    """As much of kfp's client as a connection looks at."""

    def __init__(self) -> None:
        self._healthz_api, self._context_setting = self, {}
        self.api_client = SimpleNamespace(call_api=None, configuration=SimpleNamespace(proxy=None))

    def healthz_service_get_healthz(self) -> SimpleNamespace:
        return SimpleNamespace(multi_user=False)


@pytest.mark.parametrize(
    ("variable", "argument"), [("KF_PIPELINES_COOKIE", "cookies"), ("KF_PIPELINES_TOKEN", "existing_token")]
)
def test_a_login_is_the_one_that_the_environment_has(
    monkeypatch: pytest.MonkeyPatch, variable: str, argument: str
) -> None:
    monkeypatch.setenv(variable, "planted")
    given: dict[str, Any] = {}
    monkeypatch.setattr("kfp.Client", lambda **arguments: given.update(arguments) or KfpClient())
    connect("https://kubeflow.example", "kubeflow")
    logins = {name: given[name] for name in ("cookies", "existing_token", "credentials")}
    assert logins == {"cookies": None, "existing_token": None, "credentials": None} | {argument: "planted"}


def test_the_page_of_a_run_is_told_without_a_login() -> None:
    client: Any = SimpleNamespace(_get_url_prefix=lambda: "http://me:planted@kfp.example/pipeline")
    assert run_page(client, "r1") == "http://kfp.example/pipeline/#/runs/details/r1"


def test_a_server_that_tells_no_version() -> None:
    answer = SimpleNamespace(data=b'{"multi_user": false}')
    healthz = SimpleNamespace(healthz_service_get_healthz=lambda **_: answer)
    client: Any = SimpleNamespace(_healthz_api=healthz)
    assert version(client) == ""


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"message": "by a long way: bad", "details": [{}, {"message": "bad"}]}, "bad (HTTP 400)"),
        (400, {"message": "bad\n input", "details": None}, "bad input (HTTP 400)"),
        (502, None, "Bad Gateway (HTTP 502)"),
        (502, ["no object"], "Bad Gateway (HTTP 502)"),
        (502, {"details": ["no object"]}, "Bad Gateway (HTTP 502)"),
        (
            403,
            {"message": "no"},
            "no (HTTP 403); set KF_PIPELINES_TOKEN, KF_PIPELINES_SA_TOKEN_PATH or KF_PIPELINES_COOKIE",
        ),
    ],
)
def test_a_refusal_is_told_in_the_server_s_last_words(status: int, body: Any, said: str) -> None:
    refusal = ApiException(status=status, reason="Bad Gateway")
    refusal.body = body and json.dumps(body)
    with pytest.raises(KubeflowError) as error, one_line_errors("submit the run"):
        raise refusal
    assert str(error.value) == f"Kubeflow Pipelines: cannot submit the run: {said}"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_of_a_company_and_its_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/etc/company.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    with monkeypatch.context() as patched:
        given: dict[str, Any] = {}
        patched.setattr("kfp.Client", lambda **arguments: given.update(arguments) or KfpClient())
        connect("https://kubeflow.example", "kubeflow")
        assert (given["ssl_ca_cert"], given["proxy"]) == ("/etc/company.pem", "http://proxy.example:3128")
        connect("https://kubeflow.inside.example", "kubeflow")
        assert given["proxy"] is None


def test_a_proxy_that_wants_a_login(proxy: ProxyStandIn) -> None:
    connect("http://kubeflow.example", "kubeflow")
    assert proxy.asked == ["http://kubeflow.example/apis/v2beta1/healthz"]


def test_a_server_that_is_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.server.PATIENCE", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert __main__.main(["submit", "--endpoint", address]) == 2
    assert re.match(rf"Kubeflow Pipelines: cannot reach {address}: no answer: .*timed out", refused(capsys))


def test_no_server(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert __main__.main(["submit", "--endpoint", "http://me:planted@127.0.0.1:1"]) == 2
    said = refused(capsys)
    assert said.startswith("Kubeflow Pipelines: cannot reach http://127.0.0.1:1: no answer: ")
    assert said.endswith(f"Connection refused; {UnreachableError.remedy}")
    assert "planted" not in said
    assert caplog.records == []  # of each try


def test_a_login_page_is_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>log in</html>")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    try:
        assert __main__.main(["submit", "--endpoint", f"http://127.0.0.1:{server.server_port}"]) == 2
    finally:
        server.shutdown()
        server.server_close()
    assert refused(capsys).endswith(
        "expected Kubeflow Pipelines, found something else; if that is a login page, set KF_PIPELINES_TOKEN, "
        "KF_PIPELINES_SA_TOKEN_PATH or KF_PIPELINES_COOKIE"
    )
