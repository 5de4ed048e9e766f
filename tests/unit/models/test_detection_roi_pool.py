import math

import pytest
import torch

from fineprune.models.detection.roi_pool import roi_pool

# Of a map of 20 × 26 cells of 16 pixels, in pixels: small, large, thin, whole, at edges, of no size.
BOXES = torch.tensor(
    [
        [[10.0, 20, 50, 60], [0, 0, 400, 300], [100, 5, 104, 290], [7.9, 8.1, 7.9, 8.1]],
        [[390, 290, 400, 300], [24, 40, 120, 200], [0, 150, 399, 158], [8, 8, 25, 25]],
    ]
)


def by_loop(features, boxes, size, stride):
    """Caffe's layer with exact fractions: box by box, bin by bin."""
    _, channels, height, width = features.shape
    found = torch.zeros(*boxes.shape[:2], channels, size, size)
    for image, row in enumerate(boxes.tolist()):
        for number, (left, top, right, bottom) in enumerate(row):
            x, y = (math.floor(low / stride + 0.5) for low in (left, top))
            columns, rows = (
                max(math.floor((high - 1) / stride + 0.5) - low + 1, 1)
                for high, low in ((right, x), (bottom, y))
            )
            for i in range(size):
                for j in range(size):
                    vertical = slice(y + i * rows // size, min(y - (-(i + 1) * rows // size), height))
                    across = slice(x + j * columns // size, min(x - (-(j + 1) * columns // size), width))
                    window = features[image, :, vertical, across]
                    found[image, number, :, i, j] = window.flatten(1).amax(1)
    return found


@pytest.mark.parametrize("size", [1, 2, 6])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_it_is_caffes_layer(size, with_gradient):
    torch.manual_seed(0)
    features = torch.randn(2, 3, 20, 26, requires_grad=with_gradient)
    pooled = roi_pool(features, BOXES, size=size, stride=16)
    assert pooled.requires_grad == with_gradient
    assert pooled.shape == (2, 4, 3, size, size)
    assert torch.equal(pooled, by_loop(features, BOXES, size, 16))


def test_every_cell_is_a_bin_when_the_box_has_as_many():
    features = torch.arange(36.0).view(1, 1, 6, 6)
    pooled = roi_pool(features, torch.tensor([[[0.0, 0, 96, 96]]]), size=6, stride=16)
    assert torch.equal(pooled[0, 0], features[0])


@pytest.mark.parametrize("cells", [1, 5, 7, 17, 41])
def test_a_box_may_cover_a_map_of_any_size(cells):
    features, end = torch.randn(1, 2, cells, cells), 16.0 * cells - 8
    box = torch.tensor([[[0.0, 0, end, end]]])
    assert torch.equal(roi_pool(features, box, size=6, stride=16), by_loop(features, box, 6, 16))


def test_bins_share_the_cells_on_their_common_edge():
    features = torch.tensor([1.0, 5, 2]).view(1, 1, 1, 3)
    pooled = roi_pool(features, torch.tensor([[[0.0, 0, 3, 1]]]), size=2, stride=1)
    assert pooled.flatten().tolist() == [5, 5, 5, 5]


def test_the_gradient_goes_to_the_largest_cell():
    torch.manual_seed(0)
    features = torch.randn(2, 3, 20, 26, requires_grad=True)
    weights = torch.randn(2, 4, 3, 6, 6)
    (fast,) = torch.autograd.grad((roi_pool(features, BOXES, size=6, stride=16) * weights).sum(), features)
    (slow,) = torch.autograd.grad((by_loop(features, BOXES, 6, 16) * weights).sum(), features)
    torch.testing.assert_close(fast, slow)


def test_of_equal_cells_one_has_the_whole_gradient():
    features = torch.zeros(1, 1, 4, 4, requires_grad=True)
    pooled = roi_pool(features, torch.tensor([[[0.0, 0, 64, 64]]]), size=1, stride=16)
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    assert gradient.flatten().sort().values.tolist() == [0.0] * 15 + [1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_pooled_as_such_in_training(value):
    features = torch.full((2, 3, 20, 26), value, requires_grad=True)
    assert not roi_pool(features, BOXES, size=6, stride=16).isfinite().any()


@pytest.mark.parametrize("side", [math.nan, math.inf, -math.inf, 1e30])
def test_boxes_from_nowhere_read_some_cell(side):
    features = torch.ones(1, 2, 4, 4)
    boxes = torch.tensor([[[side, 0, 5, 5], [0, 0, side, side], [side] * 4]])
    assert roi_pool(features, boxes, size=6, stride=16).eq(1).all()
