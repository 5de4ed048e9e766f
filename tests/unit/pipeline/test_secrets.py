"""Making the secrets that the stages need, and that none of them is ever printed."""

from pathlib import Path

import pytest

from .world import SECRETS, World


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
def test_several_entries_of_one_secret_are_parts_of_it(world: World, tmp_path: Path) -> None:
    world.settle(tmp_path, lambda common: [entry.update(name="fineprune") for entry in common["secrets"]])
    assert world.check("--create-secrets") == 0
    assert world.cluster.secret("fineprune") == {
        "access_key": "PLANTED-ACCESS",
        "secret_key": "PLANTED-SECRET",
        "username": "PLANTED-USER",
        "password": "PLANTED-PASSWORD",
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
