"""What the stack's ports are, and what compose is told."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
import yaml

from .programs import ROOT, stack


def test_ports_are_different_and_free() -> None:
    ports = stack.free_ports(50)
    assert len({*ports}) == 50
    for port in ports:
        with socket.socket() as listener:
            listener.bind((stack.HOST, port))


def test_ports_and_secrets_are_kept(tmp_path: Path) -> None:
    first = stack.Stack(tmp_path, dict.fromkeys(stack.PORTS))
    (tmp_path / "state.json").write_text(json.dumps(first._state))
    again = stack.Stack(tmp_path, {**dict.fromkeys(stack.PORTS), "S3_PORT": 9999})
    assert again._state == {**first._state, "S3_PORT": "9999"}
    assert len({first._state[port] for port in stack.PORTS}) == 3


@pytest.mark.parametrize(("port", "stopped"), [("9999", True), ("1", False), (None, False)])
def test_all_is_started_anew_on_another_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str | None, stopped: bool
) -> None:
    done = []
    first = stack.Stack(tmp_path, {**dict.fromkeys(stack.PORTS), "S3_PORT": 1})
    (tmp_path / "state.json").write_text(json.dumps({**first._state, "how": "packages"}))
    again = stack.Stack(tmp_path, {**dict.fromkeys(stack.PORTS), "S3_PORT": port})
    monkeypatch.setattr(again, "stop", lambda: done.append("stop"))
    monkeypatch.setattr(again, "_start_postgres", lambda: done.append("postgres"))
    monkeypatch.setattr(again, "_services", list)
    again.start(None)
    assert done == ["stop"] * stopped + ["postgres"]


@pytest.mark.parametrize("options", ["name=seccomp", "name=rootless"])
def test_who_owns_what_compose_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    """An engine without root knows the caller as root."""
    monkeypatch.setattr(stack, "output", lambda command: f"[{options}]")
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    owner = stack.Stack(tmp_path, dict.fromkeys(stack.PORTS))._variables()["OWNER"]
    assert owner == ("0:0" if "rootless" in options else f"1234:{os.getegid()}")


def test_a_damaged_state_is_one_line_and_a_new_one_takes_its_place_at_once(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(stack.StackError, match=r"state\.json: expected the passwords as JSON"):
        stack.Stack(tmp_path, dict.fromkeys(stack.PORTS))
    stack._write_private(tmp_path / "state.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_what_never_started_is_stopped_without_any_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "state.json").write_text('{"how": "packages"}')
    stack.Stack(tmp_path, dict.fromkeys(stack.PORTS)).stop()
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_what_a_program_says_of_its_fault_is_shown(tmp_path: Path) -> None:
    with pytest.raises(stack.StackError, match=r"^initdb: the cause$"):
        stack._checked("initdb", ["sh", "-c", "echo chatter; echo the cause >&2; exit 1"])


def test_compose_keeps_its_data_in_the_folder_under_a_project_of_its_own(tmp_path: Path) -> None:
    one, two = (stack.Stack(tmp_path / name, dict.fromkeys(stack.PORTS)) for name in "ab")
    assert one._compose()[2] == stack.Stack(tmp_path / "a", dict.fromkeys(stack.PORTS))._compose()[2]
    assert one._compose()[2] != two._compose()[2]
    told = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    assert "volumes" not in told
    assert "name" not in told
    mounts = [mount for service in told["services"].values() for mount in service.get("volumes", [])]
    assert len(mounts) == 2
    assert all(mount.startswith("${FOLDER:?}/compose/") for mount in mounts)


def test_compose_is_given_every_variable_that_it_asks_for(tmp_path: Path) -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text()
    given = stack.Stack(tmp_path, dict.fromkeys(stack.PORTS))._variables()
    assert {*re.findall(r"\$\{(\w+)", text)} <= given.keys()
