"""The paper's face network, DeepID1 (method: the released ``face`` prototxt and weights)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.config import Positive
from fineprune.models.base import Network, NetworkSpec, PrunableLayer, he_initialise, scaled
from fineprune.models.frontends import Normalise


@dataclass(frozen=True)
class DeepIDOptions:
    """Its size.

    Attributes:
        width: factor on every hidden layer's width.
    """

    width: Positive


class DeepID(Network):
    """Four convolutions and two parallel linear layers, summed, for images (C, H, W) of 24×24 pixels or more.

    ``conv3`` is prunable. The third pooling is read by conv4 and, past it, by the linear layer
    ``fc160_1``; ``fc160_2`` reads conv4. conv3 is thus the last convolution that every path shares, and
    removing one of its channels cuts both. On 3×55×47 images of 1283 people the network has the released
    one's 601,643 parameters.

    The released network started from Gaussians of standard deviation 0.01. On little data that start costs
    more than half of conv3's channels, which die (35 of 60 on 34 people of LFW), and a quarter of the
    accuracy (.64 held out, against .90); here weights start as He et al. 2015 have it for ReLUs.
    """

    options = DeepIDOptions
    prunable = PrunableLayer(conv="conv3", consumers=("conv4", "fc160_1"))

    def __init__(self, spec: NetworkSpec, options: DeepIDOptions) -> None:
        super().__init__(spec)
        channels, *size = spec.input.shape
        height, breadth = (_pooled(length) for length in size)

        wide = partial(scaled, width=options.width)
        self.normalise = Normalise(spec.mean, spec.std)
        self.conv1 = nn.Conv2d(channels, wide(20), 4)
        self.conv2 = nn.Conv2d(wide(20), wide(40), 3)
        self.conv3 = nn.Conv2d(wide(40), wide(60), 3)
        self.conv4 = nn.Conv2d(wide(60), wide(80), 2)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # Caffe's poolings round up
        self.fc160_1 = nn.Linear(wide(60) * height * breadth, wide(160))
        self.fc160_2 = nn.Linear(wide(80) * (height - 1) * (breadth - 1), wide(160))
        self.fc8 = nn.Linear(wide(160), len(spec.classes))
        he_initialise(self)

    def preactivation(self, inputs: Tensor) -> Tensor:
        """See :class:`Network`."""
        # The largest of four before the ReLU: the same values and gradients, on a quarter of the cells.
        x = F.relu(self.pool(self.conv1(self.normalise(inputs))))
        x = F.relu(self.pool(self.conv2(x)))
        preactivation: Tensor = self.conv3(x)
        return preactivation

    def head(self, features: Tensor) -> Tensor:
        """See :class:`Network`."""
        pooled = self.pool(features)
        deeper = F.relu(self.conv4(pooled))
        both = self.fc160_1(pooled.flatten(1)) + self.fc160_2(deeper.flatten(1))
        logits: Tensor = self.fc8(F.relu(both))
        return logits

    def pooling(self) -> nn.Module:
        """See :class:`Network`."""
        return self.pool


def _pooled(length: int) -> int:
    """How long a side of that length is after the third pooling."""
    for kernel in (4, 3, 3):
        length = -(-(length - kernel + 1) // 2)
    if length < 2:
        raise ValueError("expected sides of at least 24 pixels")
    return length
