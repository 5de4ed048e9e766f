"""One run of DVC over a cell's steps, and when it is stopped."""

import queue
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tables.job import Job
from tables.profiles import Step
from tests.unit.interrupts import interrupted


def attack(root: Path, tell: Callable[[str], None], **environment: str) -> Job:
    """A job of one step, which tells its events alone."""
    return Job(
        "faces, baseline, seed 0",
        [Step("attack@faces-baseline-0", "attack", "attack")],
        pipeline="tables/dvc.yaml",
        logs=root / "logs",
        root=root,
        environment=environment,
        tell=lambda _, event, *__: tell(event),
    )


def test_nothing_is_started_once_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    job = attack(tmp_path, events.append)
    monkeypatch.setattr(job, "_launch", lambda: pytest.fail("started all the same"))
    with job._starting:  # the job's thread waits for this before it starts DVC
        job.start()
        job._stopped = True
    job.end()
    job.stop()
    assert events == ["ended"]
    assert job.failure is None


# Begins a step, and takes a moment to tidy up when it is told to end; or does not listen.
DVC = """#!{python} -IS
import os, pathlib, signal, sys, time
def tidy(*_):
    time.sleep(0.1)
    pathlib.Path("tidied").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("DEAF") else tidy)
print(f"Running stage '{{sys.argv[-1]}}':", flush=True)
time.sleep(600)
"""


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., Job]:
    """Starts a job whose DVC runs until it is told to end; its step has begun."""

    def begin(**environment: str) -> Job:
        program = tmp_path / "dvc"
        program.write_text(DVC.format(python=sys.executable))
        program.chmod(0o755)
        events: queue.Queue[str] = queue.Queue()
        job = attack(tmp_path, events.put, PATH=str(tmp_path), **environment)
        job.start()
        assert events.get(timeout=60) == "begun"
        return job

    return begin


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stage_may_tidy_up_when_it_is_stopped_and_is_killed_if_it_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: Callable[..., Job], deaf: bool
) -> None:
    monkeypatch.setattr("tables.job._TIDYING", 0.2 if deaf else 60.0)
    job = begun(DEAF="1" if deaf else "")
    job.end()
    job.stop()
    assert job._process is not None
    assert job._process.returncode == (-signal.SIGKILL if deaf else 130)
    assert (tmp_path / "tidied").exists() is not deaf


def test_an_interrupt_of_the_waiting_kills_at_once(begun: Callable[..., Job]) -> None:
    job = begun(DEAF="1")
    job.end()
    with interrupted(0.2), pytest.raises(KeyboardInterrupt):
        job.stop()
    assert job._process is not None
    assert job._process.returncode == -signal.SIGKILL


def test_a_log_that_cannot_be_written_is_not_worth_a_cell(tmp_path: Path, begun: Callable[..., Job]) -> None:
    (tmp_path / "logs").write_text("in the way of the folder")
    job = begun()
    assert job.failure is None
    job.end()
    job.stop()
    assert (tmp_path / "tidied").exists()
