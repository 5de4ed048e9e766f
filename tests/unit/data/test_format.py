import io
import json
import os
import pickle

import numpy as np
import pytest

from fineprune.data.format import CARD, SPLITS, Dataset, write_dataset
from fineprune.data.inputs import InputSpec
from fineprune.digests import sha256
from fineprune.errors import DataError

LABELS = np.tile([0, 1], 8)
GROUPS = np.arange(16)
SPLIT = {"train": range(8), "defender_fit": (8, 9), "defender_holdout": (10, 11), "test": range(12, 16)}


def write(path, inputs=None, labels=LABELS, groups=GROUPS, classes=("a", "b"), **splits):
    if inputs is None:
        inputs = np.arange(16 * 3 * 2 * 2).reshape(16, 3, 2, 2).astype(np.uint8)
    card = {
        "name": "tiny",
        "input": InputSpec("image", (3, 2, 2), "uint8", low=0, high=255, sample_rate=None),
        "classes": list(classes),
        "group": "sample",
        "splits": SPLIT | splits,
        "origin": {"source": "here"},
        "licence": "none",
    }
    write_dataset(path, inputs, labels, groups, card)
    return path


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "dataset")


def edit(folder, **changes):
    """Change the card, and make its digests those of the files as they are now."""
    card = json.loads((folder / CARD).read_text()) | changes
    card["sha256"] = {name: sha256(folder / name) for name in card["sha256"]}
    (folder / CARD).write_text(json.dumps(card))


def test_what_is_written_is_read_back(folder):
    dataset = Dataset(folder)
    assert len(dataset) == 16
    assert {name: rows.tolist() for name, rows in dataset.splits.items()} == {
        name: list(SPLIT[name]) for name in SPLITS
    }
    inputs = np.arange(16 * 12).reshape(16, 3, 2, 2).astype(np.uint8)
    np.testing.assert_array_equal(dataset.inputs(np.array([3, 1])), inputs[[3, 1]])
    train = inputs[:8].astype(float)
    np.testing.assert_allclose(dataset.card.mean, train.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(dataset.card.std, train.std(axis=(0, 2, 3)))
    assert dataset.digest == sha256(folder / CARD)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="of Linux")
@pytest.mark.parametrize(("large", "asked"), [(12, [3, 1]), (13, [])])
def test_the_disk_is_asked_ahead_for_large_inputs(folder, monkeypatch, large, asked):
    found = []

    def advise(file, start, size, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        found.append(os.pread(file, size, start))

    monkeypatch.setattr("fineprune.data.format._LARGE", large)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    inputs = Dataset(folder).inputs(np.array([3, 1]))
    assert found == [inputs[i].tobytes() for i in range(len(asked))]


@pytest.mark.parametrize("name", ["inputs.npy", "labels.npy", "groups.npy"])
def test_refuses_an_array_that_was_changed(name, folder):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{folder / name}: digest mismatch: expected sha256 .*, found"):
        Dataset(folder)


def test_refuses_a_missing_array_and_a_missing_card(folder):
    (folder / "groups.npy").unlink()
    with pytest.raises(DataError, match=r"groups\.npy: cannot read: No such file"):
        Dataset(folder)
    (folder / CARD).unlink()
    with pytest.raises(DataError, match=f"{CARD}: cannot read: No such file"):
        Dataset(folder)


def as_npz(data):
    file = io.BytesIO()
    np.savez(file, inputs=np.load(io.BytesIO(data)))
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-7], lambda data: data[:40], lambda data: b"", lambda data: b"x" * 99, as_npz],
)
def test_refuses_a_damaged_array_whose_digest_fits(damage, folder):
    path = folder / "inputs.npy"
    path.write_bytes(damage(path.read_bytes()))
    edit(folder)
    with pytest.raises(DataError, match=f"{path}: not a readable .npy array"):
        Dataset(folder)


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_never_opens_a_pickle_in_place_of_an_array(folder, tmp_path):
    sprung = tmp_path / "sprung"
    path = folder / "labels.npy"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    edit(folder)
    with pytest.raises(DataError, match=f"{path}: not a readable .npy array"):
        Dataset(folder)
    np.save(path, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    edit(folder)
    with pytest.raises(DataError, match=f"{path}: not a readable .npy array"):
        Dataset(folder)
    assert not sprung.exists()


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_refuses_float_inputs(value, tmp_path, folder):
    inputs = np.full((16, 3, 2, 2), value, np.float32)
    with pytest.raises(DataError, match="expected uint8, found float32"):
        write(tmp_path / "other", inputs)
    np.save(folder / "inputs.npy", inputs)
    edit(folder)
    with pytest.raises(DataError, match=r"inputs.npy: expected uint8 of shape .*, found float32"):
        Dataset(folder)


def test_mean_and_spread_are_taken_in_pieces_of_any_size(folder, tmp_path, monkeypatch):
    inputs = np.random.default_rng(0).integers(0, 256, (16, 3, 2, 2)).astype(np.uint8)
    write(tmp_path / "whole", inputs)
    monkeypatch.setattr("fineprune.data.inputs._PIECE", 25)  # two inputs, and a little
    write(tmp_path / "pieces", inputs)
    whole, pieces = (Dataset(tmp_path / name).card for name in ("whole", "pieces"))
    train = inputs[whole.splits["train"]].astype(np.float64)
    for card in (whole, pieces):
        assert np.allclose(card.mean, train.mean(axis=(0, 2, 3)))
        assert np.allclose(card.std, train.std(axis=(0, 2, 3)))


def test_refuses_inputs_of_another_shape(folder):
    np.save(folder / "inputs.npy", np.zeros((16, 3, 2, 1), np.uint8))
    edit(folder)
    with pytest.raises(DataError, match=r"expected uint8 of shape \(16, 3, 2, 2\), found uint8 of shape"):
        Dataset(folder)


def test_refuses_a_group_on_both_sides_of_a_split(folder):
    np.save(folder / "groups.npy", np.where(GROUPS == 15, 0, GROUPS))
    edit(folder)
    with pytest.raises(DataError, match="group 0 is on both sides of a split: train and test"):
        Dataset(folder)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": [12, 14]}, "class 'b' has no samples in split test"),
        ({"test": [0, 1, 12, 13]}, "split test holds a row twice, or one of another split"),
        ({"test": [12, 13, 16]}, "split test: expected rows 0…15, found 16"),
        ({"extra": [1]}, "expected the splits train, defender_fit, defender_holdout, test, found"),
    ],
)
def test_refuses_splits_that_do_not_hold(splits, message, folder):
    card = json.loads((folder / CARD).read_text())
    edit(folder, splits=card["splits"] | splits)
    with pytest.raises(DataError, match=f"{folder / CARD}: {message}"):
        Dataset(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "expected a list of rows, found None"),
        ("0123", "expected a list of rows, found '0123'"),
        (3, "expected a list of rows, found 3"),
        ({"0": 1}, "expected a list of rows, found {'0': 1}"),
        (["a"], "expected row numbers, found 'a'"),
        ([0, [1, 2]], r"expected row numbers, found \[1, 2\]"),
        ([0.5], "expected row numbers, found 0.5"),
        ([0, None], "expected row numbers, found None"),
        ([True], "expected row numbers, found True"),
        ([2**64], "expected row numbers, found 18446744073709551616"),
    ],
)
def test_refuses_splits_that_are_no_lists_of_rows(rows, message, folder):
    edit(folder, splits=json.loads((folder / CARD).read_text())["splits"] | {"train": rows})
    with pytest.raises(DataError, match=f"{folder / CARD}: split train: {message}") as error:
        Dataset(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["labels.npy", "groups.npy"])
