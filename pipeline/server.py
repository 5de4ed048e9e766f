"""Kubeflow Pipelines' API server: a kfp client for it, and its faults told in one line.

Where the server wants a login, one of these variables has it: ``KF_PIPELINES_TOKEN``,
``KF_PIPELINES_COOKIE``, or ``KF_PIPELINES_SA_TOKEN_PATH``, a file that is read again for every request, such
as a pod's projected token, which is renewed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import kfp
from kfp.client import ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiClient, ApiException
from kfp_server_api.rest import RESTClientObject
from urllib3.exceptions import HTTPError

from fineprune.environment import check_sendable
from fineprune.errors import FinePruneError, root_cause, without_credentials
from pipeline import web
from pipeline.settings import Settings

PATIENCE = 30  # seconds without an answer, of each of four tries; whole ones, or the client ignores them
_LOGIN = "set KF_PIPELINES_TOKEN, KF_PIPELINES_SA_TOKEN_PATH or KF_PIPELINES_COOKIE"


class KubeflowError(FinePruneError):
    """Kubeflow Pipelines does not answer, or refuses."""


class UnreachableError(KubeflowError):
    """It does not answer when it is asked first; says how to reach it, and keeps the fault alone."""

    remedy = (
        "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, or name its address with --endpoint"
    )

    def __init__(self, fault: str) -> None:
        super().__init__(f"{fault}; {self.remedy}")
        self.fault = fault


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which Kubeflow is meant."""
    parser.add_argument("--profile", help="of pipeline/settings.yaml; default: its default_profile")
    parser.add_argument("--endpoint", metavar="URL", help="of Kubeflow Pipelines")
    parser.add_argument("--namespace", help="of the runs, where Kubeflow serves several users")


def endpoint(given: argparse.Namespace, wanted: Settings) -> str:
    """The address of Kubeflow Pipelines: the flag's, ``KF_PIPELINES_ENDPOINT``, or the settings'."""
    return given.endpoint or os.environ.get("KF_PIPELINES_ENDPOINT") or wanted.endpoint


def namespace(given: argparse.Namespace, wanted: Settings) -> str:
    """The namespace of the runs: the flag's, or the settings'."""
    return given.namespace or wanted.namespace


def connect(endpoint: str, namespace: str) -> kfp.Client:
    """A client of a server that answers.

    Args:
        endpoint: the server's address.
        namespace: of the runs; it counts where Kubeflow Pipelines serves several users.

    Raises:
        ConfigError: the variable of the login cannot be sent.
        KubeflowError: there is no such server, or it does not let us in.
    """
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    check_sendable("KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE")
    place = without_credentials(endpoint)
    token_file = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH")
    with one_line_errors(f"reach {place}", UnreachableError), silence():
        client = kfp.Client(
            host=endpoint,
            # Set below. For none kfp would ask for it itself, for 25 s and with tracebacks if nobody answers.
            namespace="-",
            existing_token=os.environ.get("KF_PIPELINES_TOKEN"),
            cookies=os.environ.get("KF_PIPELINES_COOKIE"),
            credentials=ServiceAccountTokenVolumeCredentials(token_file) if token_file else None,
            proxy=web.proxy(endpoint),
            ssl_ca_cert=web.certificates(),
        )
        _limit_waiting(client._healthz_api.api_client)
        _log_in_to_proxy(client._healthz_api.api_client)
        many = client._healthz_api.healthz_service_get_healthz().multi_user
    if many is None:
        found = f"something else; if that is a login page, {_LOGIN}"
        raise KubeflowError(f"{place}: expected Kubeflow Pipelines, found {found}")
    client._context_setting["namespace"] = namespace if many else ""
    return client


def _limit_waiting(api: ApiClient) -> None:
    """Give up a request that nobody answers: kfp would wait for ever."""
    call = api.call_api

    def limited(*arguments: Any, _request_timeout: Any = None, **more: Any) -> Any:
        return call(*arguments, _request_timeout=_request_timeout or PATIENCE, **more)

    api.call_api = limited


def _log_in_to_proxy(api: ApiClient) -> None:
    """Send the login that the proxy's address holds: kfp takes no headers for it."""
    if login := web.proxy_login(api.configuration.proxy):
        api.configuration.proxy_headers = login
        api.rest_client = RESTClientObject(api.configuration)


def version(client: kfp.Client) -> str:
    """The tag that the server was released under; something else, or nothing, where it was built by hand.

    Raises:
        KubeflowError: the server does not answer.
    """
    with one_line_errors("ask for the version"):
        # Read as it comes: the client's own class for the answer leaves the tag out.
        answer = client._healthz_api.healthz_service_get_healthz(_preload_content=False)
    return str(json.loads(answer.data).get("tag_name", ""))


def run_page(client: kfp.Client, run_id: str) -> str:
    """The address of a run's page."""
    return f"{without_credentials(client._get_url_prefix())}/#/runs/details/{run_id}"


@contextlib.contextmanager
def one_line_errors(action: str, unreachable: type[KubeflowError] = KubeflowError) -> Iterator[None]:
    """Turn what the kfp client raises into one line.

    Args:
        action: what was tried.
        unreachable: the kind of error where the server does not answer.

    Raises:
        KubeflowError: the server does not answer, or refuses.
    """
    try:
        yield
    except ApiException as error:
        raise KubeflowError(f"Kubeflow Pipelines: cannot {action}: {_refusal(error)}") from None
    except (HTTPError, OSError, ValueError) as error:  # the last of an address or an answer that is none
        raise unreachable(f"Kubeflow Pipelines: cannot {action}: no answer: {root_cause(error)}") from None


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Swallow what kfp prints and warns of on success."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _refusal(error: ApiException) -> str:
    """What the server says is wrong, without the way that it took through the server."""
    try:
        body = json.loads(error.body or "")
        details = [detail["message"] for detail in body.get("details") or () if detail.get("message")]
        said = details[0] if details else body["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        said = error.reason
    hint = f"; {_LOGIN}" if error.status in (401, 403) else ""
    return f"{' '.join(str(said).split())} (HTTP {error.status}){hint}"
