import functools
import json
import pickle
import resource
import struct
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fineprune.data.format import Card
from fineprune.digests import sha256
from fineprune.errors import ModelError
from fineprune.files import read_json, write_json
from fineprune.models import ARCHITECTURES, build
from fineprune.models import format as model_format
from fineprune.models.format import (
    CARD,
    WEIGHTS,
    check_fits,
    load_model,
    model_digest,
    read_card,
    receive,
    save_model,
)
from fineprune.models.surgery import remove_channels
from tests.unit.nets import SMALL, audio, image, random_inputs, small_network

IMAGE = asdict(image(1, 8, 8))


@pytest.fixture
def folder(tmp_path):
    """A model folder of a small network."""
    save_model(tmp_path / "model", small_network("digits_cnn"))
    return tmp_path / "model"


def change_card(folder, **changes):
    write_json(folder / CARD, read_json(folder / CARD) | changes)


def sign(folder):
    """Make the card agree with whatever the weights file is now."""
    change_card(folder, sha256=sha256(folder / WEIGHTS))


def pruned_variants(network):
    half = len(network.channels) // 2
    yield network
    yield remove_channels(network, [3, 1])
    yield remove_channels(network, list(range(half)))
    yield remove_channels(remove_channels(network, list(range(half))), [half + 1])
    yield remove_channels(network, [])


@pytest.mark.parametrize("architecture", SMALL)
def test_a_loaded_model_gives_the_same_logits_bit_for_bit(architecture, tmp_path):
    network = small_network(architecture)
    inputs = random_inputs(network, 8)
    for number, variant in enumerate(pruned_variants(network)):
        save_model(tmp_path / str(number), variant)
        loaded = load_model(tmp_path / str(number))
        assert loaded.spec == variant.spec
        assert loaded.channels == variant.channels
        assert not loaded.training
        with torch.no_grad():
            assert torch.equal(loaded(inputs), variant(inputs))


def test_a_network_in_channels_last_layout_is_saved_as_any_other(folder, tmp_path):
    network = small_network("digits_cnn").to(memory_format=torch.channels_last)
    save_model(tmp_path / "other", network)
    assert model_digest(tmp_path / "other") == model_digest(folder)


def test_saving_again_gives_the_same_bytes(folder, tmp_path):
    save_model(tmp_path / "again", load_model(folder))
    assert model_digest(tmp_path / "again") == model_digest(folder)


def test_the_digest_is_of_the_card_and_so_of_the_weights(folder):
    digests = [model_digest(folder)]
    change_card(folder, classes=["a", "b", "c"])
    digests.append(model_digest(folder))
    state = load_file(folder / WEIGHTS)
    save_file(state | {"fc2.bias": state["fc2.bias"] + 1}, folder / WEIGHTS)
    sign(folder)
    assert len({*digests, model_digest(folder)}) == 3


def test_the_card_names_the_layer_and_the_digest(folder):
    card = read_card(folder)
    assert card.prunable_layer == "conv3"
    assert card.sha256 == sha256(folder / WEIGHTS)


def test_changed_weights_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="digest mismatch"):
        load_model(folder)


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (Path(self.target),)


@pytest.mark.parametrize("save", ["zip", "legacy", "pickle"])
def test_a_pickle_is_refused_and_never_opened(folder, tmp_path, save):
    planted = tmp_path / "executed"
    if save == "pickle":
        (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb(planted), protocol=2))
    else:
        torch.save(Bomb(planted), folder / WEIGHTS, _use_new_zipfile_serialization=save == "zip")
    sign(folder)
    with pytest.raises(ModelError, match="expected safetensors, found a pickle or zip archive"):
        load_model(folder)
    assert not planted.exists()
    (folder / WEIGHTS).rename(tmp_path / "bomb.pt")
    open_it = pickle.load if save == "pickle" else functools.partial(torch.load, weights_only=False)
    with (tmp_path / "bomb.pt").open("rb") as file:
        open_it(file)
    assert planted.exists(), "the bomb was no bomb: this test could not have failed"


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights_are_refused(folder, length):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:length])
    sign(folder)
    with pytest.raises(ModelError, match="expected readable safetensors, found "):
        load_model(folder)


