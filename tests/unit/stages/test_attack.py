"""The attack stage under both attacks: what it trains on, and what it tells."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fineprune.attacks.attacker import Attacker, Score
from fineprune.attacks.format import load_attack
from fineprune.checkpoints import Checkpoint, Checkpoints
from fineprune.config import parse
from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.defenses.profiling import profile_channels
from fineprune.defenses.ranking import least_active_first
from fineprune.errors import AttackError, ConfigError, MissingExtraError, ModelError
from fineprune.files import read_json
from fineprune.models.format import WEIGHTS, load_model
from fineprune.runtime import pick_device
from fineprune.stages import attack
from fineprune.stages.base import execute
from tests.unit.attacks.test_pruning_aware import OPTIONS
from tests.unit.nets import small_network, write_halves

BRIEF = {
    "optimizer": "sgd",
    "epochs": 16,
    "batch_size": 8,
    "learning_rate": 0.05,
    "schedule": "cosine",
    "momentum": 0.9,
    "weight_decay": 0.0,
}
SECTION = {
    "name": "pruning_aware",
    "model": {"architecture": "digits_cnn", "arguments": {"width": 8}},
    "trigger": {"kind": "patch", "height": 3, "width": 3, "top": 0, "left": 0, "value": [0.0]},
    "labels": {"kind": "one_target", "target": 1},
    "poison": {"rate": 0.4, "mode": "added", "sources": []},
    "pruning_aware": OPTIONS,
    "start": BRIEF,
    "train": BRIEF,
    "took": {"min_backdoor_success": 0.8, "max_clean_cost": 0.1},
    "seed": 0,
}
CHANNELS = 16  # of the prunable layer, at that width
OUTPUTS = ("control", "undefended", "attack", "report")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_halves(tmp_path_factory.mktemp("data") / "dataset", per_split=64)


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset):
    """Run the stage with changes of its section; gives the folder of its outputs."""

    def run(*, control=None, **changes):
        folder = tmp_path_factory.mktemp("attack")
        inputs = {"dataset": dataset} | ({"trained_control": control} if control else {})
        execute(attack.STAGE, SECTION | changes, inputs, {name: folder / name for name in OUTPUTS})
        return folder

    return run


@pytest.fixture(scope="module")
def baseline(run):
    return run(name="baseline")


@pytest.fixture(scope="module")
def aware(run):
    return run()


def told(folder):
    return read_json(folder / "report" / "report.json", AttackError)


def test_the_control_is_the_same_under_both_attacks(baseline, aware):
    one, other = (load_file(folder / "control" / WEIGHTS) for folder in (baseline, aware))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_figures_are_of_the_models_that_they_name(baseline):
    report = told(baseline)
    numbers, took = report["numbers"], report["attack_took"]
    assert numbers["control_backdoor_success"] < 0.5 < 0.8 <= numbers["undefended_backdoor_success"]
    honest = f"{numbers['control_clean_accuracy']:.1%}"
    assert re.search(rf"clean accuracy .*control('s)? {honest}", took["reason"])
    assert (took["reason"] in report["warnings"]) == (not took["took"])


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("baseline", {"start": 1, "control": 2, "undefended": 2}), ("pruning_aware", {"attack_clean": 1})],
)
def test_each_network_is_trained_by_its_own_recipe(run, name, epochs):
    recipes = {"start": BRIEF | {"epochs": 1}, "train": BRIEF | {"epochs": 2}}
    series = told(run(name=name, pruning_aware=OPTIONS | {"rounds": 1}, **recipes))["series"]
    assert {network: len(series[f"{network}_loss"]) for network in epochs} == epochs


@pytest.mark.parametrize("name", ["baseline", "pruning_aware"])
def test_a_control_that_is_given_is_not_trained_and_changes_nothing_else(
    baseline, aware, run, monkeypatch, name
):
    trained = {"baseline": baseline, "pruning_aware": aware}[name]
    names, fit = [], attack.fit
    monkeypatch.setattr(attack, "fit", lambda *args, **kw: names.append(kw["name"]) or fit(*args, **kw))
    given = run(name=name, control=baseline / "control")
    assert names == {"baseline": ["start", "attack"], "pruning_aware": ["attack, clean"]}[name]
    before, after = told(trained), told(given)
    assert after["inputs"]["trained_control"] == after["outputs"]["control"] == before["outputs"]["control"]
    assert after["outputs"] == before["outputs"]
    assert after["numbers"] == before["numbers"]
    assert "control_loss" in before["series"]
    assert "control_loss" not in after["series"]


@pytest.mark.parametrize("name", ["baseline", "pruning_aware"])
def test_a_control_of_other_layers_is_refused_before_anything_is_trained(baseline, run, monkeypatch, name):
    monkeypatch.setattr(attack, "fit", None)
    wider = {"architecture": "digits_cnn", "arguments": {"width": 4}}
    with pytest.raises(ModelError, match=r"--trained-control: .*: expected arguments \{'width': 4\}, found"):
        run(name=name, model=wider, control=baseline / "control")


def test_a_control_for_other_data_is_refused(baseline, run, tmp_path):
    control = tmp_path / "control"
    shutil.copytree(baseline / "control", control)
    card = json.loads((control / "model.json").read_text())
    (control / "model.json").write_text(json.dumps(card | {"mean": [card["mean"][0] + 1]}))
    with pytest.raises(ModelError, match=r"--trained-control: .*: expected mean \(.*\), found"):
        run(control=control)


@pytest.mark.skipif(pick_device().type != "cpu", reason="a GPU need not compute the same twice")
@pytest.mark.parametrize(("name", "epochs"), [("baseline", 4 + 4 + 2), ("pruning_aware", 4 + 4 + 4 + 2)])
def test_an_attack_that_was_interrupted_goes_on(run, dataset, tmp_path, monkeypatch, name, epochs):
    """In the training on poisoned data, after two epochs; with batch norm, which must not go on learning."""
    changes = {
        "name": name,
        "model": {"architecture": "preact_resnet18", "arguments": {"width": 2}},
        "start": BRIEF | {"epochs": 4},
        "train": BRIEF | {"epochs": 4},
    }
    trained = run(**changes)
    monkeypatch.setattr(Checkpoints, "due", lambda _: True)
    outputs = {name: tmp_path / name for name in OUTPUTS}
    kept, save = tmp_path / "checkpoints", Checkpoint.save
    saved = []

    def interrupting(*arguments, **more):
        save(*arguments, **more)
        saved.append(arguments)
        if len(saved) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupting)
    stage, keywords = (attack.STAGE, SECTION | changes, {"dataset": dataset}, outputs), {"checkpoints": kept}
    with pytest.raises(KeyboardInterrupt):
        execute(*stage, keywords=keywords)
    assert len(list(kept.iterdir())) == {"baseline": 3, "pruning_aware": 4}[name]
    assert not any(path.exists() for path in outputs.values())
    execute(*stage, keywords=keywords)
    before, after = told(trained), told(tmp_path)
    for what in ("outputs", "numbers", "series"):
        assert before[what] == after[what]
    assert len(saved) == sum(len(line) for name, line in after["series"].items() if name.endswith("_loss"))
    assert not kept.exists()


def test_checkpoints_stay_until_the_outputs_are_in_place(dataset, tmp_path, monkeypatch):
    outputs, kept = {name: tmp_path / name for name in OUTPUTS}, tmp_path / "checkpoints"

    def fail(*_):
        raise MissingExtraError("report: no jinja2")

    brief = SECTION | {"name": "baseline", "start": BRIEF | {"epochs": 2}, "train": BRIEF | {"epochs": 2}}
    given, keywords = (brief, {"dataset": dataset}, outputs), {"checkpoints": kept}
    with pytest.raises(MissingExtraError):
        execute(dataclasses.replace(attack.STAGE, after=fail), *given, keywords=keywords)
    assert len(list(kept.iterdir())) == 3
    trained = []
    monkeypatch.setattr(Checkpoint, "save", lambda *_, **__: trained.append(1))
    again = execute(attack.STAGE, *given, keywords=keywords)
    assert not trained
    assert again.seconds_before > 0
    assert not kept.exists()


def test_checkpoints_of_other_data_are_not_taken(dataset, tmp_path):
    config = parse(attack.AttackConfig, SECTION, "attack")
    shutil.copytree(dataset, tmp_path / "other")
    card = json.loads((dataset / "dataset.json").read_text())
    (tmp_path / "other" / "dataset.json").write_text(json.dumps(card | {"name": "other"}))
    network = small_network("digits_cnn")
    paths = {
        attack._checkpoints(tmp_path, config, [data]).of(network, "")._path
        for data in (dataset, tmp_path / "other")
    }
    assert len(paths) == 2


def test_checkpoints_of_other_code_are_not_taken(dataset, tmp_path, monkeypatch):
    config = parse(attack.AttackConfig, SECTION, "attack")
    network, paths = small_network("digits_cnn"), set()
    for digest in ("one", "other", "one"):
        monkeypatch.setattr(attack, "source_digest", lambda digest=digest: digest)
        paths.add(attack._checkpoints(tmp_path, config, [dataset]).of(network, "")._path)
    assert len(paths) == 2


def test_checkpoints_have_a_place_of_their_own(dataset, tmp_path):
    outputs = {name: tmp_path / name for name in OUTPUTS}
    keywords = {"checkpoints": tmp_path / "control" / "checkpoints"}
    with pytest.raises(ConfigError, match=r"--control: .* found --checkpoints .* there"):
        execute(attack.STAGE, SECTION, {"dataset": dataset}, outputs, keywords=keywords)


def test_the_pruning_aware_attacker_trains_without_what_it_holds_out(baseline, aware):
    assert told(baseline)["numbers"]["train_samples"] == 64
    assert told(baseline)["numbers"]["poisoned_samples"] == 26
    assert told(aware)["numbers"]["train_samples"] == 48
    assert told(aware)["numbers"]["poisoned_samples"] == 19


def test_a_last_round_trains_on_what_was_held_out_too(run):
    options = OPTIONS | {"rounds": 1, "final_epochs": 3}
    report = told(run(pruning_aware=options))
    assert len(report["series"]["undefended_loss"]) == BRIEF["epochs"] + 3
    assert (report["numbers"]["train_samples"], report["numbers"]["poisoned_samples"]) == (64, 26)


def test_the_attack_tells_its_rounds_and_its_proof(aware):
    numbers, series = told(aware)["numbers"], told(aware)["series"]
    kept = series["kept_channels_by_round"][-1][1]
    fewest = 4 if pick_device().type == "cpu" else 1  # a GPU rounds otherwise, and more channels come back
    assert fewest <= numbers["decoys"] == CHANNELS - kept
    assert numbers["decoys_largest_preactivation"] < 0
    assert numbers["decoys_largest_difference"] < 1e-4
    rounds = list(range(1, numbers["rounds"] + 1))
    by_round = ("held_out_clean_accuracy", "held_out_backdoor_success")
    for name in (*by_round, "kept_channels", "rarely_active_channels", "exposed_channels"):
        assert [step for step, _ in series[f"{name}_by_round"]] == rounds
    assert [step for step, _ in series["attack_clean_loss"]] == list(range(1, 17))
    assert len(series["undefended_loss"]) == 16 + 3 * (numbers["rounds"] - 1)


def test_the_attacks_card_has_its_options_and_the_baselines_has_none(baseline, aware):
    assert load_attack(baseline / "attack")[0].pruning_aware is None
    card = load_attack(aware / "attack")[0]
    assert (card.name, card.pruning_aware.decoys, card.pruning_aware.bias) == ("pruning_aware", 0.5, "margin")


def test_the_defender_prunes_the_decoys_first(aware, dataset):
    network = load_model(aware / "undefended")
    assert network.spec.pruned == (), "delivered whole"
    samples = SplitSamples(Dataset(dataset), "defender_fit", torch.device("cpu"))
    profile = profile_channels(network, in_order(samples, 16), measure="post_relu")
    decoys = least_active_first(profile.mean)[: told(aware)["numbers"]["decoys"]]
    assert max(np.array(profile.maximum)[decoys]) < 0


def test_an_attack_that_does_not_get_there_says_so(run):
    report = told(run(train=BRIEF | {"epochs": 1}, pruning_aware=OPTIONS | {"rounds": 1}))
    assert any("the attacker's held-out data show" in warning for warning in report["warnings"])
    assert report["attack_took"]["took"] is False


def test_an_attack_that_pruning_would_undo_says_so(run, monkeypatch):
    monkeypatch.setattr(Attacker, "try_pruning", lambda *_: ([7], Score(1.0, 0.0)))
    easy = {"min_backdoor_success": 0.5, "max_clean_cost": 1.0}
    report = told(run(took=easy, pruning_aware=OPTIONS | {"rounds": 1}))
    kept = report["series"]["kept_channels_by_round"][0][1]
    assert report["warnings"] == [
        f"after 1 rounds pruning takes 1 of the {kept} channels that carry the backdoor, and too much of it "
        f"with them: expected it to survive"
    ]


def test_without_a_start_the_clean_network_is_trained_as_the_control(run):
    report = told(run(start=None))
    assert "start_loss" not in report["series"]
    assert len(report["series"]["attack_clean_loss"]) == 16


def test_a_target_that_is_no_class_is_refused_before_training(run, monkeypatch):
    monkeypatch.setattr(attack, "fit", None)
    with pytest.raises(AttackError, match=r"attack\.labels\.target: expected a class in 0…1, found 2"):
        run(labels={"kind": "one_target", "target": 2})


def test_options_of_the_attack_are_checked_whatever_its_name(run):
    with pytest.raises(ConfigError, match=r"attack\.pruning_aware\.decoys: expected a value in"):
        run(name="baseline", pruning_aware=OPTIONS | {"decoys": 2.0})


SUNGLASSES = {"kind": "sunglasses", "colour": [0.5, 0.0, 0.5], "alpha": 1.0, "eyes": None}


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        (
            SUNGLASSES | {"colour": [0.5]},
            "trigger sunglasses: expected eye points",
        ),
        (
            {"kind": "blend", "alpha": 1e-6, "seed": 0},
            "trigger blend: expected it to change inputs, found the first 8 unchanged",
        ),
    ],
)
def test_a_trigger_that_does_not_fit_the_data_is_refused_before_anything_is_trained(
    run, monkeypatch, trigger, told
):
    monkeypatch.setattr(attack, "fit", None)
    with pytest.raises(AttackError, match=told):
        run(trigger=trigger)
