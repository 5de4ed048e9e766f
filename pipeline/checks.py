"""What must be true of a cluster before a run is worth starting. One check, one function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import urllib3

from fineprune.data.dvc_source import PREFIX as DVC
from fineprune.data.dvc_source import resolve
from fineprune.errors import FinePruneError, without_credentials
from fineprune.storage import Bucket, split_url
from pipeline import server
from pipeline.causes import cause
from pipeline.cluster import Cluster
from pipeline.placement import NoRoomError, alike, place, shortage
from pipeline.settings import Settings

_SECONDS = 10.0  # for MLflow's answer

# What KFP's driver and launcher and Argo's executor do as the service account (KFP 2.17, Argo 3.4 and later).
NEEDED = (
    ("create", "argoproj.io", "workflowtaskresults"),
    ("patch", "argoproj.io", "workflowtaskresults"),
    ("get", "", "configmaps"),
    ("get", "", "pods"),
    ("get", "", "secrets"),
)


@dataclass(frozen=True)
class Line:
    """What a check found, and, where it failed, what to do."""

    state: Literal["pass", "fail", "skip"]
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Site:
    """What is checked: a cluster against the settings, for data from a source."""

    cluster: Cluster
    settings: Settings
    namespace: str
    endpoint: str
    source: str


def namespace(site: Site) -> Iterator[Line]:
    """The namespace of the runs is there."""
    phase = site.cluster.namespace_phase(site.namespace)
    if phase == "Active":
        yield Line("pass", f"{site.namespace} is there")
    elif phase:
        yield Line("fail", f"{site.namespace} is {phase.lower()}", "wait, or name another with --namespace")
    else:
        remedy = f"kubectl create namespace {site.namespace}, or name another with --namespace"
        yield Line("fail", f"there is no namespace {site.namespace}", remedy)


def kubeflow(site: Site) -> Iterator[Line]:
    """Kubeflow Pipelines answers from here."""
    try:
        server.connect(site.endpoint, site.namespace)
    except server.KubeflowError as error:
        remedy = (
            "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, or name its address with --endpoint"
        )
        yield Line("fail", str(error), remedy)
    else:
        yield Line("pass", f"{without_credentials(site.endpoint)} answers")


def service_account(site: Site) -> Iterator[Line]:
    """The service account of the runs is there, and may do what a run does."""
    account, where = site.settings.service_account, site.namespace
    if not site.cluster.has_service_account(where, account):
        remedy = (
            "set service_account in pipeline/settings.yaml (with many users Kubeflow calls it default-editor)"
        )
        yield Line("fail", f"there is no service account {account}", remedy)
        return
    denied = [
        f"{verb} {resource}{f'.{group}' if group else ''}"
        for verb, group, resource in NEEDED
        if not site.cluster.allows(where, account, verb, group, resource)
    ]
    if denied:
        remedy = f"give it a role that allows this; Kubeflow's is pipeline-runner, in namespace {where}"
        yield Line("fail", f"{account} may not {', '.join(denied)}", remedy)
    else:
        yield Line("pass", f"{account} may do what a run does")


def secrets(site: Site) -> Iterator[Line]:
    """Every secret holds the keys that the stages read."""
    for secret in site.settings.secrets:
        filled = site.cluster.filled_keys(site.namespace, secret.name)
        missing = {key: name for key, name in secret.keys.items() if key not in (filled or ())}
        if not missing:
            yield Line("pass", f"{secret.name} has {', '.join(secret.keys)}")
            continue
        lacks = f"{secret.name} has no {', '.join(missing)}"
        found = f"there is no secret {secret.name}" if filled is None else lacks
        yield Line("fail", found, f"set {', '.join(missing.values())} here and add --create-secrets")


def nodes(site: Site) -> Iterator[Line]:
    """For every stage there is a node that it fits on, empty as that may be by then."""
    offered = site.cluster.nodes()
    for asked, stages in alike(site.settings):
        try:
            yield Line("pass", f"{', '.join(stages)}: {place(asked, offered)}")
        except NoRoomError as error:
            yield Line("fail", f"{', '.join(stages)}: {error}", error.remedy)


def storage_class(site: Site) -> Iterator[Line]:
    """The storage class that the stores in the namespace want is there."""
    wanted, classes = site.settings.storage.storage_class, site.cluster.storage_classes()
    there = wanted in classes if wanted else any(classes.values())
    known = ", ".join(classes) or "none"
    if there:
        name = wanted or next(name for name, default in classes.items() if default)
        yield Line("pass", f"{name} is there{'' if wanted else ', and the default'}")
    else:
        found = f"there is no class {wanted}" if wanted else "no class is the default one"
        remedy = "set storage.storage_class in pipeline/settings.yaml to one that is there"
        yield Line("fail", f"{found}; there are: {known}", remedy)


def quotas(site: Site) -> Iterator[Line]:
    """What is left of each quota is enough for the largest stage, so that none waits for ever."""
    limits = site.cluster.quotas(site.namespace)
    if not limits:
        yield Line("skip", f"{site.namespace} has none")
    for quota in limits:
        if short := shortage(quota, site.settings):
            remedy = "wait for other runs to end, have it raised, or ask for less in pipeline/settings.yaml"
            yield Line("fail", f"{quota.name}: {'; '.join(short)}", remedy)
        else:
            yield Line("pass", f"{quota.name} leaves room for the largest stage")


def mlflow(site: Site) -> Iterator[Line]:
    """The registry answers from here and lets us in."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or site.settings.mlflow.address
    address = without_credentials(uri)
    reach = "set MLFLOW_TRACKING_URI to its address from here, such as that of a kubectl port-forward"
    if urlsplit(uri).scheme not in ("http", "https"):
        yield Line("fail", f"{address}: expected the http:// or https:// address of a server", reach)
        return
    try:
        status, said = _ask_mlflow(uri)
    except urllib3.exceptions.HTTPError as error:
        yield Line("fail", f"{address}: no answer: {cause(error)}", reach)
        return
    if status == 200:
        yield Line("pass", f"{address} answers")
    elif status == 401:
        yield Line(
            "fail", f"{address}: refuses the login", "set MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN"
        )
    elif status == 403 and "Host" in said:
        yield Line("fail", f"{address}: refuses this host name", "start mlflow server with --allowed-hosts")
    else:
        yield Line("fail", f"{address}: expected MLflow, found HTTP {status}", reach)


