"""What failed in a run, as Kubeflow's answers tell it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import kfp_server_api
import pytest

from pipeline.run_state import StageState, failures, run_states, stage_states

from .kfp_stand_in import STARTED, KfpStandIn
from .submitting import RUN_ID, submit, watch_sweep

pytestmark = pytest.mark.usefixtures("at_home", "check_current", "no_pauses")


@pytest.mark.usefixtures("judged")
def test_a_stage_that_could_not_be_prepared_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(fail_driver="attack") as kfp:
        assert submit(kfp, "--watch") == 1
    assert capsys.readouterr().err.startswith("attack failed: it could not be prepared\n")


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ({1: "prune-2"}, ["prune · control failed in run 2: its log says why"]),
        ({0: "attack", 1: "attack"}, ["attack failed in run 1 and run 2: its log says why"]),
        (
            {0: "attack", 1: "evaluate"},
            [
                "attack failed in run 1 or run 2: its log says why",
                "evaluate failed in run 1 or run 2: its log says why",
            ],
        ),
    ],
)
def test_a_stage_that_failed_inside_the_sweep_is_named(
    capsys: pytest.CaptureFixture[str], faults: dict[int, str], told: list[str]
) -> None:
    with KfpStandIn(fail_inner=faults, run_id=RUN_ID) as kfp:
        assert watch_sweep(kfp) == 1
    *lines, logs = capsys.readouterr().err.splitlines()
    assert lines == told
    assert logs.startswith("logs: kubectl logs ")


def test_the_cause_is_what_the_server_tells() -> None:
    error = kfp_server_api.GoogleRpcStatus(message="pod was\n evicted")
    stage = kfp_server_api.V2beta1PipelineTaskDetail(display_name="prune", state="FAILED", error=error)
    details = kfp_server_api.V2beta1RunDetails(task_details=[stage])
    run = kfp_server_api.V2beta1Run(state="FAILED", run_details=details)
    assert failures(run, {"prune": "prune"}) == ["prune failed: pod was evicted"]
    status = kfp_server_api.V2beta1RuntimeStatus(state="FAILED", error=error)
    run = kfp_server_api.V2beta1Run(state="FAILED", state_history=[status])
    assert failures(run, {"prune": "prune"}) == ["the run failed: pod was evicted"]


NOT_YET = datetime(1, 1, 1, tzinfo=UTC)


def told(message: str | None) -> Any:
    return kfp_server_api.GoogleRpcStatus(message=message)


def node(name: str, state: str, **more: Any) -> Any:
    return kfp_server_api.V2beta1PipelineTaskDetail(display_name=name, state=state, **more)


def run_of(*nodes: Any) -> Any:
    details = kfp_server_api.V2beta1RunDetails(task_details=list(nodes))
    return kfp_server_api.V2beta1Run(state="FAILED", run_details=details)


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        (STARTED, STARTED + timedelta(seconds=30), 30.0),
        (STARTED, NOT_YET, None),
        (STARTED, None, None),
        (None, STARTED, None),
    ],
)
def test_a_stage_takes_from_its_start_to_its_end(
    start: datetime | None, end: datetime | None, seconds: float | None
) -> None:
    run = run_of(node("prune", "RUNNING", start_time=start, end_time=end))
    assert stage_states(run, {"prune": "prune"}) == {"prune": StageState("RUNNING", seconds)}


def test_a_stage_that_is_being_prepared_waits_and_one_that_was_not_begun_is_not_told() -> None:
    run = run_of(node("prune-driver", "SUCCEEDED"), node("attack-driver", "FAILED", error=told("no quota")))
    assert stage_states(run, dict.fromkeys(("attack", "prune", "evaluate"), "")) == {
        "attack": StageState("FAILED", None, "it could not be prepared: no quota"),
        "prune": StageState("PENDING"),
    }


def test_the_runs_of_a_loop_are_in_their_order() -> None:
    numbers = (1, 10, 0)
    run = run_of(*(node(f"iteration-iterations({number}:11)", "RUNNING") for number in numbers))
    assert [*run_states(run)] == ["run 1", "run 2", "run 11"]


def test_what_failed_in_a_loop_is_told_where_nobody_says_in_which_run() -> None:
    run = run_of(node("runs", "FAILED"), node("attack-driver", "FAILED"), node("prune", "SUCCEEDED"))
    inner = {"runs": {"attack": "attack", "prune": "prune"}}
    assert failures(run, {"runs": "runs"}, inner) == ["attack failed in a run of the loop: its log says why"]


def test_of_several_errors_the_last_is_the_cause() -> None:
    history = [
        kfp_server_api.V2beta1RuntimeStatus(state="FAILED", error=told(message))
        for message in ("first", "second", None)
    ]
    run = run_of(node("prune", "FAILED", error=told("at first"), state_history=history))
    assert failures(run, {"prune": "prune"}) == ["prune failed: second"]
