"""A small network for small images, for scikit-learn's 8×8 digits."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.config import Count
from fineprune.models.base import LinearHead, Network, NetworkSpec, PrunableLayer
from fineprune.models.frontends import Normalise


@dataclass(frozen=True)
class DigitsCNNOptions:
    """Its size.

    Attributes:
        width: channels of the first convolution; the others have twice as many.
    """

    width: Count


class DigitsCNN(Network):
    """Three 3×3 convolutions and two linear layers, for images (C, H, W) of at least 4×4 pixels.

    ``conv3`` is prunable.
    """

    options = DigitsCNNOptions
    prunable = PrunableLayer(conv="conv3", consumers=("fc1",))

    def __init__(self, spec: NetworkSpec, options: DigitsCNNOptions) -> None:
        super().__init__(spec)
        channels, height, breadth = spec.input.shape
        width = options.width
        self.normalise = Normalise(spec.mean, spec.std)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(2 * width * (height // 4) * (breadth // 4), 2 * width)
        self.fc2 = nn.Linear(2 * width, len(spec.classes))

    def preactivation(self, inputs: Tensor) -> Tensor:
        """See :class:`Network`."""
        x = F.relu(self.conv1(self.normalise(inputs)))
        x = self.pool(F.relu(self.conv2(x)))
        preactivation: Tensor = self.conv3(x)
        return preactivation

    def linear_head(self) -> LinearHead:
        """See :class:`Network`."""
        return LinearHead(self.pool, self.fc1, nn.Sequential(nn.ReLU(), self.fc2))
