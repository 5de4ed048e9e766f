"""Preflight against a stand-in for a cluster that is in order, and with one thing wrong at a time."""

import hashlib
import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from components import VERSION
from pipeline import __main__, settings
from pipeline import compile as compiling
from pipeline.cluster import Taint
from pipeline.package import PACKAGE
from pipeline.settings import Toleration
from tests.unit.repositories import commit_remote, run

from .kfp_stand_in import KfpStandIn
from .kubernetes_stand_in import KubernetesStandIn
from .loopback import Loopback

check_current = compiling.check_current
SECRETS = {
    "AWS_ACCESS_KEY_ID": "PLANTED-ACCESS",
    "AWS_SECRET_ACCESS_KEY": "PLANTED-SECRET",
    "MLFLOW_TRACKING_USERNAME": "PLANTED-USER",
    "MLFLOW_TRACKING_PASSWORD": "PLANTED-PASSWORD",
}
INVALID_HOST = "Invalid Host header - possible DNS rebinding attack detected"  # as MLflow 3.17 says it
MLFLOW_OF_PODS = "mlflow.kubeflow.svc.cluster.local:5000"
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SEVEN_WAV = "v1/seven.wav"
GPU_OFFER = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "2"}


class _MlflowHandler(BaseHTTPRequestHandler):
    server_of: "MlflowStandIn"

    def do_GET(self) -> None:
        mlflow, host = self.server_of, self.headers["Host"]
        mlflow.asked.append((self.path, self.headers.get("Authorization"), host))
        self.send_response(403 if host in mlflow.refused else mlflow.status)
        self.end_headers()
        self.wfile.write((INVALID_HOST if host in mlflow.refused else mlflow.text).encode())

    def log_message(self, *_: object) -> None:
        pass


class MlflowStandIn(Loopback):
    """Answers every question with one status, as an MLflow server does that is up, or is not ours.

    Attributes:
        refused: host names by which it will not be asked.
        asked: path, login and host name of every question.
    """

    handler = _MlflowHandler

    def __init__(self) -> None:
        self.status, self.text = 200, "{}"
        self.refused: set[str] = set()
        self.asked: list[tuple[str, str | None, str]] = []


class _PrivateHandler(BaseHTTPRequestHandler):
    server_of: "PrivateRepository"

    def do_GET(self) -> None:
        self.server_of.logins.append(self.headers.get("Authorization"))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class PrivateRepository(Loopback):
    """A git server that lets nobody in, and notes the login of all who ask."""

    handler = _PrivateHandler

    def __init__(self) -> None:
        self.logins: list[str | None] = []


class _RegistryHandler(BaseHTTPRequestHandler):
    server_of: "RegistryStandIn"

    def do_HEAD(self) -> None:
        registry = self.server_of
        registry.asked.append(self.path)
        let_in = registry.token in (None, (self.headers["Authorization"] or "").removeprefix("Bearer "))
        self.send_response(401 if not let_in else 404 if self.path.endswith(registry.missing) else 200)
        if not let_in:
            challenge = f'Bearer realm="{registry.url}/token",service="here",scope="repository:t:pull"'
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()

    def do_GET(self) -> None:
        registry = self.server_of
        registry.asked.append(self.path)
        self.send_response(200 if registry.gives_token else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"token": registry.token}).encode())

    def log_message(self, *_: object) -> None:
        pass


class RegistryStandIn(Loopback):
    """An image registry that has every image, but for those that ``missing`` ends the names of.

    Attributes:
        token: what it wants; None for no login.
        gives_token: whether it gives that token to anybody.
    """

    handler = _RegistryHandler

    def __init__(self) -> None:
        self.missing: tuple[str, ...] = ()
        self.token: str | None = None
        self.gives_token = False
        self.asked: list[str] = []


