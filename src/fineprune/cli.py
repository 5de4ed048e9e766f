"""``fineprune <stage> --config params.yaml --<input> PATH … --<output> PATH …``

Paths are flags; every hyper-parameter of a stage travels as one value: its section of the params
files (``--config``, later files win) or of a JSON string (``--params``); ``--set`` changes a key of
it. With ``--executor-input`` a stage tells Kubeflow what it made. Nothing heavy is imported
before a stage is chosen, so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fineprune import __version__
from fineprune.errors import ConfigError, FinePruneError, one_line, printable, without_credentials
from fineprune.exit_codes import INTERRUPTED, USER_ERROR
from fineprune.stages import BATCHED, FIRST, STAGES

if TYPE_CHECKING:
    from fineprune.stages.base import Stage

_ABSENT = object()
# Of PyTorch's allocator for a CPU; of CUDA's context and libraries, where others fill the GPU.
_NO_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory", "_ALLOC_FAILED")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Leave with code 2."""
        told = printable(without_credentials(message))
        self.exit(USER_ERROR, f"{self.prog}: error: {told} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage; returns 0, the stage's own code, 2 with one line on stderr, or 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments and arguments[0] in STAGES else None
    if name is None:
        parser = _top_parser()
        parser.parse_args(arguments)
        parser.error("expected a stage first")
    # A stage that is told to end tidies up as at Control-C; as the first process of a container it would not
    # even end.
    at_terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stage = load_stage(name)
        return _run(stage, stage_parser(stage).parse_args(arguments[1:]))
    except (FinePruneError, OSError) as error:
        print(f"fineprune {name}: error: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        remedy = ": lower batch_size" if name in BATCHED else ""
        print(f"fineprune {name}: error: out of memory{remedy}: {one_line(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"fineprune {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, at_terminate)


def load_stage(name: str) -> Stage:
    """The stage of that name."""
    stage: Stage = importlib.import_module(f"fineprune.stages.{name}").STAGE
    return stage


def stage_parser(stage: Stage) -> argparse.ArgumentParser:
    """The parser of one stage's command line."""
    from fineprune.stages.base import flag

    # Without abbreviations: a renamed flag must not go unnoticed.
    parser = Parser(prog=f"fineprune {stage.name}", description=STAGES[stage.name], allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--config",
        action="append",
        type=Path,
        metavar="YAML",
        help="a params file; may be repeated, later wins",
    )
    source.add_argument("--params", metavar="JSON", help=f"the {stage.name} section itself, as JSON")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"instead of a key of the {stage.name} section; may be dotted and repeated, empty for null",
    )
    parser.add_argument(
        "--executor-input", metavar="JSON", help="what Kubeflow gives a container; says where to report to"
    )
    for names, told in ((stage.inputs, "read"), (stage.optional, "read, if given"), (stage.outputs, "write")):
        for port in names:
            what = f"folder of the {port.replace('_', ' ')} to {told}"
            required = port not in stage.optional
            parser.add_argument(flag(port), type=Path, required=required, metavar="PATH", help=what)
    for view, file in stage.views.items():
        what = f"where to put a copy of {file}, beside the one in the report's folder"
        parser.add_argument(flag(view), type=Path, metavar="PATH", help=what)
    for switch, what in stage.flags.items():
        parser.add_argument(flag(switch), action="store_true", help=what)
    for option, what in stage.options.items():
        parser.add_argument(flag(option), metavar="TEXT", help=what)
    for folder in stage.work:
        what = f"keep {folder.replace('_', ' ')} here, from which an attempt after an interrupted one goes on"
        parser.add_argument(flag(folder), type=Path, metavar="PATH", help=what)
    return parser


def _run(stage: Stage, given: argparse.Namespace) -> int:
    from fineprune.params import override, read_section
    from fineprune.stages.base import execute
    from fineprune.stages.executor_output import ExecutorOutput

    def read() -> Mapping[str, Any]:
        if given.config:
            return override(read_section(given.config, stage.name, known=(*STAGES, "case")), given.set)
        section = _parse_params(given.params)
        _refuse_twice(stage.name, section, given.set)
        return override(section, given.set)

    values, section = vars(given), read()
    if given.config and stage.name in FIRST:
        _check_others(given.config, stage.name)
    told = ExecutorOutput(given.executor_input) if given.executor_input else None
    result = execute(
        stage,
        section,
        inputs={name: values[name] for name in (*stage.inputs, *stage.optional) if values[name]},
        outputs={name: values[name] for name in stage.outputs},
        views={name: values[name] for name in stage.views if values[name]},
        keywords={name: values[name] for name in (*stage.flags, *stage.options, *stage.work)},
        # DVC takes the params that it finds at the end for those that the stage ran with.
        read_again=read if "DVC_STAGE" in os.environ else None,
    )
    if told:
        told.write(given.report)
    return result.exit_code


def _check_others(paths: Sequence[Path], name: str) -> None:
    """Find a fault in what a later stage will read now, and not when all before it has been trained."""
    from fineprune.config import parse
    from fineprune.params import read_section, read_yaml

    there = {section for path in paths for section, values in read_yaml(path).items() if values is not None}
    for other in STAGES:
        if other in there and other != name:
            with contextlib.suppress(ImportError):  # a stage whose extra is not installed runs elsewhere
                parse(load_stage(other).config, read_section(paths, other), other)


def _top_parser() -> argparse.ArgumentParser:
    stages = "\n".join(f"  {name:<10}{text}" for name, text in STAGES.items())
    parser = Parser(
        prog="fineprune",
        description="Remove a backdoor by fine-pruning, measure what is left, promote only on good evidence.",
        epilog=f"stages:\n{stages}\n\n`fineprune STAGE --help` lists a stage's flags.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help="one of the stages below")
    return parser


def _parse_params(text: str) -> dict[str, Any]:
    try:
        section = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--params: not valid JSON: {error}") from error
    if not isinstance(section, dict):
        raise ConfigError(f"--params: expected a JSON mapping, found {type(section).__name__}")
    return section


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON mapping; json would take the last of two equal keys."""
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"expected {twice[0]} once, found it again")
    return dict(pairs)


def _refuse_twice(stage: str, section: Mapping[str, Any], settings: Sequence[str]) -> None:
    """A pipeline gives some keys as parameters of their own: one must not hide the other."""
    for key in [setting.partition("=")[0] for setting in settings]:
        value: object = section
        for part in key.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is not _ABSENT:
            raise ConfigError(f"{stage}.{key}: expected once, found in --params and in --set")


def _out_of_memory(error: BaseException) -> bool:
    """Whether NumPy, or PyTorch on a GPU or on a CPU, found no memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in _NO_MEMORY)


if __name__ == "__main__":
    sys.exit(main())
