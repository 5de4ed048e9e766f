"""First steps of a network: from raw integers to what its convolutions read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fineprune.config import Count


class Normalise(nn.Module):
    """Raw images (B, C, H, W) to float32 with zero mean and unit variance per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Float32 images (B, C, H, W) in channels-last layout."""
        return ((inputs.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class SpectrogramSpec:
    """How a spectrogram is taken.

    Attributes:
        frame, hop: in samples; the paper's data has 1024 and 64.
        bins: how many of the ``frame // 2 + 1`` frequency bins are kept, lowest first.
        window: ``none`` as in the paper's data, or ``hann``.
        scale: ``linear`` is the paper's, min(|FFT| / 256, 255) / 256; ``decibel`` is 20 log10 of
            the amplitude relative to full scale, -80…0 dB mapped to -2…2.
    """

    frame: Count
    hop: Count
    bins: Count
    window: Literal["none", "hann"]
    scale: Literal["linear", "decibel"]


class Spectrogram(nn.Module):
    """Raw audio (B, samples) int16 to magnitude spectrograms (B, 1, bins, frames), low frequencies last.

    Source: the spectrograms of pannous/caffe-speech-recognition, which the paper's speech case uses. Of 513
    bins those keep the upper 512; here they are counted from the lowest, which is the constant part.
    """

    weights: Tensor

    def __init__(self, spec: SpectrogramSpec) -> None:
        super().__init__()
        if not 1 <= spec.bins <= spec.frame // 2 + 1:
            raise ValueError(
                f"bins: expected 1…{spec.frame // 2 + 1} for frames of {spec.frame}, found {spec.bins}"
            )
        self.spec = spec
        hann = torch.hann_window(spec.frame)
        weights = hann if spec.window == "hann" else torch.ones(spec.frame)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Float32 spectrograms (B, 1, bins, frames), in 0…1 (linear) or -2…2 (decibel)."""
        frames = inputs.float().unfold(-1, self.spec.frame, self.spec.hop) * self.weights
        found = torch.fft.rfft(frames)[..., : self.spec.bins]
        # abs would guard against overflow, far from int16's range, and take more than twice as long.
        magnitude = (found.real.square() + found.imag.square()).sqrt()
        return self._scale(magnitude.transpose(1, 2).flip(1)).unsqueeze(1)

    def _scale(self, magnitude: Tensor) -> Tensor:
        if self.spec.scale == "linear":
            return (magnitude / 256).clamp(max=255) / 256
        full = 32768 * self.weights.sum() / 2
        return (20 * torch.log10(magnitude / full + 1e-8)).clamp(-80, 0) / 20 + 2

    def frames(self, samples: int) -> int:
        """How many frames a clip of that many samples gives."""
        return (samples - self.spec.frame) // self.spec.hop + 1
