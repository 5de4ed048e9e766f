"""Submitting to a stand-in for Kubeflow Pipelines: by kfp's own command, and by ours."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kfp_server_api
import mlflow
import pytest
import yaml

from fineprune.tracking import KUBEFLOW_RUN
from pipeline import __main__, watch
from pipeline.package import Package
from pipeline.parameters import ROOT, defaults
from pipeline.server import KubeflowError, connect
from pipeline.submit import PACKAGE

from .kfp_stand_in import KfpStandIn

RUN_ID = "0b7f3e52-9a1c-4d55-8a55-3a1a5f0e9c11"


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's kfp context, no address or login from outside, and no waiting."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(watch, "EVERY", 0.01)


@pytest.fixture
def kfp() -> Iterator[KfpStandIn]:
    with KfpStandIn(run_id=RUN_ID) as stand_in:
        yield stand_in


def submit(stand_in: KfpStandIn, *arguments: str) -> int:
    return __main__.main(["submit", "--endpoint", stand_in.url, *arguments])


def program(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def parameters(stand_in: KfpStandIn) -> dict[str, Any]:
    found: dict[str, Any] = stand_in.run["runtime_config"].get("parameters", {})
    return found


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, less the command's name."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("python -m pipeline submit: error: ").rstrip()


# --- kfp's own command --------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["submit", "create"])
def test_kfp_run(kfp: KfpStandIn, command: str) -> None:
    place = ("run", command, "-e", "fine-pruning", "-f", str(PACKAGE.relative_to(ROOT)))
    section = {**defaults("digits")["prune"], "tolerance": 0.02}
    arguments = ("min_utility=0.9", f"prune={json.dumps(section)}", 'revision="0012345"')
    done = program("kfp", "--endpoint", kfp.url, *place, *arguments)
    assert done.returncode == 0, done.stderr
    assert RUN_ID in done.stdout
    assert ("deprecated" in done.stderr) == (command == "submit")
    assert parameters(kfp) == {"min_utility": 0.9, "prune": section, "revision": "0012345"}
    (experiment,) = kfp.experiments.values()
    assert experiment["display_name"] == "fine-pruning"
    assert kfp.run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "fine-pruning"


def test_the_server_refuses_what_kfp_lets_through(kfp: KfpStandIn) -> None:
    place = ("run", "create", "-e", "fine-pruning", "-f", str(PACKAGE))
    done = program("kfp", "--endpoint", kfp.url, *place, "min_utility=high")
    assert done.returncode == 1
    assert "input parameter min_utility requires type double or integer" in done.stderr
    assert not kfp.runs


def test_kfp_pipeline_create(kfp: KfpStandIn) -> None:
    done = program("kfp", "--endpoint", kfp.url, "pipeline", "create", "-p", "fine-pruning", str(PACKAGE))
    assert done.returncode == 0, done.stderr
    assert [pipeline["display_name"] for pipeline in kfp.pipelines.values()] == ["fine-pruning"]


# --- what is sent -------------------------------------------------------------------------------


def test_our_command(kfp: KfpStandIn) -> None:
    command = (sys.executable, "-m", "pipeline", "submit", "--endpoint", kfp.url)
    done = program(*command, "--run-name", "first", "--experiment", "mine", "source=s3://bucket/speech")
    assert done.returncode == 0, done.stderr
    page = f"{kfp.url}/#/runs/details/{RUN_ID}"
    assert done.stdout.splitlines()[:2] == [f"run {RUN_ID}", f"    {page}"]
    assert "data_md5" in done.stderr  # what an s3:// source holds is not pinned
    assert parameters(kfp)["source"] == "s3://bucket/speech"
    assert kfp.run["display_name"] == "first"
    assert kfp.run["service_account"] == "pipeline-runner"
    assert [experiment["display_name"] for experiment in kfp.experiments.values()] == ["mine"]


def test_without_arguments_the_package_decides(kfp: KfpStandIn) -> None:
    assert submit(kfp) == 0
    assert parameters(kfp) == {}
    cached = {name for name, task in tasks(kfp).items() if task["cachingOptions"].get("enableCache")}
    compiled = next(yaml.safe_load_all(PACKAGE.read_text()))["root"]["dag"]["tasks"]
    assert cached == {name for name, task in compiled.items() if task["cachingOptions"].get("enableCache")}
    assert "attack" in cached


def tasks(stand_in: KfpStandIn) -> dict[str, Any]:
    found: dict[str, Any] = stand_in.run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    return found


def test_without_the_cache(kfp: KfpStandIn) -> None:
    assert submit(kfp, "--no-cache") == 0
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks(kfp).values())


def test_typed_parameters(kfp: KfpStandIn) -> None:
    given = ("min_utility=1", "registered_name=7", 'profile={"measure": "post_pool", "batch_size": 64}')
    assert submit(kfp, *given) == 0
    profile = {"measure": "post_pool", "batch_size": 64}
    assert parameters(kfp) == {"min_utility": 1.0, "registered_name": "7", "profile": profile}


def test_one_key_of_a_section(kfp: KfpStandIn) -> None:
    changes = ("--set", "attack.poison.rate=0.05", "--set", "attack.seed=3")
    assert submit(kfp, *changes) == 0
    expected = defaults("digits")["attack"]
    expected["poison"]["rate"], expected["seed"] = 0.05, 3
    assert parameters(kfp) == {"attack": expected}


def test_a_case(kfp: KfpStandIn) -> None:
    assert submit(kfp, "--case", "fsdd", "--set", "finetune.recipe.epochs=2", "min_utility=0.5") == 0
    sent, case = parameters(kfp), defaults("fsdd")
    case["finetune"]["recipe"]["epochs"] = 2
    same = {name: case[name] for name in ("attack", "finetune", "ingest", "registered_name", "source")}
    assert sent == same | {"min_utility": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tolerence=1"], "has no parameter tolerence; it has attack, data_md5"),
        (["min_utility=high"], "parameters.min_utility: expected a finite number, found 'high'"),
        (["prune=3", "min_utility="], "parameters.min_utility: expected a finite number, found None"),
        (["min_utility=7"], "promote.min_utility: expected a value in [-1, 1], found 7.0"),
        (["--set", "attack.poison.rat=1"], "attack.poison.rat: unknown key"),
        (["--set", "attack.poison.rate=2"], "attack.poison.rate: expected a value in (0, 1], found 2"),
        (["--set", "promote.min_utility=0"], "min_utility is a parameter of its own, say min_utility=…"),
        (["--set", "mint.rate=0"], "--set mint.rate=0: expected STAGE.KEY=VALUE with a stage of ingest, "),
        (["--set", "attack=0"], "--set attack=0: expected STAGE.KEY=VALUE"),
        (["plain"], "expected key=value, found 'plain'"),
        (["--case", "mnist"], "no case 'mnist'; there are digits, fsdd"),
        (["--package", "nowhere.yaml"], "nowhere.yaml: cannot read the package: No such file or directory"),
        (["--package", str(ROOT / "params.yaml")], "expected a compiled pipeline, found something else"),
        (
            ["source=dvc+https://me:planted@git.example/data@main:speech"],
            "source: expected an address without credentials, found one with some",
        ),
        (
            ["--set", "promote.tracking_uri=http://me:planted@mlflow.example"],
            "promote: expected an address without credentials, found one with some",
        ),
        (["--profile", "tpu"], "no profile 'tpu'; there are "),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert submit(kfp, *arguments) == 2
    said = refused(capsys)
    assert message in said
    assert "planted" not in said
    assert kfp.requests == []


# --- data that DVC tracks -----------------------------------------------------------------------

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository whose ``speech.tar.gz`` DVC tracks; the data itself is nowhere."""
    folder = tmp_path / "repository"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").touch()
    out = {"md5": MD5, "size": 1, "hash": "md5", "path": "speech.tar.gz"}
    (folder / "speech.tar.gz.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "--quiet", "-m", "data")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_revision_becomes_a_commit_and_an_md5(kfp: KfpStandIn, repository: Path) -> None:
    source = f"dvc+{repository}@main:speech.tar.gz"
    assert submit(kfp, f"source={source}") == 0
    commit = git(repository, "rev-parse", "HEAD")
    assert parameters(kfp) == {"source": source, "revision": commit, "data_md5": MD5}


def test_a_commit_and_an_md5_by_hand_are_taken(kfp: KfpStandIn) -> None:
    pin = {"source": "dvc+https://git.example/data@main:speech", "revision": "0012345", "data_md5": MD5}
    assert submit(kfp, *(f"{name}={value}" for name, value in pin.items())) == 0
    assert parameters(kfp) == pin


def test_data_that_is_not_as_expected(
    kfp: KfpStandIn, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "f" * 32
    assert submit(kfp, f"source=dvc+{repository}@main:speech.tar.gz", f"data_md5={other}") == 2
    assert f"expected data_md5 {other}, found {MD5}" in refused(capsys)
    assert kfp.requests == []


# --- servers ------------------------------------------------------------------------------------


def test_a_server_of_several_users_gets_the_namespace() -> None:
    with KfpStandIn(multi_user=True) as kfp:
        assert submit(kfp, "--namespace", "team-a") == 0
        assert [experiment["namespace"] for experiment in kfp.experiments.values()] == ["team-a"]


def test_a_server_of_one_user_gets_none(kfp: KfpStandIn) -> None:
    assert submit(kfp, "--namespace", "team-a") == 0
    assert [experiment.get("namespace", "") for experiment in kfp.experiments.values()] == [""]


def test_a_login(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(token="planted") as kfp:
        assert submit(kfp) == 2
        said = refused(capsys)
        assert "no user identity header" in said
        assert said.endswith("(HTTP 401); set KF_PIPELINES_TOKEN or KF_PIPELINES_COOKIE")
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "planted")
        assert submit(kfp) == 0
        printed = capsys.readouterr()
        assert "planted" not in printed.out + printed.err


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["submit", "--endpoint", "http://me:planted@127.0.0.1:1"]) == 2
    said = refused(capsys)
    assert said.startswith("Kubeflow Pipelines: cannot reach http://127.0.0.1:1: no answer: ")
    assert said.endswith("Connection refused")
    assert "planted" not in said


def test_a_login_page_is_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>log in</html>")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    try:
        assert __main__.main(["submit", "--endpoint", f"http://127.0.0.1:{server.server_port}"]) == 2
    finally:
        server.shutdown()
        server.server_close()
    assert refused(capsys).endswith("expected Kubeflow Pipelines, found something else: a login page?")


# --- watching -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with one model."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"
    mlflow.MlflowClient(uri).create_registered_model("net")
    return uri


@pytest.fixture
def judged(registry: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Registers a version with a verdict, as promote does."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    client = mlflow.MlflowClient(registry)
    for version in client.search_model_versions("name = 'net'"):
        client.delete_model_version("net", version.version)

    def judge(verdict: str) -> None:
        tags = {KUBEFLOW_RUN: RUN_ID, "verdict": verdict, "reasons": "utility is 0.91\nloss is 0.01"}
        client.create_model_version("net", "mlflow-artifacts:/none", tags=tags)

    return judge


@pytest.mark.parametrize(("verdict", "code"), [("promoted", 0), ("held", 3), ("maybe", 1)])
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


def test_no_verdict_is_no_promotion(
    kfp: KfpStandIn, judged: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(kfp, "--watch") == 1
    assert "has no verdict of it" in capsys.readouterr().err


def test_a_registry_that_does_not_answer_is_no_promotion(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:planted@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert submit(kfp, "--watch") == 1
    printed = capsys.readouterr()
    assert "the run succeeded, but its verdict could not be read: http://127.0.0.1:1: " in printed.err
    assert "planted" not in printed.out + printed.err


def test_a_failed_stage_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(fail="prune-2", run_id=RUN_ID) as kfp:
        assert submit(kfp, "--watch") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].split() == ["0:00", "prune", "·", "control", "failed", "in", "0:30"]
    assert printed.err.splitlines() == [
        "prune · control failed: its log says why",
        f"logs: kubectl logs -n kubeflow -l pipeline/runid={RUN_ID} -c main --prefix --tail 20",
    ]


def test_a_stage_that_could_not_be_prepared_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(fail_driver="attack") as kfp:
        assert submit(kfp, "--watch") == 1
    assert capsys.readouterr().err.startswith("attack failed: it could not be prepared\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_live_line(kfp: KfpStandIn) -> None:
    assert submit(kfp) == 0
    kfp.hiccups = 1
    out = Terminal()
    client = connect(kfp.url, "kubeflow")
    watch.Watch(client, RUN_ID, Package(PACKAGE).stages, out).follow()
    *_, last, _ = out.getvalue().split("\n")
    assert "trying again: Kubeflow Pipelines: cannot look at run" in out.getvalue()
    assert "0 of 11 stages done; running: ingest" in out.getvalue()
    assert last.split("\x1b[K")[-1].split() == ["0:00", "promote", "done", "in", "0:30"]


def test_a_server_that_is_gone_for_good(kfp: KfpStandIn) -> None:
    assert submit(kfp) == 0
    client = connect(kfp.url, "kubeflow")
    kfp.hiccups = 1000
    waits: list[float] = []
    with pytest.raises(KubeflowError, match=r"upstream connect error \(HTTP 503\); the run goes on$"):
        watch.Watch(client, RUN_ID, {}, Terminal()).follow(sleep=waits.append)
    assert len(waits) == 150


def test_clocks() -> None:
    assert [watch.clock(seconds) for seconds in (0.9, 61, 3661.5)] == ["0:00", "1:01", "1:01:01"]


def test_the_cause_is_what_the_server_tells() -> None:
    error = kfp_server_api.GoogleRpcStatus(message="pod was\n evicted")
    stage = kfp_server_api.V2beta1PipelineTaskDetail(display_name="prune", state="FAILED", error=error)
    details = kfp_server_api.V2beta1RunDetails(task_details=[stage])
    run = kfp_server_api.V2beta1Run(state="FAILED", run_details=details)
    assert list(watch.failures(run, {"prune": "prune"})) == ["prune failed: pod was evicted"]
    status = kfp_server_api.V2beta1RuntimeStatus(state="FAILED", error=error)
    run = kfp_server_api.V2beta1Run(state="FAILED", state_history=[status])
    assert list(watch.failures(run, {"prune": "prune"})) == ["the run failed: pod was evicted"]


def test_leaving_does_not_end_the_run() -> None:
    with KfpStandIn(stall="attack", run_id=RUN_ID) as kfp:
        command = [sys.executable, "-m", "pipeline", "submit", "--endpoint", kfp.url, "--watch"]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        )
        deadline = time.monotonic() + 120
        while kfp.looks.get(RUN_ID, 0) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.strip().endswith(f"kfp --endpoint {kfp.url} run get {RUN_ID}")
        assert "the run goes on" in said
        assert "Traceback" not in said
        assert kfp.run["state"] == "RUNNING"
        assert not any("terminate" in request for request in kfp.requests)
