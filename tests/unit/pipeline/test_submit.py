"""``python -m pipeline submit``: which package is sent, which stages take from the cache, and warnings."""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from pipeline import __main__
from pipeline import compile as compiling
from pipeline.package import PACKAGE, package_file
from pipeline.parameters import sweep_runs

from .kfp_stand_in import KfpStandIn
from .submitting import MD5, RUN_ID, SWEEP, parameters, program, refused, submit, tasks

pytestmark = pytest.mark.usefixtures("check_current")


def test_our_command(kfp: KfpStandIn) -> None:
    command = (sys.executable, "-m", "pipeline", "submit", "--endpoint", kfp.url)
    done = program(*command, "--run-name", "first", "--experiment", "mine", "source=s3://bucket/speech")
    assert done.returncode == 0, done.stderr
    page = f"{kfp.url}/#/runs/details/{RUN_ID}"
    said = [f"run {RUN_ID}", f"    {page}", "    source = s3://bucket/speech"]
    assert done.stdout.splitlines() == said
    assert "every stage runs anew; say data_md5=…" in done.stderr  # what an s3:// source holds is not pinned
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks(kfp).values())
    assert parameters(kfp)["source"] == "s3://bucket/speech"
    assert kfp.run["display_name"] == "first"
    assert kfp.run["service_account"] == "pipeline-runner"
    assert [experiment["display_name"] for experiment in kfp.experiments.values()] == ["mine"]


def test_without_arguments_the_package_decides(kfp: KfpStandIn) -> None:
    assert submit(kfp) == 0
    assert parameters(kfp) == {}
    cached = {name for name, task in tasks(kfp).items() if task["cachingOptions"].get("enableCache")}
    compiled = next(yaml.safe_load_all(PACKAGE.read_text()))["root"]["dag"]["tasks"]
    assert cached == {name for name, task in compiled.items() if task["cachingOptions"].get("enableCache")}
    assert "attack" in cached
    assert [experiment["display_name"] for experiment in kfp.experiments.values()] == ["fine-pruning"]
    assert kfp.run["display_name"].startswith("fine-pruning 2")


