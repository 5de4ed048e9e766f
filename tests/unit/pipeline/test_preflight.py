"""Preflight against a stand-in for a cluster that is in order, and with one thing wrong at a time."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import __main__, settings
from pipeline.cluster import Taint
from pipeline.settings import Toleration

from .kfp_stand_in import KfpStandIn
from .kubernetes_stand_in import KubernetesStandIn

SECRETS = {
    "AWS_ACCESS_KEY_ID": "PLANTED-ACCESS",
    "AWS_SECRET_ACCESS_KEY": "PLANTED-SECRET",
    "MLFLOW_TRACKING_USERNAME": "PLANTED-USER",
    "MLFLOW_TRACKING_PASSWORD": "PLANTED-PASSWORD",
}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
GPU_OFFER = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "2"}


class MlflowStandIn:
    """Answers every question with one status, as an MLflow server does that is up, or is not ours."""

    def __init__(self) -> None:
        self.status, self.text = 200, "{}"
        self.asked: list[tuple[str, str | None]] = []

    def __enter__(self) -> "MlflowStandIn":
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(stand_in.status)
                self.end_headers()
                self.wfile.write(stand_in.text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class World:
    """A cluster in which a run would succeed, and what preflight says of it."""

    def __init__(self, cluster: KubernetesStandIn, kfp: KfpStandIn, mlflow: MlflowStandIn, s3: Any) -> None:
        self.cluster, self.kfp, self.mlflow, self.s3 = cluster, kfp, mlflow, s3
        cluster.add("namespaces", "kubeflow", status={"phase": "Active"})
        cluster.add("serviceaccounts", "pipeline-runner")
        cluster.add(
            "secrets", "fineprune-s3", data={"access_key": "UExBTlRFRA==", "secret_key": "UExBTlRFRA=="}
        )
        cluster.add(
            "secrets", "fineprune-mlflow", data={"username": "UExBTlRFRA==", "password": "UExBTlRFRA=="}
        )
        default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        cluster.add("storageclasses", "standard", metadata=default, provisioner="example.org/disk")
        self.node("cpu-1", {"cpu": "8", "memory": "32Gi", "pods": "110"})
        self.node("gpu-1", GPU_OFFER, taints=[GPU_TAINT])
        s3.create_bucket(Bucket="speech")

    def node(self, name: str, offers: dict[str, str], **spec: Any) -> None:
        status = {"allocatable": offers, "conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.add("nodes", name, metadata={"labels": {"disk": "ssd"}}, spec=spec, status=status)

    def quota(self, hard: dict[str, str], used: dict[str, str]) -> None:
        self.cluster.add(
            "resourcequotas", "compute", spec={"hard": hard}, status={"hard": hard, "used": used}
        )

    def check(self, *arguments: str) -> int:
        place = ("--endpoint", self.kfp.url, "--source", "s3://speech/v1")
        return __main__.main(["preflight", *place, *arguments])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: Any) -> Iterator[World]:
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    for name in ("KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, SECRETS[name])
    with KubernetesStandIn() as cluster, KfpStandIn() as kfp, MlflowStandIn() as mlflow:
        config = cluster.kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        yield World(cluster, kfp, mlflow, s3)


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
        ("pass", "kubeflow", f"{world.kfp.url} answers"),
        ("pass", "service account", "pipeline-runner may do what a run does"),
        ("pass", "secrets", "fineprune-s3 has access_key, secret_key"),
        ("pass", "secrets", "fineprune-mlflow has username, password"),
        ("pass", "nodes", "ingest, promote, tabulate: 1 CPU, 2Gi on cpu-1"),
        (
            "pass",
            "nodes",
            "attack, profile, prune, finetune, evaluate: 2 CPU, 8Gi, 1 nvidia.com/gpu on gpu-1",
        ),
        ("pass", "storage class", "standard is there, and the default"),
        ("skip", "quotas", "kubeflow has none"),
        ("pass", "mlflow", f"{world.mlflow.url} answers"),
        ("pass", "data", "s3://speech answers"),
    ]
    assert {review["user"] for review in world.cluster.reviews} == {
        "system:serviceaccount:kubeflow:pipeline-runner"
    }
    ((path, login),) = world.mlflow.asked
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


def test_a_source_without_a_store_is_skipped(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.check("--source", "digits") == 0
    assert lines(capsys)[-1] == ("skip", "data", "digits needs no store; name another source with --source")


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


def no_default_class(world: World) -> None:
    world.cluster.add("storageclasses", "standard", provisioner="example.org/disk")


def small_quota(world: World) -> None:
    world.quota({"limits.cpu": "10", "requests.memory": "20Gi", "pods": "9"}, {"limits.cpu": "4"})


def no_gpu_in_quota(world: World) -> None:
    world.quota({"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"})


def no_mlflow(world: World) -> None:
    world.mlflow.status = 404


def mlflow_login(world: World) -> None:
    world.mlflow.status = 401


def mlflow_host(world: World) -> None:
    world.mlflow.status, world.mlflow.text = (
        403,
        "Invalid Host header - possible DNS rebinding attack detected",
    )


def no_bucket(world: World) -> None:
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
        (no_default_class, "storage class", "no class is the default one; there are: standard → "),
        (small_quota, "quotas", "compute: limits.cpu: 6 CPU left, attack needs 8 CPU → wait"),
        (
            no_gpu_in_quota,
            "quotas",
            "compute: requests.nvidia.com/gpu: 0 nvidia.com/gpu left, attack needs 1 nv",
        ),
        (no_mlflow, "mlflow", "expected MLflow, found HTTP 404 → set MLFLOW_TRACKING_URI"),
        (mlflow_login, "mlflow", "refuses the login → set MLFLOW_TRACKING_USERNAME"),
        (mlflow_host, "mlflow", "refuses this host name → start mlflow server with --allowed-hosts"),
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


@pytest.mark.parametrize(
    ("resource", "check", "action"),
    [
        ("namespaces", "namespace", "get namespace kubeflow"),
        ("serviceaccounts", "service account", "get serviceaccounts in kubeflow"),
        ("localsubjectaccessreviews", "service account", "create localsubjectaccessreviews in kubeflow"),
        ("secrets", "secrets", "get secrets in kubeflow"),
        ("nodes", "nodes", "list nodes"),
        ("storageclasses", "storage class", "list storageclasses"),
        ("resourcequotas", "quotas", "list resourcequotas in kubeflow"),
    ],
)
def test_what_one_may_not_look_at_is_a_failure(
    world: World, capsys: pytest.CaptureFixture[str], resource: str, check: str, action: str
) -> None:
    world.cluster.forbidden = {resource}
    assert world.check() == 1
    assert failed(capsys) == [(check, f"you may not {action}; ask for that right, or an administrator")]


def test_without_the_namespace_its_content_is_not_looked_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    no_namespace(world)
    no_secret(world)
    assert world.check() == 1
    skipped = [check for state, check, _ in lines(capsys) if state == "skip"]
    assert skipped == ["service account", "secrets", "quotas"]


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


# --- making the secrets -------------------------------------------------------------------------


@pytest.fixture
def environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_secrets_are_made_and_changed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    del world.cluster.objects["secrets"]["fineprune-s3"]
    world.cluster.add(
        "secrets", "fineprune-mlflow", type="Opaque", data={"username": "b2xk", "note": "bWluZQ=="}
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


def test_a_label_that_no_node_has(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(settings.FILE.read_text())
    values["common"]["stages"]["promote"] |= {"node_selector": {"disk": "tape"}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values))
    asked = settings.load(None, tmp_path / "settings.yaml")
    monkeypatch.setattr(settings, "load", lambda _: asked)
    assert world.check() == 1
    found = dict(failed(capsys))["nodes"]
    assert "has no label disk=tape" in found
