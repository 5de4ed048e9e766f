"""Networks for a dataset."""

from dataclasses import replace

import pytest
import torch

from fineprune.attacks.networks import ModelConfig, new_network
from fineprune.data.format import Dataset
from fineprune.errors import ConfigError, ModelError
from fineprune.models import ARCHITECTURES
from tests.unit.nets import write_halves


def test_a_network_for_another_task_is_refused(tmp_path):
    card = replace(Dataset(write_halves(tmp_path / "dataset")).card, task="detection")
    with pytest.raises(
        ModelError, match="digits_cnn: made for classification, found dataset halves with detec"
    ):
        new_network(ModelConfig("digits_cnn", {"width": 4}), card, torch.device("cpu"), seed=0)


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("digits_cnn", {"widht": 4}, "model digits_cnn.widht: unknown key; model digits_cnn.width: missing"),
        ("digits_cnn", {"width": 0}, "model digits_cnn.width: expected a value in [1, 1e+09], found 0"),
        ("alexnet", {}, f"model architecture: expected one of {', '.join(ARCHITECTURES)}, found 'alexnet'"),
    ],
)
def test_arguments_that_the_architecture_does_not_take_are_found_before_there_is_a_dataset(
    architecture, arguments, message
):
    with pytest.raises(ConfigError) as error:
        ModelConfig(architecture, arguments)
    assert str(error.value) == message
