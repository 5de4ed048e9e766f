"""``python -m pipeline watch``: follow a run that was submitted, to its verdict.

Exit codes: 0 promoted, or a graph without a verdict ran through; 3 held; 1 the run failed, or its verdict
could not be read (what is not known to be promoted counts as not promoted); 2 a fault that a user can mend.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import kfp

from fineprune import exit_codes
from fineprune.errors import TrackingError, without_credentials
from pipeline import settings, web
from pipeline.package import TaskGraph
from pipeline.progress import Watch, resume
from pipeline.run_state import failures
from pipeline.server import (
    KubeflowError,
    add_server_arguments,
    connect,
    endpoint,
    namespace,
    one_line_errors,
    run_page,
    silence,
)
from pipeline.settings import REACH_MLFLOW, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("run_id", metavar="RUN", help="the id of the run, as submit prints it")
    add_server_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Follow the run; gives the exit code."""
    wanted = settings.load(given.profile)
    client = connect(endpoint(given, wanted), namespace(given, wanted))
    graph = tasks_of(client, given.run_id)
    if graph.judged:
        check_mlflow(wanted.tracking_uri)
    return follow(client, given.run_id, graph, given, wanted)


def follow(
    client: kfp.Client, run_id: str, graph: TaskGraph, given: argparse.Namespace, wanted: Settings
) -> int:
    """Tell every change of a run until it ends, and its verdict; gives the exit code.

    Args:
        client: of the server.
        run_id: of the run.
        graph: what it runs.
        given: with the flags of :func:`add_server_arguments`.
        wanted: the settings.

    Raises:
        KubeflowError: the server has not answered for minutes.
    """
    where = namespace(given, wanted)
    try:
        ended = Watch(client, run_id, where, graph.stages, graph.inner).follow()
    except KeyboardInterrupt:
        look = f"{run_page(client, run_id)} or {resume(run_id)}"
        print(f"\nnot watching any more; the run goes on: {look}", file=sys.stderr)
        return exit_codes.INTERRUPTED
    if ended.state != "SUCCEEDED":
        return tell_failure(ended, graph, where)
    return tell_verdict(run_id, wanted.tracking_uri) if graph.judged else 0


def tasks_of(client: kfp.Client, run_id: str) -> TaskGraph:
    """What a run runs.

    Raises:
        KubeflowError: the server refuses or does not answer, or it is a run of something else.
    """
    with one_line_errors(f"look at run {run_id}"), silence():
        found = client.get_run(run_id)
        spec, version = found.pipeline_spec, found.pipeline_version_reference
        if not spec and version:
            spec = client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id).pipeline_spec
    spec = spec or {}
    pipeline = spec.get("pipeline_spec", spec)
    if not pipeline.keys() >= {"root", "components"}:
        raise KubeflowError(f"run {run_id}: expected one of a pipeline that kfp 2 compiled, found another")
    return TaskGraph(pipeline, f"run {run_id}")


def check_mlflow(uri: str, remedy: str = REACH_MLFLOW) -> None:
    """Ask the registry now what will be asked of it at the end, hours later.

    Raises:
        TrackingError: it does not answer from here, or is a file, which no container has.
        MissingExtraError: MLflow is not installed.
    """
    from fineprune.tracking.verdict import verdict_of_run

    if not web.names_server(uri):
        fault = f"{without_credentials(uri)}: expected the http:// or https:// address of a server"
        raise TrackingError(f"cannot read the verdict: {fault}; {remedy}")
    try:
        verdict_of_run(uri, "none")
    except TrackingError as error:
        raise TrackingError(f"cannot read the verdict: {error}; {remedy}") from None


def tell_failure(ended: Any, graph: TaskGraph, namespace: str) -> int:
    """Name what failed, and where its log is; gives the exit code."""
    for line in failures(ended, graph.stages, graph.inner):
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
        again = f"set MLFLOW_TRACKING_URI to the registry's address from here, and {resume(run_id)}"
        print(again, file=sys.stderr)
        return exit_codes.FAILED
    if outcome is None:
        place = without_credentials(uri)
        print(f"the run succeeded, but the registry at {place} has no verdict of it", file=sys.stderr)
        return exit_codes.FAILED
    print(f"{outcome.verdict}: {outcome.name} version {outcome.version}")
    for reason in outcome.reasons:
        print(f"  - {reason}")
    return exit_codes.of_verdict(outcome.verdict)
