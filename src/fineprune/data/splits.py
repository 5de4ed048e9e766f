"""Splits that never cut a group: a speaker, a video or a track is on one side only.

Near-duplicates on both sides of a split make every accuracy look better than it is; the paper's face data
has frames of one video on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fineprune.data.format import EMPTY, SPLITS, Dataset, check_splits
from fineprune.errors import ConfigError, DataError

Array = npt.NDArray[Any]

# Up to this many groups, exchanges of two groups are tried as well as moves of one.
_FEW_GROUPS = 64


def split_by_group(
    labels: Array,
    groups: Array,
    fractions: Mapping[str, float],
    *,
    classes: Sequence[str],
    seed: int,
    fixed_test: Array | None = None,
) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each split: whole groups, classes in proportion, the same for the same seed.

    Where each group is a single sample of one label, every class is divided by the fractions to within
    three samples; otherwise the splits come as close to them as whole groups allow.

    Args:
        labels: (N,) or (N, K) int64, indices into ``classes``; -1 in a slot that is empty.
        groups: (N,) int64.
        fractions: the share of all N samples for each split but ``train``, which gets the rest;
            without ``test`` when ``fixed_test`` is given.
        classes: the class names.
        seed: of the shuffle.
        fixed_test: (N,) bool, the rows that the data set's authors put in test.

    Returns:
        Sorted rows for each name of :data:`~fineprune.data.format.SPLITS`; each row is in one split.

    Raises:
        ConfigError: the fractions leave nothing for ``train``.
        DataError: a class has fewer groups than there are splits to fill, or is missing in one; the
            authors' test set cuts a group.
    """
    test = np.zeros(len(labels), bool) if fixed_test is None else np.asarray(fixed_test, bool)
    _check_whole(groups, test)
    names = [name for name in SPLITS if name in fractions]
    shares = _shares([fractions[name] for name in names], taken=float(test.mean()) if len(test) else 0.0)
    rows = np.flatnonzero(~test)
    _check_enough(labels[rows], groups[rows], classes, splits=len(shares))
    sides = divide(labels[rows], groups[rows], shares, np.random.default_rng(seed))
    splits = {"test": np.flatnonzero(test)}
    splits |= {name: rows[sides == side] for side, name in enumerate(["train", *names])}
    ordered = {name: splits[name].astype(np.int64) for name in SPLITS}
    check_splits(ordered, labels, groups, classes, where="the split")
    return ordered


def seen_before(dataset: Dataset) -> int:
    """How many test inputs are, byte for byte, also in another split, or in test before."""
    piece = dataset.card.input.piece
    parts = (dataset.inputs(slice(start, start + piece)) for start in range(0, len(dataset), piece))
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for part in parts for row in part]
    others = {digests[row] for name, rows in dataset.splits.items() if name != "test" for row in rows}
    tested = [digests[row] for row in dataset.splits["test"]]
    return len(tested) - len(set(tested) - others)


def _check_whole(groups: Array, test: Array) -> None:
    cut = np.intersect1d(groups[test], groups[~test])
    if cut.size:
        raise DataError(
            f"the authors' test set: expected whole groups, found group {cut[0]} partly in it "
            f"({cut.size} such groups)"
        )


def _check_enough(labels: Array, groups: Array, classes: Sequence[str], *, splits: int) -> None:
    pairs = np.unique(np.stack(objects(labels, groups)), axis=1)
    found = np.bincount(pairs[0], minlength=len(classes))
    if found.min(initial=splits) < splits:
        name = classes[int(np.argmin(found))]
        raise DataError(
            f"class {name!r}: expected at least {splits} groups, one for each split, found {found.min()}"
        )


def _shares(fractions: Sequence[float], *, taken: float) -> Array:
    """The shares of what is not taken, ``train`` first."""
    rest = 1.0 - taken - sum(fractions)
    if rest <= 1e-9 or min(fractions) < 0:
        raise ConfigError(f"the splits: expected a share above 0 left for train, found {rest:.3g}")
    shares: Array = np.array([rest, *fractions]) / (1.0 - taken)
    return shares


