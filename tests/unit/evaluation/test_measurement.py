"""What the test bed measures beside the rates of test_metrics."""

import pytest
import torch

from fineprune.attacks.format import load_attack, save_attack
from fineprune.attacks.triggers import BlendTrigger, make_trigger
from fineprune.data.format import Dataset
from fineprune.evaluation.measurement import TestBed
from tests.unit.attacks.test_format import FIELDS
from tests.unit.nets import image, small_network, write_halves


@pytest.mark.parametrize("measure", ["post_relu", "post_pool"])
def test_activations_are_measured_as_the_profile_is_on_inputs_that_are_not_the_targets(tmp_path, measure):
    trigger = make_trigger(BlendTrigger("blend", 0.5, 3), image(1, 8, 8))
    save_attack(tmp_path / "attack", trigger, FIELDS)
    dataset = Dataset(write_halves(tmp_path / "dataset"))
    bed = TestBed(dataset, load_attack(tmp_path / "attack"), torch.device("cpu"), batch_size=3)
    network = small_network("digits_cnn")

    found = bed.activations(network, measure)

    others = [i for i in range(len(bed.samples)) if bed.labels[i] != FIELDS["labels"]["target"]]
    inputs = bed.samples.draw(torch.tensor(others)).inputs
    for name, shown in (("clean", inputs), ("triggered", trigger(inputs))):
        with torch.no_grad():
            active = network.features(shown)
            if measure == "post_pool":
                active = network.pooling()(active)
        assert found[name] == pytest.approx(active.mean((0, 2, 3)).tolist(), rel=1e-4, abs=1e-6), name
