"""Pre-activation ResNet-18 (He et al., ECCV 2016): batch norm and residuals, as surgery meets them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.config import Count
from fineprune.models.base import ChannelSelect, LinearHead, Network, NetworkSpec, PrunableLayer
from fineprune.models.frontends import Normalise


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, each behind batch norm and ReLU, added to a shortcut."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        changes = stride != 1 or channels != planes
        self.shortcut = nn.Conv2d(channels, planes, 1, stride, bias=False) if changes else None
        self.select = ChannelSelect(planes)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches, (B, planes, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)))) + self.select(shortcut)
        return out


@dataclass(frozen=True)
class PreActResNet18Options:
    """Its size.

    Attributes:
        width: channels of the first stage (64 in the original).
    """

    width: Count


class PreActResNet18(Network):
    """ResNet-18 for small images (C, H, W), with a final batch norm and ReLU before pooling.

    The last convolution, ``layer4.1.conv2``, is prunable: its channels meet the shortcut, then the
    final batch norm, then the ReLU whose output is pooled and classified. Removing channel c
    removes its filter, its batch norm entry and its column in ``fc``; the shortcut's channel c is
    no longer read there, while the block's first half still reads it.
    """

    options = PreActResNet18Options
    prunable = PrunableLayer(
        conv="layer4.1.conv2", norms=("bn",), consumers=("fc",), selects=("layer4.1.select",)
    )

    def __init__(self, spec: NetworkSpec, options: PreActResNet18Options) -> None:
        super().__init__(spec)
        width = options.width
        self.normalise = Normalise(spec.mean, spec.std)
        self.conv1 = nn.Conv2d(spec.input.shape[0], width, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(PreActBlock(width, width, 1), PreActBlock(width, width, 1))
        self.layer2 = nn.Sequential(PreActBlock(width, 2 * width, 2), PreActBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(
            PreActBlock(2 * width, 4 * width, 2), PreActBlock(4 * width, 4 * width, 1)
        )
        self.layer4 = nn.Sequential(
            PreActBlock(4 * width, 8 * width, 2), PreActBlock(8 * width, 8 * width, 1)
        )
        self.bn = nn.BatchNorm2d(8 * width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, len(spec.classes))

    def preactivation(self, inputs: Tensor) -> Tensor:
        """See :class:`Network`."""
        x = self.conv1(self.normalise(inputs))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        preactivation: Tensor = self.bn(x)
        return preactivation

    def linear_head(self) -> LinearHead:
        """See :class:`Network`."""
        return LinearHead(self.pool, self.fc, nn.Identity())