def divide(labels: Array, groups: Array, shares: Array, rng: np.random.Generator) -> Array:
    """The side of each row, an index into ``shares``: whole groups, classes in proportion; images without an
    object are a class of their own.

    Args:
        labels: (N,) or (N, K) int64; -1 in a slot that is empty.
        groups: (N,) int64.
        shares: of all rows for each side; their sum is 1.
        rng: for ties and order.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    flat, owners = objects(labels, group_of)
    if labels.ndim == 2:
        bare = group_of[(labels == EMPTY).all(axis=1)]
        flat, owners = np.append(flat, np.full(len(bare), EMPTY)), np.append(owners, bare)
    _, class_of = np.unique(flat, return_inverse=True)
    if labels.ndim == 1 and len(np.unique(group_of)) == len(labels):
        return _divide_samples(class_of, shares, rng)
    histograms = np.zeros((group_of.max() + 1, class_of.max() + 1))
    np.add.at(histograms, (owners, class_of), 1)
    targets = np.outer(shares, histograms.sum(axis=0))
    sides = _improve(_assign(histograms, targets, rng), histograms, targets)
    found: Array = sides[group_of]
    return found


def objects(labels: Array, groups: Array) -> tuple[Array, Array]:
    """Label and group of each sample, or of each object in one, as flat arrays."""
    if labels.ndim == 1:
        return labels, groups
    there = labels != EMPTY
    return labels[there], np.repeat(groups, there.sum(axis=1))


def _divide_samples(class_of: Array, shares: Array, rng: np.random.Generator) -> Array:
    """Divide each class by the shares; what rounding owes a side is carried to the next class."""
    sides = np.zeros(len(class_of), np.int64)
    owed = np.zeros(len(shares))
    for label in range(class_of.max(initial=-1) + 1):
        rows = rng.permutation(np.flatnonzero(class_of == label))
        quota = shares * len(rows)
        counts = np.floor(quota).astype(np.int64)
        owed += quota - counts
        for _ in range(len(rows) - counts.sum()):
            side = np.argmax(owed)
            counts[side] += 1
            owed[side] -= 1
        counts = _fill_empty(counts)
        sides[rows] = np.repeat(np.arange(len(shares)), counts)
    return sides


def _fill_empty(counts: Array) -> Array:
    """Give each empty side one sample of the largest, as far as there are samples to give."""
    while (counts == 0).any() and counts.max() > 1:
        counts[np.argmax(counts)] -= 1
        counts[np.argmin(counts)] += 1
    return counts


def _assign(histograms: Array, targets: Array, rng: np.random.Generator) -> Array:
    """Largest groups first, each to the side that lacks the largest share of the group's classes."""
    sizes = histograms.sum(axis=1)
    shuffled = rng.permutation(len(sizes))
    sides = np.zeros(len(sizes), np.int64)
    lacking = targets.copy()
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        classes = (lacking / targets) @ histograms[group] / sizes[group]
        # Among sides that lack the classes alike, the one that lacks samples overall.
        sides[group] = np.argmax(classes + 1e-3 * lacking.sum(axis=1) / targets.sum(axis=1))
        lacking[sides[group]] -= histograms[group]
    return sides


def _improve(sides: Array, histograms: Array, targets: Array) -> Array:
    """Move groups, and exchange them where there are few, for as long as the splits get better.

    Each side also has an empty group, so that a move is an exchange with that. Where there are many
    groups the sides are close to the targets already, and only missing classes are seen to: by moves, and
    where none helps, by exchanges with the groups that hold such a class.
    """
    groups, splits, nothing = len(histograms), len(targets), np.zeros(histograms.shape[1])
    few, empty = groups <= _FEW_GROUPS, np.arange(groups, groups + splits)
    while True:
        homes = np.concatenate([sides, np.arange(splits)])
        counts = np.zeros_like(targets)
        np.add.at(counts, sides, histograms)
        missing = ~counts.all(axis=0)
        if not (few or missing.any()):
            return sides
        holders = np.flatnonzero(histograms[:, missing].any(axis=1))
        for partners in [np.arange(groups + splits)] if few else [empty, holders]:
            moved = ((histograms[p] if p < groups else nothing, homes[p]) for p in partners)
            gains = np.stack([_gains(*one, sides, histograms, counts, targets) for one in moved])
            best, group = np.unravel_index(np.argmax(gains), gains.shape)
            if gains[best, group] > 1e-9:
                break
        else:
            return sides
        partner, home = partners[best], sides[group]
        sides[group] = homes[partner]
        if partner < groups:
            sides[partner] = home


def _gains(
    partner: Array, home: int, sides: Array, histograms: Array, counts: Array, targets: Array
) -> Array:
    """(G,) how much the cost falls when each group changes places with ``partner``."""
    change = histograms - partner
    before = _cost(counts, targets)
    left = _cost(counts[sides] - change, targets[sides], of=targets)
    right = _cost(counts[home] + change, targets[home], of=targets)
    gains = before[sides] + before[home] - left - right
    return np.where(sides == home, 0.0, gains)


def _cost(counts: Array, wanted: Array, of: Array | None = None) -> Array:
    """Squared distance from the wanted counts, per class size; a missing class outweighs any distance."""
    totals = (wanted if of is None else of).sum(axis=0)
    distance = ((counts - wanted) ** 2 / totals).sum(axis=-1)
    missing = (counts < 0.5).sum(axis=-1)
    cost: Array = distance + (totals.sum() + 1) * missing
    return cost
