"""Whether an image is in its registry, by the registry's own API (OCI distribution), without a login."""

from __future__ import annotations

import json
import re
from typing import Literal
from urllib.parse import urlencode, urlsplit

import requests

from fineprune.errors import FinePruneError, root_cause
from pipeline import web

_HUB = "registry-1.docker.io"
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class RegistryError(FinePruneError):
    """An image registry does not answer, or not as one."""


class UntrustedError(RegistryError):
    """It has no TLS, or a certificate that is not trusted here; the nodes may be told to take that."""


def look_up(image: str) -> Literal["there", "missing", "private"]:
    """Whether a registry has an image; ``private`` where it tells only those who log in.

    Args:
        image: ``host/name:tag`` or ``host/name@digest``; without a host, Docker Hub is asked.

    Raises:
        RegistryError: the registry does not answer, or not as one, or is not trusted.
    """
    host, name, reference = _parts(image)
    url = f"{_scheme(host)}://{host}/v2/{name}/manifests/{reference}"
    answer = _ask("HEAD", url, {"Accept": _MANIFESTS})
    if answer.status_code == 401 and (token := _anonymous(answer.headers.get("WWW-Authenticate", ""))):
        answer = _ask("HEAD", url, {"Accept": _MANIFESTS, "Authorization": f"Bearer {token}"})
    if answer.status_code == 200:
        return "there"
    if answer.status_code in (401, 403):
        return "private"
    if answer.status_code == 404:
        return "missing"
    raise RegistryError(f"{host}: expected an image registry, found HTTP {answer.status_code}")


def _parts(image: str) -> tuple[str, str, str]:
    """Host, name, and tag or digest; what is a host is told as docker tells it."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = (_HUB if first == "docker.io" else first), rest
    else:
        host, path = _HUB, image
    name, _, reference = path.partition("@") if "@" in path else path.rpartition(":")
    return host, name, reference


def _scheme(host: str) -> str:
    """As docker and containerd do unless they are told otherwise: only a registry of this machine may go
    without TLS.
    """
    return "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"


def _anonymous(challenge: str) -> str | None:
    """The token that anybody gets where a registry wants one; None where it gives none."""
    wanted = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = wanted.pop("realm", "")
    if not challenge.lower().startswith("bearer ") or not realm.startswith(("http://", "https://")):
        return None
    answer = _ask("GET", f"{realm}?{urlencode(wanted)}", {})
    try:
        given = json.loads(answer.content)
        token = given.get("token") or given.get("access_token")
    except (ValueError, AttributeError):
        return None
    return str(token) if answer.status_code == 200 and token else None


def _ask(method: str, url: str, headers: dict[str, str]) -> requests.Response:
    try:
        return web.ask(method, url, headers)
    except requests.RequestException as error:
        host = urlsplit(url).netloc
        if isinstance(error, requests.exceptions.SSLError):
            raise UntrustedError(f"{host}: {root_cause(error)}") from None
        raise RegistryError(f"{host}: the image registry does not answer: {root_cause(error)}") from None
