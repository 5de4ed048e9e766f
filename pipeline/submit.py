"""``python -m pipeline submit``: start a run with typed parameters, and follow it to its verdict.

Exit codes: 0 submitted, or with ``--watch`` promoted; 3 held; 1 the run failed, or its verdict could not be
read (what is not known to be promoted counts as not promoted); 2 a fault that a user can mend.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import kfp

from fineprune.errors import TrackingError, without_credentials
from pipeline import compile as compiling
from pipeline import exit_codes, settings, watch
from pipeline.arguments import add_run_arguments, run_parameters
from pipeline.package import Package, package_file
from pipeline.server import connect, run_page, silence, told
from pipeline.settings import ARGO_RUNS, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_run_arguments(parser)
    parser.add_argument("--profile", help="of pipeline/settings.yaml; its default profile without")
    parser.add_argument("--endpoint", metavar="URL", help="of Kubeflow Pipelines")
    parser.add_argument("--namespace", help="of the run, where Kubeflow serves several users")
    parser.add_argument("--experiment", help="what the runs are grouped under")
    parser.add_argument("--run-name", help="how Kubeflow shows the run")
    parser.add_argument("--no-cache", action="store_true", help="run every stage anew")
    parser.add_argument("--watch", action="store_true", help="follow the run; the exit code is the verdict's")


def run(given: argparse.Namespace) -> int:
    """Submit, and watch if asked to."""
    cluster = settings.load(given.profile)
    package = Package(given.package or package_file(given.profile))
    if not given.package:
        compiling.check_current(given.profile)
    parameters = run_parameters(package, case=given.case, given=given.parameters, changes=given.set)
    cached = not given.no_cache
    if cached and _unpinned(package, parameters):
        cached = False  # for good: an uncached run leaves the old entry, which the next one would take
        print("nothing pins what the source holds: every stage runs anew; say data_md5=…", file=sys.stderr)
    if (runs := len(parameters.get("runs", ()))) > ARGO_RUNS:
        limit = f"of a workflow Argo keeps 1 MiB, about {ARGO_RUNS} runs, unless it offloads node status"
        print(f"{runs} runs may fail at their end: {limit}; split them into sweeps", file=sys.stderr)
    judged = given.watch and "promote" in package.stages
    if judged:
        check_registry(_registry(cluster))
    endpoint = given.endpoint or os.environ.get("KF_PIPELINES_ENDPOINT") or cluster.endpoint
    namespace = given.namespace or cluster.namespace
    client = connect(endpoint, namespace)
    run_id = submit(client, cluster, given, package, parameters, cached=cached)
    print(f"run {run_id}\n    {run_page(client, run_id)}", flush=True)
    for name, value in parameters.items():
        print(f"    {name} = {_short(value)}", flush=True)
    if not given.watch:
        return 0
    try:
        ended = watch.Watch(client, run_id, namespace, package.stages, package.inner).follow()
    except KeyboardInterrupt:
        look = f"kfp --endpoint {without_credentials(endpoint)} run get {run_id}"
        print(
            f"\nnot watching any more; the run goes on: {run_page(client, run_id)} or {look}", file=sys.stderr
        )
        return exit_codes.INTERRUPTED
    if ended.state != "SUCCEEDED":
        return tell_failure(ended, package, namespace)
    return tell_verdict(run_id, _registry(cluster)) if judged else 0


def check_registry(uri: str) -> None:
    """Ask the registry now what will be asked of it at the end, hours later.

    Raises:
        TrackingError: it does not answer from here.
        MissingExtraError: MLflow is not installed.
    """
    from fineprune.tracking.verdict import verdict_of_run

    try:
        verdict_of_run(uri, "none")
    except TrackingError as error:
        remedy = "set MLFLOW_TRACKING_URI to its address from here, such as that of a kubectl port-forward"
        raise TrackingError(f"--watch cannot read the verdict: {error}; {remedy}") from None


def submit(
    client: kfp.Client,
    cluster: Settings,
    given: argparse.Namespace,
    package: Package,
    parameters: dict[str, Any],
    *,
    cached: bool,
) -> str:
    """Start the run; gives its id. Unless it is ``cached``, no stage takes its outputs from Kubeflow's cache.

    Raises:
        KubeflowError: the server refuses or does not answer.
    """
    experiment = given.experiment or cluster.experiment
    name = given.run_name or f"{experiment} {datetime.now():%Y-%m-%d %H:%M:%S}"
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        path = package.path
        if not cached:  # kfp's own switch leaves the tasks inside loops as they are
            path = Path(scratch, "uncached.yaml")
            package.write_uncached(path)
        with told("submit the run"), silence():
            found = client.create_experiment(experiment)
            started = client.run_pipeline(
                experiment_id=found.experiment_id,
                job_name=name,
                pipeline_package_path=str(path),
                params=parameters,
                service_account=cluster.service_account,
            )
    return str(started.run_id)


def tell_failure(ended: Any, package: Package, namespace: str) -> int:
    """Name what failed, and where its log is; gives the exit code."""
    for line in watch.failures(ended, package.stages, package.inner):
        print(line, file=sys.stderr)
    # Kubeflow does not hand on what a container said.
    logs = f"kubectl logs -n {namespace} -l pipeline/runid={ended.run_id} -c main --prefix --tail 20"
    print(f"logs: {logs}", file=sys.stderr)
    return exit_codes.FAILED


def tell_verdict(run_id: str, uri: str) -> int:
    """Ask the registry what came of a run that succeeded; gives the exit code."""
    from fineprune.tracking.verdict import verdict_of_run

    try:
        outcome = verdict_of_run(uri, run_id)
    except TrackingError as error:
        print(f"the run succeeded, but its verdict could not be read: {error}", file=sys.stderr)
        print("set MLFLOW_TRACKING_URI to the registry's address from here", file=sys.stderr)
        return exit_codes.FAILED
    if outcome is None:
        place = without_credentials(uri)
        print(f"the run succeeded, but the registry at {place} has no verdict of it", file=sys.stderr)
        return exit_codes.FAILED
    print(f"{outcome.verdict}: {outcome.name} version {outcome.version}")
    for reason in outcome.reasons:
        print(f"  - {reason}")
    return exit_codes.of_verdict(outcome.verdict)


def _unpinned(package: Package, parameters: Mapping[str, Any]) -> bool:
    """Whether data comes from where it may change without a trace in the parameters."""
    values = {**package.defaults, **parameters}
    runs = (values, *(values.get("runs") or ()))
    return any(str(run.get("source")).startswith("s3://") and not run.get("data_md5") for run in runs)


def _registry(cluster: Settings) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or cluster.mlflow.address


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
