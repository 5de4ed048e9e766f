"""Whether the cluster is ready for a run: namespace, Kubeflow, service account, secrets, nodes, quotas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from fineprune.errors import without_credentials
from pipeline import server
from pipeline.checks.base import Line, Site
from pipeline.placement import NoRoomError, alike, place, shortage

_PULLED_WITH = {".dockerconfigjson", ".dockercfg"}  # the key of a secret that images are pulled with
_OLDEST = (2, 16)  # the first KFP that gives pods the user that the package asks for

# What KFP's driver and launcher and Argo's executor do as the service account (KFP 2.17, Argo 3.4 and later).
NEEDED = (
    ("create", "argoproj.io", "workflowtaskresults"),
    ("patch", "argoproj.io", "workflowtaskresults"),
    ("get", "", "configmaps"),
    ("get", "", "pods"),
    ("get", "", "secrets"),
)


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
    except server.UnreachableError as error:
        yield Line("fail", error.fault, error.remedy)
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
