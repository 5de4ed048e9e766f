"""How the stack keeps and ends its programs, shown on programs that only wait."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .programs import service as background

WAITS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a program of Python as a service that is up when it has said so."""
    started = []

    def start(code: str) -> Any:
        service = background.Service(
            folder=tmp_path,
            argv=[sys.executable, "-c", code, "1"],
            environment={},
            port=0,
            flag="--port",
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
    assert background._lives(pid)
    running.stop()
    assert running._pid() is None
    assert not background._lives(pid)
    running.stop()


def test_service_that_is_deaf_is_ended_by_force(
    service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_GRACE", 1)
    running = service(DEAF)
    pid = running._pid()
    running.stop()
    assert not background._lives(pid)


def test_service_that_not_even_force_ends_is_an_error_and_stays_known(
    service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service(WAITS)
    sent = []
    with monkeypatch.context() as patch:
        patch.setattr(background, "_GRACE", 0)
        patch.setattr(os, "killpg", lambda group, signum: sent.append(signum))
        with pytest.raises(background.StackError, match="does not end"):
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
    assert background._lives(pid)
    file.write_text(whole)
