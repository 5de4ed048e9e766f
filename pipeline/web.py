"""HTTP from this machine: through its proxies, and by the certificates that it trusts."""

from __future__ import annotations

import os
from collections.abc import Mapping

import requests
from requests.utils import get_environ_proxies, select_proxy

_SECONDS = 10.0  # for one answer


def ask(method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
    """One request, without a login of its own and without following where it is sent.

    Raises:
        requests.RequestException: nobody answers.
    """
    return requests.request(
        method,
        url,
        headers=dict(headers),
        auth=_as_it_is,
        timeout=_SECONDS,
        allow_redirects=False,
        verify=certificates() or True,
    )


def proxy(url: str) -> str | None:
    """The proxy that ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` name for an address."""
    found: str | None = select_proxy(url, get_environ_proxies(url))
    return found


def certificates() -> str | None:
    """The file of certificates to trust instead of those that the libraries bring along."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps a login in ``~/.netrc`` out."""
    return request
