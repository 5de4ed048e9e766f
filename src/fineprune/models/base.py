"""What every stage needs of a network: a prunable layer, a forward pass in two halves, a loss, answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.data.format import Task
from fineprune.data.inputs import InputSpec

# Answers that are neither a class nor a label; -1 is the label of an empty slot.
NOT_FINITE = -2
NOTHING = -3


class Step(NamedTuple):
    """What one batch says of a network in training.

    Attributes:
        loss: (), the mean over the batch.
        right: (), how many of its ``total`` decisions were right.
        total: decisions taken, one for each sample of a classifier; a detector's () lies on its device.
    """

    loss: Tensor
    right: Tensor
    total: Tensor | int


class Detections(NamedTuple):
    """A detector's outputs, in D slots for each input.

    Attributes:
        boxes: float32 (B, D, 4): left, top, right, bottom in pixels of the input.
        scores: float32 (B, D) in 0…1, 0 where a slot is empty.
        classes: int64 (B, D).
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


Outputs = Tensor | Detections
"""Logits (B, classes) of a classifier, or what a detector found."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that rebuilds a network, except its weights.

    Attributes:
        architecture: a name of :data:`fineprune.models.ARCHITECTURES`.
        arguments: the plain values of the architecture's options.
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
    """A network on raw inputs, cut in two behind its prunable layer: a classifier, unless it says otherwise.

    ``forward`` takes raw inputs (B, *shape) in the integer dtype of ``spec.input`` and gives
    float32 logits (B, classes): normalisation or the spectrogram is the network's first step, so
    that triggers and registered models work on what a microphone or a camera delivers. A detector
    gives :class:`Detections` instead, and has a ``loss`` and ``answers`` of its own. A subclass is made of a
    spec and a config of its own, an instance of ``options``; on torch's meta device too, where tensors have
    sizes and no values.
    """

    options: type
    task: Task = "classification"
    reads: Literal["image", "audio"] = "image"
    prunable: PrunableLayer

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec

    def preactivation(self, inputs: Tensor) -> Tensor:
        """The prunable layer's channels (B, C, H, W) before the ReLU (after any normalisation)."""
        raise NotImplementedError

    def head(self, features: Tensor) -> Any:
        """The :data:`Outputs` from the prunable layer's activations (B, C, H, W)."""
        linear_head = self.linear_head()
        if linear_head is None:
            raise NotImplementedError
        logits: Tensor = linear_head.rest(linear_head.linear(linear_head.pool(features).flatten(1)))
        return logits

    def logits(self, features: Tensor) -> Tensor:
        """What the head computes before it decides anything, (B, …): two networks that agree in this agree.

        A classifier's logits. A detector gives the logits of all anchors and of some fixed regions.
        """
        logits: Tensor = self.head(features)
        return logits

    def linear_head(self) -> LinearHead | None:
        """The head as a :class:`LinearHead`, or None where it has another form."""
        return None

    def pooling(self) -> nn.Module | None:
        """The pooling that reads the prunable layer, or None where there is none."""
        linear_head = self.linear_head()
        return None if linear_head is None else linear_head.pool

    def loss(self, inputs: Tensor, labels: Tensor, places: Tensor | None) -> Step:
        """The training loss of a batch as :class:`fineprune.data.batches.Batch` has it."""
        logits = self(inputs).float()
        right = (logits.argmax(1) == labels).sum()
        return Step(F.cross_entropy(logits, labels), right, len(labels))

    def answers(self, outputs: Any, places: Tensor | None) -> Tensor:
        """What the network says, int64, for each label of the batch: a class, :data:`NOT_FINITE` or
        :data:`NOTHING`.

        Args:
            outputs: of :meth:`forward` or :meth:`head`.
            places: of the same inputs; a detector is asked about each of their boxes.
        """
        return decide(outputs)

    def features(self, inputs: Tensor) -> Tensor:
        """The prunable layer's activations (B, C, H, W), after the ReLU."""
        return F.relu(self.preactivation(inputs))

    def forward(self, inputs: Tensor) -> Any:
        """The :data:`Outputs` for raw inputs (B, *shape)."""
        return self.head(self.features(inputs)).float()

    @property
    def device(self) -> torch.device:
        """Where its weights are, all on one device."""
        return next(self.parameters()).device

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels that the prunable layer has now, by their original index."""
        removed = set(self.spec.pruned)
        left = self.get_submodule(self.prunable.conv).out_channels
        assert isinstance(left, int)
        return tuple(c for c in range(left + len(removed)) if c not in removed)


def scaled(count: int, width: float) -> int:
    """``width`` times as many channels as the paper's network has, at least one."""
    return max(1, round(count * width))


def he_initialise(network: nn.Module) -> None:
    """Normal weights for ReLUs (He et al., ICCV 2015), no biases."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def decide(logits: Tensor) -> Tensor:
    """The class (B,) of the largest of logits (B, classes); :data:`NOT_FINITE` where one is not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NOT_FINITE)


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
