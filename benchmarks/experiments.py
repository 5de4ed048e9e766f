"""Runs of the pipeline in the workspace, one for each seed, with some of its parameters changed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence


def seeds_parser(description: str) -> argparse.ArgumentParser:
    """A parser of the seeds to run, and of what to change in every run."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("-S", action="append", default=[], metavar="KEY=VALUE", help="as for dvc exp run")
    return parser


def run_experiment(changes: Sequence[str], *targets: str, **environment: str) -> int:
    """Run ``dvc exp run``; gives its exit code.

    Args:
        changes: ``KEY=VALUE`` of the params files, later ones last.
        targets: stages of dvc.yaml; none for all.
        environment: variables that the stages get beside the caller's.
    """
    flags = [word for change in changes for word in ("-S", change)]
    command, given = ["dvc", "exp", "run", *targets, *flags], {**os.environ, **environment}
    # What DVC says goes to stderr: stdout is for the table.
    return subprocess.run(command, env=given, stdout=sys.stderr).returncode
