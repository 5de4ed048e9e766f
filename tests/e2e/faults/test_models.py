"""Models that a stage refuses: damaged, planted, or of something else; a profile or an attack like that."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fineprune.digests import sha256
from fineprune.models.format import load_model
from tests.e2e.workspace import Workspace

from .refusals import Refused, edit

READ_A_MODEL = {
    "profile": "model",
    "prune": "model",
    "finetune": "model",
    "evaluate": "pruned",
    "promote": "fine_pruned",
}


def write_weights(folder: Path, content: bytes) -> None:
    """Replace a model's weights, with a digest that fits."""
    (folder / "model.safetensors").write_bytes(content)
    edit(folder / "model.json", sha256=sha256(folder / "model.safetensors"))


@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_every_stage_refuses_a_model_whose_digest_does_not_match(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    model = copied("finetune/fine_pruned/model")
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    expected = f"{weights}: digest mismatch: expected sha256 "
    refused(stage, expected, **{READ_A_MODEL[stage]: model})


@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_every_stage_refuses_nan_weights_even_with_a_digest_that_fits(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    model = copied("finetune/fine_pruned/model")
    weights = model / "model.safetensors"
    state = load_file(weights)
    state["conv2.weight"].view(-1)[3] = float("nan")
    save_file(state, weights)
    edit(model / "model.json", sha256=sha256(weights))
    refused(stage, f"{weights}: weights 'conv2.weight' hold NaN", **{READ_A_MODEL[stage]: model})


@pytest.mark.parametrize("stage", ["profile", "prune", "finetune"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda card: {"classes": card["classes"][::-1]}, "made for class 0 '9', found dataset "),
        (lambda card: {"input": card["input"] | {"high": 99}}, "made for image input of shape "),
    ],
    ids=["classes", "input"],
)
def test_every_stage_of_the_defender_refuses_a_model_for_another_dataset(
    refused: Refused,
    copied: Callable[[str], Path],
    stage: str,
    change: Callable[[Any], Mapping[str, Any]],
    expected: str,
) -> None:
    model = copied("finetune/fine_pruned/model")
    edit(model / "model.json", **change(json.loads((model / "model.json").read_text())))
    refused(stage, f"{model}: {expected}", model=model)


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_a_pickle_in_place_of_safetensors_is_never_opened(
    refused: Refused, copied: Callable[[str], Path], tmp_path: Path, stage: str, protocol: int
) -> None:
    model, mark = copied("finetune/fine_pruned/model"), tmp_path / "payload ran"
    write_weights(model, pickle.dumps(Payload(mark), protocol=protocol))
    expected = f"{model / 'model.safetensors'}: expected safetensors, found a pickle"
    refused(stage, expected, "never opened", **{READ_A_MODEL[stage]: model})
    assert not mark.exists()


def test_the_planted_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "payload ran")))
    assert (tmp_path / "payload ran").exists()


@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_a_layer_that_is_not_prunable_is_refused(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    model = copied("finetune/fine_pruned/model")
    edit(model / "model.json", prunable_layer="conv1")
    expected = f"{model / 'model.json'}: expected prunable_layer conv3 for digits_cnn, found conv1"
    refused(stage, expected, **{READ_A_MODEL[stage]: model})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "resnet999"}, "expected one of digits_cnn"),
        ({"arguments": {"width": 32, "depth": 3}}, "model digits_cnn"),
        ({"arguments": {"width": 16}}, "does not fit architecture digits_cnn"),
        ({"pruned": [1, 999]}, "pruned: expected some of channels 0…63 of conv3"),
        ({"mean": []}, "mean: expected one value for each of 1 channels, found 0"),
        ({"std": [0]}, "std: expected positive values, found 0"),
        ({"format": 2}, "expected format 1, found 2"),
        ({"surprise": True}, "card.surprise: unknown key"),
    ],
)
def test_a_model_card_that_does_not_fit_is_refused(
    refused: Refused, copied: Callable[[str], Path], changes: Mapping[str, Any], expected: str
) -> None:
    model = copied("attack/undefended")
    edit(model / "model.json", **changes)
    refused("finetune", expected, model=model)


def test_a_profile_of_another_model_is_refused(chain: Workspace, refused: Refused) -> None:
    profile = chain.ports("profile@control")["profile"]
    expected = f"{profile / 'profile.json'}: expected a profile of model "
    refused("prune", expected, profile=profile)


def test_a_trigger_that_was_changed_after_the_attack_is_refused(
    refused: Refused, copied: Callable[[str], Path]
) -> None:
    attack = copied("attack/attack")
    np.save(attack / "add.npy", np.zeros((1, 8, 8), np.float32))
    refused("evaluate", f"{attack / 'add.npy'}: digest mismatch", attack=attack)


def test_the_models_that_were_damaged_above_are_fine_as_they_are(chain: Workspace) -> None:
    for name in ("attack/undefended", "finetune/fine_pruned/model"):
        load_model(chain.path / "artifacts" / name)
