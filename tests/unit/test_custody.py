"""The reports behind a model are of one run; every single link is looked at."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from fineprune.custody import STEPS, check_custody, check_dataset, check_model
from fineprune.errors import DataError
from fineprune.files import write_json
from fineprune.lineage import read_report
from fineprune.stages.evaluate import MODELS
from fineprune.stages.evaluate import STAGE as EVALUATE

from .reports import CONTROLS_PROFILE, evaluation, handed_on

LINKS = [
    (flag, side, name)
    for flag, step in STEPS.items()
    for side in ("inputs", "outputs")
    for name in getattr(step, side)
]


def report(flag: str) -> dict[str, Any]:
    return {"schema": 1, "stage": STEPS[flag].stage} | handed_on(flag)


def check(folders: dict[str, Path], told: dict[str, Any] | None = None) -> None:
    reports = {flag: read_report(folder) for flag, folder in folders.items()}
    reports["evaluation"] = evaluation() if told is None else told
    check_custody(reports, folders | {"evaluation": Path("evaluation")})


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    for flag in STEPS:
        (tmp_path / flag).mkdir()
        write_json(tmp_path / flag / "report.json", report(flag))
    return {flag: tmp_path / flag for flag in STEPS}


def test_one_run_passes(folders: dict[str, Path]) -> None:
    check(folders)


@pytest.mark.parametrize(("flag", "side", "name"), LINKS)
@pytest.mark.parametrize("digest", ["f" * 64, None, 7])
def test_each_link_is_held_against_the_evaluation(
    flag: str, side: str, name: str, digest: object, folders: dict[str, Path]
) -> None:
    other = report(flag)
    other[side][name] = digest
    write_json(folders[flag] / "report.json", other)
    with pytest.raises(
        DataError, match=rf"{flag}/report.json: {side}.{name}: expected the .* of the evaluation"
    ):
        check(folders)


@pytest.mark.parametrize("flag", CONTROLS_PROFILE)
@pytest.mark.parametrize("digest", ["f" * 64, None, 7])
def test_the_controls_profile_is_the_one_that_its_pruning_read(
    flag: str, digest: object, folders: dict[str, Path]
) -> None:
    other = report(flag)
    other[CONTROLS_PROFILE[flag]]["profile"] = digest
    write_json(folders[flag] / "report.json", other)
    with pytest.raises(
        DataError, match=r"control_prune_report/report.json: inputs.profile: expected the control's"
    ):
        check(folders)


@pytest.mark.parametrize("flag", STEPS)
def test_a_report_of_another_stage_is_refused(flag: str, folders: dict[str, Path]) -> None:
    write_json(folders[flag] / "report.json", report(flag) | {"stage": "evaluate"})
    with pytest.raises(DataError, match=f"expected a report of {STEPS[flag].stage}, found 'evaluate'"):
        check(folders)


def test_nothing_agrees_with_an_evaluation_that_names_nothing(folders: dict[str, Path]) -> None:
    write_json(folders["ingest_report"] / "report.json", {"schema": 1, "stage": "ingest"})
    with pytest.raises(DataError, match=r"outputs.dataset: .* no digest, found no digest"):
        check(folders, {})


@pytest.mark.parametrize("name", [*MODELS, "dataset"])
@pytest.mark.parametrize("digest", ["f" * 64, 7])
def test_an_evaluation_speaks_of_what_it_has_read(
    name: str, digest: object, folders: dict[str, Path]
) -> None:
    told = evaluation()
    (told if name == "dataset" else told["models"])[name]["digest"] = digest
    with pytest.raises(DataError, match=rf"evaluation/report.json: {name}: expected the one that was read"):
        check(folders, told)


def test_an_evaluation_is_one(folders: dict[str, Path]) -> None:
    with pytest.raises(
        DataError, match=r"evaluation/report.json: expected a report of evaluate, found 'prune'"
    ):
        check(folders, evaluation() | {"stage": "prune"})


@pytest.mark.parametrize("found", ["f" * 64, None, 7])
def test_an_evaluation_on_another_dataset_is_refused(found: object) -> None:
    check_dataset({"dataset": {"digest": "d" * 64}}, "d" * 64, Path("evaluation"))
    with pytest.raises(DataError, match="evaluation: expected an evaluation on this dataset, digest dddd"):
        check_dataset({"dataset": {"digest": found}}, "d" * 64, Path("evaluation"))


def test_another_model_than_the_one_that_was_evaluated_is_refused() -> None:
    told = {"models": {"pruned": {"digest": "d" * 64}, "fine_pruned": {}}}
    check_model(told, "pruned", "d" * 64, Path("model"))
    check_model(told, "fine_pruned", "d" * 64, Path("model"))  # the gate asks for what is not told
    with pytest.raises(DataError, match="model: expected the model that was evaluated, digest dddd"):
        check_model(told, "pruned", "f" * 64, Path("model"))


@pytest.mark.parametrize("flag", STEPS)
def test_the_links_are_ports_of_the_stages(flag: str) -> None:
    step = STEPS[flag]
    stage = importlib.import_module(f"fineprune.stages.{step.stage}").STAGE
    assert step.inputs.keys() <= set(stage.inputs)
    assert step.outputs.keys() <= set(stage.outputs)
    assert {*step.inputs.values(), *step.outputs.values()} <= set(EVALUATE.inputs)


@pytest.mark.parametrize("flag", STEPS)
def test_every_port_of_a_stage_is_a_link(flag: str) -> None:
    """But for the control's profile, which is held against its pruning instead."""
    stage = importlib.import_module(f"fineprune.stages.{STEPS[flag].stage}").STAGE
    found = {side: set(getattr(STEPS[flag], side)) for side in ("inputs", "outputs")}
    if side := CONTROLS_PROFILE.get(flag):
        found[side].add("profile")
    assert found == {"inputs": set(stage.inputs), "outputs": set(stage.outputs) - {"report"}}
