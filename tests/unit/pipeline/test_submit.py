"""Submitting to a stand-in for Kubeflow Pipelines: by kfp's own command, and by ours."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import mlflow
import pytest
import yaml

from fineprune.errors import TrackingError
from fineprune.tracking.verdict import KUBEFLOW_RUN
from pipeline import __main__, live_line, progress, settings, watch
from pipeline import compile as compiling
from pipeline.package import FOLDER, PACKAGE, Package, package_file
from pipeline.parameters import ROOT, defaults, sweep_runs
from pipeline.server import KubeflowError, connect

from .kfp_stand_in import KfpStandIn

check_current = compiling.check_current
FROM_OUTSIDE = (
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_TOKEN",
    "KF_PIPELINES_COOKIE",
    "KF_PIPELINES_SA_TOKEN_PATH",
    "HTTPS_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
MD5 = "0123456789abcdef0123456789abcdef"
SWEEP = FOLDER / "fine_pruning_sweep.yaml"
RUN_ID = "0b7f3e52-9a1c-4d55-8a55-3a1a5f0e9c11"


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's kfp context, no address or login from outside, and no waiting."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    for name in (*FROM_OUTSIDE, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    # Compiling anew costs seconds; the tests of that have it back.
    monkeypatch.setattr(compiling, "check_current", lambda *_: None)


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
    assert "every stage runs anew; say data_md5=…" in done.stderr  # what an s3:// source holds is not pinned
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks(kfp).values())
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


@pytest.mark.parametrize("pin", [[], [f"data_md5={MD5}"]])
def test_what_the_package_reads_may_change_too(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], pin: list[str]
) -> None:
    package = tmp_path / "mine.yaml"
    pipeline, *rest = yaml.safe_load_all(PACKAGE.read_text())
    pipeline["root"]["inputDefinitions"]["parameters"]["source"]["defaultValue"] = "s3://bucket/speech"
    package.write_text(yaml.safe_dump_all([pipeline, *rest]))
    assert submit(kfp, "--package", str(package), *pin) == 0
    cached = any(task["cachingOptions"].get("enableCache") for task in tasks(kfp).values())
    assert cached == bool(pin) == ("every stage runs anew" not in capsys.readouterr().err)


@pytest.mark.parametrize("package", [PACKAGE, SWEEP])
def test_without_the_cache(kfp: KfpStandIn, package: Path) -> None:
    assert submit(kfp, "--no-cache", "--package", str(package)) == 0
    sent, (pipeline, platform) = kfp.run["pipeline_spec"], yaml.safe_load_all(package.read_text())
    for spec in (sent["pipeline_spec"], pipeline):
        parts = [spec["root"], *spec["components"].values()]
        given = [task for part in parts for task in part.get("dag", {}).get("tasks", {}).values()]
        cached = [task for task in given if task.pop("cachingOptions", {}).get("enableCache")]
        assert bool(cached) == (spec is pipeline)
    assert sent == {"pipeline_spec": pipeline, "platform_spec": platform}


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages in place of the committed one, with the packages of every profile."""
    for profile in ("gpu", "cpu"):
        given = ["--output", str(tmp_path / "compiled"), "--profile", profile]
        assert __main__.main(["compile", *given]) == 0
    monkeypatch.setattr("pipeline.submit.package_file", partial(package_file, folder=tmp_path / "compiled"))
    monkeypatch.setattr(compiling, "FOLDER", tmp_path / "compiled")
    monkeypatch.setattr(compiling, "check_current", check_current)
    return tmp_path / "compiled"


@pytest.mark.parametrize(("profile", "devices"), [("gpu", {"nvidia.com/gpu"}), ("cpu", set())])
def test_the_profile_says_which_package_is_sent(
    kfp: KfpStandIn, compiled: Path, profile: str, devices: set[str]
) -> None:
    assert submit(kfp, "--profile", profile) == 0
    executors = kfp.run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"].values()
    asked = [executor["container"]["resources"].get("accelerator", {}) for executor in executors]
    assert {accelerator["resourceType"] for accelerator in asked if accelerator} == devices


