"""The way to the cluster, by the kubeconfig, and the taints of its nodes."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import Cluster, ClusterError, Quota, Taint
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


def test_the_context_that_is_named_is_taken(tmp_path: Path, cluster: KubernetesStandIn) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace("current-context: stand-in", "current-context: gone"))
    assert Cluster("stand-in").address == cluster.url
    with pytest.raises(ClusterError, match="no cluster is configured"):
        Cluster()


@pytest.mark.parametrize(
    ("body", "said"), [({"message": "etcd\n is gone"}, "etcd is gone"), ([], "no reason given")]
)
def test_what_the_cluster_says_of_a_fault_of_its_own_is_one_line(
    cluster: KubernetesStandIn, monkeypatch: pytest.MonkeyPatch, body: Any, said: str
) -> None:
    monkeypatch.setattr(cluster, "read", lambda *_: (500, body))
    with pytest.raises(ClusterError) as fault:
        Cluster().namespace_phase("kubeflow")
    assert str(fault.value) == f"cannot get namespace kubeflow: HTTP 500 Internal Server Error: {said}"


def test_rights_are_asked_for_the_service_account_with_all_its_groups(cluster: KubernetesStandIn) -> None:
    assert Cluster().allows("kubeflow", "runner", "patch", "argoproj.io", "workflowtaskresults")
    attributes = {"namespace": "kubeflow", "verb": "patch", "group": "argoproj.io"}
    assert cluster.reviews == [
        {
            "user": "system:serviceaccount:kubeflow:runner",
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:kubeflow",
                "system:authenticated",
            ],
            "resourceAttributes": attributes | {"resource": "workflowtaskresults"},
        }
    ]


def test_a_secret_that_holds_nothing_has_no_keys(cluster: KubernetesStandIn) -> None:
    cluster.add("secrets", "empty")
    assert Cluster().filled_keys("kubeflow", "empty") == set()


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}], True),
        ([{"type": "Ready", "status": "Unknown"}], False),
        (None, False),
    ],
)
def test_a_node_that_tells_little_of_itself(cluster: KubernetesStandIn, conditions: Any, ready: bool) -> None:
    cluster.add("nodes", "bare", spec={}, status={"conditions": conditions} if conditions else {})
    (node,) = Cluster().nodes()
    assert (node.name, node.labels, node.taints, node.offers, node.ready) == ("bare", {}, (), {}, ready)


def test_quotas_that_hold_for_every_pod_and_what_is_left_of_them(cluster: KubernetesStandIn) -> None:
    hard = {"cpu": "10", "pods": "9"}
    of_some = {"scopeName": "PriorityClass", "operator": "Exists"}
    cluster.add("resourcequotas", "new", spec={"hard": hard}, status={})
    cluster.add("resourcequotas", "old", spec={"hard": {}}, status={"hard": hard, "used": {"cpu": "2500m"}})
    cluster.add("resourcequotas", "short", spec={"hard": hard, "scopes": ["Terminating"]})
    cluster.add(
        "resourcequotas", "urgent", spec={"hard": hard, "scopeSelector": {"matchExpressions": [of_some]}}
    )
    assert Cluster().quotas("kubeflow") == [
        Quota("new", {"cpu": Decimal(10), "pods": Decimal(9)}),
        Quota("old", {"cpu": Decimal("7.5"), "pods": Decimal(9)}),
    ]
