"""Anchors: the boxes of a few sizes and shapes that stand on every cell of the feature map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fineprune.config import Positive


@dataclass(frozen=True)
class AnchorSpec:
    """The anchors of one cell: every size in every shape.

    Attributes:
        sizes: side of the square of the same area, in pixels of the input (paper: 128, 256, 512).
        ratios: height over width (paper: 0.5, 1, 2).
    """

    sizes: tuple[Positive, ...]
    ratios: tuple[Positive, ...]

    def __len__(self) -> int:
        return len(self.sizes) * len(self.ratios)


def anchor_grid(spec: AnchorSpec, height: int, width: int, stride: int) -> Tensor:
    """All anchors (height · width · len(spec), 4) of a feature map, row by row, cell by cell.

    They are centred half a pixel from where the receptive fields of the cells are, at multiples of the
    stride (the original code has them 7.5 pixels to the right and below).
    """
    sizes = torch.tensor(spec.sizes).view(-1, 1)
    root = torch.tensor(spec.ratios).sqrt()
    half = torch.stack([(sizes / root).flatten(), (sizes * root).flatten()], -1) / 2
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = (torch.stack([columns, rows], -1) * stride).view(-1, 1, 2)
    return torch.cat([centres - half, centres + half], -1).flatten(0, 1)
