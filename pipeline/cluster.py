"""A Kubernetes cluster as preflight sees it. The only file that imports kubernetes.

What comes back is plain data; what the cluster refuses is one line. No message repeats what a secret holds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import kubernetes.client
import kubernetes.config
import yaml
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError

from fineprune.errors import FinePruneError, one_line, root_cause
from pipeline import web
from pipeline.settings import Toleration

_SECONDS = 15  # for one answer


class ClusterError(FinePruneError):
    """A Kubernetes cluster does not answer, or refuses."""


class ForbiddenError(ClusterError):
    """One may not ask that; a run may be able to go on all the same."""


@dataclass(frozen=True)
class Taint:
    """A taint of a node; ``NoSchedule`` and ``NoExecute`` keep a pod away that does not tolerate it."""

    key: str
    value: str | None
    effect: str

    def __str__(self) -> str:
        return f"{self.key}{f'={self.value}' if self.value else ''}:{self.effect}"

    def tolerated(self, by: Toleration) -> bool:
        """Whether a pod with this toleration may run there."""
        value = by.operator == "Exists" or (by.value or "") == (self.value or "")
        key = by.key == self.key or (not by.key and by.operator == "Exists")  # without a key: of any
        return key and value and by.effect in (None, self.effect)


@dataclass(frozen=True)
class Node:
    """A node, and what it offers to pods: CPU cores, bytes of memory, devices."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    offers: Mapping[str, Decimal]
    ready: bool


@dataclass(frozen=True)
class Quota:
    """A resource quota of a namespace: what of it is left."""

    name: str
    left: Mapping[str, Decimal]


class Cluster:
    """The cluster of the kubeconfig's current context, or the one around this pod.

    Args:
        context: of the kubeconfig; None for the current one.

    Raises:
        ClusterError: there is no kubeconfig, no cluster answers, or it does not know us.
    """

    def __init__(self, context: str | None = None) -> None:
        configuration = _configuration(context)
        api = kubernetes.client.ApiClient(configuration)
        self.address = str(configuration.host)
        self._core = kubernetes.client.CoreV1Api(api)
        self._authorization = kubernetes.client.AuthorizationV1Api(api)
        with self._one_line_errors("ask for the version"):
            kubernetes.client.VersionApi(api).get_code(_request_timeout=_SECONDS)

    def namespace_phase(self, name: str) -> str | None:
        """``Active`` or ``Terminating``; None without such a namespace."""
        with self._one_line_errors(f"get namespace {name}"):
            found = _or_none(lambda: self._core.read_namespace(name, _request_timeout=_SECONDS))
        return str(found.status.phase) if found else None

    def has_service_account(self, namespace: str, name: str) -> bool:
        """Whether there is such a service account."""
        with self._one_line_errors(f"get serviceaccounts in {namespace}"):
            read = self._core.read_namespaced_service_account
            return _or_none(lambda: read(name, namespace, _request_timeout=_SECONDS)) is not None

    def allows(self, namespace: str, account: str, verb: str, group: str, resource: str) -> bool:
        """Whether a service account may do something in its namespace."""
        review = kubernetes.client.V1LocalSubjectAccessReview(
            metadata=kubernetes.client.V1ObjectMeta(namespace=namespace),
            spec=kubernetes.client.V1SubjectAccessReviewSpec(
                user=f"system:serviceaccount:{namespace}:{account}",
                groups=[
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{namespace}",
                    "system:authenticated",
                ],
                resource_attributes=kubernetes.client.V1ResourceAttributes(
                    namespace=namespace, verb=verb, group=group, resource=resource
                ),
            ),
        )
        with self._one_line_errors(f"create localsubjectaccessreviews in {namespace}"):
            ask = self._authorization.create_namespaced_local_subject_access_review
            return bool(ask(namespace, review, _request_timeout=_SECONDS).status.allowed)

    def filled_keys(self, namespace: str, secret: str) -> set[str] | None:
        """The keys of a secret that are not empty; None without such a secret."""
        with self._one_line_errors(f"get secrets in {namespace}"):
            read = self._core.read_namespaced_secret
            found = _or_none(lambda: read(secret, namespace, _request_timeout=_SECONDS))
        return {key for key, value in (found.data or {}).items() if value} if found else None

    def write_secret(self, namespace: str, secret: str, values: Mapping[str, str]) -> bool:
        """Make a secret, or change these keys of it; True if it was made."""
        there = self.filled_keys(namespace, secret) is not None
        body = kubernetes.client.V1Secret(
            api_version="v1",
            kind="Secret",
            type=None if there else "Opaque",  # the type of a secret never changes
            metadata=kubernetes.client.V1ObjectMeta(
                name=secret, namespace=namespace, labels={"app.kubernetes.io/managed-by": "fineprune"}
            ),
            string_data=dict(values),
        )
        with self._one_line_errors(f"write secret {secret} in {namespace}", quote=False):
            if there:
                self._core.patch_namespaced_secret(secret, namespace, body, _request_timeout=_SECONDS)
            else:
                self._core.create_namespaced_secret(namespace, body, _request_timeout=_SECONDS)
        return not there

    def nodes(self) -> list[Node]:
        """Every node; one that takes no pods is not ready."""
        with self._one_line_errors("list nodes"):
            return [_node(item) for item in self._core.list_node(_request_timeout=_SECONDS).items]

    def quotas(self, namespace: str) -> list[Quota]:
        """The namespace's quotas that hold for every pod."""
        with self._one_line_errors(f"list resourcequotas in {namespace}"):
            read = self._core.list_namespaced_resource_quota
            items = read(namespace, _request_timeout=_SECONDS).items
        return [_quota(item) for item in items if not item.spec.scopes and not item.spec.scope_selector]

    @contextlib.contextmanager
    def _one_line_errors(self, action: str, *, quote: bool = True) -> Iterator[None]:
        """Turn what the kubernetes client raises into one line; the answer is left out unless ``quote``."""
        try:
            yield
        except ApiException as error:
            if error.status == 401:
                raise ClusterError(f"{self.address}: does not know you; log in to the cluster") from None
            if error.status == 403:
                raise ForbiddenError(
                    f"you may not {action}; ask for that right, or an administrator"
                ) from None
            said = f": {_message(error)}" if quote else ""
            raise ClusterError(f"cannot {action}: HTTP {error.status} {error.reason}{said}") from None
        except (HTTPError, OSError) as error:
            raise ClusterError(f"{self.address}: the cluster does not answer: {root_cause(error)}") from None