def test_of_a_long_parameter_the_beginning_is_told(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(kfp, "--set", "attack.seed=3") == 0
    (line,) = capsys.readouterr().out.splitlines()[2:]
    assert line.startswith("    attack = {")
    assert len(line) <= len("    attack = ") + 100


def test_who_wants_every_stage_anew_is_not_warned_that_it_is(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(kfp, "--no-cache", "source=s3://bucket/speech") == 0
    assert capsys.readouterr().err == ""


# --- the cache ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pin", [[], [f"data_md5={MD5}"]])
def test_what_the_package_reads_may_change_too(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], pin: list[str]
) -> None:
    package = tmp_path / "mine.yaml"
    pipeline, *rest = yaml.safe_load_all(PACKAGE.read_text())
    pipeline["root"]["inputDefinitions"]["parameters"]["source"]["defaultValue"] = "s3://bucket/speech"
    package.write_text(yaml.safe_dump_all([pipeline, *rest]))
    assert submit(kfp, "--package", str(package), *pin) == 0
    cached = any(task["cachingOptions"].get("enableCache") for task in tasks(kfp).values())
    assert cached == bool(pin) == ("every stage runs anew" not in capsys.readouterr().err)


@pytest.mark.parametrize("package", [PACKAGE, SWEEP])
def test_without_the_cache(kfp: KfpStandIn, package: Path) -> None:
    assert submit(kfp, "--no-cache", "--package", str(package)) == 0
    sent, (pipeline, platform) = kfp.run["pipeline_spec"], yaml.safe_load_all(package.read_text())
    for spec in (sent["pipeline_spec"], pipeline):
        parts = [spec["root"], *spec["components"].values()]
        given = [task for part in parts for task in part.get("dag", {}).get("tasks", {}).values()]
        cached = [task for task in given if task.pop("cachingOptions", {}).get("enableCache")]
        assert bool(cached) == (spec is pipeline)
    assert sent == {"pipeline_spec": pipeline, "platform_spec": platform}


# --- which package ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of every profile, compiled once."""
    folder = tmp_path_factory.mktemp("packages")
    for profile in ("gpu", "cpu"):
        assert __main__.main(["compile", "--output", str(folder), "--profile", profile]) == 0
    return folder


@pytest.fixture
def compiled(
    packages: Path, check_current: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of packages in place of the committed one, with the packages of every profile."""
    folder = shutil.copytree(packages, tmp_path / "compiled")
    monkeypatch.setattr("pipeline.submit.package_file", partial(package_file, folder=folder))
    monkeypatch.setattr(compiling, "FOLDER", folder)
    monkeypatch.setattr(compiling, "check_current", check_current)
    return folder


@pytest.mark.parametrize(("profile", "devices"), [("gpu", {"nvidia.com/gpu"}), ("cpu", set())])
def test_the_profile_says_which_package_is_sent(
    kfp: KfpStandIn, compiled: Path, profile: str, devices: set[str]
) -> None:
    assert submit(kfp, "--profile", profile) == 0
    executors = kfp.run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"].values()
    asked = [executor["container"]["resources"].get("accelerator", {}) for executor in executors]
    assert {accelerator["resourceType"] for accelerator in asked if accelerator} == devices


def test_a_package_that_is_not_current_is_not_sent(
    kfp: KfpStandIn, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, gone = compiled / "fine_pruning.yaml", compiled / "fine_pruning.cpu.yaml"
    stale.write_text(stale.read_text().replace("20", "21"))
    gone.unlink()
    capsys.readouterr()
    assert submit(kfp) == 2
    why = "the package is not what the settings and params say; run python -m pipeline compile"
    assert refused(capsys) == f"{stale}: {why}"
    assert submit(kfp, "--profile", "cpu") == 2
    assert refused(capsys).endswith(
        "cpu.yaml: the package is not there; run python -m pipeline compile --profile cpu"
    )
    sweep = compiled / "fine_pruning_sweep.yaml"
    sweep.write_text(sweep.read_text().replace("20", "21"))
    for path in (stale, sweep):
        assert submit(kfp, "--package", str(path)) == 2
        assert refused(capsys) == f"{path}: {why}"
    assert kfp.requests == []
    elsewhere = stale.rename(compiled.parent / stale.name)
    assert submit(kfp, "--package", str(elsewhere)) == 0


def test_a_package_of_another_profile_than_asked_for_is_not_sent(
    kfp: KfpStandIn, compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = compiled / "fine_pruning_sweep.yaml"
    capsys.readouterr()
    assert submit(kfp, "--package", str(sweep), "--profile", "cpu") == 2
    expected = "expected fine_pruning_sweep.cpu.yaml for --profile cpu"
    assert refused(capsys) == f"--package {sweep}: {expected}"
    assert kfp.requests == []
    assert submit(kfp, "--package", str(compiled / "fine_pruning_sweep.cpu.yaml"), "--profile", "cpu") == 0


# --- the size of a sweep ------------------------------------------------------------------------


def test_a_sweep_has_room_for_so_many_runs(kfp: KfpStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    runs = sweep_runs(["digits"], ["baseline"], range(51))
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs)}") == 2
    assert refused(capsys) == "runs: expected at most 50, found 51; split them into sweeps"
    assert kfp.requests == []
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs[:15])}") == 0
    assert capsys.readouterr().err == ""
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs[:50])}") == 0
    assert capsys.readouterr().err.startswith("50 runs may fail at their end: of a workflow Argo keeps 1 MiB")


def test_the_runs_of_the_settings_are_counted_too(
    kfp: KfpStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, platform = yaml.safe_load_all(SWEEP.read_text())
    runs = values["root"]["inputDefinitions"]["parameters"]["runs"]
    runs["defaultValue"] = sweep_runs(["digits"], ["baseline"], range(18))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump_all([values, platform]))
    assert submit(kfp, "--package", str(tmp_path / "sweep.yaml")) == 0
    assert capsys.readouterr().err.startswith("18 runs may fail at their end")
