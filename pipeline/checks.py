"""What must be true of a cluster before a run is worth starting. One check, one function."""

from __future__ import annotations

import os
import re
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import requests

from components import image
from fineprune.data.dvc_source import PREFIX as DVC
from fineprune.data.dvc_source import TrackedPath
from fineprune.environment import environment
from fineprune.errors import FinePruneError, StorageError, one_line, root_cause, without_credentials
from fineprune.storage import Bucket, split_url
from pipeline import image_registry, server, web
from pipeline.arguments import check_reachable
from pipeline.cluster import Cluster, ForbiddenError
from pipeline.package import Package
from pipeline.placement import NoRoomError, alike, place, shortage
from pipeline.settings import REACH_REGISTRY, Settings

_PULLED_WITH = {".dockerconfigjson", ".dockercfg"}  # the key of a secret that images are pulled with
_OLDEST = (2, 16)  # the first KFP that gives pods the user that the package asks for
_STORE_LOGIN = (
    "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for another store than AWS, AWS_ENDPOINT_URL"
)

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
    """What a check found, and, where it failed or a run may go on with something unwanted, what to do."""

    state: Literal["pass", "fail", "note", "skip"]
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Site:
    """What is checked: a cluster against the settings, for a pipeline and data from a source.

    Attributes:
        autoscaled: whether nodes are added when a pod needs them, so that one that lacks now is no fault.
    """

    cluster: Cluster
    settings: Settings
    package: Package
    namespace: str
    endpoint: str
    source: str
    autoscaled: bool = False


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
    """Kubeflow Pipelines answers from here, and is new enough."""
    place = without_credentials(site.endpoint)
    try:
        found = server.version(server.connect(site.endpoint, site.namespace))
    except server.KubeflowError as error:
        remedy = (
            "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, or name its address with --endpoint"
        )
        yield Line("fail", str(error), remedy)
        return
    wanted = ".".join(map(str, _OLDEST))
    number = re.match(r"v?(\d+)\.(\d+)\b", found)
    if number is None:
        yield Line("note", f"{place} answers, version unknown: expected {wanted} or newer")
    elif (int(number[1]), int(number[2])) < _OLDEST:
        yield Line("fail", f"{place}: expected version {wanted} or newer, found {found}", "upgrade Kubeflow")
    else:
        yield Line("pass", f"{place} answers, version {found}")


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
    """Every secret holds the keys that the stages read, or the login that images are pulled with."""
    for secret in site.settings.secrets:
        filled = site.cluster.filled_keys(site.namespace, secret.name)
        missing = {key: name for key, name in secret.keys.items() if key not in (filled or ())}
        if not missing:
            yield Line("pass", f"{secret.name} has {', '.join(secret.keys)}")
            continue
        lacks = f"{secret.name} has no {', '.join(missing)}"
        found = f"there is no secret {secret.name}" if filled is None else lacks
        yield Line("fail", found, f"set {', '.join(missing.values())} here and add --create-secrets")
    for name in site.settings.images.pull_secrets:
        filled = site.cluster.filled_keys(site.namespace, name)
        if filled is not None and filled & _PULLED_WITH:
            yield Line("pass", f"{name} has a login for images")
            continue
        found = f"there is no secret {name}" if filled is None else f"{name} has no .dockerconfigjson"
        yield Line("fail", found, f"kubectl create secret docker-registry {name} -n {site.namespace} …")


def images(site: Site) -> Iterator[Line]:
    """Every image is in the registry, or the nodes are said to have them."""
    wanted = site.settings.images
    if wanted.pull_policy == "Never":
        yield Line("skip", "pull_policy is Never: every node must have them")
        return
    names = [site.settings.image(stage, image(stage)) for stage, _ in site.settings.stages.items()]
    if wanted.registry is None:
        remedy = "set images.registry in pipeline/settings.yaml; pull_policy: Never where every node has them"
        yield Line("fail", f"a cluster cannot pull {names[0]} and the others: no registry is set", remedy)
        return
    found = {name: image_registry.look_up(name) for name in names}
    missing, private = ([n for n, state in found.items() if state == kind] for kind in ("missing", "private"))
    if missing:
        remedy = f"python docker/images.py --torch cuda --registry {wanted.registry} --push (or --torch cpu)"
        yield Line("fail", f"{wanted.registry} has no {', '.join(_short(name) for name in missing)}", remedy)
    elif private:
        remedy = f"docker manifest inspect {private[0]} tells; the pods log in by images.pull_secrets"
        yield Line("skip", f"{wanted.registry} tells only those who log in", remedy)
    else:
        yield Line("pass", f"{wanted.registry} has all {len(found)}")


def digests(site: Site) -> Iterator[Line]:
    """Every image is named by its digest, which another image never has."""
    wanted = site.settings.images
    tagged = [stage for stage, _ in site.settings.stages.items() if stage not in wanted.digests]
    if wanted.pull_policy == "Never":
        yield Line("skip", "pull_policy is Never: what a node has under the tag is run")
    elif tagged:
        why = (
            "a tag stays the same with other code, which Kubeflow's cache and nodes (IfNotPresent) then miss"
        )
        remedy = "set images.digests in pipeline/settings.yaml, as make images prints them"
        yield Line("note", f"none for {', '.join(tagged)}: {why}", remedy)
    else:
        yield Line("pass", "every image is named by its digest")


def nodes(site: Site) -> Iterator[Line]:
    """For every stage there is a node that it fits on, empty as that may be by then."""
    offered = site.cluster.nodes()
    for asked, stages in alike(site.settings):
        try:
            yield Line("pass", f"{', '.join(stages)}: {place(asked, offered)}")
        except NoRoomError as error:
            state: Literal["note", "fail"] = "note" if site.autoscaled else "fail"
            yield Line(state, f"{', '.join(stages)}: {error}", error.remedy)