class World:
    """A cluster in which a run would succeed, and what preflight says of it."""

    def __init__(
        self,
        cluster: KubernetesStandIn,
        kfp: KfpStandIn,
        mlflow: MlflowStandIn,
        registry: RegistryStandIn,
        s3: Any,
    ) -> None:
        self.cluster, self.kfp, self.mlflow, self.registry, self.s3 = cluster, kfp, mlflow, registry, s3
        self.file = settings.FILE
        cluster.add("namespaces", "kubeflow", status={"phase": "Active"})
        cluster.add("serviceaccounts", "pipeline-runner")
        cluster.add(
            "secrets", "fineprune-s3", data={"access_key": "UExBTlRFRA==", "secret_key": "UExBTlRFRA=="}
        )
        cluster.add(
            "secrets", "fineprune-mlflow", data={"username": "UExBTlRFRA==", "password": "UExBTlRFRA=="}
        )
        self.node("cpu-1", {"cpu": "8", "memory": "32Gi", "pods": "110"})
        self.node("gpu-1", GPU_OFFER, taints=[GPU_TAINT])
        s3.create_bucket(Bucket="speech")
        s3.put_object(Bucket="speech", Key=SEVEN_WAV, Body=b"7")

    def node(self, name: str, offers: dict[str, str], **spec: Any) -> None:
        status = {"allocatable": offers, "conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.add("nodes", name, metadata={"labels": {"disk": "ssd"}}, spec=spec, status=status)

    def quota(self, hard: dict[str, str], used: dict[str, str]) -> None:
        self.cluster.add(
            "resourcequotas", "compute", spec={"hard": hard}, status={"hard": hard, "used": used}
        )

    def settle(self, folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what the settings file has in common for all profiles."""
        values = yaml.safe_load(self.file.read_text())
        change(values["common"])
        self.file = folder / "settings.yaml"
        self.file.write_text(yaml.safe_dump(values, sort_keys=False))

    def check(self, *arguments: str) -> int:
        place = ("--endpoint", self.kfp.url, "--source", "s3://speech/v1")
        return __main__.main(["preflight", *place, *arguments])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Any) -> Iterator[World]:
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    # Compiling anew costs seconds; the test of that has it back.
    monkeypatch.setattr(compiling, "check_current", lambda *_: None)
    monkeypatch.setattr("pipeline.preflight.package_file", lambda _: PACKAGE)  # nor is cpu's there
    for name in ("KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, SECRETS[name])
    with (
        KubernetesStandIn() as cluster,
        KfpStandIn() as kfp,
        MlflowStandIn() as mlflow,
        RegistryStandIn() as registry,
    ):
        config = cluster.kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        monkeypatch.setenv("COLUMNS", "110")
        world = World(cluster, kfp, mlflow, registry, s3)
        world.settle(tmp_path, lambda common: common["images"].update(registry=f"{registry.address}/team"))
        load = settings.load
        monkeypatch.setattr(settings, "load", lambda profile: load(profile, world.file))
        yield world


def lines(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    """State, check and finding of every line, what to do appended; nothing on stderr, no secret anywhere."""
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "PLANTED" not in printed.out
    assert "UExBTlRFRA" not in printed.out
    rows = re.sub(r"\n +", " ", printed.out).splitlines()
    return [(row[:6].strip(), row[6:23].strip(), row[23:]) for row in rows]


def failed(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    return [(check, found) for state, check, found in lines(capsys) if state == "fail"]


# --- a cluster in order -------------------------------------------------------------------------


def test_all_is_well(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.check() == 0
    assert lines(capsys) == [
        ("pass", "cluster", f"{world.cluster.url} answers"),
        ("pass", "namespace", "kubeflow is there"),
        ("pass", "kubeflow", f"{world.kfp.url} answers, version 2.17.0"),
        ("pass", "service account", "pipeline-runner may do what a run does"),
        ("pass", "secrets", "fineprune-s3 has access_key, secret_key"),
        ("pass", "secrets", "fineprune-mlflow has username, password"),
        ("pass", "images", f"{world.registry.address}/team has all 8"),
        (
            "note",
            "digests",
            "none for ingest, attack, profile, prune, finetune, evaluate, promote, tabulate: a tag stays the "
            "same with other code, which Kubeflow's cache and nodes (IfNotPresent) then miss → set "
            "images.digests in pipeline/settings.yaml, as make images prints them",
        ),
        ("pass", "nodes", "ingest, promote, tabulate: 1 CPU, 2Gi on cpu-1"),
        (
            "pass",
            "nodes",
            "attack, profile, prune, finetune, evaluate: 2 CPU, 8Gi, 1 nvidia.com/gpu on gpu-1",
        ),
        ("skip", "quotas", "kubeflow has none"),
        ("pass", "mlflow", f"{world.mlflow.url} answers"),
        ("pass", "data", "s3://speech/v1 is there"),
    ]
    assert {review["user"] for review in world.cluster.reviews} == {
        "system:serviceaccount:kubeflow:pipeline-runner"
    }
    assert [host for _, _, host in world.mlflow.asked] == [world.mlflow.address, MLFLOW_OF_PODS]
    for path, login, _ in world.mlflow.asked:
        assert path.startswith("/api/2.0/mlflow/registered-models/search")
        assert login is not None
        assert login.startswith("Basic ")


def test_lines_keep_to_the_screen(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    world.cluster.objects["nodes"].clear()
    assert world.check() == 1
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_a_profile_without_accelerators_needs_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    del world.cluster.objects["nodes"]["gpu-1"]
    assert world.check("--profile", "cpu") == 0
    assert ("pass", "nodes", "attack, profile, prune, finetune, evaluate: 2 CPU, 8Gi on cpu-1") in lines(
        capsys
    )


@pytest.mark.parametrize("source", ["digits", "generated"])
def test_a_source_without_a_store_is_skipped(
    world: World, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    assert world.check("--source", source) == 0
    found = f"{source} needs no store; name another source with --source"
    assert lines(capsys)[-1] == ("skip", "data", found)


@pytest.mark.parametrize("source", [f"s3://speech/{SEVEN_WAV}", "s3://speech/v1/", "s3://speech"])
def test_a_source_is_an_object_or_a_prefix(
    world: World, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    assert world.check("--source", source) == 0
    assert lines(capsys)[-1] == ("pass", "data", f"{source} is there")


def test_mlflow_is_asked_once_by_the_name_that_the_pods_use(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, lambda common: common["mlflow"].update(address=world.mlflow.url))
    assert world.check() == 0
    assert len(world.mlflow.asked) == 1


def test_a_proxy_is_asked_for_what_lies_behind_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", world.mlflow.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert world.check() == 0
    path, _, host = world.mlflow.asked[0]
    assert path.startswith("http://mlflow.example/api/2.0/")
    assert host == "mlflow.example"


@pytest.mark.parametrize("version", ["", "unknown", "master"])
def test_a_kubeflow_built_by_hand_may_be_new_enough(
    world: World, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    world.kfp.version = version
    assert world.check() == 0
    found = f"{world.kfp.url} answers, version unknown: expected 2.16 or newer"
    assert ("note", "kubeflow", found) in lines(capsys)


@pytest.mark.parametrize("version", ["2.16.0", "v2.100.1", "3.0.0-rc.1"])
def test_a_kubeflow_that_is_new_enough(
    world: World, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    world.kfp.version = version
    assert world.check() == 0
    assert ("pass", "kubeflow", f"{world.kfp.url} answers, version {version}") in lines(capsys)


def test_a_source_on_this_machine_is_a_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.check("--source", "data/speech") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith("source: expected what a container can reach, digits, generated, s3://… or dvc+")


@pytest.mark.parametrize("repository", ["ssh://git@git.example/speech", "git@git.example:speech"])
def test_a_repository_behind_ssh_is_a_failure(
    world: World, capsys: pytest.CaptureFixture[str], repository: str
) -> None:
    assert world.check("--source", f"dvc+{repository}@main:speech.txt") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith("source: expected dvc+https://…, for a container has no key for ssh, found 'dvc+")


# --- one thing wrong ----------------------------------------------------------------------------


def no_namespace(world: World) -> None:
    del world.cluster.objects["namespaces"]["kubeflow"]


def dying_namespace(world: World) -> None:
    world.cluster.add("namespaces", "kubeflow", status={"phase": "Terminating"})


def no_account(world: World) -> None:
    world.cluster.objects["serviceaccounts"].clear()


def denied(world: World) -> None:
    world.cluster.denied = {("patch", "workflowtaskresults"), ("get", "pods")}


def no_secret(world: World) -> None:
    del world.cluster.objects["secrets"]["fineprune-s3"]


def no_key(world: World) -> None:
    world.cluster.add("secrets", "fineprune-mlflow", data={"username": "UExBTlRFRA=="})


def empty_key(world: World) -> None:
    world.cluster.add("secrets", "fineprune-mlflow", data={"username": "", "password": "UExBTlRFRA=="})


def other_accelerator(world: World) -> None:
    world.node("gpu-1", {"cpu": "16", "memory": "64Gi", "amd.com/gpu": "1"})


def used_up_accelerator(world: World) -> None:
    world.node("gpu-1", GPU_OFFER | {"nvidia.com/gpu": "0"}, taints=[GPU_TAINT])


def other_taint(world: World) -> None:
    reserved = {"key": "team", "value": "vision", "effect": "NoExecute"}
    world.node("gpu-1", GPU_OFFER, taints=[GPU_TAINT, reserved])


def small_gpu_node(world: World) -> None:
    world.node("gpu-1", GPU_OFFER | {"cpu": "1500m", "memory": "4Gi"}, taints=[GPU_TAINT])


def cordoned(world: World) -> None:
    world.node("gpu-1", GPU_OFFER, taints=[GPU_TAINT], unschedulable=True)


def small_quota(world: World) -> None:
    world.quota({"limits.cpu": "10", "requests.memory": "20Gi", "pods": "9"}, {"limits.cpu": "4"})


def no_gpu_in_quota(world: World) -> None:
    world.quota({"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"})


def no_image(world: World) -> None:
    world.registry.missing = ("-prune", "-promote")


def no_mlflow(world: World) -> None:
    world.mlflow.status = 404


def mlflow_login(world: World) -> None:
    world.mlflow.status = 401


def mlflow_host(world: World) -> None:
    world.mlflow.refused = {world.mlflow.address, MLFLOW_OF_PODS}


def mlflow_host_of_pods(world: World) -> None:
    world.mlflow.refused = {MLFLOW_OF_PODS}


def old_kubeflow(world: World) -> None:
    world.kfp.version = "2.15.2"


def no_object(world: World) -> None:
    world.s3.delete_object(Bucket="speech", Key=SEVEN_WAV)
    world.s3.put_object(Bucket="speech", Key="v10/seven.wav", Body=b"7")


def no_bucket(world: World) -> None:
    world.s3.delete_object(Bucket="speech", Key=SEVEN_WAV)
    world.s3.delete_bucket(Bucket="speech")


@pytest.mark.parametrize(
    ("fault", "check", "found"),
    [
        (no_namespace, "namespace", "there is no namespace kubeflow → kubectl create namespace kubeflow, or"),
        (dying_namespace, "namespace", "kubeflow is terminating → wait"),
        (
            no_account,
            "service account",
            "there is no service account pipeline-runner → set service_account in",
        ),
        (
            denied,
            "service account",
            "pipeline-runner may not patch workflowtaskresults.argoproj.io, get pods → give it a role",
        ),
        (
            no_secret,
            "secrets",
            "there is no secret fineprune-s3 → set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY here and add "
            "--create-secrets",
        ),
        (no_key, "secrets", "fineprune-mlflow has no password → set MLFLOW_TRACKING_PASSWORD here"),
        (empty_key, "secrets", "fineprune-mlflow has no username → set MLFLOW_TRACKING_USERNAME here"),
        (
            other_accelerator,
            "nodes",
            "attack, profile, prune, finetune, evaluate: no node offers nvidia.com/gpu; "
            "nodes offer amd.com/gpu → install its device plugin",
        ),
        (used_up_accelerator, "nodes", "no node offers nvidia.com/gpu; nodes offer "),
        (
            other_taint,
            "nodes",
            "no node takes 2 CPU, 8Gi, 1 nvidia.com/gpu: gpu-1 has the taint team=vision:NoExecute, "
            "which is not tolerated",
        ),
        (small_gpu_node, "nodes", "gpu-1 offers 1.5 CPU and offers 4Gi"),
        (cordoned, "nodes", "gpu-1 takes no pods"),
        (small_quota, "quotas", "compute: limits.cpu: 6 CPU left, attack needs 8 CPU → wait"),
        (
            no_gpu_in_quota,
            "quotas",
            "compute: requests.nvidia.com/gpu: 0 nvidia.com/gpu left, attack needs 1 nv",
        ),
        (
            no_image,
            "images",
            f"/team has no fineprune:{VERSION}-prune, fineprune:{VERSION}-promote → python docker/images.py",
        ),
        (no_mlflow, "mlflow", "expected MLflow, found HTTP 404 → set MLFLOW_TRACKING_URI"),
        (mlflow_login, "mlflow", "refuses the login → set MLFLOW_TRACKING_USERNAME"),
        (mlflow_host, "mlflow", "refuses this host name → start mlflow server with --allowed-hosts"),
        (
            mlflow_host_of_pods,
            "mlflow",
            f"refuses the host name that the pods use, {MLFLOW_OF_PODS} → start mlflow server with "
            f"--allowed-hosts that name {MLFLOW_OF_PODS} beside localhost",
        ),
        (old_kubeflow, "kubeflow", "expected version 2.16 or newer, found 2.15.2 → upgrade Kubeflow"),
        (
            no_object,
            "data",
            "s3://speech/v1: there is no such object, nor any below it → put the data there, or name another",
        ),
        (no_bucket, "data", "s3://speech: there is no such bucket → set AWS_ACCESS_KEY_ID"),
    ],
)
def test_one_thing_wrong_is_one_line(
    world: World,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[World], None],
    check: str,
    found: str,
) -> None:
    fault(world)
    assert world.check() == 1
    ((named, said),) = failed(capsys)
    assert named == check
    assert found in said


def test_a_node_that_offers_just_what_is_asked_for_will_do(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    avoided = {"key": "team", "value": "vision", "effect": "PreferNoSchedule"}
    world.node("cpu-1", {"cpu": "1", "memory": "2Gi"}, taints=[avoided])
    world.node("gpu-1", {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"}, taints=[GPU_TAINT])
    assert world.check() == 0
    assert failed(capsys) == []


@pytest.mark.parametrize(
    ("name", "hard", "found"),
    [
        ("cpu", "1", "cpu: 1 CPU left, attack needs 2 CPU"),
        ("memory", "7Gi", "memory: 7Gi left, attack needs 8Gi"),
        ("limits.memory", "15Gi", "limits.memory: 15Gi left, attack needs 16Gi"),
        ("pods", "0", "pods: 0 pods left"),
    ],
)
def test_each_resource_of_a_quota_is_looked_at(
    world: World, capsys: pytest.CaptureFixture[str], name: str, hard: str, found: str
) -> None:
    world.quota({name: hard}, {name: "0"})
    assert world.check() == 1
    ((check, said),) = failed(capsys)
    assert check == "quotas"
    assert found in said


def test_mlflow_is_asked_with_a_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "PLANTED-TOKEN")
    assert world.check() == 0
    assert {login for _, login, _ in world.mlflow.asked} == {"Bearer PLANTED-TOKEN"}


def test_a_node_that_an_autoscaler_adds_is_noted_when_it_is_not_there(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    other_accelerator(world)
    assert world.check() == 1
    assert [check for check, _ in failed(capsys)] == ["nodes"]
    assert world.check("--autoscaled") == 0
    noted = [said for state, check, said in lines(capsys) if (state, check) == ("note", "nodes")]
    assert len(noted) == 1
    assert "no node offers nvidia.com/gpu" in noted[0]


@pytest.mark.parametrize(
    ("resource", "check", "action"),
    [
        ("namespaces", "namespace", "get namespace kubeflow"),
        ("secrets", "secrets", "get secrets in kubeflow"),
        ("resourcequotas", "quotas", "list resourcequotas in kubeflow"),
    ],
)
def test_what_one_may_not_look_at_is_a_failure(
    world: World, capsys: pytest.CaptureFixture[str], resource: str, check: str, action: str
) -> None:
    world.cluster.forbidden = {resource}
    assert world.check() == 1
    assert failed(capsys) == [(check, f"you may not {action}; ask for that right, or an administrator")]


@pytest.mark.parametrize(
    ("resource", "check", "action"),
    [
        ("serviceaccounts", "service account", "get serviceaccounts in kubeflow"),
        ("localsubjectaccessreviews", "service account", "create localsubjectaccessreviews in kubeflow"),
        ("nodes", "nodes", "list nodes"),
    ],
)
def test_what_only_administrators_may_look_at_is_noted(
    world: World, capsys: pytest.CaptureFixture[str], resource: str, check: str, action: str
) -> None:
    world.cluster.forbidden = {resource}
    assert world.check() == 0
    said = f"you may not {action}; ask for that right, or an administrator"
    assert ("note", check, said) in lines(capsys)


def test_without_the_namespace_its_content_is_not_looked_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    no_namespace(world)
    no_secret(world)
    assert world.check() == 1
    skipped = [check for state, check, _ in lines(capsys) if state == "skip"]
    assert skipped == ["service account", "secrets", "quotas"]


@pytest.mark.parametrize(
    ("content", "state", "found"),
    [
        ({".dockerconfigjson": "UExBTlRFRA=="}, "pass", "registry-login has a login for images"),
        ({"password": "UExBTlRFRA=="}, "fail", "registry-login has no .dockerconfigjson → "),
        (None, "fail", "there is no secret registry-login → "),
    ],
)
def test_secrets_that_images_are_pulled_with(
    world: World,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: dict[str, str] | None,
    state: str,
    found: str,
) -> None:
    world.settle(tmp_path, lambda common: common["images"].update(pull_secrets=["registry-login"]))
    if content:
        world.cluster.add("secrets", "registry-login", data=content)
    assert world.check() == (1 if state == "fail" else 0)
    said, what = [(said, what) for said, check, what in lines(capsys) if check == "secrets"][-1]
    remedy = "kubectl create secret docker-registry registry-login -n kubeflow …" if state == "fail" else ""
    assert (said, what) == (state, f"{found}{remedy}")


# --- images -------------------------------------------------------------------------------------


def images(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    ((state, found),) = [(state, found) for state, check, found in lines(capsys) if check == "images"]
    return state, found


def test_images_that_are_in_no_registry_cannot_be_pulled(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world.settle(tmp_path, lambda common: common["images"].update(registry=None))
    assert world.check() == 1
    state, found = images(capsys)
    assert (state, found) == (
        "fail",
        f"a cluster cannot pull fineprune:{VERSION}-ingest and the others: no registry is set → set "
        "images.registry in pipeline/settings.yaml; pull_policy: Never where every node has them",
    )
    world.settle(tmp_path, lambda common: common["images"].update(pull_policy="Never"))
    assert world.check() == 0
    assert images(capsys) == ("skip", "pull_policy is Never: every node must have them")


def test_stages_without_a_digest_are_named(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stages = [stage for stage, _ in settings.load("gpu").stages.items()]
    given = dict.fromkeys(stages, "sha256:" + "ab" * 32)
    world.settle(tmp_path, lambda common: common["images"].update(digests=given))
    assert world.check() == 0
    assert ("pass", "digests", "every image is named by its digest") in lines(capsys)
    world.settle(tmp_path, lambda common: common["images"]["digests"].pop("prune"))
    assert world.check() == 0
    ((state, found),) = [(state, found) for state, check, found in lines(capsys) if check == "digests"]
    assert state == "note"
    assert found.startswith("none for prune: a tag stays the same")


def test_images_are_looked_up_as_they_will_be_pulled(world: World, tmp_path: Path) -> None:
    digest = "sha256:" + "ab" * 32
    world.settle(tmp_path, lambda common: common["images"].update(digests={"prune": digest}))
    assert world.check() == 0
    assert f"/v2/team/fineprune/manifests/{digest}" in world.registry.asked
    assert f"/v2/team/fineprune/manifests/{VERSION}-attack" in world.registry.asked


@pytest.mark.parametrize(("gives_token", "state"), [(True, "pass"), (False, "skip")])
def test_a_registry_that_wants_a_token(
    world: World, capsys: pytest.CaptureFixture[str], gives_token: bool, state: str
) -> None:
    world.registry.token, world.registry.gives_token = "for-all", gives_token
    assert world.check() == 0
    found = images(capsys)
    assert found[0] == state
    assert ("tells only those who log in → docker manifest inspect" in found[1]) == (state == "skip")
    assert "/token?service=here&scope=repository%3At%3Apull" in world.registry.asked


def test_a_registry_that_does_not_answer(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world.settle(tmp_path, lambda common: common["images"].update(registry="127.0.0.1:1/team"))
    assert world.check() == 1
    state, found = images(capsys)
    assert state == "fail"
    assert found.startswith("127.0.0.1:1: the image registry does not answer: ")
    assert found.endswith("Connection refused")


# --- data that DVC tracks -----------------------------------------------------------------------


@pytest.fixture
def tracked(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository behind :data:`SPEECH`, where DVC tracks a file; it is pushed to the object store."""
    repository = tmp_path / "repository"
    repository.mkdir()
    run(repository, "git", "init", "-q", "-b", "main")
    run(repository, "dvc", "init", "-q")
    run(repository, "dvc", "config", "core.analytics", "false")
    (repository / "speech.txt").write_text("seven")
    run(repository, "dvc", "add", "-q", "speech.txt")
    run(repository, "git", "add", ".")
    run(repository, "git", "commit", "-q", "-m", "data")
    commit_remote(repository, "s3://speech/dvc", endpoint=os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repository.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://git.example/speech")
    return repository


SPEECH = "dvc+https://git.example/speech@main:speech.txt"
SEVEN = hashlib.md5(b"seven", usedforsecurity=False).hexdigest()


def test_tracked_data_is_found_in_the_object_store(
    world: World, tracked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.check("--source", SPEECH) == 0
    commit = run(tracked, "git", "rev-parse", "HEAD")[:12]
    found = f"{SPEECH} is {SEVEN} at {commit}, and in s3://speech/dvc"
    assert lines(capsys)[-1] == ("pass", "data", found)


def test_a_path_inside_tracked_data_is_asked_of_the_store_of_the_settings(
    world: World,
    tracked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tracked / "set").mkdir()
    (tracked / "set" / "seven.txt").write_text("seven")
    run(tracked, "dvc", "add", "-q", "set")
    run(tracked, "dvc", "push", "-q")
    run(tracked, "dvc", "remote", "modify", "store", "--unset", "endpointurl")
    run(tracked, "git", "add", ".")
    run(tracked, "git", "commit", "-q", "-m", "folder")
    address = os.environ["AWS_ENDPOINT_URL"]
    world.settle(tmp_path, lambda common: common["s3"].update(address=address))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert world.check("--source", SPEECH.replace("speech.txt", "set/seven.txt")) == 0
    assert f"is {SEVEN} at" in lines(capsys)[-1][-1]


@pytest.mark.usefixtures("tracked")
def test_tracked_data_that_was_not_pushed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    key = f"dvc/files/md5/{SEVEN[:2]}/{SEVEN[2:]}"
    world.s3.delete_object(Bucket="speech", Key=key)
    assert world.check("--source", SPEECH) == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith(f"s3://speech/{key}: there is no such object; dvc push it → set AWS_ACCESS_KEY_ID")


def test_tracked_data_without_a_remote_for_pods(
    world: World, tracked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tracked, "dvc", "remote", "add", "-q", "-f", "-d", "store", "/mnt/data")
    run(tracked, "git", "commit", "-q", "-a", "-m", "folder")
    assert world.check("--source", SPEECH) == 1
    ((_, said),) = failed(capsys)
    assert ": expected an s3:// default remote, found /mnt/data → " in said


def test_settings_of_this_user_s_git_are_none_of_a_pod_s(
    world: World, tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """An address that git rewrites here, as to ssh, is asked for as it is."""
    nobody = "http://127.0.0.1:1/speech"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text(f'[url "{tracked.as_uri()}"]\n    insteadOf = {nobody}\n')
    assert world.check("--source", f"dvc+{nobody}@main:speech.txt") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith(f"{nobody}: git clone: fatal: unable to access '{nobody}/'")
    assert said.endswith(" → pods clone without a login: the repository must ask for none")
    assert os.environ["GIT_CONFIG_GLOBAL"] == str(tmp_path / "gitconfig")
    assert "GIT_CONFIG_NOSYSTEM" not in os.environ


def test_logins_of_this_user_are_none_of_a_pod_s(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    helper = tmp_path / "askpass"
    helper.write_text("#!/bin/sh\necho PLANTED\n")
    helper.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_ASKPASS", str(helper))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password PLANTED\n")
    with PrivateRepository() as private:
        assert world.check("--source", f"dvc+{private.url}/speech@main:speech.txt") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert "git clone: fatal: could not read Username" in said
    assert private.logins == [None]


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("source", ["s3://speech/v1", SPEECH])
def test_a_wrong_secret_of_the_store(
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    s3_endpoint: str,
    source: str,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "PLANTED-WRONG")
    switch_authentication(s3_endpoint, "0")
    try:
        assert world.check("--source", source) == 1
    finally:
        switch_authentication(s3_endpoint, "inf")
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert "access denied to this key and secret → set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in said


def switch_authentication(endpoint: str, free_requests: str) -> None:
    """After so many requests, moto checks who asks."""
    url, kind = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urlopen(Request(url, data=free_requests.encode(), headers=kind, method="POST")).close()


# --- quotas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "found"),
    [
        ("3", "compute is enough for one run, up to 3 stages at a time"),
        (
            "2",
            "compute is enough for one stage at a time, not for all of a run that could run together: "
            "requests.nvidia.com/gpu: 2 nvidia.com/gpu left, finetune + profile + profile need 3 "
            "nvidia.com/gpu",
        ),
    ],
)
def test_a_quota_is_judged_by_what_runs_at_the_same_time(
    world: World, capsys: pytest.CaptureFixture[str], gpus: str, found: str
) -> None:
    world.quota({"requests.nvidia.com/gpu": gpus}, {"requests.nvidia.com/gpu": "0"})
    assert world.check() == 0
    assert ("pass", "quotas", found) in lines(capsys)


def test_a_package_that_is_not_current_or_not_there_is_not_checked(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling, "check_current", check_current)
    monkeypatch.setattr(compiling, "FOLDER", tmp_path)
    monkeypatch.setattr("pipeline.preflight.package_file", lambda profile: tmp_path / "fine_pruning.yaml")
    assert world.check() == 2
    assert "the package is not there; run python -m pipeline compile" in capsys.readouterr().err


# --- what does not answer -----------------------------------------------------------------------


def test_no_cluster(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace(world.cluster.url, "http://127.0.0.1:1"))
    assert world.check() == 1
    ((check, said),) = failed(capsys)
    assert check == "cluster"
    assert said.startswith("http://127.0.0.1:1: the cluster does not answer: ")
    assert "Connection refused → kubectl cluster-info says which cluster is meant" in said


def test_no_kubeconfig(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere")
    assert world.check() == 1
    ((check, said),) = failed(capsys)
    assert check == "cluster"
    assert said.startswith("no cluster is configured, see KUBECONFIG: ")


@pytest.mark.parametrize("text", ["a: [", "[1, 2]"])
def test_a_damaged_kubeconfig(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    assert world.check() == 1
    ((check, said),) = failed(capsys)
    assert check == "cluster"
    assert said.startswith("the kubeconfig is damaged: ")


def test_the_login_in_mlflows_address(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.mlflow.url.replace("://", "://me:pass%40word@"))
    assert world.check() == 0
    login = b64encode(b"me:pass@word").decode()
    assert {authorization for _, authorization, _ in world.mlflow.asked} == {f"Basic {login}"}
    assert "pass@word" not in capsys.readouterr().out


def test_a_cluster_that_does_not_know_us(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.cluster.token = "another"
    assert world.check() == 1
    ((_, said),) = failed(capsys)
    assert said.startswith(f"{world.cluster.url}: does not know you; log in to the cluster")


@pytest.mark.parametrize("check", ["kubeflow", "mlflow", "data"])
def test_a_server_that_is_down(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", "http://me:PLANTED@127.0.0.1:1" if check == "mlflow" else world.mlflow.url
    )
    if check == "data":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    down = ("--endpoint", "http://me:PLANTED@127.0.0.1:1") if check == "kubeflow" else ()
    assert world.check(*down) == 1
    ((named, said),) = failed(capsys)
    assert named == check
    assert "127.0.0.1:1" in said


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_object_store_is_asked_where_the_environment_says(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert world.check() == 1
    ((named, said),) = failed(capsys)
    assert named == "data"
    assert "127.0.0.1:1" in said


# --- making the secrets -------------------------------------------------------------------------


@pytest.fixture
def environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_secrets_are_made_and_changed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    del world.cluster.objects["secrets"]["fineprune-s3"]
    world.cluster.add(
        "secrets",
        "fineprune-mlflow",
        type="kubernetes.io/basic-auth",
        data={"username": "b2xk", "note": "bWluZQ=="},
    )
    assert world.check("--create-secrets") == 0
    printed = capsys.readouterr()
    assert "PLANTED" not in printed.out + printed.err
    assert printed.out.splitlines()[:2] == [
        "made secret fineprune-s3 in kubeflow: access_key, secret_key",
        "changed secret fineprune-mlflow in kubeflow: username, password",
    ]
    assert world.cluster.secret("fineprune-s3") == {
        "access_key": "PLANTED-ACCESS",
        "secret_key": "PLANTED-SECRET",
    }
    assert world.cluster.secret("fineprune-mlflow") == {
        "username": "PLANTED-USER",
        "password": "PLANTED-PASSWORD",
        "note": "mine",
    }


@pytest.mark.usefixtures("environment")
def test_a_missing_variable_writes_no_secret(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    assert world.check("--create-secrets") == 2
    assert capsys.readouterr().err == (
        "python -m pipeline preflight: error: expected in the environment: AWS_ACCESS_KEY_ID, "
        "MLFLOW_TRACKING_PASSWORD; no secret was written\n"
    )
    assert world.cluster.written == []


@pytest.mark.usefixtures("environment")
def test_keys_of_a_session_are_not_written(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "PLANTED-TOKEN")
    assert world.check("--create-secrets") == 2
    assert capsys.readouterr().err == (
        "python -m pipeline preflight: error: AWS_SESSION_TOKEN: expected none, because no secret of the "
        "settings takes it, found one; unset it and give keys that stay valid; no secret was written\n"
    )
    assert world.cluster.written == []
    world.settle(tmp_path, lambda common: common["secrets"][0]["keys"].update(token="AWS_SESSION_TOKEN"))
    assert world.check("--create-secrets") == 0
    assert world.cluster.secret("fineprune-s3")["token"] == "PLANTED-TOKEN"


@pytest.mark.usefixtures("environment")
def test_an_answer_that_repeats_a_secret_is_not_repeated(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.cluster.broken = True
    assert world.check("--create-secrets") == 2
    printed = capsys.readouterr()
    assert "PLANTED" not in printed.out + printed.err
    assert "cannot write secret fineprune-s3 in kubeflow: HTTP 500" in printed.err


# --- tolerations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taint", "operator", "value", "effect", "tolerated"),
    [
        (Taint("gpu", "yes", "NoSchedule"), "Equal", "yes", "NoSchedule", True),
        (Taint("gpu", "yes", "NoSchedule"), "Equal", "no", "NoSchedule", False),
        (Taint("gpu", "yes", "NoSchedule"), "Equal", None, "NoSchedule", False),
        (Taint("gpu", None, "NoSchedule"), "Equal", None, None, True),
        (Taint("gpu", "yes", "NoExecute"), "Exists", None, None, True),
        (Taint("gpu", "yes", "NoExecute"), "Exists", None, "NoSchedule", False),
        (Taint("cpu", "yes", "NoSchedule"), "Exists", None, None, False),
    ],
)
def test_tolerations(taint: Taint, operator: Any, value: str | None, effect: Any, tolerated: bool) -> None:
    assert taint.tolerated(Toleration("gpu", operator, value, effect)) == tolerated


def test_a_label_that_no_node_has(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    world.settle(tmp_path, lambda common: common["stages"]["promote"].update(node_selector={"disk": "tape"}))
    assert world.check() == 1
    found = dict(failed(capsys))["nodes"]
    assert "has no label disk=tape" in found
