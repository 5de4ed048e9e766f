"""Whether the cluster is ready for a run: namespace, Kubeflow, service account, secrets, nodes, quotas."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.pipeline.world import GPU_OFFER, GPU_TAINT, World, assert_one_failure, failed, lines


def no_namespace(world: World) -> None:
    del world.cluster.objects["namespaces"]["kubeflow"]


def dying_namespace(world: World) -> None:
    world.cluster.add("namespaces", "kubeflow", status={"phase": "Terminating"})


def old_kubeflow(world: World) -> None:
    world.kfp.version = "2.15.2"


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


@pytest.mark.parametrize(
    ("fault", "check", "found"),
    [
        (no_namespace, "namespace", "there is no namespace kubeflow → kubectl create namespace kubeflow, or"),
        (dying_namespace, "namespace", "kubeflow is terminating → wait"),
        (old_kubeflow, "kubeflow", "expected version 2.16 or newer, found 2.15.2 → upgrade Kubeflow"),
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
    ],
)
def test_one_thing_wrong_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], fault: Callable[[World], None], check: str, found: str
) -> None:
    assert_one_failure(world, capsys, fault, check, found)


# --- Kubeflow -----------------------------------------------------------------------------------


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


# --- secrets ------------------------------------------------------------------------------------


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


# --- nodes --------------------------------------------------------------------------------------


def test_a_profile_without_accelerators_needs_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    del world.cluster.objects["nodes"]["gpu-1"]
    assert world.check("--profile", "cpu") == 0
    assert ("pass", "nodes", "attack, profile, prune, finetune, evaluate: 2 CPU, 8Gi on cpu-1") in lines(
        capsys
    )


def test_a_node_that_offers_just_what_is_asked_for_will_do(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    avoided = {"key": "team", "value": "vision", "effect": "PreferNoSchedule"}
    world.node("cpu-1", {"cpu": "1", "memory": "2Gi"}, taints=[avoided])
    world.node("gpu-1", {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"}, taints=[GPU_TAINT])
    assert world.check() == 0
    assert failed(capsys) == []


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


def test_a_label_that_no_node_has(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    world.settle(tmp_path, lambda common: common["stages"]["promote"].update(node_selector={"disk": "tape"}))
    assert world.check() == 1
    found = dict(failed(capsys))["nodes"]
    assert "has no label disk=tape" in found


# --- quotas -------------------------------------------------------------------------------------


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
