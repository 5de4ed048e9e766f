"""What the defender's stages need of a network: a prunable layer and a forward pass in two halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.data.format import InputSpec


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that rebuilds a network, except its weights.

    Attributes:
        architecture: a name of :data:`fineprune.models.ARCHITECTURES`.
        arguments: the architecture's own keyword arguments.
        input: what one raw input is.
        classes: class names, one per logit.
        mean, std: per channel, in raw units, for image normalisation.
        pruned: the channels of the prunable layer that were removed, by their original index,
            in the order of removal.
    """

    architecture: str
    arguments: dict[str, Any]
    input: InputSpec
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pruned: tuple[int, ...] = ()


@dataclass(frozen=True)
class PrunableLayer:
    """A convolution whose output channels can be removed, and every module that they reach.

    Attributes:
        conv: the convolution, by module name.
        norms: normalisations over its channels.
        consumers: convolutions and linear layers that read its channels; a linear layer reads
            each channel as one block of columns (flattened channel by channel).
        selects: :class:`ChannelSelect` modules that pick the same channels from a shortcut.
    """

    conv: str
    norms: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    selects: tuple[str, ...] = ()


@dataclass(frozen=True)
class LinearHead:
    """A head of the form ``rest(linear(flatten(pool(features))))``.

    Removing a channel then changes the linear layer's output by one term, which makes the whole
    pruning curve about as cheap as one forward pass.
    """

    pool: nn.Module
    linear: nn.Linear
    rest: nn.Module


class Network(nn.Module):
    """A classifier on raw inputs, cut in two behind its prunable layer.

    ``forward`` takes raw inputs (B, *shape) in the integer dtype of ``spec.input`` and gives
    float32 logits (B, classes): normalisation or the spectrogram is the network's first step, so
    that triggers and registered models work on what a microphone or a camera delivers.
    """

    prunable: PrunableLayer

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec

    def preactivation(self, inputs: Tensor) -> Tensor:
        """The prunable layer's channels (B, C, H, W) before the ReLU (after any normalisation)."""
        raise NotImplementedError

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, classes) from the prunable layer's activations (B, C, H, W)."""
        linear_head = self.linear_head()
        if linear_head is None:
            raise NotImplementedError
        logits: Tensor = linear_head.rest(linear_head.linear(linear_head.pool(features).flatten(1)))
        return logits

    def linear_head(self) -> LinearHead | None:
        """The head as a :class:`LinearHead`, or None where it has another form."""
        return None

    def features(self, inputs: Tensor) -> Tensor:
        """The prunable layer's activations (B, C, H, W), after the ReLU."""
        return F.relu(self.preactivation(inputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, classes) of raw inputs (B, *shape)."""
        return self.head(self.features(inputs)).float()

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels that the prunable layer has now, by their original index."""
        removed = set(self.spec.pruned)
        left = self.get_submodule(self.prunable.conv).out_channels
        assert isinstance(left, int)
        return tuple(c for c in range(left + len(removed)) if c not in removed)


class ChannelSelect(nn.Module):
    """Picks channels of (B, C, H, W) by index; the identity until channels are removed.

    The index is not stored with the weights, which are not trusted: surgery makes it again from the
    card's list of removed channels.
    """

    index: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.full = channels
        self.register_buffer("index", torch.arange(channels), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """The chosen channels (B, len(index), H, W)."""
        return inputs if len(self.index) == self.full else inputs[:, self.index]
