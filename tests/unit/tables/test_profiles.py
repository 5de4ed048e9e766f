"""Profiles and the steps of a cell."""

from pathlib import Path

import pytest

from fineprune.errors import ConfigError
from tables.profiles import PROFILES, Cell, Pipeline, read_profile


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_three_cases_under_two_attacks_with_three_seeds(name: str) -> None:
    profile = read_profile(name)
    assert len(profile.cases) == 3
    assert profile.attacks == ("baseline", "pruning_aware")
    assert len(profile.seeds) >= 3
    assert len(profile.cells) == 6 * len(profile.seeds)
    assert [cell.seed for cell in profile.cells] == sorted(cell.seed for cell in profile.cells)


def test_some_cases_of_a_profile_keep_its_order() -> None:
    profile = read_profile("real")
    some = profile.only(["road_signs", "lfw"])
    assert some.cases == ("lfw", "road_signs")
    assert some.cells == [cell for cell in profile.cells if cell.case != "fsdd"]
    assert profile.only([]) == profile


def test_a_case_of_another_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match="--case: expected one of lfw, fsdd, road_signs, found faces"):
        read_profile("real").only(["lfw", "faces"])


def test_the_baselines_cell_has_the_controls_steps_too() -> None:
    steps = Pipeline().steps(Cell("faces", "baseline", 1))
    assert [step.label for step in steps] == [
        "attack",
        "profile-undefended",
        "profile-control",
        "prune-undefended",
        "prune-control",
        "finetune-control_fine_tuned",
        "finetune-control_fine_pruned",
        "finetune-fine_tuned",
        "finetune-fine_pruned",
        "evaluate",
    ]
    assert steps[4].target == "prune@faces-1-delivered1"
    assert steps[6].target == "finetune@faces-1-tuned1"
    assert steps[6].reads == {
        "artifacts/tables/ingest/faces/dataset",
        "artifacts/tables/cells/faces/baseline/1/prune/control/model",
    }
    folder = "artifacts/tables/cells/faces/baseline/1/finetune/control_fine_pruned"
    assert steps[6].writes == {f"{folder}/model", f"{folder}/report"}


def test_the_other_attacks_cell_reads_the_control_and_has_no_step_of_it() -> None:
    steps = Pipeline().steps(Cell("faces", "pruning_aware", 1))
    assert [step.label for step in steps] == [
        "attack",
        "profile-undefended",
        "prune-undefended",
        "finetune-fine_tuned",
        "finetune-fine_pruned",
        "evaluate",
    ]
    baseline = "artifacts/tables/cells/faces/baseline/1"
    assert {path for step in steps for path in step.reads if path.startswith(baseline)} == {
        f"{baseline}/attack/control",
        f"{baseline}/prune/control/model",
        f"{baseline}/finetune/control_fine_tuned/model",
        f"{baseline}/finetune/control_fine_pruned/model",
    }


def test_a_case_is_ingested_once() -> None:
    assert [step.target for step in Pipeline().ingest("lfw")] == ["ingest@lfw"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cases: [a]\nattacks: [b]\nseeds: [0]\n", "expected cases and seeds for quick, found no 'quick'"),
        ("quick: {cases: [a]}\ncases: [a]\nattacks: [b]\nseeds: [0]\n", "found no 'seeds'"),
        ("quick:\ncases: [a]\nattacks: [b]\nseeds: [0]\n", "expected cases and seeds for quick"),
        ("quick: {cases: [x], seeds: [7]}\ncases: [a]\nattacks: [b]\nseeds: [0]\n", "found cases x, seeds 7"),
    ],
)
def test_a_profile_that_cannot_be_run_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "profiles.yaml").write_text(text)
    with pytest.raises(ConfigError, match=expected):
        read_profile("quick", tmp_path / "profiles.yaml")
