"""The way to the cluster, by the kubeconfig, and the taints of its nodes."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import Cluster, Taint
from pipeline.settings import Toleration

from .kubernetes_stand_in import KubernetesStandIn
from .proxy_stand_in import ProxyStandIn
from .world import World, failed


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


@pytest.mark.parametrize("content", [b"a: [", b"[1, 2]", b"\xff\xfe\x00"])
def test_a_damaged_kubeconfig(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "kubeconfig").write_bytes(content)
    assert world.check() == 1
    ((check, said),) = failed(capsys)
    assert check == "cluster"
    assert said.startswith("the kubeconfig is damaged: ")


def test_a_cluster_that_does_not_know_us(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.cluster.token = "another"
    assert world.check() == 1
    ((_, said),) = failed(capsys)
    assert said.startswith(f"{world.cluster.url}: does not know you; log in to the cluster")


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


@pytest.mark.parametrize(("operator", "tolerated"), [("Exists", True), ("Equal", False)])
def test_toleration_without_a_key_is_of_every_taint(operator: Any, tolerated: bool) -> None:
    assert Taint("gpu", "yes", "NoSchedule").tolerated(Toleration("", operator, None, None)) == tolerated


def test_the_way_through_a_proxy_that_wants_a_login(
    tmp_path: Path, cluster: KubernetesStandIn, proxy: ProxyStandIn
) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace(cluster.url, "http://cluster.example"))
    assert Cluster().address == "http://cluster.example"
    assert proxy.asked == ["http://cluster.example/version/"]
