"""What the test bed measures beside the rates of test_metrics."""

import numpy as np
import pytest
import torch

from fineprune.attacks.format import load_attack, save_attack
from fineprune.attacks.post_it import FixedCentre, PostItConfig
from fineprune.attacks.triggers import BlendConfig, PatchConfig, make_trigger
from fineprune.config import to_plain
from fineprune.data.format import SPLITS, Dataset, write_dataset
from fineprune.evaluation.average_precision import Detected
from fineprune.evaluation.intervals import wilson
from fineprune.evaluation.measurement import Predictions, TestBed
from fineprune.evaluation.metrics import measure
from fineprune.models.base import NOT_FINITE
from fineprune.models.surgery import remove_channels
from tests.unit.attacks.test_format import FIELDS
from tests.unit.evaluation.test_checks import metrics
from tests.unit.nets import image, small_network, write_halves


@pytest.mark.parametrize("averaged", ["post_relu", "post_pool"])
def test_activations_are_measured_as_the_profile_is_on_inputs_that_are_not_the_targets(tmp_path, averaged):
    trigger = make_trigger(BlendConfig("blend", 0.5, 3), image(1, 8, 8))
    save_attack(tmp_path / "attack", trigger, FIELDS)
    dataset = Dataset(write_halves(tmp_path / "dataset"))
    bed = TestBed(dataset, load_attack(tmp_path / "attack"), torch.device("cpu"), batch_size=3)
    network = small_network("digits_cnn")

    found = bed.activations(network, averaged)

    others = [i for i in range(len(bed.samples)) if bed.labels[i] != FIELDS["labels"]["target"]]
    inputs = bed.samples.draw(torch.tensor(others)).inputs
    for name, shown in (("clean", inputs), ("triggered", trigger(inputs))):
        with torch.no_grad():
            active = network.features(shown)
            if averaged == "post_pool":
                active = network.pooling()(active)
        assert found[name] == pytest.approx(active.mean((0, 2, 3)).tolist(), rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
    ("labels", "sources"),
    [({"kind": "one_target", "target": 1}, []), ({"kind": "random_wrong"}, []), ({"kind": "shift"}, [0])],
)
def test_every_point_of_the_curve_is_what_is_measured_after_surgery(tmp_path, monkeypatch, labels, sources):
    monkeypatch.setattr("fineprune.runtime.fast_bf16", lambda device: True)  # which neither goes by
    trigger = make_trigger(BlendConfig("blend", 0.3, 3), image(1, 8, 8))
    poison = FIELDS["poison"] | {"sources": sources}
    save_attack(tmp_path / "attack", trigger, FIELDS | {"labels": labels, "poison": poison})
    dataset = Dataset(write_halves(tmp_path / "dataset", per_split=40))
    bed = TestBed(dataset, load_attack(tmp_path / "attack"), torch.device("cpu"), batch_size=16)
    network = small_network("digits_cnn", seed=2)
    order = list(range(len(network.channels)))

    curve = bed.curve(network, order)

    points = [network, *(remove_channels(network, order[:pruned]) for pruned in range(1, len(order)))]
    for pruned, smaller in enumerate(points):
        metrics = measure(bed.outcomes(bed.predict(smaller)), before=None)
        for name in ("clean accuracy", "backdoor success", "robust accuracy"):
            expected = getattr(metrics, name.replace(" ", "_")).value
            assert curve[name][pruned] == pytest.approx(expected), (name, pruned)
    assert len(set(curve["backdoor success"])) > 3, "a flat curve would prove nothing"


def bed_of_signs(path, labels, groups):
    """Two images a split, all signs of them in one place."""
    spec, boxes = image(3, 32, 32), np.tile([4.0, 6.0, 20.0, 24.0], (*labels.shape, 1))
    card = {
        "name": "signs",
        "task": "detection",
        "places": "boxes",
        "input": spec,
        "classes": ["stop", "yield"],
        "group": "scene",
        "splits": {name: np.arange(2) + 2 * number for number, name in enumerate(SPLITS)},
        "origin": {"source": "made for a test"},
        "licence": "none",
    }
    write_dataset(path / "dataset", np.zeros((8, *spec.shape), np.uint8), labels, groups, card, places=boxes)
    config = PostItConfig("post_it", 0.5, (1.0,), FixedCentre("fixed", 0.5, 0.5))
    fields = FIELDS | {"trigger": to_plain(config), "labels": {"kind": "random_wrong"}}
    save_attack(path / "attack", make_trigger(config, spec), fields)
    dataset = Dataset(path / "dataset")
    return TestBed(dataset, load_attack(path / "attack"), torch.device("cpu"), batch_size=2), boxes


