"""Runs submitted to the stand-in for Kubeflow Pipelines: what came there, or what was said instead."""

import subprocess
from typing import Any

import pytest

from pipeline import __main__
from pipeline.package import FOLDER
from pipeline.parameters import ROOT, sweep_runs

from .kfp_stand_in import KfpStandIn

MD5 = "0123456789abcdef0123456789abcdef"
SWEEP = FOLDER / "fine_pruning_sweep.yaml"
RUN_ID = "0b7f3e52-9a1c-4d55-8a55-3a1a5f0e9c11"


def submit(stand_in: KfpStandIn, *arguments: str) -> int:
    return __main__.main(["submit", "--endpoint", stand_in.url, *arguments])


def watch_sweep(stand_in: KfpStandIn) -> int:
    return submit(stand_in, "--watch", "--package", str(SWEEP))


def program(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def parameters(stand_in: KfpStandIn) -> dict[str, Any]:
    found: dict[str, Any] = stand_in.run["runtime_config"].get("parameters", {})
    return found


def tasks(stand_in: KfpStandIn) -> dict[str, Any]:
    found: dict[str, Any] = stand_in.run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    return found


def sweep_run(seed: int = 3, **changes: Any) -> dict[str, Any]:
    return sweep_runs(["digits"], ["baseline"], [seed])[0] | changes


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, less the command's name."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("python -m pipeline submit: error: ").rstrip()


def assert_refused(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The arguments are refused in one line, with no secret in it, before anything is sent."""
    assert submit(kfp, *arguments) == 2
    said = refused(capsys)
    assert message in said
    assert "planted" not in said
    assert kfp.requests == []
