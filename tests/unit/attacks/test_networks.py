"""Networks for a dataset."""

from dataclasses import replace

import pytest
import torch

from fineprune.attacks.networks import ModelConfig, new_network
from fineprune.data.format import Dataset
from fineprune.errors import ModelError
from tests.unit.nets import write_halves


def test_a_network_for_another_task_is_refused(tmp_path):
    card = replace(Dataset(write_halves(tmp_path / "dataset")).card, task="detection")
    with pytest.raises(
        ModelError, match="digits_cnn: made for classification, found dataset halves with detec"
    ):
        new_network(ModelConfig("digits_cnn", {"width": 4}), card, torch.device("cpu"), seed=0)
