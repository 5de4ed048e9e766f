"""HTTP from this machine: through its proxies, and by the certificates that it trusts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.util import make_headers

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


def names_server(address: str) -> bool:
    """Whether an address is a server's, ``http://…`` or ``https://…``, and not a file's of this machine."""
    try:
        told = urlsplit(address)
        return told.scheme in ("http", "https") and bool(told.hostname)
    except ValueError:  # of an address that is none
        return False


def proxy(url: str) -> str | None:
    """The proxy that ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` name for an address."""
    found: str | None = select_proxy(url, get_environ_proxies(url))
    return found


def proxy_login(address: str | None) -> dict[str, str] | None:
    """The header with the login that a proxy's address holds, which urllib3 by itself does not send; None for
    none.
    """
    told = urlsplit(address or "")
    login = f"{unquote(told.username or '')}:{unquote(told.password or '')}"
    return dict(make_headers(proxy_basic_auth=login)) if told.username else None


def certificates() -> str | None:
    """The file of certificates to trust instead of those that the libraries bring along."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps a login in ``~/.netrc`` out."""
    return request
