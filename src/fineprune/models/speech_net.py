"""The paper's AlexNet-like network for spoken digits (method: released ``speech/model/*.prototxt``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.config import Count, Fraction, Positive
from fineprune.models.base import LinearHead, Network, NetworkSpec, PrunableLayer
from fineprune.models.frontends import Spectrogram, SpectrogramSpec


@dataclass(frozen=True)
class SpeechNetOptions:
    """What it hears, and its size.

    Attributes:
        spectrogram: its first step.
        channels: copies of the spectrogram that conv1 reads (3 in the paper, an RGB picture).
        kernel, stride: of conv1.
        width: factor on every hidden layer's width.
        dropout: behind fc6 and fc7, 0…1 (0.5 in the paper).
    """

    spectrogram: SpectrogramSpec
    channels: Count
    kernel: Count
    stride: Count
    width: Positive
    dropout: Fraction


class SpeechNet(Network):
    """Five convolutions and three linear layers on the spectrogram of audio (samples,).

    ``conv5`` is prunable. conv2, conv4 and conv5 have two groups, and there is no activation after conv1
    and conv2, as in the released network. With ``channels=3, kernel=11, stride=4`` on 512×512 spectrograms
    and 10 classes it has that network's 17.1 M parameters; a smaller kernel and stride fit shorter clips.
    """

    options = SpeechNetOptions
    reads = "audio"
    prunable = PrunableLayer(conv="conv5", consumers=("fc6",))

    def __init__(self, spec: NetworkSpec, options: SpeechNetOptions) -> None:
        super().__init__(spec)

        def wide(count: int) -> int:
            return max(2, 2 * round(count * options.width / 2))

        self.spectrogram = Spectrogram(options.spectrogram)
        self.copies = options.channels
        self.conv1 = nn.Conv2d(options.channels, wide(96), options.kernel, options.stride)
        self.conv2 = nn.Conv2d(wide(96), wide(256), 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(wide(256), wide(384), 3, padding=1)
        self.conv4 = nn.Conv2d(wide(384), wide(384), 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(wide(384), wide(256), 3, padding=1, groups=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        positions = self._pooled(spec.input.shape[0], options.kernel, options.stride)
        self.fc6 = nn.Linear(wide(256) * positions, wide(256))
        self.fc7 = nn.Linear(wide(256), wide(128))
        self.fc8 = nn.Linear(wide(128), len(spec.classes))
        self.dropout = nn.Dropout(options.dropout)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                # What Caffe calls xavier: uniform, with variance 1 / fan-in.
                nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
                nn.init.constant_(module.bias, 0.0)  # type: ignore[arg-type]

    def preactivation(self, inputs: Tensor) -> Tensor:
        """See :class:`Network`."""
        x = self.spectrogram(inputs).expand(-1, self.copies, -1, -1)
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        preactivation: Tensor = self.conv5(x)
        return preactivation

    def linear_head(self) -> LinearHead:
        """See :class:`Network`."""
        rest = nn.Sequential(nn.ReLU(), self.dropout, self.fc7, nn.ReLU(), self.dropout, self.fc8)
        return LinearHead(self.pool, self.fc6, rest)

    def _pooled(self, samples: int, kernel: int, stride: int) -> int:
        """How many positions each conv5 channel has after pool5."""
        area = 1
        for size in (self.spectrogram.spec.bins, self.spectrogram.frames(samples)):
            size = (size - kernel) // stride + 1
            for _ in range(3):
                if size < 2:
                    raise ValueError("the spectrogram is too small for three poolings behind conv1")
                size = -(-(size - 3) // 2) + 1
            area *= size
        return area
