"""``python -m pipeline local``: run the compiled graph on this machine, every stage in its container.

Exit codes: 0 promoted, or a graph without a verdict ran through; 3 held; 1 a stage failed; 2 a fault that a
user can mend. The services are the environment's: ``MLFLOW_TRACKING_URI``, ``AWS_*``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kfp import components, local

from fineprune import exit_codes
from fineprune.errors import ConfigError
from fineprune.files import read_json
from pipeline import compile as compiling
from pipeline import settings, watch
from pipeline.arguments import add_run_arguments, run_parameters
from pipeline.containers import Containers, TaskFailedError, rootless, runner
from pipeline.live_line import LiveLine, clock
from pipeline.package import PACKAGE, Package
from pipeline.resources import OF_THE_NODE
from pipeline.settings import Settings

FOLDER = Path(__file__).parents[1] / "artifacts" / "kubeflow"
_START_STACK = "python docker/stack.py start, which prints how to set MLFLOW_TRACKING_URI"
# Of the caller's environment, what a stage may need. AWS_CA_BUNDLE and AWS_PROFILE name files that are here.
_PASSED_ON = ("AWS_", "MLFLOW_", "OMP_", "FINEPRUNE_DEVICE")
_STAGE_OF_SERVICE = {"AWS": "ingest", "MLFLOW": "promote"}
_OF_THIS_MACHINE = ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_run_arguments(parser)
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="of the outputs and logs")
    parser.add_argument(
        "--local-images",
        action="store_true",
        help="run what make images made here, whatever images the package names",
    )


def run(given: argparse.Namespace) -> int:
    """Run the graph; gives the exit code."""
    package = Package(given.package or PACKAGE)
    compiling.check_current(package.path, None)
    parameters = run_parameters(package, case=given.case, given=given.parameters, changes=given.set)
    if package.tasks.judged:
        if not (tracking_uri := os.environ.get("MLFLOW_TRACKING_URI")):
            raise ConfigError(f"MLFLOW_TRACKING_URI is not set: {_START_STACK}")
        watch.check_mlflow(tracking_uri, _START_STACK)
    wanted = settings.load()
    show = _Progress(package.tasks.titles)
    containers = Containers(
        limits=package.tasks.memory_limits,
        environment=stage_environment,
        begun=show.begun,
        done=show.done,
        local_images=given.local_images,
    )
    outputs = given.folder.absolute() / "outputs"
    try:
        folder = shared_folder(given.folder.absolute(), wanted, rootless=rootless())
        with folder as user, containers.installed():
            started = runner(user=user, environment=passed_on())
            _run_kfp(started, package, parameters, outputs)
    except TaskFailedError as error:
        show.clear()
        for line in error.log:
            print(f"    {line}", file=sys.stderr)
        print(f"{show.title(error.task)} failed: {error.cause}", file=sys.stderr)
        return exit_codes.FAILED
    return tell_verdict(containers.outputs)


def tell_verdict(outputs: Mapping[str, Mapping[str, Path]]) -> int:
    """Print what ``dvc repro`` leaves, the table and the summary, or a sweep's table; gives the exit code."""
    if "tabulate" in outputs:
        print((outputs["tabulate"]["report"] / "table.md").read_text(encoding="utf-8"), end="")
    elif "evaluate" in outputs:
        print((outputs["evaluate"]["report"] / "table.txt").read_text(encoding="utf-8"), end="")
    if "promote" not in outputs:
        return 0
    report = outputs["promote"]["report"]
    print((report / "summary.txt").read_text(encoding="utf-8"), end="")
    return exit_codes.of_verdict(read_json(report / "decision.json")["verdict"])


def stage_environment(stage: str, given: Mapping[str, str]) -> dict[str, str]:
    """What a stage's container gets: of the variables of a service, ``AWS_…`` or ``MLFLOW_…``, only those of
    the one that it speaks to, and nothing that the package says of a cluster's node.
    """
    not_here = {name for name in OF_THE_NODE if name not in os.environ}
    return {
        name: value
        for name, value in given.items()
        if _STAGE_OF_SERVICE.get(name.partition("_")[0], stage) == stage and name not in not_here
    }


@contextlib.contextmanager
def shared_folder(folder: Path, wanted: Settings, *, rootless: bool) -> Iterator[str]:
    """Make the run's folder one that the containers' user can write to; gives that user.

    It is the caller, whom an engine without root knows as root. For root it is the cluster's user in root's
    group, which may write to what kfp makes in the folder; nobody else may enter there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid():
        yield "0:0" if rootless else f"{os.geteuid()}:{os.getegid()}"
        return
    before = os.umask(0o007)
    try:
        yield f"{wanted.security.user}:0"
    finally:
        os.umask(before)


def passed_on() -> dict[str, str]:
    """What of the caller's environment goes into the containers."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_PASSED_ON) and name not in _OF_THIS_MACHINE
    }


def _run_kfp(
    through: local.DockerRunner, package: Package, parameters: Mapping[str, Any], outputs: Path
) -> None:
    """Let kfp order the tasks and fill their placeholders; what it prints goes to a file."""
    pipeline = components.load_component_from_file(str(package.path))
    outputs.mkdir(exist_ok=True)
    local.init(through, pipeline_root=str(outputs))
    log = outputs.with_name("kfp.log")
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline(**parameters)


class _Progress:
    """What runs, and each stage that is done, by the names that people know."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._width = max(map(len, titles.values())) + len("run 10 · ")
        self._line = LiveLine(sys.stdout)  # what kfp prints goes elsewhere meanwhile
        self._done = 0

    def begun(self, task: str) -> None:
        """Say what runs now."""
        self._line.show(f"{self._done} stages done; running: {self.title(task)}")

    def done(self, task: str, seconds: float) -> None:
        """Say that a stage is done."""
        self._done += 1
        self._line.tell(f"{self.title(task):<{self._width}}done in {clock(seconds)}")

    def title(self, task: str) -> str:
        """How a task is shown to people."""
        run, dot, name = task.rpartition(" · ")
        return f"{run}{dot}{self._titles.get(name, name)}"

    def clear(self) -> None:
        """Take away what runs now."""
        self._line.clear()
