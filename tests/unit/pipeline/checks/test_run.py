"""All checks one after another: what one could not find out, and what it is pointless to look for."""

import pytest

from tests.unit.pipeline.world import World, failed, lines


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
    del world.cluster.objects["namespaces"]["kubeflow"]
    del world.cluster.objects["secrets"]["fineprune-s3"]
    assert world.check() == 1
    skipped = [check for state, check, _ in lines(capsys) if state == "skip"]
    assert skipped == ["service account", "secrets", "quotas"]


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
