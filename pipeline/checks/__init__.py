"""What must be true of a cluster before a run is worth starting. One check, one function."""

from __future__ import annotations

from collections.abc import Iterator

from fineprune.errors import FinePruneError, one_line
from pipeline.checks import cluster, data, images, mlflow
from pipeline.checks.base import Check, Line, Site
from pipeline.cluster import ForbiddenError

_NAMESPACE = Check("namespace", cluster.namespace)

CHECKS = (
    _NAMESPACE,
    Check("kubeflow", cluster.kubeflow),
    Check("service account", cluster.service_account, needs_namespace=True, needs_administrator=True),
    Check("secrets", cluster.secrets, needs_namespace=True),
    Check("images", images.in_registry),
    Check("digests", images.digests),
    Check("nodes", cluster.nodes, needs_administrator=True),
    Check("quotas", cluster.quotas, needs_namespace=True),
    Check("mlflow", mlflow.answers),
    Check("data", data.source),
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
