"""``python -m pipeline COMMAND``: compile the graph, run it here, check a cluster, submit a run to it.

Each command is the module of its name, imported when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from fineprune.cli import Parser
from fineprune.errors import FinePruneError, one_line
from fineprune.exit_codes import INTERRUPTED, USER_ERROR

COMMANDS = {
    "compile": "write the pipelines for Kubeflow, or check that the written ones are current",
    "local": "run the compiled graph here, every stage in its container",
    "preflight": "check a cluster before anything is submitted to it",
    "submit": "start a run on a cluster, and watch it",
    "watch": "follow a run that was submitted, to its verdict",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, or 2 with one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] not in COMMANDS:
        top = _top_parser()
        top.parse_args(arguments)
        top.error("expected a command first")
    name = arguments[0]
    command = _load(name)
    parser = Parser(prog=f"python -m pipeline {name}", description=COMMANDS[name], allow_abbrev=False)
    command.add_arguments(parser)
    try:
        return int(command.run(parser.parse_intermixed_args(arguments[1:])))
    except (FinePruneError, OSError) as error:
        print(f"python -m pipeline {name}: error: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"python -m pipeline {name}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"pipeline.{name}")


def _top_parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="python -m pipeline",
        description="The fine-pruning pipeline on Kubeflow.",
        epilog=f"commands:\n{commands}\n\n`python -m pipeline COMMAND --help` lists a command's flags.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    return parser


if __name__ == "__main__":
    sys.exit(main())
