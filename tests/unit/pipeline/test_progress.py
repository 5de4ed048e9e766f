"""A run on its way: a line for each change of a stage, and a live line on a terminal."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import pytest

from pipeline import live_line, progress
from pipeline.package import PACKAGE, Package
from pipeline.server import KubeflowError, connect

from .kfp_stand_in import KfpStandIn
from .submitting import RUN_ID, submit, tasks, watch_sweep
from .terminal import Terminal

pytestmark = pytest.mark.usefixtures("at_home", "check_current", "no_pauses")


def test_each_change_of_a_stage_is_one_line(
    kfp: KfpStandIn, judged: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    judged("promoted")
    kfp.hiccups = 3
    assert submit(kfp, "--watch") == 0
    told = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()[2:-3]]
    assert len(told) == 2 * len(tasks(kfp))
    assert [line.split() for line in told[:3]] == [
        ["ingest", "running"],
        ["ingest", "done", "in", "0:30"],
        ["attack", "running"],
    ]
    assert [line for line in told if line.startswith("prune · control")] == [
        "prune · control           running",
        "prune · control           done in 0:30",
    ]


def test_a_sweep_is_told_run_by_run_and_needs_no_registry(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(run_id=RUN_ID) as kfp:
        assert watch_sweep(kfp) == 0
    told = [line.split()[1:] for line in capsys.readouterr().out.splitlines()[2:]]
    assert told == [
        ["runs", "running"],
        ["run", "1", "running"],
        ["run", "2", "running"],
        ["runs", "done", "in", "0:30"],
        ["tabulate", "running"],
        ["run", "1", "done", "in", "0:30"],
        ["run", "2", "done", "in", "0:30"],
        ["tabulate", "done", "in", "0:30"],
    ]


def test_a_pod_that_does_not_start_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(8))

    def look(_: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    with KfpStandIn(stall="attack", no_image=True, run_id=RUN_ID) as kfp:
        assert submit(kfp) == 0
        for after, times in ((600.0, 0), (0.0, 1)):
            monkeypatch.setattr(progress, "WAITING", after)
            looks, out = iter(range(8)), Terminal()
            watching = progress.Watch(
                connect(kfp.url, "team-a"), RUN_ID, "team-a", Package(PACKAGE).tasks.stages, out=out
            )
            with pytest.raises(KeyboardInterrupt):
                watching.follow(look)
            hint = f"this says why: kubectl describe pod -n team-a -l pipeline/runid={RUN_ID}"
            assert out.getvalue().count(hint) == times


def test_a_terminal_gets_a_live_line(kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = SimpleNamespace(monotonic=lambda: 0.0)  # a loaded machine takes longer than a second
    monkeypatch.setattr(live_line, "time", stopped)
    assert submit(kfp) == 0
    kfp.hiccups = 1
    out = Terminal()
    client = connect(kfp.url, "kubeflow")
    progress.Watch(client, RUN_ID, "kubeflow", Package(PACKAGE).tasks.stages, out=out).follow()
    *_, last, _ = out.getvalue().split("\n")
    assert "trying again: Kubeflow Pipelines: cannot look at run" in out.getvalue()
    assert "0 of 11 stages done; running: ingest" in out.getvalue()
    assert last.split("\x1b[K")[-1].split() == ["0:00", "promote", "done", "in", "0:30"]


def run_of(state: str, **tasks: str) -> Any:
    nodes = [
        kfp_server_api.V2beta1PipelineTaskDetail(display_name=name, state=of) for name, of in tasks.items()
    ]
    details = kfp_server_api.V2beta1RunDetails(task_details=nodes)
    return kfp_server_api.V2beta1Run(run_id=RUN_ID, state=state, run_details=details)


@pytest.mark.parametrize(
    ("tasks", "running"), [({"runs": "RUNNING", "prune": "RUNNING"}, "runs, prune · all"), ({}, "-")]
)
def test_the_live_line_says_what_runs_inside_a_loop_and_is_taken_away_at_the_end(
    tasks: dict[str, str], running: str
) -> None:
    looks = iter([run_of("RUNNING", **tasks), run_of("FAILED", **tasks)])
    client: Any = SimpleNamespace(get_run=lambda _: next(looks))
    out = Terminal()
    inner = {"runs": {"attack": "attack", "prune": "prune · all"}}
    progress.Watch(client, RUN_ID, "kubeflow", {"runs": "runs"}, inner, out=out).follow()
    assert f"0 of 1 stages done; running: {running}\r" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_a_pod_that_has_started_meanwhile_has_not_been_waiting() -> None:
    watching = progress.Watch(SimpleNamespace(), RUN_ID, "kubeflow", {})
    looks = ((0.0, "PENDING"), (100.0, "RUNNING"), (200.0, "PENDING"), (379.0, "PENDING"))
    assert not any(watching._waits(run_of("RUNNING", attack=state), now) for now, state in looks)
    assert watching._waits(run_of("RUNNING", attack="PENDING"), 380.0)


def test_a_server_that_is_gone_for_good(kfp: KfpStandIn) -> None:
    assert submit(kfp) == 0
    client = connect(kfp.url, "kubeflow")
    kfp.hiccups = 1000
    waits: list[float] = []
    with pytest.raises(KubeflowError, match=r"\(HTTP 503\); the run goes on: python -m pipeline watch 0b"):
        progress.Watch(client, RUN_ID, "kubeflow", {}, out=Terminal()).follow(sleep=waits.append)
    assert len(waits) == 150
