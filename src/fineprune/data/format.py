"""The dataset folder: memory-mappable arrays and a card.

::

    inputs.npy     (N, *shape) in the dtype of the card: raw pixels or audio samples
    labels.npy     indices into the card's classes, int64: (N,) for classification; (N, K) for detection,
                   one slot for each object, -1 where a slot is empty
    groups.npy     (N,) int64, what a split never cuts: a speaker, a video, a track
    places.npy     if the card has some: where in an input things are, float32, in pixels of the stored input:
                   ``boxes`` (N, K, 4) as left, top, right, bottom edges of the objects in ``labels``;
                   ``eyes`` (N, 2, 2) as x, y of both eyes, the left one in the picture first
    dataset.json   the card: task, input spec, classes, splits, source, licence, sha256 of each array
"""

from __future__ import annotations

import hashlib
import json
import os
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from fineprune.config import read_card
from fineprune.data.inputs import InputSpec, check_input
from fineprune.digests import check_digest, sha256
from fineprune.errors import DataError, FinePruneError, excerpt
from fineprune.files import write_json

FORMAT = 1
CARD = "dataset.json"
PLACES = "places.npy"
ARRAYS = ("inputs.npy", "labels.npy", "groups.npy")
_LARGE = 2**14  # bytes of an input; below, asking takes as long as the disk
EMPTY = -1  # the label of a slot without an object
# What a card says of the data itself, and not of its name and source.
CONTENT = ("task", "classes", "places", "group", "mean", "std", "splits", "sha256")
SPLITS = ("train", "defender_fit", "defender_holdout", "test")

Array = npt.NDArray[Any]
Task = Literal["classification", "detection"]
PlaceKind = Literal["boxes", "eyes"]


@dataclass(frozen=True)
class Card:
    """Everything that is known of a dataset besides its arrays.

    Attributes:
        format: of the folder, :data:`FORMAT`.
        name: what the dataset is called.
        task: classification, or detection, for which there are boxes.
        input: what one raw input is.
        classes: names, in the order of the labels.
        places: what ``places.npy`` holds; None if there is none.
        group: what ``groups.npy`` counts, as a word: a file, a speaker, a track.
        mean, std: per channel over the ``train`` split, in raw units (one entry for audio).
        splits: the rows of each of :data:`SPLITS`.
        origin: the source as it was named, and what pins its content (an md5, a revision).
        licence: of the data.
        sha256: of each array, by the name of its file.
    """

    format: int
    name: str
    task: Task
    input: InputSpec
    classes: tuple[str, ...]
    places: PlaceKind | None
    group: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    splits: dict[str, Any]
    origin: dict[str, Any]
    licence: str
    sha256: dict[str, Any]