def data(site: Site) -> Iterator[Line]:
    """The source of the data answers from here."""
    source = without_credentials(site.source)
    remedy = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for another store than AWS, AWS_ENDPOINT_URL"
    if site.source.startswith("s3://"):
        name, _ = split_url(site.source)
        # boto3 reads the variable itself; the settings have the address that the pods use.
        address = None if os.environ.get("AWS_ENDPOINT_URL") else site.settings.s3.address
        try:
            Bucket(name, endpoint=address).check()
        except FinePruneError as error:
            yield Line("fail", str(error), remedy)
        else:
            yield Line("pass", f"s3://{name} answers")
    elif site.source.startswith(DVC):
        commit, md5 = resolve(site.source)
        yield Line("pass", f"{source} is {md5} at {commit[:12]}")
    else:
        yield Line("skip", f"{source} needs no store; name another source with --source")


Check = Callable[[Site], Iterator[Line]]

CHECKS: tuple[Check, ...] = (
    namespace,
    kubeflow,
    service_account,
    secrets,
    nodes,
    storage_class,
    quotas,
    mlflow,
    data,
)

_INSIDE = (service_account, secrets, quotas)  # pointless without the namespace


def run(site: Site, checks: Sequence[Check] = CHECKS) -> Iterator[tuple[str, Line]]:
    """The name of each check with what it found; what it could not find out is a failure."""
    there = True
    for check in checks:
        name = check.__name__.replace("_", " ")
        if check in _INSIDE and not there:
            yield name, Line("skip", f"there is no namespace {site.namespace} to look in")
            continue
        try:
            for line in check(site):
                there = there and not (check is namespace and line.state == "fail")
                yield name, line
        except FinePruneError as error:
            yield name, Line("fail", " ".join(str(error).split()))


def _ask_mlflow(uri: str) -> tuple[int, str]:
    """HTTP status and text of a question that needs a login; ``/health`` alone would need none."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    headers = dict(urllib3.make_headers(basic_auth=f"{user}:{password}")) if user and password else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{uri.rstrip('/')}/api/2.0/mlflow/registered-models/search?max_results=1"
    answer = urllib3.request("GET", url, headers=headers, timeout=_SECONDS, retries=False)
    return answer.status, answer.data[:500].decode(errors="replace")