def _configuration(context: str | None) -> Any:
    configuration = kubernetes.client.Configuration()
    configuration.retries = False
    try:
        kubernetes.config.load_kube_config(client_configuration=configuration, context=context)
    except (
        yaml.YAMLError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:  # what its client lets through of a damaged one
        raise ClusterError(f"the kubeconfig is damaged: {one_line(error)}") from None
    except kubernetes.config.ConfigException as error:
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except kubernetes.config.ConfigException:
            raise ClusterError(f"no cluster is configured, see KUBECONFIG: {one_line(error)}") from None
    configuration.proxy = web.proxy(configuration.host)  # its client asks the environment for none
    configuration.proxy_headers = web.proxy_login(configuration.proxy)
    return configuration


def _message(error: ApiException) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return "no reason given"


def _or_none(ask: Any) -> Any:
    try:
        return ask()
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def _node(item: Any) -> Node:
    conditions = {entry.type: entry.status for entry in item.status.conditions or ()}
    return Node(
        name=item.metadata.name,
        labels=item.metadata.labels or {},
        taints=tuple(Taint(taint.key, taint.value, taint.effect) for taint in item.spec.taints or ()),
        offers={name: parse_quantity(text) for name, text in (item.status.allocatable or {}).items()},
        ready=conditions.get("Ready") == "True" and not item.spec.unschedulable,
    )


def _quota(item: Any) -> Quota:
    hard, used = item.status.hard or item.spec.hard or {}, item.status.used or {}
    left = {name: parse_quantity(text) - parse_quantity(used.get(name, "0")) for name, text in hard.items()}
    return Quota(item.metadata.name, left)
