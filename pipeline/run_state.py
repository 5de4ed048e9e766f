"""What Kubeflow answers about a run, read: the state of each stage, what waits, and what failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_RUN = re.compile(r"iteration-iterations\((\d+):\d+\)")  # what Argo calls one run of a kfp loop
_SEE_LOG = "its log says why"
_WORDS = {"PENDING": "starting", "RUNNING": "running", "SUCCEEDED": "done", "CANCELED": "cancelled"}


@dataclass(frozen=True)
class StageState:
    """A stage of a run as the server sees it.

    Attributes:
        state: one of kfp's runtime states, such as ``RUNNING``.
        seconds: from its start to its end; None before that, and where the server does not tell.
        cause: why it failed, as far as the server tells; else empty.
    """

    state: str
    seconds: float | None = None
    cause: str = ""


def stage_states(run: Any, stages: Mapping[str, str]) -> dict[str, StageState]:
    """The state of each stage that has begun, in the order of ``stages``.

    A stage is two nodes of the workflow: ``<stage>-driver``, which prepares it, and ``<stage>``. Where the
    driver fails, the stage never starts.
    """
    nodes = {node.display_name: node for node in _nodes(run)}
    states = {}
    for name in stages:
        driver, node = nodes.get(f"{name}-driver"), nodes.get(name)
        if node:
            states[name] = _state(node)
        elif driver:
            failed = driver.state == "FAILED"
            states[name] = _state(driver, "it could not be prepared") if failed else StageState("PENDING")
    return states


def run_states(run: Any) -> dict[str, StageState]:
    """The state of each run of a loop that has begun: ``run 1``, ``run 2``, …"""
    found = {int(name[1]): node for node in _nodes(run) if (name := _RUN.fullmatch(node.display_name))}
    return {f"run {index + 1}": _state(node) for index, node in sorted(found.items())}


def with_state(state: str, run: Any, *names: str) -> list[Any]:
    """What of these names is in that state; inside a loop, of all its runs."""
    return [node for node in _nodes(run) if node.display_name in names and node.state == state]


def pending(run: Any) -> list[tuple[str, Any]]:
    """The pods that have not started. A stage counts as running as soon as its pod is asked for."""
    return [(node.display_name, node.start_time) for node in _nodes(run) if node.state == "PENDING"]


def failures(
    run: Any, stages: Mapping[str, str], inner: Mapping[str, Mapping[str, str]] | None = None
) -> list[str]:
    """One line for each stage that failed, those inside a loop instead of the loop, or else for the run."""
    lines = []
    for name, state in stage_states(run, stages).items():
        if state.state == "FAILED":
            within = list(_failures_within(run, (inner or {}).get(name, {})))
            lines += within or [f"{stages[name]} failed: {state.cause or _SEE_LOG}"]
    return lines or [f"the run {_ended(run.state)}: {_cause(run) or 'no stage failed'}"]


def word(state: str) -> str:
    """What people read for one of kfp's states."""
    return _WORDS.get(state, state.lower())


def _ended(state: str) -> str:
    return "failed" if word(state) == "failed" else f"was {word(state)}"


def _failures_within(run: Any, titles: Mapping[str, str]) -> Iterator[str]:
    """One line for each stage of a loop that failed.

    The server lists the tasks of all the runs of a loop under the same names, and which runs failed, but not
    which task is of which run.
    """
    failed = {name: with_state("FAILED", run, name, f"{name}-driver") for name in titles}
    failed = {name: nodes for name, nodes in failed.items() if nodes}
    runs = [name for name, state in run_states(run).items() if state.state == "FAILED"]
    where = (" and " if len(failed) == 1 else " or ").join(runs) or "a run of the loop"
    for name, nodes in failed.items():
        cause = next(filter(None, map(_cause, nodes)), _SEE_LOG)
        yield f"{titles[name]} failed in {where}: {cause}"


def _nodes(run: Any) -> list[Any]:
    """What has begun of the run's workflow."""
    details = (run.run_details and run.run_details.task_details) or ()
    return [node for node in details if node.state]


def _state(node: Any, what: str = "") -> StageState:
    # An end that is not known yet is the year 1.
    ended = node.end_time and node.start_time and node.end_time >= node.start_time
    seconds = (node.end_time - node.start_time).total_seconds() if ended else None
    cause = ": ".join(part for part in (what, _cause(node)) if part)
    return StageState(node.state, seconds, cause)


def _cause(told: Any) -> str:
    """The last error that the server has recorded for a run or a node."""
    errors = [told.error, *(entry.error for entry in told.state_history or ())]
    said = [" ".join(error.message.split()) for error in errors if error and error.message]
    return said[-1] if said else ""
