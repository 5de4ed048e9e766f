"""Whether MLflow lets us in, and the pods: by which login and by which name it is asked."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.pipeline.world import MLFLOW_OF_PODS, World, assert_one_failure, failed


def no_mlflow(world: World) -> None:
    world.mlflow.status = 404


def mlflow_login(world: World) -> None:
    world.mlflow.status = 401


def mlflow_host(world: World) -> None:
    world.mlflow.refused = {world.mlflow.address, MLFLOW_OF_PODS}


def mlflow_host_of_pods(world: World) -> None:
    world.mlflow.refused = {MLFLOW_OF_PODS}


def test_a_token_that_cannot_be_sent_is_not_repeated(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "planted\n")
    assert world.check() == 1
    assert failed(capsys) == [
        ("mlflow", "MLFLOW_TRACKING_TOKEN: expected one line of ASCII characters, found a line break in it")
    ]


@pytest.mark.parametrize(
    ("fault", "check", "found"),
    [
        (no_mlflow, "mlflow", "expected MLflow, found HTTP 404 → set MLFLOW_TRACKING_URI"),
        (mlflow_login, "mlflow", "refuses the login → set MLFLOW_TRACKING_USERNAME"),
        (mlflow_host, "mlflow", "refuses this host name → start mlflow server with --allowed-hosts"),
        (
            mlflow_host_of_pods,
            "mlflow",
            f"refuses the host name that the pods use, {MLFLOW_OF_PODS} → start mlflow server with "
            f"--allowed-hosts that name {MLFLOW_OF_PODS} beside localhost",
        ),
    ],
)
def test_one_thing_wrong_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], fault: Callable[[World], None], check: str, found: str
) -> None:
    assert_one_failure(world, capsys, fault, check, found)


@pytest.mark.parametrize("address", ["sqlite:///mlflow.db", "http://[bad"])
def test_an_address_of_no_server(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert world.check() == 1
    ((check, said),) = failed(capsys)
    assert check == "mlflow"
    assert said.startswith(f"{address}: expected the http:// or https:// address of a server → ")


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


def test_mlflow_is_asked_with_a_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "PLANTED-TOKEN")
    assert world.check() == 0
    assert {login for _, login, _ in world.mlflow.asked} == {"Bearer PLANTED-TOKEN"}


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
