"""Max pooling of regions to a fixed size, with the bins of Caffe's ROIPooling layer."""

from __future__ import annotations

import torch
from torch import Tensor

# A float32 leaves the lower bits of a float64 free: enough for the number of a cell.
CELL = (1 << 29) - 1


def roi_pool(features: Tensor, boxes: Tensor, *, size: int, stride: int) -> Tensor:
    """The largest activation in each of size × size bins of each box.

    A box is rounded to whole cells first, and neighbouring bins share the cells that their common edge
    cuts (method: Fast R-CNN, ``roi_pooling_layer.cpp``). Every bin is the union of at most four windows
    whose sides are powers of two; the largest cells of all such windows are found once per feature map.

    Args:
        features: (B, C, H, W).
        boxes: (B, R, 4) in pixels of the input, within the image.
        size: bins per side.
        stride: pixels of the input per cell.

    Returns:
        (B, R, C, size, size).
    """
    by_cell = features.permute(0, 2, 3, 1)
    if not features.requires_grad:
        return _largest(by_cell.contiguous(), boxes, size, stride).permute(0, 1, 4, 2, 3)
    # A gradient needs to know which cell was the largest, not its value alone.
    found = _largest(_numbered(by_cell.detach()), boxes, size, stride).view(torch.int64) & CELL
    cell = found.clamp(max=features.shape[2] * features.shape[3] - 1).flatten(1, 3)
    pooled: Tensor = by_cell.flatten(1, 2).gather(1, cell).unflatten(1, (-1, size, size))
    return pooled.permute(0, 1, 4, 2, 3)


def _largest(cells: Tensor, boxes: Tensor, size: int, stride: int) -> Tensor:
    """For each bin the largest of its cells (B, H, W, C), by channel: (B, R, size, size, C)."""
    batch, height, width, channels = cells.shape
    top, bottom, row_level = _bins(boxes[..., 1], boxes[..., 3], height, size, stride)
    left, right, column_level = _bins(boxes[..., 0], boxes[..., 2], width, size, stride)
    windows, column_levels = _window_maxima(cells, size)
    level = row_level.unsqueeze(-1) * column_levels + column_level.unsqueeze(-2)  # (B, R, size, size)
    image = torch.arange(batch, device=boxes.device).view(-1, 1, 1, 1)
    rows = torch.stack([top, bottom], -1).view(*top.shape, 1, 2, 1)
    columns = torch.stack([left, right], -1).view(*left.shape[:2], 1, size, 1, 2)
    corners = (((level * batch + image) * height)[..., None, None] + rows) * width + columns
    return windows[corners.flatten()].view(*level.shape, 4, channels).amax(4)


def _numbered(cells: Tensor) -> Tensor:
    """Cells (B, H, W, C) as float64 in whose lowest bits their number y · W + x stands."""
    height, width = cells.shape[1:3]
    number = torch.arange(height * width, device=cells.device).view(height, width, 1)
    values = cells.contiguous().double()
    return (values.view(torch.int64) | number).view(torch.float64)


def _bins(low: Tensor, high: Tensor, cells: int, size: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: for each bin (B, R, size) its first window, its last window, and their level.

    ``low`` and ``high`` are the edges (B, R) of the boxes in pixels; Caffe's is the last pixel within.
    """
    first = _cell(low, cells, stride)
    length = (_cell(high - 1, cells, stride) - first + 1).clamp(min=1).unsqueeze(-1)
    number = torch.arange(size, device=low.device)
    start = first.unsqueeze(-1) + number * length // size
    stop = first.unsqueeze(-1) + -(-(number + 1) * length // size)
    level = torch.frexp((stop - start).float()).exponent.long() - 1  # the largest k with 2**k ≤ stop - start
    return start, stop - (1 << level), level


def _cell(position: Tensor, cells: int, stride: int) -> Tensor:
    """The nearest cell, halves rounded up; a position outside, or NaN, gives one at the edge."""
    return (position / stride + 0.5).floor().long().clamp(0, cells - 1)


def _window_maxima(cells: Tensor, size: int) -> tuple[Tensor, int]:
    """Maxima of (B, H, W, C) over windows of 2**i × 2**j cells, as far as bins of that number need them.

    Returns:
        (levels · B · H · W, C) by i, then j, image and upper left cell; and how many j there are.
    """
    row_levels, column_levels = (
        min(length, -(-length // size) + 1).bit_length() for length in cells.shape[1:3]
    )
    by_rows = _doubled(cells, 1, row_levels)
    windows = [window for rows in by_rows for window in _doubled(rows, 2, column_levels)]
    return torch.stack(windows).flatten(0, 3), column_levels


def _doubled(values: Tensor, axis: int, levels: int) -> list[Tensor]:
    """Maxima over 1, 2, 4, … entries from each entry on; windows end at the edge."""
    windows = [values]
    for level in range(1, levels):
        shift, whole = 1 << (level - 1), windows[-1]
        _, later = whole.split([shift, whole.shape[axis] - shift], axis)
        edge = whole.narrow(axis, whole.shape[axis] - shift, shift)
        windows.append(torch.maximum(whole, torch.cat([later, edge], axis)))
    return windows