@pytest.mark.parametrize(
    ("shape", "end"), [([10**9, 10**9], 4), ([2**32, 2**32], 0), ([10**9], 4 * 10**9), ([10**9], 4)]
)
def test_a_header_that_claims_more_than_the_file_holds_is_refused(folder, shape, end):
    header = json.dumps({"fc2.bias": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    sign(folder)
    with pytest.raises(ModelError, match=r"expected readable safetensors, found .*header"):
        load_model(folder)


@pytest.fixture
def devices(monkeypatch):
    """Where networks were built meanwhile."""
    seen = []

    def watched(spec):
        network = build(spec)
        seen.append(network.device.type)
        return network

    monkeypatch.setattr(model_format, "build", watched)
    return seen


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (500, "does not fit architecture digits_cnn: .*size mismatch for conv1"),
        (3000, r"expected a network of at most 1,073,741,824 bytes before pruning, found 2,520,264,020"),
        (10**7, "expected a network of at most"),
        (10**9, "cannot be built for inputs of shape"),
    ],
)
def test_a_network_of_absurd_size_is_refused_before_memory_is_taken(folder, devices, width, message):
    change_card(folder, arguments={"width": width}, pruned=[0])
    with pytest.raises(ModelError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    assert set(devices) <= {"meta"}
    change_card(folder, arguments={"width": 4}, pruned=[])
    load_model(folder)
    assert devices[-1] == "cpu", "a network is built elsewhere: this test could not have failed"


def test_what_a_network_holds_besides_its_weights_may_be_no_larger_either(tmp_path, devices, monkeypatch):
    network = small_network("speech_net")
    save_model(tmp_path / "model", network)
    monkeypatch.setattr(model_format, "_SMALL", 2**20)
    longer = network.spec.input.shape[0] + 10**6
    spectrogram = network.spec.arguments["spectrogram"]
    window = spectrogram | {"frame": spectrogram["frame"] + 10**6}
    change_card(
        tmp_path / "model",
        input=asdict(audio(longer)),
        arguments=network.spec.arguments | {"spectrogram": window},
    )
    with pytest.raises(ModelError, match=r"expected a network of at most .* before pruning, found 4,"):
        load_model(tmp_path / "model")
    assert devices == ["meta"]


def test_how_large_a_large_network_may_have_been_is_told_from_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(model_format, "_SMALL", 0)
    save_model(tmp_path / "model", remove_channels(small_network("digits_cnn"), range(1, 8)))
    assert load_model(tmp_path / "model").channels == (0,)
    monkeypatch.setattr(model_format, "_SHRINKS", 1)
    with pytest.raises(ModelError, match=r"expected a network of at most .* bytes before pruning"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(folder, tmp_path, value):
    network = small_network("digits_cnn")
    with torch.no_grad():
        network.fc2.bias[0] = value
    with pytest.raises(ModelError, match=r"'fc2\.bias' hold NaN or infinite values"):
        save_model(tmp_path / "bad", network)
    assert not (tmp_path / "bad").exists()

    state = load_file(folder / WEIGHTS)
    state["fc2.bias"][0] = value
    save_file(state, folder / WEIGHTS)
    sign(folder)
    with pytest.raises(ModelError, match=r"'fc2\.bias' hold NaN or infinite values"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int8, torch.float8_e4m3fn])
def test_weights_of_another_type_are_not_cast_in_silence(folder, dtype):
    state = load_file(folder / WEIGHTS)
    state["fc2.bias"] = state["fc2.bias"].to(dtype)
    save_file(state, folder / WEIGHTS)
    sign(folder)
    with pytest.raises(ModelError, match=rf"'fc2\.bias': expected torch.float32, found {dtype}"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "alexnet"},
            f"expected one of {', '.join(ARCHITECTURES)}, found 'alexnet'",
        ),
        ({"arguments": {}}, r"model digits_cnn\.width: missing"),
        ({"arguments": {"width": 4, "depth": 2}}, r"model digits_cnn\.depth: unknown key"),
        ({"arguments": {"width": 5}}, "does not fit architecture digits_cnn"),
        ({"classes": ["a", "b"]}, "does not fit architecture digits_cnn"),
        (
            {"architecture": "preact_resnet18", "prunable_layer": "layer4.1.conv2"},
            "does not fit architecture preact_resnet18",
        ),
        ({"prunable_layer": "conv1"}, "expected prunable_layer conv3 for digits_cnn, found conv1"),
        ({"mean": []}, "mean: expected one value for each of 1 channels, found 0"),
        ({"mean": [1.0, 2.0]}, "mean: expected one value for each of 1 channels, found 2"),
        ({"std": []}, "std: expected one value for each of 1 channels, found 0"),
        ({"std": [0.0]}, "std: expected positive values, found 0"),
        ({"std": [-1.0]}, "std: expected positive values, found -1"),
        ({"input": IMAGE | {"shape": []}}, r"input\.shape: expected 3 positive sizes for image, found \[\]"),
        ({"input": IMAGE | {"shape": [1, 0, 8]}}, "expected 3 positive sizes for image"),
        ({"input": IMAGE | {"kind": "audio"}}, "expected 1 positive sizes for audio"),
        ({"pruned": [0]}, "does not fit architecture digits_cnn"),
        ({"pruned": [0, 8]}, "pruned: expected some of channels 0…7 of conv3, each once, found"),
        ({"pruned": [-1]}, "pruned: expected some of channels 0…7 of conv3"),
        ({"pruned": list(range(8))}, "pruned: expected some of channels"),
        ({"pruned": [1, 1]}, "pruned: expected some of channels"),
        ({"pruned": [1.5]}, r"card\.pruned\[0\]: expected a whole number"),
        ({"script": "import os"}, r"card\.script: unknown key"),
        ({"format": 2}, "expected format 1, found 2"),
        ({"sha256": None}, r"card\.sha256: expected a string"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_in_one_line(folder, changes, message):
    change_card(folder, **changes)
    with pytest.raises(ModelError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_audio_has_one_mean(tmp_path):
    save_model(tmp_path / "model", small_network("speech_net"))
    change_card(tmp_path / "model", mean=[0.0] * 1024)
    with pytest.raises(ModelError, match="mean: expected one value for each of 1 channels, found 1024"):
        load_model(tmp_path / "model")


def test_which_channels_a_shortcut_keeps_is_read_from_the_card_only(tmp_path):
    network = remove_channels(small_network("preact_resnet18"), [5, 0, 3])
    save_model(tmp_path / "model", network)
    state = load_file(tmp_path / "model" / WEIGHTS)
    assert not [name for name in state if "select" in name]
    inputs = random_inputs(network, 8)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model")(inputs), network(inputs))
    save_file(state | {"layer4.1.select.index": torch.arange(29) + 1000}, tmp_path / "model" / WEIGHTS)
    sign(tmp_path / "model")
    with pytest.raises(ModelError, match="does not fit architecture preact_resnet18"):
        load_model(tmp_path / "model")


def dataset_card(**changes):
    spec = SMALL["digits_cnn"]
    moments = spec.mean, spec.std
    card = Card(
        1, "tiny", "classification", spec.input, spec.classes, None, "sample", *moments, {}, {}, "none", {}
    )
    return replace(card, **changes)


def test_a_network_fits_a_dataset_of_its_inputs_and_classes(tmp_path):
    check_fits(small_network("digits_cnn"), dataset_card(mean=(1.0,), licence="other"), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input": image(3, 8, 8)},
            "made for image input of shape (1, 8, 8), uint8 0…255, "
            "found dataset tiny with image input of shape (3, 8, 8), uint8 0…255",
        ),
        (
            {"input": replace(image(1, 8, 8), high=16)},
            "made for image input of shape (1, 8, 8), uint8 0…255, "
            "found dataset tiny with image input of shape (1, 8, 8), uint8 0…16",
        ),
        (
            {"input": replace(image(1, 8, 8), sample_rate=8000)},
            "found dataset tiny with image input of shape (1, 8, 8), uint8 0…255 at 8000 Hz",
        ),
        ({"task": "detection"}, "made for classification, found dataset tiny with detection"),
        ({"classes": ("class 0",) * 4}, "made for 3 classes, found dataset tiny with 4 classes"),
        (
            {"classes": ("class 0", "class 2", "class 1")},
            "made for class 1 'class 1', found dataset tiny with class 1 'class 2'",
        ),
    ],
)
def test_a_network_for_another_task_or_other_inputs_or_classes_is_refused(changes, message, tmp_path):
    with pytest.raises(ModelError) as error:
        check_fits(small_network("digits_cnn"), dataset_card(**changes), tmp_path / "model")
    assert str(error.value).startswith(f"{tmp_path / 'model'}: made for ")
    assert message in str(error.value)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: cannot read: No such file"):
        load_model(folder)