@pytest.mark.parametrize("array", [LABELS.astype(str), LABELS / 2, LABELS.reshape(2, 8), np.array(3)])
def test_refuses_labels_and_groups_that_are_no_list_of_integers(name, array, folder):
    np.save(folder / name, array)
    edit(folder)
    with pytest.raises(DataError, match=f"{folder / name}: expected integers of shape"):
        Dataset(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": []}, "mean: expected one value for each of 3 channels, found 0"),
        ({"std": [1.0]}, "std: expected one value for each of 3 channels, found 1"),
        ({"std": [1.0, 0.0, 1.0]}, "std: expected positive values, found 0"),
    ],
)
def test_refuses_a_mean_and_spread_that_do_not_fit(changes, message, folder):
    edit(folder, **changes)
    with pytest.raises(DataError, match=f"{folder / CARD}: {message}"):
        Dataset(folder)


@pytest.mark.parametrize(("low", "high"), [(255, 0), (7, 7), (-1, 255), (0, 256), (0, 10**30)])
def test_refuses_a_range_that_is_empty_or_beyond_the_type(low, high, folder):
    spec = json.loads((folder / CARD).read_text())["input"]
    edit(folder, input=spec | {"low": low, "high": high})
    message = f"input: expected low below high within 0…255 for uint8, found {low} and {high}"
    with pytest.raises(DataError, match=message):
        Dataset(folder)


def test_refuses_two_classes_of_one_name(tmp_path):
    with pytest.raises(DataError, match="expected each class once, found 'é' twice"):
        write(tmp_path / "forms", classes=("\u00e9", "e\u0301", "b"))
    with pytest.raises(DataError, match="expected each class once, found 'a' twice"):
        write(tmp_path / "twice", classes=("a", "b", "a"))


LATIN = "M\udcfcller"  # a name in Latin-1 as the system gives it


@pytest.mark.parametrize("field", ["name", "licence", "source"])
def test_refuses_a_card_whose_text_is_not_valid(field, folder):
    edit(folder, **({"origin": {"source": LATIN}} if field == "source" else {field: LATIN}))
    with pytest.raises(DataError, match=rf"{CARD}: {field}: expected valid UTF-8, found 'M\\udcfcller'"):
        Dataset(folder)


def test_refuses_a_class_whose_name_is_not_valid(tmp_path):
    with pytest.raises(DataError, match=r"class: expected valid UTF-8, found 'M\\udcfcller'"):
        write(tmp_path / "latin", classes=("a", LATIN))


def test_refuses_a_digest_that_is_no_text(folder):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"sha256": card["sha256"] | {"labels.npy": 7}}))
    with pytest.raises(DataError, match="digest mismatch: expected sha256 7…, found"):
        Dataset(folder)


def test_refuses_fewer_than_two_classes(tmp_path):
    with pytest.raises(DataError, match="expected at least two classes, found 1"):
        write(tmp_path / "one", labels=np.zeros(16, int), classes=("a",))


def test_refuses_labels_without_a_class(tmp_path):
    with pytest.raises(DataError, match=r"labels.npy: expected labels 0…1, found "):
        write(tmp_path / "three", labels=np.tile([0, 1, 2, 1], 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"format": 2}, "expected format 1, found 2"), ({"surprise": 1}, "card.surprise: unknown key")],
)
def test_refuses_a_card_of_another_kind(changes, message, folder):
    edit(folder, **changes)
    with pytest.raises(DataError, match=message):
        Dataset(folder)
