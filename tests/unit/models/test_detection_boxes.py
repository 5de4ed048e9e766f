import math

import pytest
import torch

from fineprune.models.detection.boxes import area, clip, decode, encode, iou, pick

UNIT = [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([0, 0, 10, 10], 1.0),
        ([5, 0, 15, 10], 50 / 150),
        ([5, 5, 15, 15], 25 / 175),
        ([2, 2, 4, 4], 4 / 100),
        ([10, 0, 20, 10], 0.0),
        ([0, 50, 10, 60], 0.0),
        ([50, 0, 60, 10], 0.0),
        ([50, 50, 60, 60], 0.0),
        ([3, 3, 3, 9], 0.0),
        ([0, 0, 0, 0], 0.0),
    ],
)
def test_overlap_is_intersection_over_union(other, expected):
    found = iou(torch.tensor([UNIT]), torch.tensor([other], dtype=torch.float32))
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected)


def test_empty_boxes_overlap_with_nothing_not_even_themselves():
    empty = torch.zeros(2, 4)
    assert iou(empty, empty).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_overlaps_are_of_every_box_with_every_box_of_the_same_group():
    first, second = torch.rand(2, 3, 4).sort(-1).values, torch.rand(2, 5, 4).sort(-1).values
    together = iou(first, second)
    assert together.shape == (2, 3, 5)
    assert torch.equal(together[1, 2, 4], iou(first[1, 2:], second[1, 4:])[0, 0])


def test_the_area_of_an_inverted_box_is_zero():
    assert area(torch.tensor([[0.0, 0, 2, 3], [2, 0, 0, 3]])).tolist() == [6, 0]


def test_offsets_are_shifts_in_sides_and_log_growth():
    offsets = encode(torch.tensor([10.0, 0, 30, 5]), torch.tensor(UNIT))
    torch.testing.assert_close(offsets, torch.tensor([1.5, -0.25, math.log(2), math.log(0.5)]))


def test_a_box_without_area_is_described_as_a_pixels_hundredth():
    offsets = encode(torch.zeros(4), torch.tensor(UNIT))
    torch.testing.assert_close(offsets, torch.tensor([-0.5, -0.5, math.log(0.001), math.log(0.001)]))


def test_decoding_undoes_encoding():
    torch.manual_seed(0)
    low, sides = torch.rand(2, 50, 2) * 100, torch.rand(2, 50, 2) * 40 + 1
    boxes, references = torch.cat([low, low + sides], -1)
    torch.testing.assert_close(decode(encode(boxes, references), references), boxes, rtol=1e-4, atol=1e-3)


def test_no_offset_makes_a_box_of_infinite_size():
    box = decode(torch.tensor([0.0, 0, 1e9, 1e9]), torch.tensor(UNIT))
    torch.testing.assert_close(box, torch.tensor([5 - 312.5, 5 - 312.5, 5 + 312.5, 5 + 312.5]))


def test_a_clipped_box_ends_at_the_image():
    boxes = torch.tensor([[-5.0, 1, 8, 99], [30, 2, 40, 3], [4, -7, 5, -6]])
    assert clip(boxes, height=10, width=20).tolist() == [[0, 1, 8, 10], [20, 2, 20, 3], [4, 0, 5, 0]]


def test_boxes_are_picked_by_index():
    boxes = torch.arange(2 * 3 * 4.0).view(2, 3, 4)
    picked = pick(boxes, torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(picked, torch.stack([boxes[0, [2, 0]], boxes[1, [1, 1]]]))
