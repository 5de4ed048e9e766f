"""``python -m tables [quick|real|full]``: both result tables of the paper, measured again.

Runs every cell that is not up to date and writes the tables to artifacts/tables. Exit codes: 0 all cells
are there; 2 a stage failed, or a fault that a user can mend; 130 interrupted: the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fineprune.cli import Parser
from fineprune.errors import FinePruneError, one_line
from fineprune.exit_codes import INTERRUPTED, USER_ERROR
from tables import write
from tables.profiles import PROFILES, read_profile
from tables.run import FOLDER, Outcome, run

ROOT = Path(__file__).parents[1]
MOST_JOBS = 4  # unless asked for more: each job holds a dataset and its networks in memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a profile and write its tables; returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.no_run and given.source:
        parser.error("--source: expected a run that reads it, found --no-run")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the jobs would outlive us
    try:
        profile = read_profile(given.profile).only(given.case)
        outcome = Outcome([], [])
        if not given.no_run:
            threads = max(1, _cores() // given.jobs)
            outcome = run(profile, root=ROOT, jobs=given.jobs, threads=threads, sources=dict(given.source))
        missing = write.tables(profile, folder=ROOT / FOLDER, undone=outcome.undone)
    except (FinePruneError, OSError) as error:
        print(f"python -m tables: error: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("python -m tables: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    with contextlib.suppress(OSError, UnicodeError):  # they are written
        print((ROOT / FOLDER / "tables.md").read_text(encoding="utf-8"))
        print(f"the same with figures: {FOLDER}/tables.html", flush=True)
    for failure in outcome.failures:
        print(f"python -m tables: {failure}", file=sys.stderr)
    if missing:
        print(f"python -m tables: {len(missing)} of {len(profile.cells)} cells missing", file=sys.stderr)
    return USER_ERROR if missing or outcome.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m tables", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("profile", nargs="?", choices=PROFILES, default="quick", help="what to run")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="CASE",
        help="run and show this case of the profile alone; may be given again (default: all)",
    )
    parser.add_argument(
        "--jobs",
        type=_count,
        default=min(_cores(), MOST_JOBS),
        metavar="N",
        help="cells at a time, each with its share of the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--source",
        action="append",
        type=_source,
        default=[],
        metavar="CASE=PATH",
        help="where the data of a case lies; remembered",
    )
    parser.add_argument(
        "--no-run", action="store_true", help="write the tables of what is there, up to date or not"
    )
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def _source(text: str) -> tuple[str, Path]:
    case, equals, path = text.partition("=")
    if not (case and equals and path):
        raise argparse.ArgumentTypeError(f"expected CASE=PATH, found {text!r}")
    return case, Path(os.path.expanduser(path))


if __name__ == "__main__":
    sys.exit(main())
