"""promote from the command line, on a SQLite store: verdict, registry, runs, what a user can get wrong."""

import json
import socket
from typing import Any

import mlflow
import pytest
import torch

from fineprune.config import parse
from fineprune.custody import STEPS
from fineprune.errors import ConfigError
from fineprune.files import remove, write_json
from fineprune.models import build
from fineprune.models.base import NetworkSpec
from fineprune.models.format import save_model
from fineprune.stages.base import content_digest
from fineprune.stages.promote import HELD, REPORTS, PromoteConfig
from fineprune.tracking.answers import GoneError
from fineprune.tracking.tracker import NOTE, Tracker
from tests.unit.stages.delivery import CLASSES, INPUT, Delivery, evaluation_report, stage_report


def test_good_evidence_makes_a_champion(delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    assert delivery.run("--fail-on-hold") == 0
    decision = delivery.decision
    assert (decision["verdict"], decision["registered_version"], decision["alias"]) == (
        "promoted",
        "1",
        "champion",
    )
    assert decision["champion_before"] is None
    assert decision["model_digest"] == content_digest(delivery.path / "fine_pruned")
    version = delivery.client.get_model_version_by_alias("digits", "champion")
    measured = delivery.measured_row("fine_pruned")
    expected = {
        "utility.low": repr(measured["utility"]["low"]),
        "clean_loss.high": repr(measured["clean_loss"]["high"]),
        "threshold.min_utility": "0.8",
        "verdict": "promoted",
        "digest.model": decision["model_digest"],
        "dataset.dvc_md5": "d41d8cd98f00b204e9800998ecf8427e.dir",
        "git.commit": "c0ffee",  # of the code that trained the model, not of who promotes it
        "params.prune": json.dumps(stage_report("prune")["config"], sort_keys=True),
    }
    assert expected.items() <= version.tags.items()
    assert f"{measured['utility']['low']:.6g} reaches min_utility 0.8" in version.tags["reasons"]
    assert capsys.readouterr().err == ""


def test_the_decision_is_told_to_programs_and_to_people(
    delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    assert delivery.run() == 0
    assert list(delivery.decision) == [
        "verdict",
        "reasons",
        "model",
        "model_digest",
        "registered_name",
        "registered_version",
        "alias",
        "champion_before",
        "evaluation_digest",
        "run_id",
        "tracking_uri",
    ]
    lines = capsys.readouterr().out.splitlines()
    reasons = [line.removeprefix("  - ") for line in lines if line.startswith("  - ")]
    assert lines[:2] == ["", "promoted: fine_pruned"]
    assert reasons == delivery.decision["reasons"]
    assert lines[2 + len(reasons) :] == [
        "",
        "registry  digits version 1 is now champion, the first",
        f"report    {delivery.path}/evaluation/report.html",
        f"runs      mlflow ui --backend-store-uri {delivery.section['tracking_uri']}",
    ]
    page = (delivery.path / "decision" / "verdict.md").read_text()
    assert page.startswith("# promoted: fine_pruned\n\ndigits version 1 is now champion")
    utility = delivery.measured_row("fine_pruned")["utility"]
    assert "| utility | 0.9000 | {low:.4f} to {high:.4f} | 400 |".format(**utility) in page
    assert all(f"- {reason}" in page.splitlines() for reason in reasons)
    assert delivery.client.get_model_version("digits", "1").description == page
    assert delivery.client.get_run(delivery.decision["run_id"]).data.tags["mlflow.note.content"] == page


def test_the_registered_model_answers_like_the_network(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fineprune.models.format import load_model

    delivery.run()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(delivery.section["tracking_uri"])
    loaded = mlflow.pytorch.load_model("models:/digits@champion")
    inputs = torch.randint(0, 17, (5, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(loaded(inputs), load_model(delivery.path / "fine_pruned")(inputs))
    signature = mlflow.models.get_model_info("models:/digits@champion").signature
    assert [spec.shape[0] for spec in (*signature.inputs, *signature.outputs)] == [-1, -1]  # any batch size


def test_every_stage_is_a_nested_run(delivery: Delivery) -> None:
    delivery.run()
    client, parent = delivery.client, delivery.decision["run_id"]
    experiment = client.get_run(parent).info.experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"digits baseline seed 1", *REPORTS.values(), "promote"}
    assert all(run.info.status == "FINISHED" for run in runs.values())
    prune = runs["prune"]
    assert prune.data.tags["mlflow.parentRunId"] == parent
    assert prune.data.params == {"seed": "7", "trigger.size": "3", "trigger.places": "[1, 2]", "note": "null"}
    assert prune.data.metrics == {
        "accuracy _clean_": 0.9,
        "loss": 1.0,
        "seconds": 1.5,
        "peak_memory_bytes": 1000.0,
    }
    assert [(m.step, m.value) for m in client.get_metric_history(prune.info.run_id, "loss")] == [
        (0, 2.0),
        (1, 1.0),
    ]
    assert [file.path for file in client.list_artifacts(prune.info.run_id, "figures")] == [
        "figures/curve.png"
    ]
    assert {"report.html", "report.json"} <= {
        f.path for f in client.list_artifacts(runs["evaluate"].info.run_id)
    }
    assert {"decision.json", "summary.txt", "verdict.md"} == {
        f.path for f in client.list_artifacts(runs["promote"].info.run_id)
    }
    params = runs["digits baseline seed 1"].data.params  # beside each other, runs show what was changed
    assert params["prune.trigger.size"] == params["attack.trigger.size"] == "3"
    assert {name.partition(".")[0] for name in params} == {
        *("ingest", "attack", "profile", "prune", "finetune", "evaluate")
    }
    figures = runs["digits baseline seed 1"].data.metrics
    assert figures["fine_pruned.utility.low"] == pytest.approx(0.8655, abs=1e-4)
    assert figures["undefended.utility"] == pytest.approx(-0.03)
    assert not {"fine_pruned.utility.n", "undefended.utility.low"} & figures.keys()
    assert [output.model_id for output in client.get_run(parent).outputs.model_outputs]
    assert [model.source_run_id for model in client.search_logged_models([experiment])] == [parent]


def test_a_rerun_repeats_nothing(delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    delivery.run()
    client, run_id = delivery.client, delivery.decision["run_id"]
    runs = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert delivery.run() == 0
    assert (delivery.decision["run_id"], delivery.decision["registered_version"]) == (run_id, "1")
    assert delivery.decision["verdict"] == "promoted"
    assert delivery.decision["champion_before"] == "1"
    assert "digits version 1 is still champion" in capsys.readouterr().out
    version = client.get_model_version("digits", "1")  # says what it replaced
    assert "digits version 1 is now champion, the first" in version.description
    assert "There is no champion to beat." in version.tags["reasons"]
    assert len(client.search_model_versions("name = 'digits'")) == 1
    # The decision differs (there is a champion now), so it is a run of its own; the stages are not.
    assert len(client.search_runs([client.get_run(run_id).info.experiment_id])) == len(runs) + 1


@pytest.mark.parametrize("limit", [{"max_clean_loss": 0.02}, {"min_samples": 401}])
def test_every_threshold_is_the_one_that_was_asked_for(delivery: Delivery, limit: dict[str, float]) -> None:
    assert delivery.run("--fail-on-hold", **limit) == HELD
    (name,) = limit
    assert all(name in reason for reason in delivery.decision["reasons"])


def test_a_held_model_is_a_candidate_with_its_reasons(
    delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    assert delivery.run("--fail-on-hold", min_utility=0.99) == HELD
    assert delivery.run(min_utility=0.99) == 0
    version = delivery.client.get_model_version_by_alias("digits", "candidate")
    assert version.tags["verdict"] == "held"
    reason = "fine_pruned: the lower end of utility 0.865467 is below min_utility 0.99."
    assert version.tags["reasons"] == reason
    assert "champion" not in delivery.client.get_registered_model("digits").aliases
    assert "held: fine_pruned" in capsys.readouterr().out
    delivery.run()
    delivery.run(min_utility=0.99)
    told, name = (
        capsys.readouterr(),
        "digits version 1 is held now, but still champion from an earlier decision",
    )
    page = (delivery.path / "decision" / "verdict.md").read_text()
    for text in (told.err, told.out.replace("\n" + " " * 10, " "), page):
        assert name in text


def test_missing_figures_are_held_and_logged_all_the_same(delivery: Delivery) -> None:
    delivery.new_model(seed=2, models={"fine_pruned": {"utility": "good"}}, checks="none", series={})
    assert delivery.run("--fail-on-hold") == HELD
    assert len(delivery.decision["reasons"]) >= 5


def test_an_outer_run_becomes_the_parent_and_stays_open(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = delivery.client
    outer = client.create_run(
        client.create_experiment("outer", artifact_location=str(delivery.path / "outer"))
    )
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    delivery.run()
    assert delivery.decision["run_id"] == outer.info.run_id
    assert client.get_run(outer.info.run_id).info.status == "RUNNING"
    assert len(client.search_runs([outer.info.experiment_id])) == 1 + len(REPORTS) + 1


def test_the_owner_of_an_outer_run_keeps_the_description(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = delivery.client
    experiment = client.create_experiment("outer", str(delivery.path / "outer"))
    outer = client.create_run(experiment, tags={NOTE: "my own"})
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    for _ in range(2):
        delivery.run()
        assert client.get_run(outer.info.run_id).data.tags[NOTE] == "my own"


def test_a_decision_that_cannot_be_logged_is_told_all_the_same(
    delivery: Delivery, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise GoneError("MLflow: 503")

    monkeypatch.setattr(Tracker, "log", gone)  # which is asked for when the alias has moved
    assert delivery.run() == 0
    assert delivery.decision["verdict"] == "promoted"
    assert "is now champion" in capsys.readouterr().err
    assert delivery.client.get_model_version_by_alias("digits", "champion").version == 1


def test_a_server_that_is_gone_is_one_line_and_leaves_nothing(
    delivery: Delivery, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://someone:secret@127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert delivery.run() == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no answer from MLflow" in err
    assert "secret" not in err
    assert not (delivery.path / "decision").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert delivery.run() == 0


def test_an_evaluation_on_other_data_is_refused(
    delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    delivery.new_model(seed=0, dataset={"digest": "0" * 64})
    assert delivery.run() == 2
    assert "expected an evaluation on this dataset" in capsys.readouterr().err


def test_reports_of_two_runs_are_refused(delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    delivery.write_report("prune_report", outputs={"pruned": "e" * 64})
    assert delivery.run() == 2
    assert "prune_report/report.json: outputs.pruned: expected the pruned of the" in capsys.readouterr().err
    assert not (delivery.path / "decision").exists()


def test_a_model_that_is_replaced_while_it_is_read_is_not_promoted(
    delivery: Delivery, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(*_: Any) -> None:
        delivery.new_model(seed=5)  # whose evaluation is there too

    monkeypatch.setattr("fineprune.stages.promote.check_fits", replaced)
    assert delivery.run() == 2
    assert "as at the start, found" in capsys.readouterr().err
    assert not delivery.client.search_registered_models()


def test_a_report_that_is_none_is_refused(delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    (delivery.path / "prune_report" / "report.json").write_text("[1]")
    assert delivery.run() == 2
    assert "prune_report/report.json: expected a stage's report, found list" in capsys.readouterr().err


def test_a_malformed_series_is_one_line_and_logs_nothing(
    delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    delivery.write_report("prune_report", series={"loss": [1, 2]})
    assert delivery.run() == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "prune_report/report.json: series.loss[0]: expected [step, value], found 1" in err
    assert delivery.client.get_experiment_by_name("fineprune") is None


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "a:b", "it's", "net?v2", "net@prod", "two\nlines", "a\\", " ", "..", "a.promotion-lock"],
)
def test_a_name_that_mlflow_cannot_hold_is_refused(name: str, delivery: Delivery) -> None:
    with pytest.raises(ConfigError, match=r"registered_name: expected a name"):
        parse(PromoteConfig, delivery.section | {"registered_name": name}, "promote")


def test_the_kubeflow_run_is_a_tag_of_the_run_and_of_the_version(delivery: Delivery) -> None:
    assert delivery.run("--run-id", "0a1b") == 0
    version = delivery.client.get_model_version_by_alias("digits", "champion")
    run = delivery.client.get_run(delivery.decision["run_id"])
    assert version.tags["kubeflow.run_id"] == run.data.tags["kubeflow.run_id"] == "0a1b"
    assert version.tags["kubeflow.run_id.0a1b"] == "promoted"
    assert version.tags["kubeflow.run_id.0a1b.reasons"] == version.tags["reasons"]


def test_what_is_registered_is_the_model_that_was_asked_for(delivery: Delivery) -> None:
    from fineprune.models.format import load_model

    torch.manual_seed(9)
    other = build(NetworkSpec("digits_cnn", {"width": 4}, INPUT, CLASSES, (5.0,), (6.0,)))
    remove(delivery.path / "fine_tuned")
    save_model(delivery.path / "fine_tuned", other)
    delivery.measured |= {"fine_tuned": content_digest(delivery.path / "fine_tuned")}
    for port in STEPS:
        delivery.write_report(port, config={"of": port}, revision={"git.commit": port})
    report = evaluation_report(delivery.measured, 0.9)
    digest = {"digest": delivery.measured["fine_tuned"]}
    report["models"]["fine_tuned"] = report["models"]["fine_pruned"] | digest
    write_json(delivery.path / "evaluation" / "report.json", report)
    assert delivery.run(model="fine_tuned") == 0
    mlflow.set_tracking_uri(delivery.section["tracking_uri"])
    loaded = mlflow.pytorch.load_model("models:/digits@champion")
    inputs = torch.randint(0, 17, (5, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(loaded(inputs), load_model(delivery.path / "fine_tuned")(inputs))
    tags = delivery.client.get_model_version("digits", "1").tags
    assert tags["digest.model"] == digest["digest"]
    assert tags["git.commit"] == "fine_tuned_report"
    assert {name: tags[f"params.{name}"] for name in ("ingest", "attack", "finetune")} == {
        "ingest": '{"of": "ingest_report"}',
        "attack": '{"of": "attack_report"}',
        "finetune": '{"of": "fine_tuned_report"}',
    }


def test_the_fine_tuned_model_has_no_pruning_in_its_evidence(delivery: Delivery) -> None:
    report = json.loads((delivery.path / "evaluation" / "report.json").read_text())
    report["models"]["fine_tuned"] = report["models"]["fine_pruned"]
    write_json(delivery.path / "evaluation" / "report.json", report)
    assert delivery.run(model="fine_tuned") == 0
    tags = delivery.client.get_model_version_by_alias("digits", "champion").tags
    assert (tags["model"], "params.finetune" in tags, "params.prune" in tags) == ("fine_tuned", True, False)


def test_each_model_of_an_evaluation_has_a_run_of_its_own(delivery: Delivery) -> None:
    report = json.loads((delivery.path / "evaluation" / "report.json").read_text())
    report["models"]["fine_tuned"] = report["models"]["fine_pruned"]
    write_json(delivery.path / "evaluation" / "report.json", report)
    delivery.run()
    first = delivery.decision["run_id"]
    delivery.run(model="fine_tuned", min_utility=0.99)
    assert delivery.decision["run_id"] != first
    assert delivery.client.get_run(first).data.tags["verdict"] == "promoted"


def test_a_model_that_was_not_evaluated_is_not_registered(
    delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    card = delivery.path / "fine_pruned" / "model.json"
    write_json(card, json.loads(card.read_text()) | {"mean": [1.0]})
    assert delivery.run() == 2
    assert "fine_pruned: expected the model that was evaluated, digest " in capsys.readouterr().err
    assert delivery.client.search_registered_models() == []
