"""Average precision against numbers by hand, and against a plain one with a loop for everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineprune.errors import DataError
from fineprune.evaluation.average_precision import Detected, average_precision

A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (80, 80, 90, 90)
HALF = (0, 0, 10, 5)  # IoU with A is exactly one half
LESS = (0, 0, 10, 4.9)


def truth(*images):
    """Boxes (N, K, 4) and labels (N, K) of images given as lists of (box, class)."""
    slots = max(map(len, images))
    boxes, labels = np.zeros((len(images), slots, 4)), np.full((len(images), slots), -1)
    for row, image in enumerate(images):
        for slot, (box, label) in enumerate(image):
            boxes[row, slot], labels[row, slot] = box, label
    return boxes, labels


def said(*images):
    """Detections of images given as lists of (box, class, score)."""
    boxes, classes = truth(*[[(box, label) for box, label, _ in image] for image in images])
    scores = np.zeros(classes.shape)
    for row, image in enumerate(images):
        scores[row, : len(image)] = [score for *_, score in image]
    return Detected(boxes, scores, classes)


def values(found, there, classes=1):
    result = average_precision(found, *there, classes=classes)
    return [None if one is None else one.value for one in (result.mean, *result.by_class)]


class TestByHand:
    def test_everything_found(self):
        assert values(said([(A, 0, 0.9)], [(B, 0, 0.3)]), truth([(A, 0)], [(B, 0)])) == [1, 1]

    def test_nothing_found(self):
        assert values(said([], [(FAR, 0, 0.3)]), truth([(A, 0)], [(B, 0)])) == [0, 0]

    def test_a_wrong_one_above_a_right_one(self):
        # Precision 1 at recall 1/2, then 2/3 at recall 1: 1/2 · 1 + 1/2 · 2/3.
        found = said([(A, 0, 0.9), (FAR, 0, 0.8)], [(B, 0, 0.7)])
        assert values(found, truth([(A, 0)], [(B, 0)])) == [pytest.approx(5 / 6)] * 2

    def test_precision_further_down_counts_where_it_is_higher(self):
        # 0, 1/2, 2/3 down the ranking: 2/3 is the best that recall 1/2 can be had with.
        found = said([(FAR, 0, 0.9), (A, 0, 0.8)], [(B, 0, 0.7)])
        assert values(found, truth([(A, 0)], [(B, 0)])) == [pytest.approx(2 / 3)] * 2

    def test_a_box_is_found_once(self):
        # The second detection of A is wrong, though it fits: 1/2 · 1 + 1/2 · 2/3.
        found = said([(A, 0, 0.9), (A, 0, 0.8)], [(B, 0, 0.7)])
        assert values(found, truth([(A, 0)], [(B, 0)]))[0] == pytest.approx(5 / 6)

    @pytest.mark.parametrize(("box", "value"), [(HALF, 1), (LESS, 0)])
    def test_an_overlap_of_one_half_suffices(self, box, value):
        assert values(said([(box, 0, 0.9)]), truth([(A, 0)]))[0] == value

    def test_another_class_does_not_count(self):
        # Class 0 is found below a false alarm, class 1 never: (1/2 + 0) / 2.
        found = said([(A, 0, 0.5)], [(B, 0, 0.9)])
        assert values(found, truth([(A, 0)], [(B, 1)]), 2) == [0.25, 0.5, 0]

    def test_a_class_that_does_not_occur_has_no_value(self):
        found = said([(A, 0, 0.9), (B, 1, 0.9)])
        assert values(found, truth([(A, 0)]), 3) == [1, 1, None, None]
        assert values(found, (np.zeros((1, 2, 4)), np.full((1, 2), -1)), 2) == [None] * 3
        assert values(found, (np.zeros((1, 0, 4)), np.zeros((1, 0), int)), 1) == [None] * 2

    def test_what_is_not_finite_is_wrong(self):
        nan = (np.nan,) * 4
        found = said([(nan, 0, 0.9), (A, 0, 0.8), (A, 0, np.nan)])
        assert values(found, truth([(A, 0)]))[0] == 0.5


def plain(found, boxes, labels, one):
    """Average precision of a class as the development kit's loops compute it, one step at a time."""
    ranked = sorted(
        (-found.scores[i, d], i, d)
        for i, d in np.ndindex(*found.scores.shape)
        if found.scores[i, d] > 0 and found.classes[i, d] == one
    )
    taken, precisions, recalls, hits = set(), [], [], 0
    total = int((labels == one).sum())
    for seen, (_, i, d) in enumerate(ranked, 1):
        best, at = 0.0, None
        for k in range(labels.shape[1]):
            if labels[i, k] == one and overlap(found.boxes[i, d], boxes[i, k]) > best:
                best, at = overlap(found.boxes[i, d], boxes[i, k]), (i, k)
        if best >= 0.5 and at not in taken:
            taken.add(at)
            hits += 1
        precisions.append(hits / seen)
        recalls.append(hits / total)
    area, reached = 0.0, 0.0
    for place, recall in enumerate(recalls):
        area += (recall - reached) * max(precisions[place:])
        reached = recall
    return area


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (
        (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both
    )


def scenes(seed, images=6, slots=12, there=4, classes=3):
    """Random boxes on a coarse grid, so that many overlap, and detections near them; some scores tie."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 6, (images, there, 2)) * 5.0
    boxes = np.concatenate([corners, corners + random.integers(2, 5, (images, there, 2)) * 5.0], 2)
    labels = random.integers(-1, classes, (images, there))
    chosen = random.integers(0, there, (images, slots))
    near = np.take_along_axis(boxes, chosen[..., None], 1) + random.integers(-2, 3, (images, slots, 4))
    found = Detected(
        near, random.integers(0, 40, (images, slots)) / 40, random.integers(0, classes, (images, slots))
    )
    return found, boxes, labels


@given(st.integers(0, 2**32))
def test_agrees_with_the_plain_one(seed):
    found, boxes, labels = scenes(seed)
    expected = [plain(found, boxes, labels, one) if (labels == one).any() else None for one in range(3)]
    mean, *by_class = values(found, (boxes, labels), 3)
    assert by_class == [None if one is None else pytest.approx(one) for one in expected]
    known = [one for one in expected if one is not None]
    assert mean == (pytest.approx(np.mean(known)) if known else None)


class TestInterval:
    def test_a_draw_counts_what_a_dataset_with_these_images_would(self, monkeypatch):
        """Half of the draws take the images 2, 0, 1, 3, 0, 0 times, the other half each once."""
        found, boxes, labels = scenes(3)
        found.scores[:] = np.random.default_rng(0).permutation(72).reshape(6, 12) / 72  # no ties
        counts = np.array([2, 0, 1, 3, 0, 0])

        class Draws:
            def multinomial(self, count, _, draws):
                return np.resize([counts, np.ones(count)], (draws, count))

        monkeypatch.setattr(np.random, "default_rng", lambda _: Draws())
        drawn = average_precision(found, boxes, labels, classes=3)
        again = np.repeat(np.arange(6), counts)
        repeated = Detected(found.boxes[again], found.scores[again], found.classes[again])
        direct = average_precision(repeated, boxes[again], labels[again], classes=3)
        for one, other in zip((drawn.mean, *drawn.by_class), (direct.mean, *direct.by_class), strict=True):
            assert one.value != other.value
            assert [one.low, one.high] == pytest.approx(sorted([one.value, other.value]))

    def test_holds_the_value_and_narrows_with_more_images(self):
        few, many = (average_precision(*scenes(1, images=n), classes=3).mean for n in (10, 160))
        for found in (few, many):
            assert 0 <= found.low <= found.value <= found.high <= 1
        assert many.high - many.low < 0.5 * (few.high - few.low)

    def test_is_the_same_for_a_seed(self):
        first, again, other = (average_precision(*scenes(1), classes=3, seed=seed).mean for seed in (0, 0, 1))
        assert first == again
        assert first != other
        assert first.value == other.value

    def test_images_of_a_group_are_drawn_together(self):
        """Every image eight times over says no more than once."""
        found, boxes, labels = scenes(1, images=20)
        copies = np.repeat(np.arange(20), 8)
        many = Detected(found.boxes[copies], found.scores[copies], found.classes[copies])
        alone, grouped, apart = (
            average_precision(*case, classes=3, groups=groups).mean
            for case, groups in (
                ((found, boxes, labels), None),
                ((many, boxes[copies], labels[copies]), copies),
                ((many, boxes[copies], labels[copies]), None),
            )
        )
        assert grouped.low == pytest.approx(alone.low)
        assert apart.high - apart.low < 0.6 * (grouped.high - grouped.low)

    def test_no_few_images_prove_certainty(self):
        right = average_precision(said(*[[(A, 0, 0.9)]] * 5), *truth(*[[(A, 0)]] * 5), classes=1).mean
        assert (right.value, right.high, right.n) == (1, 1, 5)
        assert right.low == pytest.approx(0.566, abs=1e-3)  # Wilson, 5 of 5
        # A class of one box: its AP is a fifth in every draw that has the image, but for rounding.
        late = [*[(FAR, 0, 0.9)] * 4, (A, 0, 0.5)]
        once = average_precision(said(late, *[[]] * 19), *truth([(A, 0)], *[[]] * 19), classes=1).mean
        assert (once.value, once.low, once.high) == pytest.approx((0.2, 0, 0.793), abs=1e-3)  # Wilson, 0 of 1
        wrong = average_precision(said(*[[]] * 5), *truth(*[[(A, 0)]] * 5), classes=1).mean
        assert (wrong.value, wrong.low) == (0, 0)
        assert wrong.high == pytest.approx(0.434, abs=1e-3)


def test_counts_boxes():
    result = average_precision(said([(A, 0, 0.9)], []), *truth([(A, 0), (B, 1)], [(B, 0)]), classes=2)
    assert [one.n for one in (result.mean, *result.by_class)] == [3, 2, 1]


def test_refuses_what_does_not_belong_together():
    boxes, labels = truth([(A, 0)])
    with pytest.raises(DataError, match=r"labels: expected classes below 1, found 1"):
        average_precision(said([(A, 0, 0.9)]), boxes, labels + 1, classes=1)
    with pytest.raises(DataError, match=r"boxes: expected \(2, 1, 4\), found \(1, 1, 4\)"):
        average_precision(said([(A, 0, 0.9)], []), boxes, np.zeros((2, 1), int), classes=1)
