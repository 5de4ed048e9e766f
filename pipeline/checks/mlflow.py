"""Whether the registry lets us in, and the pods."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import requests

from fineprune.environment import check_sendable
from fineprune.errors import root_cause, without_credentials
from pipeline import web
from pipeline.checks.base import Line, Site
from pipeline.settings import REACH_MLFLOW


def answers(site: Site) -> Iterator[Line]:
    """The registry answers from here and lets us in, and the pods too."""
    check_sendable("MLFLOW_TRACKING_TOKEN")
    uri = site.settings.tracking_uri
    address = without_credentials(uri)
    if not web.names_server(uri):
        yield Line("fail", f"{address}: expected the http:// or https:// address of a server", REACH_MLFLOW)
        return
    host = urlsplit(site.settings.mlflow.address).netloc
    try:
        status, said = _ask_mlflow(uri)
        # Over a port-forward it is asked by another name than the pods ask it by.
        other = status == 200 and host != urlsplit(uri).netloc.rpartition("@")[2]
        to_pods = _ask_mlflow(uri, host) if other else (status, said)
    except requests.RequestException as error:
        yield Line("fail", f"{address}: no answer: {root_cause(error)}", REACH_MLFLOW)
        return
    if status == 200 and _refuses_host(*to_pods):
        remedy = f"start mlflow server with --allowed-hosts that name {host} beside localhost"
        yield Line("fail", f"{address}: refuses the host name that the pods use, {host}", remedy)
    elif status == 200:
        yield Line("pass", f"{address} answers")
    elif status == 401:
        yield Line(
            "fail", f"{address}: refuses the login", "set MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN"
        )
    elif _refuses_host(status, said):
        yield Line("fail", f"{address}: refuses this host name", "start mlflow server with --allowed-hosts")
    else:
        yield Line("fail", f"{address}: expected MLflow, found HTTP {status}", REACH_MLFLOW)


def _refuses_host(status: int, said: str) -> bool:
    return status == 403 and "Host" in said


def _ask_mlflow(uri: str, host: str | None = None) -> tuple[int, str]:
    """HTTP status and text of a question that needs a login; ``/health`` alone would need none.

    Args:
        uri: of the server.
        host: what to call it in the request; None for what the URI says.
    """
    told = urlsplit(uri)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or unquote(told.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or unquote(told.password or "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    login = b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"} if user and password else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Host": host} if host else {}
    url = f"{uri.rstrip('/')}/api/2.0/mlflow/registered-models/search?max_results=1"
    answer = web.ask("GET", url, headers)
    return answer.status_code, answer.text[:500]
