"""``python -m pipeline preflight`` as a whole: its lines, and the package that it asks about."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import compile as compiling

from .world import MLFLOW_OF_PODS, World, lines


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


def test_the_context_and_the_namespace_that_are_named_are_looked_at(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.check("--context", "gone") == 1
    ((state, check, said),) = lines(capsys)
    assert (state, check) == ("fail", "cluster")
    assert "gone" in said
    assert world.check("--namespace", "team-a") == 1
    assert ("fail", "namespace", "there is no namespace team-a") in [
        (state, check, said.partition(" → ")[0]) for state, check, said in lines(capsys)
    ]


def test_lines_keep_to_the_screen(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    world.cluster.objects["nodes"].clear()
    assert world.check() == 1
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_a_package_that_is_not_current_or_not_there_is_not_checked(
    world: World,
    check_current: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(compiling, "check_current", check_current)
    monkeypatch.setattr(compiling, "FOLDER", tmp_path)
    monkeypatch.setattr("pipeline.preflight.package_file", lambda profile: tmp_path / "fine_pruning.yaml")
    assert world.check() == 2
    assert "the package is not there; run python -m pipeline compile" in capsys.readouterr().err
