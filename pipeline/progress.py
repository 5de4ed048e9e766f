"""A run on its way: one line for each change of a stage, and a live line where somebody is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import kfp

from pipeline.live_line import LiveLine, clock
from pipeline.run_state import FINAL, StageState, pending, run_states, stage_states, with_state, word
from pipeline.server import KubeflowError, one_line_errors, silence

EVERY = 2.0
"""Seconds between two looks at a run."""
WAITING = 180.0
"""Seconds after which a pod that has not started is worth a hint."""

_PATIENCE = 150  # looks in a row that may bring no answer


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
        self._waiting = {pod: self._waiting.get(pod, now) for pod in pending(run)}
        return any(now - since >= WAITING for since in self._waiting.values())

    def _hint(self) -> str:
        describe = f"kubectl describe pod -n {self.namespace} -l pipeline/runid={self.run_id}"
        return f"a pod has been waiting for {clock(WAITING)} to start; this says why: {describe}"

    def _look(self, sleep: Callable[[float], object]) -> Any:
        """The run; one look without an answer is no reason to give up."""
        for _ in range(_PATIENCE):
            try:
                with one_line_errors(f"look at run {self.run_id}"), silence():
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
            running += [titles[name] for name in titles if with_state("RUNNING", run, name)]
        now = ", ".join(running) or "-"
        return f"{done} of {len(self.stages)} stages done; running: {now}"


def resume(run_id: str) -> str:
    """The command that follows a run."""
    return f"python -m pipeline watch {run_id}"


def _told(name: str, state: StageState) -> str:
    took = f" in {clock(state.seconds)}" if state.state in FINAL and state.seconds is not None else ""
    return f"{name:<26}{word(state.state)}{took}"
