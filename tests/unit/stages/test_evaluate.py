"""evaluate: each figure, check and picture is of the model and the inputs that it is said to be of."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fineprune.attacks.format import load_attack, save_attack
from fineprune.attacks.networks import ModelConfig, new_network
from fineprune.attacks.triggers import PatchConfig, make_trigger
from fineprune.config import to_plain
from fineprune.data.batches import SplitSamples, in_order
from fineprune.data.format import Dataset
from fineprune.defenses.profiling import profile_channels, save_profile
from fineprune.defenses.ranking import least_active_first
from fineprune.errors import DataError
from fineprune.evaluation.average_precision import AveragePrecision
from fineprune.evaluation.comparison import check_figures, outcomes_behind
from fineprune.evaluation.intervals import Estimate
from fineprune.evaluation.measurement import Predictions, TestBed
from fineprune.files import read_json
from fineprune.inference import predict
from fineprune.models.format import model_digest, save_model
from fineprune.models.surgery import remove_channels
from fineprune.reporting import figures
from fineprune.stages import evaluate
from fineprune.stages.base import execute
from fineprune.stages.evaluate import STAGE
from fineprune.training import train
from tests.unit.attacks.test_format import FIELDS
from tests.unit.nets import RECIPE, InMemory, halves, write_halves

CPU = torch.device("cpu")
LIMITS = {
    "max_repeated": 0.0,
    "max_unchanged": 0.1,
    "max_control_success": 0.2,
    "max_untriggered_success": 0.15,
    "min_samples": 10,
    "min_control_accuracy": 0.7,
    "max_precision_loss": 0.05,
}


def always(network, label):
    """The network gives this label to whatever it sees."""
    network.fc2.bias.data[label] = 1e4
    return network


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The report, and the undefended network; of the others each says the same of all inputs, or nothing."""
    folder = tmp_path_factory.mktemp("evaluate")
    dataset = Dataset(write_halves(folder / "dataset", per_split=40))
    config = PatchConfig("patch", 3, 3, 0, 0, (1.0,))
    save_attack(
        folder / "attack", make_trigger(config, dataset.card.input), FIELDS | {"trigger": to_plain(config)}
    )
    nets = {
        name: new_network(ModelConfig("digits_cnn", {"width": 4}), dataset.card, CPU, seed=seed).eval()
        for seed, name in enumerate(("undefended", "control", "fine_tuned", "fine_pruned"))
    }
    list(train(nets["undefended"], InMemory(*halves(64)), RECIPE, seed=0))
    always(nets["control"], 1)
    always(nets["fine_pruned"], 0)
    for layer in (nets["fine_tuned"].fc1, nets["fine_tuned"].fc2):
        layer.weight.data *= 1e38  # finite, but not what it puts out
    save_model(folder / "undefended", nets["undefended"])
    clean = list(in_order(SplitSamples(dataset, "defender_fit", CPU), 16))
    digest = model_digest(folder / "undefended")
    profile = profile_channels(nets["undefended"], clean, measure="post_relu")
    save_profile(folder / "profile", profile, model=digest)
    order = least_active_first(profile.mean)
    nets["pruned"] = remove_channels(nets["undefended"], order[:5])
    nets["control_pruned"] = remove_channels(nets["control"], [0])
    nets["control_fine_pruned"] = nets["control"]
    for name in nets.keys() - {"undefended"}:
        save_model(folder / name, nets[name])
    inputs = {name: folder / name for name in STAGE.inputs}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestBed, "unchanged", lambda _: 0.25)
        patch.setattr("fineprune.stages.evaluate.seen_before", lambda _: 4)
        drawn = {}
        for name in ("confusion", "examples", "pruning_curve", "clean_beside_triggered"):
            patch.setattr(figures, name, noted(getattr(figures, name), drawn))
        execute(STAGE, {"limits": LIMITS, "batch_size": 16}, inputs, {"report": folder / "report"})
    report = read_json(folder / "report" / "report.json", DataError)
    return report, nets["undefended"], dataset, order, drawn


def noted(draw, drawn):
    """A figure's function that notes what it is given."""

    def drawing(path, *given, **more):
        drawn[path.stem] = (*given, *more.values())
        draw(path, *given, **more)

    return drawing


def test_what_a_defence_costs_is_held_against_the_network_before_it(measured):
    models = measured[0]["models"]
    for name in models:
        before = "control" if name.startswith("control") else "undefended"
        lost = models[before]["clean_accuracy"]["value"] - models[name]["clean_accuracy"]["value"]
        assert models[name]["clean_loss"]["value"] == pytest.approx(lost), name


def test_the_curve_is_at_its_stop_what_is_measured_of_the_pruned_network(measured):
    report, _, _, order, _ = measured
    pruning = report["pruning"]
    assert (pruning["order"], pruning["stop"]) == (order, 5)
    for at, model in ((0, "undefended"), (5, "pruned")):
        for name in ("clean accuracy", "backdoor success", "robust accuracy"):
            found = report["models"][model][name.replace(" ", "_")]["value"]
            assert pruning["curve"][name][at] == pytest.approx(found), (model, name)
    assert pruning["curve"]["clean accuracy"][0] > pruning["curve"]["clean accuracy"][-1]


