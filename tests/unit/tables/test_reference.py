"""The paper's figures: complete, in keeping with each other, and every contradiction has its place."""

from pathlib import Path

import pytest
import yaml

from tables.layout import DEFENCES
from tables.profiles import PROFILES, read_profile
from tables.reference import Paper

UTILITY = {  # as printed on the slides for speech; for the others, arithmetic of the dossier
    ("speech", "baseline", "fine_tuning"): 0.555,
    ("speech", "baseline", "fine_pruning"): 0.968,
    ("speech", "pruning_aware", "fine_tuning"): 0.468,
    ("speech", "pruning_aware", "fine_pruning"): 0.986,
    ("speech", "baseline", "none"): 0.22,
    ("traffic", "baseline", "fine_tuning"): -0.064,
    ("traffic", "pruning_aware", "fine_tuning"): 0.453,
    ("traffic", "baseline", "fine_pruning"): 0.585,
    ("traffic", "pruning_aware", "fine_pruning"): 0.508,
}


@pytest.mark.parametrize("at", UTILITY)
def test_utility_is_what_is_printed(at: tuple[str, str, str]) -> None:
    figure = Paper().figure(*at, "utility")
    assert figure is not None
    assert figure["value"] == UTILITY[at]
    assert figure["grade"] == ("S" if at[0] == "speech" and at[2] != "none" else "I")


def test_the_table_has_six_columns_of_two_figures_for_each_of_three_studies() -> None:
    paper = Paper()
    found = [
        paper.figure(study, attack, defence, metric)
        for study in paper.studies
        for attack in ("baseline", "pruning_aware")
        for defence in DEFENCES
        for metric in ("clean_accuracy", "backdoor_success")
    ]
    assert len([figure for figure in found if figure is not None]) == 36


def test_the_figure_whose_place_is_not_sure_says_so() -> None:
    paper = Paper()
    figure = paper.figure("face", "pruning_aware", "none", "clean_accuracy")
    assert figure is not None
    assert figure["grade"] == "R"
    assert "not confirmed" in " ".join(figure["note"].split())
    sure = paper.figure("face", "pruning_aware", "none", "backdoor_success")
    assert sure is not None
    assert sure["grade"] == "S"


def test_a_utility_is_no_surer_than_what_it_is_made_of() -> None:
    paper = Paper()
    accuracy, utility = (
        paper.figure("face", "pruning_aware", "none", metric) for metric in ("clean_accuracy", "utility")
    )
    assert accuracy is not None
    assert utility == {"value": -0.024, "grade": "R", "note": accuracy["note"]}


def test_every_case_of_every_profile_repeats_one_study() -> None:
    paper = Paper()
    for name in PROFILES:
        assert [paper.study(case) for case in read_profile(name).cases] == ["face", "speech", "traffic"]
    assert paper.study("digits") is None


def test_there_are_ten_contradictions_and_each_is_named_at_a_number_or_a_figure() -> None:
    paper = Paper()
    assert len(paper.contradictions) == 10
    assert all(told["at"] for told in paper.contradictions)
    known = {"study", "attack", "defence", "metric", "table"}
    assert all(set(place) <= known for told in paper.contradictions for place in told["at"])


@pytest.fixture
def paper(tmp_path: Path) -> Paper:
    """Of one study with one figure that is not sure, though the utility that rests on it is printed."""
    figures = {"clean_accuracy": 0.9, "backdoor_success": 0.5}
    place = {"study": "speech", "attack": "baseline", "defence": "none"}
    told = {
        "studies": {
            "speech": {"cases": ["fsdd"], "printed_utility": ["none"], "baseline": {"none": figures}}
        },
        "contradictions": [
            {"at": [{"study": "speech"}]},
            {"at": [{"study": "speech", "attack": "baseline"}]},
        ],
        "reading": [],
        "grades": {},
        "unsure": [{"at": place | {"metric": "clean_accuracy"}, "grade": "R", "note": "not confirmed"}],
    }
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(told))
    return Paper(tmp_path / "paper.yaml")


def test_a_utility_that_is_printed_rests_on_nothing_else(paper: Paper) -> None:
    printed = {"value": 0.4, "grade": "S", "note": ""}
    assert paper.figure("speech", "baseline", "none", "utility") == printed


def test_a_case_of_no_study_has_no_figure(paper: Paper) -> None:
    assert paper.figure(None, "baseline", "none", "utility") is None


def test_the_number_of_a_contradiction_stands_at_its_place_alone(paper: Paper) -> None:
    assert paper.marks(study="speech") == [1]
    assert paper.marks(study="speech", attack="baseline") == [2]
    assert paper.marks(attack="baseline") == []
