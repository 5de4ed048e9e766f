"""The defender's stages see neither the attacker's training data nor the test split, and no more at a time
than they may.
"""

import numpy as np
import pytest
from numpy.random import default_rng

from fineprune.data.batches import SplitSamples
from fineprune.data.format import SPLITS, write_dataset
from fineprune.models.format import WEIGHTS, save_model
from fineprune.stages.base import execute
from fineprune.stages.finetune import STAGE as FINETUNE
from fineprune.stages.profile import STAGE as PROFILE
from fineprune.stages.prune import STAGE as PRUNE
from tests.unit.nets import small_network

SECTIONS = {
    "profile": {"measure": "post_relu", "batch_size": 16},
    "prune": {"tolerance": 0.05, "batch_size": 16},
    "finetune": {
        "recipe": {
            "optimizer": "sgd",
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 0.01,
            "schedule": "constant",
            "momentum": 0.9,
            "weight_decay": 0.0,
        },
        "stop": {"min_epochs": 1, "patience": 1},
        "seed": 0,
    },
}
HIDDEN = ("train", "test")


def defend(folder, network, *, noise_in):
    """Bytes of the profile and of the weights after each stage; the named splits hold other inputs."""
    spec = network.spec
    rows = dict(zip(SPLITS, np.arange(96).reshape(4, 24), strict=True))
    images = default_rng(0).integers(0, 256, (96, *spec.input.shape)).astype(np.uint8)
    for split in noise_in:
        images[rows[split]] = default_rng(1).integers(0, 256, (24, *spec.input.shape))
    card = {"name": "blind", "input": spec.input, "classes": spec.classes, "group": "sample"}
    card |= {"splits": rows, "origin": {}, "licence": ""}
    write_dataset(folder / "dataset", images, np.arange(96) % len(spec.classes), np.arange(96), card)
    save_model(folder / "model", network)
    run = {name: folder / name for name in ("dataset", "model", "profile", "pruned", "tuned")}
    for stage, reads, writes in (
        (PROFILE, ("dataset", "model"), "profile"),
        (PRUNE, ("dataset", "model", "profile"), "pruned"),
    ):
        outputs = {writes: run[writes], "report": folder / f"{stage.name}-report"}
        execute(stage, SECTIONS[stage.name], {name: run[name] for name in reads}, outputs)
    inputs = {"dataset": run["dataset"], "model": run["pruned"]}
    outputs = {"tuned": run["tuned"], "report": folder / "finetune-report"}
    execute(FINETUNE, SECTIONS["finetune"], inputs, outputs)
    return [
        (folder / "profile" / "profile.json").read_bytes(),
        (folder / "pruned" / WEIGHTS).read_bytes(),
        (folder / "tuned" / WEIGHTS).read_bytes(),
    ]


@pytest.fixture
def network():
    return small_network("digits_cnn")


def test_other_train_and_test_inputs_change_nothing(tmp_path, network):
    seen = defend(tmp_path / "one", network, noise_in=())
    assert defend(tmp_path / "two", network, noise_in=HIDDEN) == seen


def test_other_inputs_to_fit_change_every_stage(tmp_path, network):
    seen = defend(tmp_path / "one", network, noise_in=())
    changed = defend(tmp_path / "two", network, noise_in=("defender_fit",))
    assert [other == one for other, one in zip(changed, seen, strict=True)] == [False, False, False]


def test_other_inputs_held_out_change_the_epoch_that_is_kept_and_nothing_before(tmp_path, network):
    seen = defend(tmp_path / "one", network, noise_in=())
    changed = defend(tmp_path / "two", network, noise_in=("defender_holdout",))
    assert [other == one for other, one in zip(changed, seen, strict=True)] == [True, True, False]


def test_no_more_inputs_are_in_memory_at_a_time_than_the_batch_size(tmp_path, network, monkeypatch):
    sizes, draw = [], SplitSamples.draw

    def recorded(samples, positions):
        sizes.append(len(positions))
        return draw(samples, positions)

    monkeypatch.setattr(SplitSamples, "draw", recorded)
    defend(tmp_path, network, noise_in=())
    assert max(sizes) == 16