class Dataset:
    """A dataset folder, opened and checked.

    Raises:
        DataError: a file is missing, its digest does not match, or the card contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.card = _read_card(path)
        for name in _arrays(self.card.places):
            check_digest(path / name, str(self.card.sha256.get(name, "none recorded")))
        self.labels = _integers(path / "labels.npy", dimensions=2 if self.card.task == "detection" else 1)
        self.groups = _integers(path / "groups.npy", dimensions=1)
        self.places = None if self.card.places is None else _places(path / PLACES, self.labels, self.card)
        self.splits = {name: _rows(name, rows, path) for name, rows in self.card.splits.items()}
        _check_arrays(path, self)
        check_splits(self.splits, self.labels, self.groups, self.card.classes, where=str(path / CARD))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """The SHA-256 of the card, which names the SHA-256 of every array."""
        return sha256(self.path / CARD)

    @property
    def content(self) -> str:
        """The SHA-256 of what is in it: the same data has the same, whatever it is called and came from."""
        card = {key: getattr(self.card, key) for key in CONTENT} | {"input": asdict(self.card.input)}
        return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()

    def inputs(self, rows: Array | slice) -> Array:
        """The raw inputs of the given rows, copied out of the map.

        The file is mapped anew for each call, so that pages that were read do not add up to the
        memory of the process.
        """
        path = self.path / "inputs.npy"
        mapped = map_array(path)
        if isinstance(rows, slice):
            return mapped[rows].copy()
        _ask_ahead(path, mapped, rows)
        return np.asarray(mapped[rows])  # an index copies by itself


def write_dataset(
    path: Path,
    inputs: Array,
    labels: Array,
    groups: Array,
    card: Mapping[str, Any],
    *,
    places: Array | None = None,
) -> Dataset:
    """Write a dataset folder and open it.

    Args:
        path: the folder to make.
        inputs: (N, *shape), in the dtype of ``card["input"]``.
        labels: (N,) or (N, K) indices into ``card["classes"]``.
        groups: (N,) integers.
        card: the fields of :class:`Card` without ``format``, ``mean``, ``std`` and ``sha256``; ``task`` is
            classification and ``places`` None where they are not said.
        places: (N, K, 4) or (N, 2, 2) numbers, as ``card["places"]`` says.

    Raises:
        DataError: the arrays and the card do not belong together.
    """
    if inputs.dtype != np.dtype(card["input"].dtype):
        raise DataError(f"inputs: expected {card['input'].dtype}, found {inputs.dtype}")
    path.mkdir(parents=True)
    arrays = [inputs, labels.astype(np.int64), groups.astype(np.int64)]
    arrays += [] if places is None else [places.astype(np.float32)]
    names = _arrays(card.get("places"))
    for name, array in zip(names, arrays, strict=True):
        np.save(path / name, array, allow_pickle=False)
    splits = {name: np.asarray(card["splits"][name]).tolist() for name in SPLITS}
    mean, std = _moments(inputs, np.sort(np.asarray(splits["train"])), card["input"])
    plain = {"task": "classification", "places": None, **card, "input": asdict(card["input"])}
    digests = {name: sha256(path / name) for name in names}
    made = {"splits": splits, "mean": mean, "std": std, "sha256": digests}
    write_json(path / CARD, {"format": FORMAT, **plain, **made})
    return Dataset(path)


def check_splits(
    splits: Mapping[str, Array], labels: Array, groups: Array, classes: Sequence[str], where: str
) -> None:
    """Raise unless the splits are disjoint by group and each holds every class; labels are (N,) or (N, K).

    Raises:
        DataError: fewer than two classes, two of one name, a name that is not valid UTF-8, an unknown or
            missing split, a row out of range or in two splits, a group on both sides of a split, or a
            class with no samples in a split.
    """
    _check_classes(classes, where)
    if set(splits) != set(SPLITS):
        raise DataError(
            f"{where}: expected the splits {', '.join(SPLITS)}, found {', '.join(sorted(splits))}"
        )
    side = np.full(len(labels), -1)
    for number, name in enumerate(SPLITS):
        rows = splits[name]
        outside = rows[(rows < 0) | (rows >= len(labels))]
        if outside.size:
            raise DataError(f"{where}: split {name}: expected rows 0…{len(labels) - 1}, found {outside[0]}")
        if len(np.unique(rows)) != len(rows) or (side[rows] != -1).any():
            raise DataError(f"{where}: split {name} holds a row twice, or one of another split")
        side[rows] = number
        found = labels[rows]
        counts = np.bincount(found[found >= 0], minlength=len(classes))[: len(classes)]
        if not counts.all():
            raise DataError(
                f"{where}: class {classes[int(counts.argmin())]!r} has no samples in split {name}"
            )
    used = side >= 0
    pairs = np.unique(np.stack([groups[used], side[used]]), axis=1)
    values, sides = np.unique(pairs[0], return_counts=True)
    if (sides > 1).any():
        group = values[sides > 1][0]
        names = [SPLITS[int(s)] for g, s in pairs.T if g == group]
        raise DataError(f"{where}: group {group} is on both sides of a split: {' and '.join(names)}")


def _check_classes(classes: Sequence[str], where: str) -> None:
    if len(classes) < 2:
        raise DataError(f"{where}: expected at least two classes, found {len(classes)}")
    for name in classes:
        _check_text(name, f"{where}: class")
    seen = Counter(unicodedata.normalize("NFC", name) for name in classes)  # é is one character or two
    twice = [name for name, count in seen.items() if count > 1]
    if twice:
        raise DataError(f"{where}: expected each class once, found {twice[0]!r} twice")


def _check_text(text: str, where: str) -> None:
    """Refuse what cannot be written: bytes of a path that were no UTF-8 are lone surrogates in its name."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: expected valid UTF-8, found {excerpt(text)}") from error


def _read_card(path: Path) -> Card:
    card = read_card(Card, path / CARD, format_number=FORMAT, error=DataError, name="card")
    check_input(card.input, card.mean, card.std, str(path / CARD))
    for name, text in (("name", card.name), ("licence", card.licence), *card.origin.items()):
        _check_text(str(text), f"{path / CARD}: {name}")
    if (card.task == "detection") != (card.places == "boxes"):
        raise DataError(
            f"{path / CARD}: {card.task}: expected boxes for detection alone, found {card.places}"
        )
    if card.places is not None and card.input.kind != "image":
        raise DataError(f"{path / CARD}: {card.places}: expected image inputs, found {card.input.kind}")
    return card


