"""``python -m pipeline preflight``: look at a cluster before anything is submitted to it.

Exit codes: 0 every check passed or had nothing to look at, 1 one failed, 2 a fault in the command or the
settings.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable

from fineprune import exit_codes
from pipeline import checks, secrets, settings
from pipeline import compile as compiling
from pipeline.checks.base import Line, Site
from pipeline.cluster import Cluster, ClusterError
from pipeline.package import Package, package_file
from pipeline.server import add_server_arguments, endpoint, namespace

_NAME = max(len(check.name) for check in checks.CHECKS) + 2
_INDENT = 6 + _NAME
_COLORS = {"pass": "32", "fail": "31;1", "note": "33", "skip": "2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_server_arguments(parser)
    parser.add_argument("--context", help="of the kubeconfig; default: its current one")
    parser.add_argument("--source", help="of the data that the runs will read; default: the package's")
    parser.add_argument(
        "--autoscaled", action="store_true", help="nodes are added when a pod needs one: none now is no fault"
    )
    parser.add_argument(
        "--create-secrets", action="store_true", help="first make or change the secrets, from the environment"
    )


def run(given: argparse.Namespace) -> int:
    """Make the secrets if asked to, then check; gives the exit code."""
    wanted = settings.load(given.profile)
    where = namespace(given, wanted)
    values = secrets.from_environment(wanted) if given.create_secrets else {}
    try:
        cluster = Cluster(given.context)
    except ClusterError as error:
        remedy = "kubectl cluster-info says which cluster is meant; --context names another"
        return show([("cluster", Line("fail", str(error), remedy))])
    for told in secrets.write(cluster, where, values):
        print(told)
    package = Package(package_file(given.profile))
    compiling.check_current(package.path, given.profile)
    site = Site(
        cluster,
        wanted,
        package,
        where,
        endpoint=endpoint(given, wanted),
        source=given.source or str(package.parameters["source"].default),
        autoscaled=given.autoscaled,
    )
    return show([("cluster", Line("pass", f"{cluster.address} answers"))], checks.run(site))


def show(*parts: Iterable[tuple[str, Line]]) -> int:
    """Print the lines as they come, what to do below those that failed; gives the exit code."""
    failed = False
    for part in parts:
        for name, line in part:
            failed = failed or line.state == "fail"
            print(_row(name, line), flush=True)
    return exit_codes.FAILED if failed else 0


def _row(name: str, line: Line) -> str:
    width = max(60, min(120, shutil.get_terminal_size((110, 24)).columns))
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * _INDENT, break_long_words=False)
    wrap.break_on_hyphens = False
    text = wrap.fill(f"{line.state:<6}{name:<{_NAME}}{line.found}")
    if sys.stdout.isatty():
        text = f"\x1b[{_COLORS[line.state]}m{line.state}\x1b[0m{text.removeprefix(line.state)}"
    if line.remedy:
        wrap.initial_indent, wrap.subsequent_indent = " " * _INDENT + "→ ", " " * (_INDENT + 2)
        text += f"\n{wrap.fill(line.remedy)}"
    return text
