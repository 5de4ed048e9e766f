import io
import re

import numpy as np
import pytest
import torch

from fineprune.attacks.format import ADD, CARD, KEEP, load_attack, save_attack
from fineprune.attacks.labels import OneTarget
from fineprune.attacks.post_it import RandomCentre
from fineprune.attacks.triggers import (
    BlendConfig,
    NoiseConfig,
    PostItConfig,
    SunglassesConfig,
    make_trigger,
)
from fineprune.config import to_plain
from fineprune.digests import sha256
from fineprune.errors import AttackError
from fineprune.files import read_json, write_json
from tests.unit.nets import audio, image

ARRAYS = (KEEP, ADD)
FIELDS = {
    "name": "baseline",
    "trigger": {"kind": "blend", "alpha": 0.5, "seed": 3},
    "labels": {"kind": "one_target", "target": 1},
    "poison": {"rate": 0.1, "mode": "added", "sources": []},
    "took": {"min_backdoor_success": 0.9, "max_clean_cost": 0.02},
    "seed": 5,
}
TRIGGER = make_trigger(BlendConfig("blend", 0.5, 3), image(1, 4, 4))


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
    config = NoiseConfig("noise", 0.1, 0.0, 0.01, 0)
    trigger = make_trigger(config, audio(100))
    save_attack(tmp_path / "attack", trigger, FIELDS | {"trigger": to_plain(config)})
    assert torch.equal(load_attack(tmp_path / "attack")[1].add, trigger.add)


PLACED = {
    "sunglasses": (
        SunglassesConfig("sunglasses", (0.5,), 1.0, None),
        torch.tensor([[[5.0, 9.0], [11.0, 8.0]]]),
    ),
    "post_it": (
        PostItConfig("post_it", 0.2, (1.0,), RandomCentre("random", 0.15, 0.85, 3)),
        torch.tensor([[[2.0, 2.0, 12.0, 14.0], [0.0, 0.0, 0.0, 0.0]]]),
    ),
}


@pytest.fixture(params=PLACED)
def placed(request, tmp_path):
    config, places = PLACED[request.param]
    trigger = make_trigger(config, image(1, 16, 16))
    save_attack(tmp_path / "attack", trigger, FIELDS | {"trigger": to_plain(config)})
    return tmp_path / "attack", trigger, config, places


def test_a_trigger_that_follows_places_is_drawn_again_from_its_config(placed):
    folder, trigger, config, places = placed
    assert [path.name for path in folder.iterdir()] == [CARD]
    card, again = load_attack(folder)
    assert card.trigger == config
    inputs = torch.full((1, 1, 16, 16), 70, dtype=torch.uint8)
    assert torch.equal(again(inputs, places), trigger(inputs, places))
    assert not torch.equal(again(inputs, places), inputs)


def test_a_placed_trigger_that_does_not_fit_its_inputs_is_refused(placed):
    folder, _, config, _ = placed
    change_card(folder, trigger=to_plain(config) | {"colour": [0.1, 0.2]})
    with pytest.raises(AttackError, match=r"attack\.json: trigger .*: expected 1 or 1 values, found 2"):
        load_attack(folder)


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


@pytest.mark.parametrize("shape", [(1, 5, 5), (1, 2, 8), (4, 4)])
def test_a_trigger_of_another_shape_is_refused(folder, shape):
    np.save(folder / "add.npy", np.zeros(shape, np.float32))
    sign(folder)
    with pytest.raises(AttackError, match=rf"expected shape \(1, 4, 4\), found {re.escape(str(shape))}"):
        load_attack(folder)


@pytest.mark.parametrize("values", [np.full((1, 4, 4), np.nan), np.full((1, 4, 4), "high")])
def test_a_trigger_that_is_no_finite_numbers_is_refused(folder, values):
    np.save(folder / "add.npy", values)
    sign(folder)
    with pytest.raises(AttackError, match=r"add\.npy: expected finite numbers, found others"):
        load_attack(folder)


def test_a_digest_that_is_no_text_is_refused(folder):
    change_card(folder, sha256={"keep.npy": 5, "add.npy": 5})
    with pytest.raises(AttackError, match="digest mismatch: expected sha256 5"):
        load_attack(folder)


def test_an_array_of_python_objects_is_refused(folder):
    np.save(folder / "add.npy", np.full((1, 4, 4), None), allow_pickle=True)
    sign(folder)
    with pytest.raises(AttackError, match=r"add\.npy: not a readable \.npy array"):
        load_attack(folder)


@pytest.mark.parametrize("shape", [(10**12,), (2**34,), (1, 4, 5)])
def test_a_header_that_claims_more_than_the_file_holds_is_refused(folder, shape):
    with (folder / "add.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))
    sign(folder)
    with pytest.raises(AttackError, match=r"add\.npy: not a readable \.npy array: mmap length"):
        load_attack(folder)


def zipped():
    file = io.BytesIO()
    np.savez(file, np.zeros(3))
    return file.getvalue()


# The last has a header that Python's tokenizer does not get to the end of.
@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"text", zipped(), b"\x93NUMPY\x01\x00\x0a\x00{'descr':\n"]
)
def test_what_is_no_array_is_refused(folder, content):
    (folder / "keep.npy").write_bytes(content)
    sign(folder)
    with pytest.raises(AttackError, match=r"keep\.npy: not a readable \.npy array"):
        load_attack(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"trigger": {"kind": "hat"}}, r"card\.trigger\.kind: expected one of .*, found 'hat'"),
        ({"trigger": {"kind": "blend", "alpha": 2, "seed": 3}}, r"card\.trigger\.alpha: expected a value in"),
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
