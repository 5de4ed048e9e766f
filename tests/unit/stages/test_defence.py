"""profile, prune and finetune: what their reports say is true of the models that they write."""

import html

import pytest
import torch

from fineprune.attacks.networks import ModelConfig, new_network
from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.defenses.profiling import load_profile
from fineprune.defenses.ranking import least_active_first
from fineprune.defenses.stop_rule import stop_point
from fineprune.errors import DataError
from fineprune.files import read_json
from fineprune.inference import loss_and_accuracy, predict
from fineprune.models.format import load_model, model_digest, save_model
from fineprune.stages import prune
from fineprune.stages.base import execute
from fineprune.stages.finetune import STAGE as FINETUNE
from fineprune.stages.profile import STAGE as PROFILE
from fineprune.stages.prune import STAGE as PRUNE
from fineprune.training import train
from tests.unit.nets import RECIPE, InMemory, halves, write_halves
from tests.unit.stages.test_blindness import SECTIONS

CPU = torch.device("cpu")


@pytest.fixture
def given(tmp_path):
    """A dataset, and a network with two channels that never fire."""
    dataset = Dataset(write_halves(tmp_path / "dataset", per_split=24))
    network = new_network(ModelConfig("digits_cnn", {"width": 4}), dataset.card, CPU, seed=1)
    list(train(network, InMemory(*halves(64)), RECIPE, seed=0))
    network.conv3.bias.data[[2, 5]] = -1e6
    save_model(tmp_path / "model", network)
    return tmp_path, dataset


def told(stage, folder, reads, writes, **changes):
    """The report of a stage that was run on what lies in the folder."""
    inputs = {name: folder / name for name in reads}
    outputs = {writes: folder / writes, "report": folder / f"{stage.name}-report"}
    execute(stage, SECTIONS[stage.name] | changes, inputs, outputs)
    return read_json(folder / f"{stage.name}-report" / "report.json", DataError)


def test_the_report_of_prune_tells_of_the_network_that_it_writes(given):
    folder, dataset = given
    numbers = told(PROFILE, folder, ("dataset", "model"), "profile")["numbers"]
    assert (numbers["channels"], numbers["dormant_channels"]) == (8, 2)
    digest = model_digest(folder / "model")
    profile = load_profile(folder / "profile", network=load_model(folder / "model"), model=digest)
    report = told(PRUNE, folder, ("dataset", "model", "profile"), "pruned", tolerance=0.1)
    numbers, pruned = report["numbers"], load_model(folder / "pruned")
    assert sorted(pruned.spec.pruned) == sorted(report["order"][: numbers["channels_pruned"]])
    clean = SplitSamples(dataset, "defender_fit", CPU)
    right = predict(pruned, in_order(clean, 16)) == clean.labels
    assert numbers["accuracy_pruned"] == pytest.approx(right.double().mean().item())
    assert report["order"] == [profile.channels[i] for i in least_active_first(profile.mean)]
    whole = predict(load_model(folder / "model"), in_order(clean, 16)) == clean.labels
    assert numbers["accuracy_unpruned"] == pytest.approx(whole.double().mean().item())


@pytest.mark.parametrize("measure", ["post_relu", "post_pool"])
def test_the_profile_is_of_the_measure_that_was_asked_for(given, measure):
    folder, _ = given
    told(PROFILE, folder, ("dataset", "model"), "profile", measure=measure)
    assert read_json(folder / "profile" / "profile.json", DataError)["measure"] == measure


def test_every_stage_has_a_page_with_its_numbers_warnings_and_pictures(given, capsys):
    folder, _ = given
    told(PROFILE, folder, ("dataset", "model"), "profile")
    report = told(PRUNE, folder, ("dataset", "model", "profile"), "pruned", tolerance=1.0)
    page = (folder / "prune-report" / "page.html").read_text()
    for text in (*report["numbers"], *report["warnings"]):
        assert html.escape(text.replace("_", " "), quote=False) in html.unescape(page), text
    assert page.count("<img ") == 1
    assert f"<li>model: {'/'.join((folder / 'model').parts[-3:])}</li>" in page
    summary = "prune: 7 of 8 channels removed, clean accuracy on the defender's data "
    assert summary in capsys.readouterr().out


def test_a_rule_that_is_never_violated_is_warned_of(given):
    folder, _ = given
    told(PROFILE, folder, ("dataset", "model"), "profile")
    report = told(PRUNE, folder, ("dataset", "model", "profile"), "pruned", tolerance=1.0)
    assert report["numbers"]["channels_pruned"] == 7
    assert ["the stop rule was never violated" in warning for warning in report["warnings"]] == [True]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.9, 0.9], "the stop rule was never violated: with one channel left"),  # which has to stay
        ([0.9, 0.8, 0.1], "nothing was pruned: the first channel already costs more"),
    ],
)
def test_what_is_said_where_nothing_is_pruned(accuracies, said):
    (warning,) = prune._warnings(stop_point(accuracies, 0.04), 0.04)
    assert warning.startswith(said)


def test_the_report_of_finetune_tells_of_the_epoch_that_it_kept(given):
    folder, dataset = given
    stop = {"min_epochs": 1, "patience": 9}
    recipe = SECTIONS["finetune"]["recipe"] | {"epochs": 3}
    report = told(FINETUNE, folder, ("dataset", "model"), "tuned", recipe=recipe, stop=stop)
    numbers, series = report["numbers"], report["series"]
    holdout = SplitSamples(dataset, "defender_holdout", CPU)
    loss, accuracy = loss_and_accuracy(load_model(folder / "tuned"), in_order(holdout, 8))
    assert numbers["best_epoch"] > 1, "else the first would do"
    assert (numbers["holdout_loss"], numbers["holdout_accuracy"]) == pytest.approx((loss, accuracy), rel=1e-4)
    assert series["holdout_loss"][numbers["best_epoch"] - 1][1] == numbers["holdout_loss"]
    assert series["train_loss"] != series["holdout_loss"]


def test_another_seed_fine_tunes_to_another_network(given):
    folder, _ = given
    digests = set()
    for seed in (0, 1, 0):
        told(FINETUNE, folder, ("dataset", "model"), "tuned", seed=seed)
        digests.add(model_digest(folder / "tuned"))
    assert len(digests) == 2
