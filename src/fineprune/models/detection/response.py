"""Local response normalisation within each channel, of the ZF network (Caffe's WITHIN_CHANNEL)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA = 5e-5  # and an exponent of 3/4, over 3 × 3 cells


def respond(features: Tensor) -> Tensor:
    """Features x (B, C, H, W) as x · (1 + ALPHA · mean of the squares around)^-¾, in float32."""
    response: Tensor = _Response.apply(features.float())  # type: ignore[no-untyped-call]
    return response


class _Response(torch.autograd.Function):
    """By hand, because autograd's version takes twice as long, which is as long as conv1 and conv2.

    The power is taken as r³ with r² = (1 + …)^-½, by square roots.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        root = _surround(x.square()).mul_(ALPHA).add_(1).rsqrt_()
        ctx.save_for_backward(x, root)
        response: Tensor = root.sqrt().mul_(root).mul_(x)
        return response

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, root = ctx.saved_tensors
        direct = root.sqrt().mul_(root).mul_(gradient)
        around = _surround(root.square().mul_(direct).mul_(x))
        slope: Tensor = direct.addcmul_(around, x, value=-1.5 * ALPHA)
        return slope


def _surround(x: Tensor) -> Tensor:
    """Means over 3 × 3 cells, zeros beyond the edge; its own transpose.

    As a convolution of each channel, which is eight times as fast on a CPU as an average pooling. In mixed
    precision it rounds the means, which count for ALPHA of what is put out.
    """
    ninths = x.new_full((x.shape[1], 1, 3, 3), 1 / 9)
    return F.conv2d(x, ninths, padding=1, groups=x.shape[1]).float()
