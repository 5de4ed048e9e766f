"""What failed in a run, as Kubeflow's answers tell it."""

import kfp_server_api
import pytest

from pipeline.run_state import failures

from .kfp_stand_in import KfpStandIn
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
