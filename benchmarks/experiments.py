"""Runs of the pipeline in the workspace, one for each seed, with some of its parameters changed."""

from __future__ import annotations

import argparse
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


def run_experiment(changes: Sequence[str], *targets: str) -> int:
    """Run ``dvc exp run``; gives its exit code.

    Args:
        changes: ``KEY=VALUE`` of the params files, later ones last.
        targets: stages of dvc.yaml; none for all.
    """
    flags = [word for change in changes for word in ("-S", change)]
    # What DVC says goes to stderr: stdout is for the table.
    return subprocess.run(["dvc", "exp", "run", *targets, *flags], stdout=sys.stderr).returncode  # noqa: S607