def quotas(site: Site) -> Iterator[Line]:
    """What is left of each quota is enough for every stage, so that none waits for ever."""
    limits = site.cluster.quotas(site.namespace)
    groups = site.package.tasks.together()
    alone = [[stage] for stage, _ in site.settings.stages.items()]
    if not limits:
        yield Line("skip", f"{site.namespace} has none")
    for quota in limits:
        if short := shortage(quota, site.settings, alone):
            remedy = "wait for other runs to end, have it raised, or ask for less in pipeline/settings.yaml"
            yield Line("fail", f"{quota.name}: {'; '.join(short)}", remedy)
        elif short := shortage(quota, site.settings, groups):
            # Argo takes a full quota for a passing fault, and asks for the pod again.
            found = "is enough for one stage at a time, not for all of a run that could run together"
            yield Line("pass", f"{quota.name} {found}: {'; '.join(short)}")
        else:
            most = max(map(len, groups))
            yield Line("pass", f"{quota.name} is enough for one run, up to {most} stages at a time")


def mlflow(site: Site) -> Iterator[Line]:
    """The registry answers from here and lets us in, and the pods too."""
    uri = site.settings.registry
    address = without_credentials(uri)
    if urlsplit(uri).scheme not in ("http", "https"):
        yield Line("fail", f"{address}: expected the http:// or https:// address of a server", REACH_REGISTRY)
        return
    host = urlsplit(site.settings.mlflow.address).netloc
    try:
        status, said = _ask_mlflow(uri)
        # Over a port-forward it is asked by another name than the pods ask it by.
        other = status == 200 and host != urlsplit(uri).netloc.rpartition("@")[2]
        to_pods = _ask_mlflow(uri, host) if other else (status, said)
    except requests.RequestException as error:
        yield Line("fail", f"{address}: no answer: {root_cause(error)}", REACH_REGISTRY)
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
        yield Line("fail", f"{address}: expected MLflow, found HTTP {status}", REACH_REGISTRY)


def data(site: Site) -> Iterator[Line]:
    """The source of the data answers from here, and has what the run will read."""
    check_reachable(site.source)
    if site.source.startswith("s3://"):
        yield _stored(site)
    elif site.source.startswith(DVC):
        yield _tracked(site)
    else:
        yield Line("skip", f"{site.source} needs no store; name another source with --source")


def _stored(site: Site) -> Line:
    """Whether the object store has what ingest will fetch."""
    name, key = split_url(site.source)
    bucket = Bucket(name, endpoint=_store(site))
    try:
        bucket.check()
        there = bucket.named(key)
    except StorageError as error:
        return Line("fail", str(error), _STORE_LOGIN)
    if not there:
        found = f"{site.source}: there is no such object, nor any below it"
        return Line("fail", found, "put the data there, or name another source with --source")
    return Line("pass", f"{site.source} is there")


def _tracked(site: Site) -> Line:
    """Whether git gives a pod the repository, and the object store what DVC tracks there."""
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        try:
            with environment(**_git_of_a_pod(scratch)):
                tracked = TrackedPath(site.source, Path(scratch), endpoint=_store(site))
        except StorageError as error:
            return Line("fail", str(error), "pods clone without a login: the repository must ask for none")
        try:
            place = tracked.in_remote()
            found = f"is {tracked.md5} at {tracked.commit[:12]}, and in {place}"
        except StorageError as error:
            return Line("fail", str(error), _STORE_LOGIN)
    return Line("pass", f"{without_credentials(site.source)} {found}")


def _git_of_a_pod(home: str) -> dict[str, str]:
    """Variables with which git reads none of this user's settings and logins: a pod has neither."""
    return {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ASKPASS": "",  # nor SSH_ASKPASS, which git would turn to
        "HOME": home,  # ~/.netrc
    }


def _store(site: Site) -> str | None:
    """The object store's address. boto3 reads the variables itself; the settings have the pods' address."""
    given = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    return None if given else site.settings.s3.address


@dataclass(frozen=True)
class Check:
    """A check by its name.

    Attributes:
        name: how it is shown.
        ask: gives its lines.
        needs_namespace: whether it looks inside the namespace, and is pointless without it.
        needs_administrator: whether it asks what a user of the namespace alone may not.
    """

    name: str
    ask: Callable[[Site], Iterator[Line]]
    needs_namespace: bool = False
    needs_administrator: bool = False


_NAMESPACE = Check("namespace", namespace)

CHECKS = (
    _NAMESPACE,
    Check("kubeflow", kubeflow),
    Check("service account", service_account, needs_namespace=True, needs_administrator=True),
    Check("secrets", secrets, needs_namespace=True),
    Check("images", images),
    Check("digests", digests),
    Check("nodes", nodes, needs_administrator=True),
    Check("quotas", quotas, needs_namespace=True),
    Check("mlflow", mlflow),
    Check("data", data),
)


def run(site: Site) -> Iterator[tuple[str, Line]]:
    """The name of each check with what it found. What it could not find out is a failure, unless only
    administrators may ask for it.
    """
    there = True
    for check in CHECKS:
        if check.needs_namespace and not there:
            yield check.name, Line("skip", f"there is no namespace {site.namespace} to look in")
            continue
        try:
            for line in check.ask(site):
                there = there and not (check is _NAMESPACE and line.state == "fail")
                yield check.name, line
        except FinePruneError as error:
            hidden = check.needs_administrator and isinstance(error, ForbiddenError)
            yield check.name, Line("note" if hidden else "fail", one_line(error))


def _short(image: str) -> str:
    return image.rpartition("/")[2]


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
