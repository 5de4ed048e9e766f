"""Following a run to its verdict, which is the exit code; and what ends it without one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import pytest

from fineprune.errors import TrackingError
from pipeline import __main__, settings, watch
from pipeline.package import Package
from pipeline.parameters import ROOT
from pipeline.server import KubeflowError

from .kfp_stand_in import KfpStandIn
from .submitting import RUN_ID, SWEEP, refused, submit

pytestmark = pytest.mark.usefixtures("at_home", "check_current", "no_pauses")


@pytest.mark.parametrize(("verdict", "code"), [("promoted", 0), ("held", 3)])
def test_the_verdict_is_the_exit_code(
    kfp: KfpStandIn,
    judged: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    code: int,
) -> None:
    judged(verdict)
    assert submit(kfp, "--watch") == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith(f"{verdict}: net version ")
    assert lines[-2:] == ["  - utility is 0.91", "  - loss is 0.01"]


@pytest.mark.parametrize(("verdict", "code"), [("promoted", 0), ("held", 3)])
def test_a_run_is_taken_up_again(
    kfp: KfpStandIn,
    judged: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    code: int,
) -> None:
    judged(verdict)
    assert submit(kfp) == 0
    capsys.readouterr()
    assert __main__.main(["watch", RUN_ID, "--endpoint", kfp.url]) == code
    told = capsys.readouterr().out
    assert "prune · control           done in 0:30" in told
    assert told.splitlines()[-3].startswith(f"{verdict}: net version ")


def test_the_run_is_looked_for_where_the_command_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def connect(*place: str) -> None:
        asked.append(place)
        raise KubeflowError("nobody")

    monkeypatch.setattr(watch, "connect", connect)
    given = ("watch", RUN_ID, "--endpoint", "http://kfp.example")
    assert __main__.main([*given, "--namespace", "team-a"]) == 2
    assert __main__.main([*given, "--profile", "tpu"]) == 2
    assert asked == [("http://kfp.example", "team-a")]
    assert "no profile 'tpu'" in capsys.readouterr().err


def test_a_run_of_a_version_that_was_uploaded(kfp: KfpStandIn, judged: Callable[[str], None]) -> None:
    judged("promoted")
    assert submit(kfp) == 0
    kfp.uploaded = True
    assert __main__.main(["watch", RUN_ID, "--endpoint", kfp.url]) == 0


def test_a_run_that_is_not_there(kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["watch", RUN_ID, "--endpoint", kfp.url]) == 2
    assert f"cannot look at run {RUN_ID}: Run {RUN_ID} not found (HTTP 404)" in capsys.readouterr().err


def test_a_run_of_something_else_is_refused(kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(kfp) == 0
    kfp.get_run = lambda _: {"run_id": RUN_ID, "pipeline_spec": {"spec": "a workflow of Argo"}}  # type: ignore[method-assign]
    assert __main__.main(["watch", RUN_ID, "--endpoint", kfp.url]) == 2
    assert "expected one of a pipeline that kfp 2 compiled, found another" in capsys.readouterr().err


def test_no_verdict_is_no_promotion(
    kfp: KfpStandIn,
    judged: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("://", "://me:planted@"))
    assert submit(kfp, "--watch") == 1
    said = f"the run succeeded, but the registry at {address} has no verdict of it\n"
    assert capsys.readouterr().err == said


def test_a_registry_that_does_not_answer_is_told_before_anything_is_sent(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:planted@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert submit(kfp, "--watch") == 2
    said = refused(capsys)
    assert said.startswith("cannot read the verdict: http://127.0.0.1:1: no answer from MLflow: ")
    assert "Connection refused; set MLFLOW_TRACKING_URI to its address from here" in said
    assert "planted" not in said
    assert kfp.requests == []


def test_a_registry_that_does_not_answer_is_told_before_a_run_is_followed(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(kfp) == 0
    capsys.readouterr()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert __main__.main(["watch", RUN_ID, "--endpoint", kfp.url]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cannot read the verdict: http://127.0.0.1:1: no answer" in printed.err


@pytest.mark.parametrize("address", ["sqlite:///mlflow.db", "mlruns", "http://[bad"])
def test_a_registry_that_no_pod_can_reach_is_told_before_anything_is_sent(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert submit(kfp, "--watch") == 2
    expected = f"{address}: expected the http:// or https:// address of a server; set MLFLOW_TRACKING_URI to "
    assert refused(capsys).startswith(f"cannot read the verdict: {expected}")
    assert kfp.requests == []


def test_a_registry_that_is_gone_at_the_end_is_no_promotion(
    kfp: KfpStandIn,
    judged: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judged("promoted")

    def gone(uri: str, run_id: str) -> None:
        if run_id == RUN_ID:
            raise TrackingError(f"{uri}: gone")

    monkeypatch.setattr("fineprune.tracking.verdict.verdict_of_run", gone)
    assert submit(kfp, "--watch") == 1
    fault, again = capsys.readouterr().err.splitlines()
    assert fault.startswith("the run succeeded, but its verdict could not be read: http:")
    assert again == (
        f"set MLFLOW_TRACKING_URI to the registry's address from here, and python -m pipeline watch {RUN_ID}"
    )


@pytest.mark.usefixtures("judged")
def test_a_failed_stage_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(fail="prune-2", run_id=RUN_ID) as kfp:
        assert submit(kfp, "--watch") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].split() == ["0:00", "prune", "·", "control", "failed", "in", "0:30"]
    assert printed.err.splitlines() == [
        "prune · control failed: its log says why",
        f"logs: kubectl logs -n kubeflow -l pipeline/runid={RUN_ID} -c main --prefix --tail 20",
    ]


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_somebody_ended_is_over_and_no_success(
    capsys: pytest.CaptureFixture[str], state: str
) -> None:
    looks = iter([kfp_server_api.V2beta1Run(run_id=RUN_ID, state=state)])
    client: Any = SimpleNamespace(get_run=lambda _: next(looks))
    sweep = Package(SWEEP).tasks
    given: Any = SimpleNamespace(namespace="team-a")
    assert watch.follow(client, RUN_ID, sweep, given, settings.load()) == 1
    said = capsys.readouterr().err
    assert f"the run was {'cancelled' if state == 'CANCELED' else 'skipped'}: no stage failed" in said
    assert "kubectl logs -n team-a " in said


@pytest.mark.usefixtures("judged")
def test_leaving_does_not_end_the_run() -> None:
    with KfpStandIn(stall="attack", run_id=RUN_ID) as kfp:
        command = [sys.executable, "-m", "pipeline", "submit", "--endpoint", kfp.url, "--watch"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A program in the background may have inherited that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 120
        while kfp.looks.get(RUN_ID, 0) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.strip().endswith(f"python -m pipeline watch {RUN_ID}")
        assert "the run goes on" in said
        assert "Traceback" not in said
        assert kfp.run["state"] == "RUNNING"
        assert not any("terminate" in request for request in kfp.requests)
