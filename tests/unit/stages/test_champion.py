"""promote where there is a champion already: what replaces it, and what does not."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from fineprune.files import write_json
from fineprune.stages.promote import HELD
from fineprune.tracking.tracker import Tracker
from tests.unit.stages.delivery import TOOK, Delivery, evaluation_report


def test_only_a_better_model_replaces_the_champion(delivery: Delivery) -> None:
    delivery.run()
    delivery.new_model(seed=1, utility=0.91)
    assert delivery.run("--fail-on-hold") == HELD
    (reason,) = delivery.decision["reasons"]
    assert re.fullmatch(
        r"Utility is not clearly above the champion's, version 1: "
        r"\+0\.0100 \(-0\.0\d+ to \+0\.0\d+\), input by input\.",
        reason,
    )
    aliases = delivery.client.get_registered_model("digits").aliases
    assert {name: str(number) for name, number in aliases.items()} == {"champion": "1", "candidate": "2"}
    assert delivery.run("--fail-on-hold", replace_champion="always") == 0
    aliases = delivery.client.get_registered_model("digits").aliases
    assert {name: str(number) for name, number in aliases.items()} == {"champion": "2"}
    delivery.new_model(seed=2, utility=0.95)
    assert delivery.run("--fail-on-hold") == 0
    assert "is clearly above the champion's, version 2: +0.0400" in delivery.decision["reasons"][-1]
    aliases = delivery.client.get_registered_model("digits").aliases
    assert {name: str(number) for name, number in aliases.items()} == {"champion": "3"}


def test_a_champion_is_compared_whatever_experiment_and_model_it_is_of(delivery: Delivery) -> None:
    report = json.loads((delivery.path / "evaluation" / "report.json").read_text())
    worse = evaluation_report(delivery.measured, 0.86)
    report["models"]["fine_tuned"] = worse["models"]["fine_pruned"]
    report["outcomes"]["models"]["fine_tuned"] = worse["outcomes"]["models"]["fine_pruned"]
    write_json(delivery.path / "evaluation" / "report.json", report)
    delivery.run(model="fine_tuned", experiment="another")
    delivery.new_model(seed=1, utility=0.95)
    assert delivery.run("--fail-on-hold") == 0
    assert "is clearly above the champion's, version 1: +0.0900" in delivery.decision["reasons"][-1]


def spoil_run(client: Any, evaluation: Any) -> None:
    client.delete_run(evaluation.info.run_id)


def kept_report(evaluation: Any) -> Path:
    return Path(url2pathname(evaluation.info.artifact_uri.removeprefix("file://")), "report.json")


def spoil_file(_: Any, evaluation: Any) -> None:
    path = kept_report(evaluation)
    path.write_text(path.read_text().replace("outcomes", "income"))


def spoil_folder(_: Any, evaluation: Any) -> None:
    kept_report(evaluation).unlink()


def evaluate_run(delivery: Delivery) -> Any:
    client, parent = delivery.client, delivery.decision["run_id"]
    query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`fineprune.stage` = 'evaluate'"
    (run,) = client.search_runs([client.get_run(parent).info.experiment_id], query)
    return run


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_run, "expected a run with the evaluation of version 1, found none"),
        (spoil_file, "expected the evaluation of version 1 in run .*, found another"),
        (spoil_folder, "expected the evaluation of version 1 in run .*, found no report.json"),
    ],
)
def test_a_champion_whose_evaluation_is_gone_stays(spoil: Any, message: str, delivery: Delivery) -> None:
    delivery.run()
    spoil(delivery.client, evaluate_run(delivery))
    delivery.new_model(seed=1, utility=0.95)
    assert delivery.run("--fail-on-hold") == HELD
    (reason,) = delivery.decision["reasons"]
    assert re.fullmatch(
        "Utility cannot be compared with the champion's, version 1: the champion's evaluation cannot be "
        f"used: {message}; evaluate and promote it again; or set replace_champion .*",
        reason,
    )
    assert delivery.run("--fail-on-hold", replace_champion="always") == 0


def test_a_report_that_is_being_uploaded_does_not_hide_the_champions(delivery: Delivery) -> None:
    delivery.run()
    run = evaluate_run(delivery)
    tags = {"report": run.data.tags["report"], "fineprune.stage": "evaluate"}
    delivery.client.create_run(run.info.experiment_id, tags=tags)  # without a file yet
    delivery.new_model(seed=1, utility=0.95)
    assert delivery.run("--fail-on-hold") == 0


def test_a_champion_whose_runs_were_deleted_is_compared_again_when_they_are_made_again(
    delivery: Delivery,
) -> None:
    delivery.run()
    for run in (evaluate_run(delivery).info.run_id, delivery.decision["run_id"]):
        delivery.client.delete_run(run)
    delivery.run()
    delivery.new_model(seed=1, utility=0.95)
    assert delivery.run("--fail-on-hold") == 0
    assert "is clearly above the champion's, version 1" in delivery.decision["reasons"][-1]


@pytest.mark.parametrize("digest", ["", "x' or 'a", "e" * 64])
def test_a_champion_that_names_no_evaluation_stays(digest: str, delivery: Delivery) -> None:
    delivery.run()
    delivery.client.set_model_version_tag("digits", "1", "digest.evaluation", digest)
    delivery.new_model(seed=1, utility=0.95)
    assert delivery.run("--fail-on-hold") == HELD
    assert "with the evaluation of version 1, found none" in delivery.decision["reasons"][0]


def test_a_champions_evaluation_of_an_older_release_is_told_from_this_one(delivery: Delivery) -> None:
    with pytest.MonkeyPatch.context() as older:
        older.setattr("fineprune.stages.promote.check_figures", lambda *_: None)
        delivery.new_model(seed=0, outcomes=None)
        delivery.run()
    delivery.new_model(seed=1, utility=0.95)
    assert delivery.run("--fail-on-hold") == HELD
    assert "the champion's evaluation cannot be used: outcomes: " in delivery.decision["reasons"][0]


def other_outcomes(report: dict[str, Any]) -> None:
    report["outcomes"]["models"]["fine_pruned"]["right"] = "1" * 500


def no_outcomes(report: dict[str, Any]) -> None:
    report["outcomes"] = {"eligible": "1"}


def another_interval(report: dict[str, Any]) -> None:
    report["models"]["fine_pruned"]["utility"]["low"] += 0.01


def another_loss(report: dict[str, Any]) -> None:
    report["models"]["fine_pruned"]["clean_loss"]["high"] -= 0.01


@pytest.mark.parametrize("there_is_a_champion", [False, True])
@pytest.mark.parametrize("change", [other_outcomes, no_outcomes, another_interval, another_loss])
def test_an_evaluation_without_sound_outcomes_replaces_nobody_and_nothing(
    change: Any, there_is_a_champion: bool, delivery: Delivery
) -> None:
    if there_is_a_champion:
        delivery.run()
    delivery.new_model(seed=1, utility=0.95)
    path = delivery.path / "evaluation" / "report.json"
    report = json.loads(path.read_text())
    change(report)
    write_json(path, report)
    assert delivery.run("--fail-on-hold") == HELD
    (reason,) = delivery.decision["reasons"]
    assert reason.startswith("fine_pruned: outcomes: ")
    assert reason.endswith("; evaluate again.")
    assert delivery.run("--fail-on-hold", replace_champion="always") == HELD


def test_models_whose_utility_is_undefined_replace_nobody(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.run()
    delivery.new_model(seed=1, utility=0.95)
    monkeypatch.setattr("fineprune.stages.promote.utility_gain", lambda *_: None)
    assert delivery.run("--fail-on-hold") == HELD
    assert "version 1: one of the two is undefined; or" in delivery.decision["reasons"][0]


@pytest.mark.parametrize(
    "fault", [MlflowException("no such path is served"), ConnectionError("refused"), OSError(5, "I/O")]
)
def test_a_store_that_does_not_deliver_at_the_comparison_decides_nothing(
    fault: Exception,
    delivery: Delivery,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delivery.run()
    delivery.new_model(seed=1, utility=0.95)

    def gone(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(mlflow.MlflowClient, "download_artifacts", gone)
    capsys.readouterr()
    assert delivery.run("--fail-on-hold") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("fineprune promote: error: MLflow: ")
    aliases = delivery.client.get_registered_model("digits").aliases
    assert {name: str(number) for name, number in aliases.items()} == {"champion": "1"}


@pytest.mark.parametrize("changes", [{"min_utility": 0.99}, {"replace_champion": "always"}])
def test_a_champion_is_not_fetched_where_nothing_hangs_on_it(
    changes: dict[str, Any], delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.run()
    delivery.new_model(seed=1, utility=0.95)
    monkeypatch.setattr(Tracker, "evaluation_of", lambda *_: pytest.fail("it was fetched"))
    assert delivery.run(**changes) == 0


def test_a_champion_is_fetched_before_the_lock_is_taken_and_once(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.run()
    delivery.new_model(seed=1, utility=0.95)
    fetch, held = Tracker.evaluation_of, []

    def noted(tracker: Tracker, version: Any) -> Any:
        held.append([model.name for model in delivery.client.search_registered_models()])
        return fetch(tracker, version)

    monkeypatch.setattr(Tracker, "evaluation_of", noted)
    assert delivery.run("--fail-on-hold") == 0
    assert held == [["digits"]]  # and no lock beside it


@pytest.mark.parametrize(
    "other",
    [
        {"trigger": {"kind": "patch", "size": 4}},
        {"trigger_sha256": {"add.npy": "b"}},
        {"labels": {"kind": "shift"}},
        {"poison": {"sources": [1]}},
    ],
)
def test_what_was_measured_with_another_attack_replaces_nothing(
    delivery: Delivery, other: dict[str, Any]
) -> None:
    details = TOOK | {"trigger": {"kind": "patch", "size": 3}, "labels": {"kind": "one_target"}}
    delivery.new_model(seed=0, attack_details=details)
    delivery.run()
    delivery.new_model(seed=1, utility=0.95, attack_details=details | other)
    assert delivery.run("--fail-on-hold") == HELD
    assert "was measured on other data or with another trigger" in delivery.decision["reasons"][0]


def test_the_champion_is_not_held_against_itself(delivery: Delivery) -> None:
    delivery.run()
    delivery.new_model(seed=0, utility=0.89)
    assert delivery.run("--fail-on-hold") == 0
    assert delivery.decision["registered_version"] == "2"
    assert "The champion, version 1, is the same network" in delivery.decision["reasons"][-1]
    aliases = delivery.client.get_registered_model("digits").aliases
    assert {name: str(number) for name, number in aliases.items()} == {"champion": "2"}


def test_a_champion_that_passes_with_other_thresholds_says_so(delivery: Delivery) -> None:
    delivery.run()
    version = delivery.client.get_model_version("digits", "1")
    first = version.tags["reasons"]
    delivery.run("--fail-on-hold", min_utility=0.5)
    found = delivery.client.get_model_version("digits", "1")
    assert found.tags["threshold.min_utility"] == "0.5"
    assert "reaches min_utility 0.5" in found.tags["reasons"]
    assert "min_utility 0.5" in found.description
    assert found.tags["reasons"] != first
    delivery.run("--fail-on-hold", min_utility=0.5)
    again = delivery.client.get_model_version("digits", "1")
    assert (again.tags["reasons"], again.description) == (found.tags["reasons"], found.description)


def test_the_same_data_under_another_name_is_compared(delivery: Delivery) -> None:
    delivery.run()
    delivery.new_data(name="other", origin={"path": "./elsewhere"}, licence="unknown")
    delivery.new_model(seed=1, utility=0.88)
    assert delivery.run("--fail-on-hold") == HELD
    assert "Utility is not clearly above the champion's" in delivery.decision["reasons"][0]


def test_a_kubeflow_run_whose_model_does_not_beat_the_champion_is_held(delivery: Delivery) -> None:
    delivery.run()
    delivery.new_model(seed=1, utility=0.88)
    assert delivery.run("--run-id", "0a1b") == 0
    assert delivery.client.get_model_version("digits", "2").tags["kubeflow.run_id.0a1b"] == "held"


def test_a_champion_that_was_held_meanwhile_says_why_it_is_champion(delivery: Delivery) -> None:
    for limit in (0.8, 0.99, 0.8):
        delivery.run(min_utility=limit)
    version = delivery.client.get_model_version("digits", "1")
    assert version.tags["verdict"] == "promoted"
    assert "reaches min_utility 0.8" in version.tags["reasons"]
    assert "digits version 1 is still champion" in version.description