def test_a_checkpoint_in_the_place_of_a_folder_is_refused(folder):
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: expected a folder .*, found a file"):
        load_model(folder / WEIGHTS)


def test_a_card_that_is_not_json_is_refused(folder):
    (folder / CARD).write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_model(folder)


def test_a_missing_or_surplus_weight_is_refused(folder):
    state = load_file(folder / WEIGHTS)
    bias = state.pop("fc2.bias")
    for changed in (state, state | {"fc2.bias": bias, "fc9.bias": bias.clone()}):
        save_file(changed, folder / WEIGHTS)
        sign(folder)
        with pytest.raises(ModelError, match="does not fit architecture"):
            load_model(folder)


def test_a_full_disk_is_an_error_of_one_line(tmp_path):
    network = small_network("digits_cnn")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ModelError, match="cannot write"):
            save_model(tmp_path / "model", network)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["digits_cnn", "preact_resnet18"])
def test_a_model_that_was_received_answers_as_where_it_came_from(tmp_path, name):
    network = small_network(name, seed=3)
    save_file(network.state_dict(), tmp_path / "received.safetensors")
    for _ in range(2):  # whoever was wrong in the spec does it again
        receive(tmp_path / "received.safetensors", network.spec, tmp_path / "received")
    found = load_model(tmp_path / "received")
    assert found.spec == network.spec
    for key, value in network.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {f"module.{key}": value for key, value in state.items()}, "does not fit architecture"),
        (
            lambda state: {key: value.double() for key, value in state.items()},
            "expected torch.float32, found",
        ),
        (lambda state: {key: value * torch.nan for key, value in state.items()}, "hold NaN or infinite"),
        (lambda state: {key: value[:1].clone() for key, value in state.items()}, "size mismatch"),
    ],
)
def test_what_is_received_and_does_not_fit_is_one_line(tmp_path, change, message):
    network, file = small_network("digits_cnn"), tmp_path / "received.safetensors"
    save_file(change(network.state_dict()), file)
    with pytest.raises(ModelError, match=message) as caught:
        receive(file, network.spec, tmp_path / "received")
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "received").exists()


@pytest.mark.parametrize("name", ["none.safetensors", ""])
def test_what_is_received_is_a_file(tmp_path, name):
    with pytest.raises(ModelError, match=r"expected a file of safetensors, found none$"):
        receive(tmp_path / name, small_network("digits_cnn").spec, tmp_path / "received")


def test_a_pickle_that_is_received_is_not_opened(tmp_path):
    torch.save(small_network("digits_cnn").state_dict(), tmp_path / "received.pt")
    with pytest.raises(ModelError, match="found a pickle or zip archive, which is never opened"):
        receive(tmp_path / "received.pt", small_network("digits_cnn").spec, tmp_path / "received")
