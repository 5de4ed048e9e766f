"""``python -m pipeline submit``: start a run with typed parameters, and follow it to its verdict.

Exit codes: 0 submitted; 2 a fault that a user can mend; with ``--watch`` those of :mod:`pipeline.watch`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import kfp

from fineprune.errors import shortened
from pipeline import compile as compiling
from pipeline import settings, watch
from pipeline.arguments import add_run_arguments, run_parameters
from pipeline.package import Package, package_file
from pipeline.server import (
    add_server_arguments,
    connect,
    endpoint,
    namespace,
    one_line_errors,
    run_page,
    silence,
)
from pipeline.settings import ARGO_RUNS, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_run_arguments(parser)
    add_server_arguments(parser)
    parser.add_argument("--experiment", help="what the runs are grouped under")
    parser.add_argument("--run-name", help="how Kubeflow shows the run")
    parser.add_argument("--no-cache", action="store_true", help="run every stage anew")
    parser.add_argument("--watch", action="store_true", help="follow the run; the exit code is the verdict's")


def run(given: argparse.Namespace) -> int:
    """Submit, and watch if asked to."""
    wanted = settings.load(given.profile)
    package = Package(given.package or package_file(given.profile))
    compiling.check_current(package.path, given.profile)
    parameters = run_parameters(package, case=given.case, given=given.parameters, changes=given.set)
    cached = not given.no_cache
    if cached and _unpinned(package, parameters):
        cached = False  # for good: an uncached run leaves the old entry, which the next one would take
        print(
            "nothing pins what the source holds: every stage runs anew; say data_md5=… (a sweep: in runs)",
            file=sys.stderr,
        )
    if (runs := len({**package.defaults, **parameters}.get("runs", ()))) > ARGO_RUNS:
        limit = f"of a workflow Argo keeps 1 MiB, about {ARGO_RUNS} runs, unless it offloads node status"
        print(f"{runs} runs may fail at their end: {limit}; split them into sweeps", file=sys.stderr)
    if given.watch and package.tasks.judged:
        watch.check_mlflow(wanted.tracking_uri)
    client = connect(endpoint(given, wanted), namespace(given, wanted))
    run_id = submit(client, wanted, given, package, parameters, cached=cached)
    print(f"run {run_id}\n    {run_page(client, run_id)}", flush=True)
    for name, value in parameters.items():
        print(f"    {name} = {shortened(str(value), 100)}", flush=True)
    return watch.follow(client, run_id, package.tasks, given, wanted) if given.watch else 0


def submit(
    client: kfp.Client,
    wanted: Settings,
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
    experiment = given.experiment or wanted.experiment
    name = given.run_name or f"{experiment} {datetime.now():%Y-%m-%d %H:%M:%S}"
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        path = package.path
        if not cached:  # kfp's own switch leaves the tasks inside loops as they are
            path = Path(scratch, "uncached.yaml")
            package.write_uncached(path)
        with one_line_errors("submit the run"), silence():
            found = client.create_experiment(experiment)
            started = client.run_pipeline(
                experiment_id=found.experiment_id,
                job_name=name,
                pipeline_package_path=str(path),
                params=parameters,
                service_account=wanted.service_account,
            )
    return str(started.run_id)


def _unpinned(package: Package, parameters: Mapping[str, Any]) -> bool:
    """Whether data comes from where it may change without a trace in the parameters."""
    values = {**package.defaults, **parameters}
    runs = (values, *(values.get("runs") or ()))
    return any(str(run.get("source")).startswith("s3://") and not run.get("data_md5") for run in runs)
