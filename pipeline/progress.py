"""A run on its way: one line for each change of a stage, and a live line where somebody is looking."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import kfp

from pipeline.live_line import LiveLine, clock
from pipeline.server import KubeflowError, silence, told

EVERY = 2.0
"""Seconds between two looks at a run."""
WAITING = 180.0
"""Seconds after which a pod that has not started is worth a hint."""

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_RUN = re.compile(r"iteration-iterations\((\d+):\d+\)")  # what Argo calls one run of a kfp loop
_PATIENCE = 150  # looks in a row that may bring no answer
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


@dataclass
class Watch:
    """Follows one run.

    Attributes:
        client: of the server.
        run_id: of the run.
        namespace: of its pods.
        stages: how each task is shown, by its name in the graph.
        inner: the same of the tasks inside each loop, by the loop's name in the graph.
        out: where to write.
    """

    client: kfp.Client
    run_id: str
    namespace: str
    stages: Mapping[str, str]
    inner: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    _line: LiveLine = field(init=False)
    _waiting: dict[tuple[str, Any], float] = field(default_factory=dict, init=False)
    _hinted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._line = LiveLine(self.out)

    def follow(self, sleep: Callable[[float], object] = time.sleep) -> Any:
        """Tell every change until the run ends; gives the run as the server describes it.

        Raises:
            KubeflowError: the server has not answered for minutes.
        """
        known: dict[str, StageState] = {}
        while True:
            run = self._look(sleep)
            now = time.monotonic()
            states = {self.stages[name]: state for name, state in stage_states(run, self.stages).items()}
            told_of = states | run_states(run)
            for title, state in told_of.items():
                if known.get(title, StageState("")).state != state.state:
                    self._line.tell(_told(title, state))
            known = told_of
            if run.state in FINAL:
                self._line.clear()
                return run
            if self._waits(run, now) and not self._hinted:
                self._hinted = True
                self._line.tell(self._hint())
            self._line.show(self._summary(run, states))
            sleep(EVERY)

    def _waits(self, run: Any, now: float) -> bool:
        """Whether a pod has been wanting to start for long."""
        self._waiting = {pod: self._waiting.get(pod, now) for pod in _pending(run)}
        return any(now - since >= WAITING for since in self._waiting.values())

    def _hint(self) -> str:
        describe = f"kubectl describe pod -n {self.namespace} -l pipeline/runid={self.run_id}"
        return f"a pod has been waiting for {clock(WAITING)} to start; this says why: {describe}"

    def _look(self, sleep: Callable[[float], object]) -> Any:
        """The run; one look without an answer is no reason to give up."""
        for _ in range(_PATIENCE):
            try:
                with told(f"look at run {self.run_id}"), silence():
                    return self.client.get_run(self.run_id)
            except KubeflowError as error:
                fault = error
                self._line.show(f"trying again: {error}")
                sleep(EVERY)
        raise KubeflowError(f"{fault}; the run goes on: {resume(self.run_id)}")

    def _summary(self, run: Any, states: Mapping[str, StageState]) -> str:
        done = sum(state.state in FINAL for state in states.values())
        running = [title for title, state in states.items() if state.state == "RUNNING"]
        for titles in self.inner.values():
            running += [titles[name] for name in titles if _with_state("RUNNING", run, name)]
        now = ", ".join(running) or "-"
        return f"{done} of {len(self.stages)} stages done; running: {now}"


def resume(run_id: str) -> str:
    """The command that follows a run."""
    return f"python -m pipeline watch {run_id}"


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


def _ended(state: str) -> str:
    return "failed" if _word(state) == "failed" else f"was {_word(state)}"


def _failures_within(run: Any, titles: Mapping[str, str]) -> Iterator[str]:
    """One line for each stage of a loop that failed.

    The server lists the tasks of all the runs of a loop under the same names, and which runs failed, but not
    which task is of which run.
    """
    failed = {name: _with_state("FAILED", run, name, f"{name}-driver") for name in titles}
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


def _with_state(state: str, run: Any, *names: str) -> list[Any]:
    return [node for node in _nodes(run) if node.display_name in names and node.state == state]


def _pending(run: Any) -> list[tuple[str, Any]]:
    """The pods that have not started. A stage counts as running as soon as its pod is asked for."""
    return [(node.display_name, node.start_time) for node in _nodes(run) if node.state == "PENDING"]


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


def _told(name: str, state: StageState) -> str:
    took = f" in {clock(state.seconds)}" if state.state in FINAL and state.seconds is not None else ""
    return f"{name:<26}{_word(state.state)}{took}"


def _word(state: str) -> str:
    return _WORDS.get(state, state.lower())