def test_a_package_that_is_not_current_is_not_sent(
    kfp: KfpStandIn, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, gone = compiled / "fine_pruning.yaml", compiled / "fine_pruning.cpu.yaml"
    stale.write_text(stale.read_text().replace("20", "21"))
    gone.unlink()
    capsys.readouterr()
    assert submit(kfp) == 2
    why = "the package is not what the settings and params say; run python -m pipeline compile"
    assert refused(capsys) == f"{stale}: {why}"
    assert submit(kfp, "--profile", "cpu") == 2
    assert refused(capsys).endswith(
        "cpu.yaml: the package is not there; run python -m pipeline compile --profile cpu"
    )
    sweep = compiled / "fine_pruning_sweep.yaml"
    sweep.write_text(sweep.read_text().replace("20", "21"))
    for path in (stale, sweep):
        assert submit(kfp, "--package", str(path)) == 2
        assert refused(capsys) == f"{path}: {why}"
    assert kfp.requests == []
    elsewhere = stale.rename(compiled.parent / stale.name)
    assert submit(kfp, "--package", str(elsewhere)) == 0


def test_a_package_of_another_profile_than_asked_for_is_not_sent(
    kfp: KfpStandIn, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = compiled / "fine_pruning_sweep.yaml"
    capsys.readouterr()
    assert submit(kfp, "--package", str(sweep), "--profile", "cpu") == 2
    expected = "expected fine_pruning_sweep.cpu.yaml for --profile cpu"
    assert refused(capsys) == f"--package {sweep}: {expected}"
    assert kfp.requests == []
    assert submit(kfp, "--package", str(compiled / "fine_pruning_sweep.cpu.yaml"), "--profile", "cpu") == 0


def test_what_a_package_holds_is_checked_too(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "own.yaml"
    for path in (FOLDER / "fine_pruning.yaml", SWEEP):
        package.write_text(path.read_text().replace("tolerance:", "tolerrance:"))
        assert submit(kfp, "--package", str(package)) == 2
        assert "tolerrance: unknown key" in refused(capsys)
    assert kfp.requests == []


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
    given = ("--set", "finetune.recipe.epochs=2", "min_utility=0.5", "source=s3://bucket/speech")
    assert submit(kfp, "--case", "fsdd", *given) == 0
    sent, case = parameters(kfp), defaults("fsdd")
    case["finetune"]["recipe"]["epochs"] = 2
    same = {name: case[name] for name in ("attack", "finetune", "ingest", "profile", "registered_name")}
    assert sent == same | {"min_utility": 0.5, "source": "s3://bucket/speech"}


@pytest.mark.parametrize("case", sorted(file.stem for file in (ROOT / "cases").glob("*.yaml")))
def test_every_case_whose_data_a_container_can_make(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    source = defaults(case)["source"]
    if source in ("digits", "generated"):
        assert submit(kfp, "--case", case) == 0
        assert parameters(kfp).get("source", "digits") == source
    else:
        assert submit(kfp, "--case", case) == 2
        assert refused(capsys).endswith(f"found {source!r}")
        assert submit(kfp, "--case", case, "source=s3://bucket/data") == 0


def test_a_case_on_data_of_one_s_own(kfp: KfpStandIn) -> None:
    given = ("source=s3://bucket/faces", "--set", "ingest.generator=null")
    assert submit(kfp, "--case", "faces", *given) == 0
    assert "generator" not in parameters(kfp)["ingest"]


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
        (
            ["source=s3://bucket/data", "revision=main"],
            "revision: expected none but for a source dvc+…, found main for s3://bucket/data",
        ),
        (["data_md5=" + "f" * 32], "data_md5: expected none for the source digits, found 'ffff"),
        (
            ["source=s3://bucket/data", "data_md5=xyz"],
            "data_md5: expected an md5 as DVC records it, found 'xyz'",
        ),
        (
            ["https://me:planted@git.example/data"],
            "expected key=value, found 'https://git.example/data'",
        ),
        (
            ["--set", "ingest.source=https://me:planted@git.example/data"],
            "--set ingest.source=https://git.example/data: ingest.source is a parameter of its own",
        ),
        (["--case", "mnist"], "no case 'mnist'; there are digits, faces"),
        (["--package", "nowhere.yaml"], "nowhere.yaml: cannot read the package: No such file or directory"),
        (["--package", str(ROOT / "params.yaml")], "expected a compiled pipeline, found something else"),
        (
            ["source=dvc+https://me:planted@git.example/data@main:speech"],
            "source: expected an address without credentials, found one with some",
        ),
        (
            ["--set", "ingest.licence=http://me:planted@licences.example"],
            "ingest: expected an address without credentials, found one with some",
        ),
        (
            ["--set", "promote.tracking_uri=http://me:planted@mlflow.example"],
            "--set promote.tracking_uri: has no effect; set mlflow.address in pipeline/settings.yaml",
        ),
        (["source=generated"], "ingest.generator: expected one for the source generated, found none"),
        (
            ["--case", "faces", "source=s3://bucket/faces"],
            "ingest.generator: expected none for the source s3://bucket/faces, found faces",
        ),
        (
            ["source=dvc+ssh://git@git.example/data@main:speech"],
            "source: expected dvc+https://…, for a container has no key for ssh, found 'dvc+ssh://git.example",
        ),
        (
            ["source=dvc+git@git.example:data@main:speech"],
            "source: expected dvc+https://…, for a container has no key for ssh, found 'dvc+git@git.example",
        ),
        (["--profile", "tpu"], "no profile 'tpu'; there are "),
        (["--case", "fsdd"], "source: expected what a container can reach"),
        (
            ["source=data/speech"],
            "s3://… or dvc+<URL of a git repository>@<revision>:<path>, found 'data/speech'",
        ),
        (
            ["source=file:///data/speech"],
            "expected what a container can reach, digits, generated, s3://… or ",
        ),
        (["source=dvc+/data/repository@main:speech"], "found 'dvc+/data/repository@main:speech'"),
        (["source=dvc+repository@main:speech"], "found 'dvc+repository@main:speech'"),
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

SPEECH = "dvc+https://git.example/speech@main:speech.tar.gz"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository where DVC tracks what :data:`SPEECH` names; the data itself is nowhere."""
    folder = tmp_path / "repository"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").touch()
    out = {"md5": MD5, "size": 1, "hash": "md5", "path": "speech.tar.gz"}
    (folder / "speech.tar.gz.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "--quiet", "-m", "data")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{folder.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://git.example/speech")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_revision_becomes_a_commit_and_an_md5(kfp: KfpStandIn, repository: Path) -> None:
    assert submit(kfp, f"source={SPEECH}") == 0
    commit = git(repository, "rev-parse", "HEAD")
    assert parameters(kfp) == {"source": SPEECH, "revision": commit, "data_md5": MD5}


def test_a_commit_and_an_md5_by_hand_are_taken(kfp: KfpStandIn) -> None:
    pin = {"source": "dvc+https://git.example/data@main:speech", "revision": "0012345", "data_md5": MD5}
    assert submit(kfp, *(f"{name}={value}" for name, value in pin.items())) == 0
    assert parameters(kfp) == pin


def test_data_that_is_not_as_expected(
    kfp: KfpStandIn, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "f" * 32
    assert submit(kfp, f"source={SPEECH}", f"data_md5={other}") == 2
    assert f"expected data_md5 {other}, found {MD5}" in refused(capsys)
    assert kfp.requests == []


def sweep_run(**changes: Any) -> dict[str, Any]:
    return sweep_runs(["digits"], ["baseline"], [3])[0] | changes


def test_the_runs_of_a_sweep_are_pinned(
    kfp: KfpStandIn, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [sweep_run(source=SPEECH), sweep_run(source="s3://bucket/speech")]
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs)}") == 0
    commit = git(repository, "rev-parse", "HEAD")
    assert parameters(kfp)["runs"] == [runs[0] | {"revision": commit, "data_md5": MD5}, runs[1]]
    assert "nothing pins what the source holds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"source": "digits"}, "it has no attack, has no data_md5, has no evaluate"),
        (sweep_run(promote={}), "runs[0]: expected source, revision, "),
        (sweep_run(attack={"bogus": 1}), "runs[0]: attack.bogus: unknown key"),
        (sweep_run(source="data/speech"), "expected what a container can reach"),
        (sweep_run(source="s3://me:planted@bucket/x"), "runs: expected an address without credentials"),
    ],
)
def test_the_runs_of_a_sweep_are_checked(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], run: dict[str, Any], message: str
) -> None:
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps([run])}") == 2
    said = refused(capsys)
    assert message in said
    assert "planted" not in said
    assert kfp.requests == []


def test_a_sweep_has_room_for_so_many_runs(kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    runs = sweep_runs(["digits"], ["baseline"], range(51))
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs)}") == 2
    assert refused(capsys) == "runs: expected at most 50, found 51; split them into sweeps"
    assert kfp.requests == []
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs[:15])}") == 0
    assert capsys.readouterr().err == ""
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs[:50])}") == 0
    assert capsys.readouterr().err.startswith("50 runs may fail at their end: of a workflow Argo keeps 1 MiB")


def test_the_runs_of_the_settings_are_counted_too(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, platform = yaml.safe_load_all(SWEEP.read_text())
    runs = values["root"]["inputDefinitions"]["parameters"]["runs"]
    runs["defaultValue"] = sweep_runs(["digits"], ["baseline"], range(18))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump_all([values, platform]))
    assert submit(kfp, "--package", str(tmp_path / "sweep.yaml")) == 0
    assert capsys.readouterr().err.startswith("18 runs may fail at their end")


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
        assert said.endswith(
            "(HTTP 401); set KF_PIPELINES_TOKEN, KF_PIPELINES_SA_TOKEN_PATH or KF_PIPELINES_COOKIE"
        )
        monkeypatch.setenv("KF_PIPELINES_TOKEN", "planted")
        assert submit(kfp) == 0
        printed = capsys.readouterr()
        assert "planted" not in printed.out + printed.err


@pytest.mark.usefixtures("judged")
def test_a_token_that_is_renewed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the projected token of a pod is, which lives shorter than a training lasts."""
    file = tmp_path / "token"
    file.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    with KfpStandIn(token="first", run_id=RUN_ID) as kfp:
        assert submit(kfp) == 0

        def renewed(_: float) -> None:
            kfp.token = f"token-{kfp.looks[RUN_ID]}"
            file.write_text(kfp.token)

        watching = progress.Watch(connect(kfp.url, "kubeflow"), RUN_ID, "kubeflow", {}, out=io.StringIO())
        assert watching.follow(sleep=renewed).state == "SUCCEEDED"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_of_a_company_and_its_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "/etc/company.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    with monkeypatch.context() as patched:
        given: dict[str, Any] = {}
        patched.setattr("kfp.Client", lambda **arguments: given.update(arguments) or KfpClient())
        connect("https://kubeflow.example", "kubeflow")
        assert (given["ssl_ca_cert"], given["proxy"]) == ("/etc/company.pem", "http://proxy.example:3128")
        connect("https://kubeflow.inside.example", "kubeflow")
        assert given["proxy"] is None


class KfpClient:
    """As much of kfp's client as a connection looks at."""

    def __init__(self) -> None:
        self._healthz_api, self._context_setting, self.api_client = self, {}, SimpleNamespace(call_api=None)

    def healthz_service_get_healthz(self) -> SimpleNamespace:
        return SimpleNamespace(multi_user=False)


def test_a_server_that_is_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.server.PATIENCE", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert __main__.main(["submit", "--endpoint", address]) == 2
    assert re.match(rf"Kubeflow Pipelines: cannot reach {address}: no answer: .*timed out", refused(capsys))


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
    assert refused(capsys).endswith(
        "expected Kubeflow Pipelines, found something else; if that is a login page, set KF_PIPELINES_TOKEN, "
        "KF_PIPELINES_SA_TOKEN_PATH or KF_PIPELINES_COOKIE"
    )


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
        run = f"{KUBEFLOW_RUN}.{RUN_ID}"
        tags = {run: verdict, f"{run}.reasons": "utility is 0.91\nloss is 0.01"}
        client.create_model_version("net", "mlflow-artifacts:/none", tags=tags)

    return judge


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
    assert "the run succeeded, but its verdict could not be read: sqlite:" in capsys.readouterr().err


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


@pytest.mark.usefixtures("judged")
def test_a_stage_that_could_not_be_prepared_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(fail_driver="attack") as kfp:
        assert submit(kfp, "--watch") == 1
    assert capsys.readouterr().err.startswith("attack failed: it could not be prepared\n")


def sweep(kfp: KfpStandIn) -> int:
    return submit(kfp, "--watch", "--package", str(SWEEP))


def test_a_sweep_is_told_run_by_run_and_needs_no_registry(capsys: pytest.CaptureFixture[str]) -> None:
    with KfpStandIn(run_id=RUN_ID) as kfp:
        assert sweep(kfp) == 0
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
        assert sweep(kfp) == 1
    *lines, logs = capsys.readouterr().err.splitlines()
    assert lines == told
    assert logs.startswith("logs: kubectl logs ")


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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_a_server_that_is_gone_for_good(kfp: KfpStandIn) -> None:
    assert submit(kfp) == 0
    client = connect(kfp.url, "kubeflow")
    kfp.hiccups = 1000
    waits: list[float] = []
    with pytest.raises(KubeflowError, match=r"\(HTTP 503\); the run goes on: python -m pipeline watch 0b"):
        progress.Watch(client, RUN_ID, "kubeflow", {}, out=Terminal()).follow(sleep=waits.append)
    assert len(waits) == 150


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_somebody_ended_is_over_and_no_success(
    capsys: pytest.CaptureFixture[str], state: str
) -> None:
    looks = iter([kfp_server_api.V2beta1Run(run_id=RUN_ID, state=state)])
    client: Any = SimpleNamespace(get_run=lambda _: next(looks))
    sweep = Package(SWEEP).tasks
    given: Any = SimpleNamespace(namespace="team-a")
    assert watch.follow(client, RUN_ID, sweep, given, settings.load()) == 1
    assert "no stage failed" in capsys.readouterr().err


def test_the_cause_is_what_the_server_tells() -> None:
    error = kfp_server_api.GoogleRpcStatus(message="pod was\n evicted")
    stage = kfp_server_api.V2beta1PipelineTaskDetail(display_name="prune", state="FAILED", error=error)
    details = kfp_server_api.V2beta1RunDetails(task_details=[stage])
    run = kfp_server_api.V2beta1Run(state="FAILED", run_details=details)
    assert list(progress.failures(run, {"prune": "prune"})) == ["prune failed: pod was evicted"]
    status = kfp_server_api.V2beta1RuntimeStatus(state="FAILED", error=error)
    run = kfp_server_api.V2beta1Run(state="FAILED", state_history=[status])
    assert list(progress.failures(run, {"prune": "prune"})) == ["the run failed: pod was evicted"]


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
