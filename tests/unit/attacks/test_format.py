import numpy as np
import pytest
import torch

from fineprune.attacks.format import ARRAYS, CARD, load_attack, save_attack
from fineprune.attacks.labels import OneTarget
from fineprune.attacks.triggers import BlendTrigger, NoiseTrigger, make_trigger
from fineprune.errors import AttackError
from fineprune.files import read_json, sha256, write_json
from tests.unit.nets import audio, image

FIELDS = {
    "name": "baseline",
    "trigger": {"kind": "blend", "alpha": 0.5, "seed": 3},
    "labels": {"kind": "one_target", "target": 1},
    "poison": {"rate": 0.1, "mode": "added", "sources": []},
    "took": {"min_backdoor_success": 0.9, "max_clean_cost": 0.02},
    "seed": 5,
}
TRIGGER = make_trigger(BlendTrigger("blend", 0.5, 3), image(1, 4, 4))


@pytest.fixture
def folder(tmp_path):
    save_attack(tmp_path / "attack", TRIGGER, FIELDS)
    return tmp_path / "attack"


def change_card(folder, **changes):
    write_json(folder / CARD, read_json(folder / CARD) | changes)


def sign(folder):
    """Make the card agree with whatever the arrays are now."""
    change_card(folder, sha256={name: sha256(folder / name) for name in ARRAYS})


def test_an_attack_comes_back_as_it_was_saved(folder):
    card, trigger = load_attack(folder)
    assert (card.name, card.seed, card.labels) == ("baseline", 5, OneTarget("one_target", 1))
    assert card.input == image(1, 4, 4)
    assert torch.equal(trigger.keep, TRIGGER.keep)
    assert torch.equal(trigger.add, TRIGGER.add)
    inputs = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    assert torch.equal(trigger(inputs), TRIGGER(inputs))


def test_a_trigger_for_audio_comes_back_too(tmp_path):
    trigger = make_trigger(NoiseTrigger("noise", 0.1, 0.0, 0.01, 0), audio(100))
    save_attack(tmp_path / "attack", trigger, FIELDS)
    assert torch.equal(load_attack(tmp_path / "attack")[1].add, trigger.add)


@pytest.mark.parametrize("name", ARRAYS)
def test_tampered_arrays_are_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(AttackError, match=f"{name}: digest mismatch"):
        load_attack(folder)


@pytest.mark.parametrize("name", [*ARRAYS, CARD])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(AttackError, match=f"{name}: cannot read: No such file"):
        load_attack(folder)


def test_a_trigger_of_another_shape_is_refused(folder):
    np.save(folder / "add.npy", np.zeros((1, 5, 5), np.float32))
    sign(folder)
    with pytest.raises(AttackError, match=r"expected shape \(1, 4, 4\), found \(1, 5, 5\)"):
        load_attack(folder)


def test_an_array_of_python_objects_is_refused(folder):
    np.save(folder / "add.npy", np.full((1, 4, 4), None), allow_pickle=True)
    sign(folder)
    with pytest.raises(AttackError, match=r"add\.npy: not a readable \.npy array"):
        load_attack(folder)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text"])
def test_what_is_no_array_is_refused(folder, content):
    (folder / "keep.npy").write_bytes(content)
    sign(folder)
    with pytest.raises(AttackError, match=r"keep\.npy: not a readable \.npy array"):
        load_attack(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"surprise": 1}, r"card\.surprise: unknown key"),
        ({"seed": -1}, r"card\.seed: expected a value in"),
        ({"poison": {"rate": 2, "mode": "added", "sources": []}}, r"card\.poison\.rate: expected a value in"),
        ({"sha256": {}}, "digest mismatch: expected sha256 none recorded"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(folder, changes, message):
    change_card(folder, **changes)
    with pytest.raises(AttackError, match=message):
        load_attack(folder)