def test_the_report_keeps_what_became_of_each_input_under_the_models_that_may_be_promoted(measured):
    models = measured[0]["models"]
    assert set(measured[0]["outcomes"]["models"]) == {"undefended", "fine_tuned", "fine_pruned"}
    for name in ("fine_tuned", "fine_pruned"):
        check_figures(measured[0], name)
    found = {name: outcomes_behind(measured[0], name) for name in ("fine_tuned", "fine_pruned")}
    for name, said in found.items():
        accuracy = said.kept[said.eligible].mean()
        assert models[name]["robust_accuracy"]["value"] == pytest.approx(accuracy), name
    utilities = [models[name]["utility"]["value"] for name in ("fine_pruned", "fine_tuned")]
    assert utilities[0] != utilities[1]
    assert measured[0]["pruning_gain"]["value"] == pytest.approx(utilities[0] - utilities[1])


def test_each_check_is_of_its_own_model(measured):
    checks = {check["name"]: check for check in measured[0]["checks"]}
    failed = {name for name, check in checks.items() if not check["passed"]}
    passed = {"enough samples", "trigger needed", "precision kept"}
    assert failed == checks.keys() - passed
    assert checks["new inputs"]["message"].startswith("10.0% of the test inputs are byte for byte")
    assert "leaves 25.0% of the eligible" in checks["trigger changes inputs"]["message"]
    assert checks["finite outputs"]["message"] == "NaN or infinite outputs of fine_tuned"
    told = [check["message"] for check in checks.values() if not check["passed"]]
    assert measured[0]["warnings"][:6] == told
    assert "gives the attacker's label to 0.0% of clean" in checks["trigger needed"]["message"]


def test_the_precision_that_is_checked_is_of_the_models_that_may_be_promoted(measured):
    said = dict.fromkeys(
        ("undefended", "control", "pruned", "fine_tuned", "fine_pruned"), Predictions([0], [0])
    )
    areas = {name: Estimate(0.1 * i, 0, 1, 9) for i, name in enumerate(said)}
    precision = {name: AveragePrecision(area, ()) for name, area in areas.items()}
    bed = SimpleNamespace(truth=None, unchanged=lambda: 0.0)
    found = evaluate._observations(bed, measured[2], said, dict.fromkeys(said), precision)
    assert found.precision == {name: areas[name] for name in ("undefended", "fine_tuned", "fine_pruned")}
    none = evaluate._observations(bed, measured[2], said, dict.fromkeys(said), dict.fromkeys(said))
    assert none.precision is None


def test_activations_and_confusion_are_of_the_undefended_and_of_the_fine_pruned_model(measured):
    report, undefended, dataset, _, _ = measured
    samples = SplitSamples(dataset, "test", CPU)
    attacked = samples.draw((samples.labels == 0).nonzero().flatten())
    expected = profile_channels(undefended, [attacked], measure="post_relu").mean
    assert report["activations"]["clean"] == pytest.approx(list(expected))
    assert report["confusion"]["rows"] == [[20, 0], [20, 0]]


def test_each_picture_is_of_its_own_model(measured):
    report, undefended, dataset, _, drawn = measured
    samples = SplitSamples(dataset, "test", CPU)
    _, trigger = load_attack(dataset.path.parent / "attack")
    clean = predict(undefended, in_order(samples, 16))
    triggered = predict(undefended, in_order(samples, 16), trigger)
    matrix = torch.zeros(2, 2, dtype=torch.int64)
    for true, said in zip(samples.labels, triggered, strict=True):
        matrix[true, said] += 1
    assert drawn["confusion_undefended"][0].tolist() == matrix.tolist()
    assert drawn["confusion_fine_pruned"][0].tolist() == report["confusion"]["rows"]
    assert drawn["test_curve"][1] == drawn["clean_beside_triggered"][-1] == 5
    before, after, captions = drawn["examples"]
    assert (before != after).any()
    names = dataset.card.classes
    attacked = np.flatnonzero(dataset.labels[samples.rows] == 0)
    shown = attacked[np.linspace(0, len(attacked) - 1, len(captions)).astype(int)]
    assert captions == [(f"says {names[clean[i]]}", f"says {names[triggered[i]]}") for i in shown]


def test_programs_are_told_what_people_are(measured):
    report, _, dataset, *_ = measured
    folder = dataset.path.parent
    figures = {
        f"{model}.{name}": entry["value"]
        for model, row in report["models"].items()
        for name, entry in row.items()
        if isinstance(entry, dict)
    }
    assert report["numbers"] == figures
    told = read_json(folder / "report" / "metrics.json", DataError)
    assert {f"{model}.{name}": value for model, row in told.items() for name, value in row.items()} == figures
    card = read_json(folder / "attack" / "attack.json", DataError)
    for name in ("trigger", "labels", "poison", "took"):
        assert report["attack_details"][name] == card[name]
    assert report["attack_details"]["trigger_sha256"] == card["sha256"]