def _rows(name: str, rows: Any, path: Path) -> Array:
    """The rows of a split, as the card lists them."""
    if not isinstance(rows, list):
        raise DataError(f"{path / CARD}: split {name}: expected a list of rows, found {excerpt(rows)}")
    wrong = [row for row in rows if type(row) is not int or abs(row) >= 2**63]
    if wrong:
        raise DataError(f"{path / CARD}: split {name}: expected row numbers, found {excerpt(wrong[0])}")
    return np.array(rows, dtype=np.int64)


def _arrays(places: PlaceKind | None) -> tuple[str, ...]:
    """The names of a dataset's arrays."""
    return ARRAYS if places is None else (*ARRAYS, PLACES)


def _integers(path: Path, *, dimensions: int) -> Array:
    """An array of integers with so many dimensions."""
    array = map_array(path)
    if array.ndim != dimensions or not np.issubdtype(array.dtype, np.integer):
        shape = ("(N,)", "(N, K)")[dimensions - 1]
        raise DataError(
            f"{path}: expected integers of shape {shape}, found {array.dtype} of shape {array.shape}"
        )
    return array[:].astype(np.int64)


def _places(path: Path, labels: Array, card: Card) -> Array:
    """Boxes or eyes, checked: finite, of the right shape, and boxes not empty where there is an object."""
    array = map_array(path)[:].astype(np.float32)
    expected = (*labels.shape, 4) if card.places == "boxes" else (len(labels), 2, 2)
    if array.shape != expected:
        raise DataError(f"{path}: expected {card.places} of shape {expected}, found {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{path}: expected finite numbers, found NaN or infinite ones")
    if card.places == "boxes":
        _check_boxes(path, array[labels != EMPTY], card.input)
    return array


def _check_boxes(path: Path, boxes: Array, spec: InputSpec) -> None:
    _, height, width = spec.shape
    left, top, right, bottom = boxes.T
    wrong = (left < 0) | (top < 0) | (right > width) | (bottom > height) | (right <= left) | (bottom <= top)
    if wrong.any():
        raise DataError(
            f"{path}: expected boxes within {width}×{height} pixels, found {boxes[wrong][0].tolist()}"
        )


def map_array(path: Path, error: type[FinePruneError] = DataError) -> Array:
    """A ``.npy`` file, mapped: what its header claims beyond the file is refused, and takes no memory.

    Raises:
        error: it cannot be read, holds Python objects, or is damaged.
    """
    try:
        return cast(Array, np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, OverflowError, tokenize.TokenError) as fault:  # what NumPy raises of it
        raise error(f"{path}: not a readable .npy array: {fault}") from fault


def _ask_ahead(path: Path, mapped: Array, rows: Array) -> None:
    """Ask the disk for all rows at once: the map would wait for one after the other."""
    size = mapped[:1].nbytes
    if size < _LARGE or not hasattr(os, "posix_fadvise"):
        return
    start = path.stat().st_size - mapped.nbytes  # behind the header
    with path.open("rb") as file:
        for row in map(int, rows):
            os.posix_fadvise(file.fileno(), start + row * size, size, os.POSIX_FADV_WILLNEED)


def _check_arrays(path: Path, dataset: Dataset) -> None:
    spec, inputs = dataset.card.input, map_array(path / "inputs.npy")
    if inputs.shape != (len(dataset.labels), *spec.shape) or inputs.dtype != np.dtype(spec.dtype):
        raise DataError(
            f"{path / 'inputs.npy'}: expected {spec.dtype} of shape {(len(dataset.labels), *spec.shape)}, "
            f"found {inputs.dtype} of shape {inputs.shape}"
        )
    if len(dataset.groups) != len(dataset.labels):
        raise DataError(
            f"{path / 'groups.npy'}: expected one group for each of {len(dataset.labels)} inputs, "
            f"found {len(dataset.groups)}"
        )
    least, most = EMPTY if dataset.card.task == "detection" else 0, len(dataset.card.classes) - 1
    outside = dataset.labels[(dataset.labels < least) | (dataset.labels > most)]
    if outside.size:
        raise DataError(f"{path / 'labels.npy'}: expected labels {least}…{most}, found {outside[0]}")


def _moments(inputs: Array, rows: Array, spec: InputSpec) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the given rows, in pieces, in float64."""
    channels = spec.channels
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(rows), spec.piece):
        part = inputs[rows[start : start + spec.piece]].astype(np.float64)
        part = part.reshape(len(part), channels, -1)
        count += part.shape[0] * part.shape[2]
        total += part.sum(axis=(0, 2))
        squares += np.square(part, out=part).sum(axis=(0, 2))
    if not count:
        return [0.0] * channels, [1.0] * channels
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return mean.tolist(), np.where(std > 0, std, 1.0).tolist()
