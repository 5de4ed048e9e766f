"""How the stack keeps and ends its programs, shown on programs that only wait; and what compose is told."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .programs import ROOT, stack

WAITS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a program of Python as a service that is up when it has said so."""
    started = []

    def start(code: str) -> Any:
        service = stack.Service(
            folder=tmp_path,
            argv=[sys.executable, "-c", code, "1"],
            environment={},
            port=stack.free_ports(1)[0],
            answers=lambda: "up" in service._log.read_text(),
        )
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop()


def test_started_service_is_known_and_a_stopped_one_is_gone_with_what_it_started(
    service: Callable[..., Any],
) -> None:
    running = service(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITS!r}]); {WAITS}")
    pid = running._pid()
    assert os.getpgid(pid) == pid
    assert stack._lives(pid)
    running.stop()
    assert running._pid() is None
    assert not stack._lives(pid)
    running.stop()


def test_service_that_is_deaf_is_ended_by_force(
    service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "_GRACE", 1)
    running = service(DEAF)
    pid = running._pid()
    running.stop()
    assert not stack._lives(pid)


def test_service_that_not_even_force_ends_is_an_error_and_stays_known(
    service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service(WAITS)
    sent = []
    with monkeypatch.context() as patch:
        patch.setattr(stack, "_GRACE", 0)
        patch.setattr(os, "killpg", lambda group, signum: sent.append(signum))
        with pytest.raises(stack.StackError, match="does not end"):
            running.stop()
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    assert running._pid() is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda told: {**told, "argv": [*told["argv"][:-2], "another", "1"]},  # the same last word
        lambda told: {**told, "pid": os.getpid()},
        lambda told: {**told, "pid": 2**22 + 1},  # beyond the kernel's last
        lambda told: told["pid"],
    ],
    ids=["another command", "another process", "no process", "no command"],
)
def test_number_that_is_a_strangers_by_now_is_left_alone(
    service: Callable[..., Any], tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    running = service(WAITS)
    file, pid = running._pid_file, running._pid()
    whole = file.read_text()
    file.write_text(json.dumps(change(json.loads(whole))))
    assert running._pid() is None
    running.stop()
    assert stack._lives(pid)
    file.write_text(whole)


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