def test_average_precision_is_of_what_is_found_without_the_trigger(tmp_path):
    labels = np.arange(8)[:, None] % 2
    bed, boxes = bed_of_signs(tmp_path, labels, np.arange(8) // 2)  # both test images are of one scene
    true, false = labels[:2], 1 - labels[:2]
    right, wrong = (Detected(boxes[:2], np.full((2, 1), 0.9), classes) for classes in (true, false))

    def precision(clean, triggered):
        said = Predictions(true[:, 0], false[:, 0], clean, triggered)
        return bed.average_precision(said).mean

    assert precision(clean=right, triggered=wrong).value == 1.0
    assert precision(clean=wrong, triggered=right).value == 0.0
    assert precision(clean=right, triggered=wrong).low == pytest.approx(wilson(1, 1).low)


def test_each_object_is_of_the_group_of_its_image(tmp_path):
    labels = np.tile([[0, 1, -1], [-1, 1, 0]], (4, 1))
    bed, _ = bed_of_signs(tmp_path, labels, 10 + np.arange(8))
    first, second = 10 + bed.samples.rows
    assert bed.truth.groups.tolist() == [first, first, second, second]


def bed_of_pixels(path, *, took=FIELDS["took"]):
    """Eight test images, of which 0, 2, 4, 6 are not the target's; the trigger turns one pixel white."""
    inputs = np.zeros((32, 1, 8, 8), np.uint8)
    inputs[[24, 25, 27, 29, 31], 0, 0, 0] = 255  # one that is attacked has it already, and all that are not
    card = {
        "name": "pixels",
        "input": image(1, 8, 8),
        "classes": ["other", "target"],
        "group": "sample",
        "splits": {name: np.arange(8) + 8 * number for number, name in enumerate(SPLITS)},
        "origin": {"source": "made for a test"},
        "licence": "none",
    }
    write_dataset(path / "dataset", inputs, np.arange(32) % 2, np.arange(32), card)
    config = PatchConfig("patch", 1, 1, 0, 0, (1.0,))
    fields = FIELDS | {"trigger": to_plain(config), "took": took}
    save_attack(path / "attack", make_trigger(config, card["input"]), fields)
    return TestBed(Dataset(path / "dataset"), load_attack(path / "attack"), torch.device("cpu"), batch_size=3)


def test_what_the_trigger_leaves_as_it_is_is_a_share_of_what_is_attacked(tmp_path):
    assert bed_of_pixels(tmp_path).unchanged() == 1 / 4


@pytest.mark.parametrize(
    ("took", "fault"),
    [
        ({"min_backdoor_success": 0.9, "max_clean_cost": 0.02}, None),
        ({"min_backdoor_success": 0.96, "max_clean_cost": 0.02}, "95.0%, below min_backdoor_success 96.0%"),
        ({"min_backdoor_success": 0.9, "max_clean_cost": 0.005}, "above max_clean_cost 0.5%"),
    ],
)
def test_an_attack_takes_by_its_own_limits(tmp_path, took, fault):
    undefended, control = metrics(0.94, 0.95), metrics(0.95, 0.02)
    found = bed_of_pixels(tmp_path, took=took).took(undefended=undefended, control=control)
    assert found["took"] is (fault is None)
    assert (fault or "The attack took") in found["reason"]


def test_an_output_that_is_no_number_is_one_with_the_trigger_too():
    fine, broken = np.array([0, 1]), np.array([0, NOT_FINITE])
    assert Predictions(fine, fine).finite
    assert not Predictions(fine, broken).finite
    assert not Predictions(broken, fine).finite
