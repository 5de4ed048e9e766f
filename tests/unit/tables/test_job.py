"""One run of DVC over a cell's steps, when it is stopped."""

from pathlib import Path

import pytest

from tables.job import Job
from tables.profiles import Step


def test_nothing_is_started_once_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    job = Job(
        "faces, baseline, seed 0",
        [Step("attack@faces-baseline-0", "attack", "attack")],
        pipeline="tables/dvc.yaml",
        logs=tmp_path / "logs",
        root=tmp_path,
        environment={},
        tell=lambda _, event, *__: events.append(event),
    )
    monkeypatch.setattr(job, "_launch", lambda: pytest.fail("started all the same"))
    with job._starting:  # the job's thread waits for this before it starts DVC
        job.start()
        job._stopped = True
    job.stop()
    assert events == ["ended"]
    assert job.failure is None
