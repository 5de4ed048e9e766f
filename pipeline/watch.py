"""A run on its way: one line for each change of a stage, and a live line where somebody is looking."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import kfp

from pipeline.server import KubeflowError, silence, told

EVERY = 2.0
"""Seconds between two looks at a run."""

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_PATIENCE = 150  # looks in a row that may bring no answer
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
        stages: how each task is shown, by its name in the graph.
        out: where to write.
    """

    client: kfp.Client
    run_id: str
    stages: Mapping[str, str]
    out: TextIO = field(default_factory=lambda: sys.stdout)

    def follow(self, sleep: Callable[[float], object] = time.sleep) -> Any:
        """Tell every change until the run ends; gives the run as the server describes it.

        Raises:
            KubeflowError: the server has not answered for minutes.
        """
        started = time.monotonic()
        known: dict[str, StageState] = {}
        while True:
            run = self._look(sleep)
            states = stage_states(run, self.stages)
            self._live("")
            for name, state in states.items():
                if known.get(name, StageState("")).state != state.state:
                    elapsed = clock(time.monotonic() - started)
                    print(f"{elapsed:>8}  {_told(self.stages[name], state)}", file=self.out, flush=True)
            known = states
            if run.state in FINAL:
                return run
            self._live(self._summary(states, time.monotonic() - started))
            sleep(EVERY)

    def _look(self, sleep: Callable[[float], object]) -> Any:
        """The run; one look without an answer is no reason to give up."""
        for _ in range(_PATIENCE):
            try:
                with told(f"look at run {self.run_id}"), silence():
                    return self.client.get_run(self.run_id)
            except KubeflowError as error:
                fault = error
                self._live(f"trying again: {error}")
                sleep(EVERY)
        raise KubeflowError(f"{fault}; the run goes on")

    def _summary(self, states: Mapping[str, StageState], elapsed: float) -> str:
        done = sum(state.state in FINAL for state in states.values())
        running = [self.stages[name] for name, state in states.items() if state.state == "RUNNING"]
        now = ", ".join(running) or "-"
        return f"{clock(elapsed):>8}  {done} of {len(self.stages)} stages done; running: {now}"

    def _live(self, text: str) -> None:
        """Replace the live line, where there is a terminal."""
        if self.out.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=self.out, flush=True)


def stage_states(run: Any, stages: Mapping[str, str]) -> dict[str, StageState]:
    """The state of each stage that has begun, in the order of ``stages``.

    A stage is two nodes of the workflow: ``<stage>-driver``, which prepares it, and ``<stage>``. Where the
    driver fails, the stage never starts.
    """
    details = (run.run_details and run.run_details.task_details) or ()
    nodes = {node.display_name: node for node in details if node.state}
    states = {}
    for name in stages:
        driver, node = nodes.get(f"{name}-driver"), nodes.get(name)
        if node:
            states[name] = _state(node)
        elif driver:
            failed = driver.state == "FAILED"
            states[name] = _state(driver, "it could not be prepared") if failed else StageState("PENDING")
    return states


def failures(run: Any, stages: Mapping[str, str]) -> Iterator[str]:
    """One line for each stage that failed, or else for the run."""
    failed = [
        (stages[name], state) for name, state in stage_states(run, stages).items() if state.state == "FAILED"
    ]
    for name, state in failed:
        yield f"{name} failed: {state.cause or 'its log says why'}"
    if not failed:
        yield f"the run {_word(run.state)}: {_cause(run) or 'no stage failed'}"


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
