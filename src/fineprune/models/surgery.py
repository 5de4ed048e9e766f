"""Removing channels for real, and putting them back: the filter, and everything that was computed from it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fineprune.errors import ModelError, excerpt
from fineprune.models.base import ChannelSelect, Network


class SplitConv2d(nn.Module):
    """A grouped convolution whose groups have different numbers of output channels.

    Removing single channels from a convolution with groups leaves unequal groups, which
    ``nn.Conv2d`` cannot express. A group that lost all its channels is gone.
    """

    def __init__(self, convs: Sequence[nn.Conv2d], reads: Sequence[slice]) -> None:
        super().__init__()
        self.out_channels = sum(conv.out_channels for conv in convs)
        self.convs = nn.ModuleList(convs)
        self.reads = tuple(reads)

    def forward(self, inputs: Tensor) -> Tensor:
        """The groups' outputs side by side, (B, out_channels, H, W)."""
        parts = [conv(inputs[:, part]) for conv, part in zip(self.convs, self.reads, strict=True)]
        return torch.cat(parts, dim=1)


def remove_channels(network: Network, originals: Sequence[int]) -> Network:
    """A copy of the network without the given channels of its prunable layer.

    Args:
        network: left as it is.
        originals: the channels to remove, by their index in the network as it was first built.

    Returns:
        A smaller network that computes what ``network`` computes with those channels' activations
        set to zero.

    Raises:
        ModelError: a channel is not there, is named twice, or none would be left.
    """
    present = network.channels
    if len(set(originals)) != len(originals) or not set(originals) <= set(present):
        raise ModelError(
            f"{network.prunable.conv}: expected channels to remove of the {len(present)} that it has, each "
            f"once, found {excerpt(sorted(originals))}"
        )
    kept = torch.tensor([i for i, channel in enumerate(present) if channel not in set(originals)])
    if not len(kept):
        raise ModelError(f"{network.prunable.conv}: cannot remove all of its {len(present)} channels")
    pruned = copy.deepcopy(network)
    if not originals:
        return pruned
    layer = pruned.prunable
    pruned.set_submodule(layer.conv, _narrow_outputs(pruned.get_submodule(layer.conv), kept))
    for name in layer.norms:
        _narrow_norm(pruned.get_submodule(name), kept)
    for name in layer.consumers:
        _narrow_inputs(pruned.get_submodule(name), name, kept, len(present))
    for name in layer.selects:
        select = pruned.get_submodule(name)
        assert isinstance(select, ChannelSelect)
        select.index = select.index[kept.to(select.index.device)]
    pruned.spec = replace(network.spec, pruned=network.spec.pruned + tuple(originals))
    return pruned


def restore_channels(pruned: Network, donor: Network) -> Network:
    """The inverse of :func:`remove_channels`: the pruned network with the donor's channels put back.

    Args:
        pruned: left as it is, on the device of the donor.
        donor: a network of the same spec that still has the channels; left as it is.

    Returns:
        A network of the donor's shape. What survives in ``pruned`` has its weights; the channels that
        it lacks (filters, norm entries, what the consumers read of them) have the donor's.

    Raises:
        ModelError: the donor is of another spec, or lacks a channel that ``pruned`` has.
    """
    present, kept = donor.channels, pruned.channels
    same = replace(pruned.spec, pruned=()) == replace(donor.spec, pruned=())
    if not same or not set(kept) <= set(present):
        raise ModelError(
            f"{pruned.prunable.conv}: expected a donor of the same network with all of its "
            f"{len(kept)} channels, found {donor.spec.architecture} with {len(present)}"
        )
    rows = torch.tensor([present.index(channel) for channel in kept])
    restored, layer = copy.deepcopy(pruned), pruned.prunable
    conv = _rejoin_outputs(pruned.get_submodule(layer.conv), donor.get_submodule(layer.conv), rows)
    restored.set_submodule(layer.conv, conv)
    for name in layer.norms:
        _rejoin_norm(restored.get_submodule(name), donor.get_submodule(name), rows)
    for name in layer.consumers:
        _rejoin_inputs(restored.get_submodule(name), donor.get_submodule(name), rows, len(present))
    for name in layer.selects:
        restored.set_submodule(name, copy.deepcopy(donor.get_submodule(name)))
    restored.spec = replace(pruned.spec, pruned=donor.spec.pruned)
    return restored


def _narrow_outputs(conv: nn.Module, kept: Tensor) -> nn.Module:
    """The convolution with only the kept output channels."""
    if isinstance(conv, nn.Conv2d) and conv.groups == 1:
        return _select_filters(conv, kept)
    split = conv if isinstance(conv, SplitConv2d) else _split(conv)
    narrowed, reads, first = [], [], 0
    for group, read in zip(split.convs, split.reads, strict=True):
        assert isinstance(group, nn.Conv2d)
        mine = kept[(kept >= first) & (kept < first + group.out_channels)] - first
        first += group.out_channels
        if len(mine):
            narrowed.append(_select_filters(group, mine))
            reads.append(read)
    return SplitConv2d(narrowed, reads)


def _split(conv: nn.Module) -> SplitConv2d:
    """A grouped convolution as one plain convolution for each group."""
    assert isinstance(conv, nn.Conv2d)
    width = conv.in_channels // conv.groups
    convs = []
    for rows in torch.arange(conv.out_channels).chunk(conv.groups):
        single = _select_filters(conv, rows)
        single.in_channels, single.groups = width, 1
        convs.append(single)
    return SplitConv2d(convs, [slice(first, first + width) for first in range(0, conv.in_channels, width)])


def _select_filters(conv: nn.Conv2d, rows: Tensor) -> nn.Conv2d:
    narrow = copy.deepcopy(conv)
    rows = rows.to(conv.weight.device)
    narrow.weight = nn.Parameter(conv.weight.detach()[rows].clone())
    narrow.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach()[rows].clone())
    narrow.out_channels = len(rows)
    return narrow


def _narrow_norm(norm: nn.Module, kept: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    for name in ("weight", "bias"):
        value = getattr(norm, name)
        setattr(norm, name, nn.Parameter(value.detach()[kept.to(value.device)].clone()))
    for name in ("running_mean", "running_var"):
        value = getattr(norm, name)
        setattr(norm, name, value[kept.to(value.device)].clone())
    norm.num_features = len(kept)


def _narrow_inputs(consumer: nn.Module, name: str, kept: Tensor, channels: int) -> None:
    """Drop what the consumer reads of the removed channels."""
    if isinstance(consumer, nn.Linear):
        kept = kept.to(consumer.weight.device)
        blocks = consumer.weight.detach().unflatten(1, (channels, -1))
        consumer.weight = nn.Parameter(blocks[:, kept].flatten(1).clone())
        consumer.in_features = consumer.weight.shape[1]
    elif isinstance(consumer, nn.Conv2d) and consumer.groups == 1:
        consumer.weight = nn.Parameter(consumer.weight.detach()[:, kept.to(consumer.weight.device)].clone())
        consumer.in_channels = len(kept)
    else:
        raise ModelError(f"{name}: expected a linear layer or a convolution without groups, found {consumer}")


def _rejoin_outputs(narrow: nn.Module, donor: nn.Module, rows: Tensor) -> nn.Module:
    """The donor's convolution with the narrow one's filters in the given rows."""
    wide = copy.deepcopy(donor)
    parts = _plain_convs(wide)
    for name in ("weight", "bias"):
        if getattr(parts[0], name) is None:
            continue
        merged = _spread(_stacked(narrow, name), _stacked(donor, name), rows)
        for conv, values in zip(parts, merged.split([conv.out_channels for conv in parts]), strict=True):
            setattr(conv, name, nn.Parameter(values.clone()))
    return wide


def _plain_convs(conv: nn.Module) -> list[nn.Conv2d]:
    """The convolution itself, or those that a split one consists of."""
    convs = conv.convs if isinstance(conv, SplitConv2d) else [conv]
    return [single for single in convs if isinstance(single, nn.Conv2d)]


def _stacked(conv: nn.Module, name: str) -> Tensor:
    """The weight or bias of all output channels; those of a split convolution one after the other."""
    return torch.cat([getattr(single, name).detach() for single in _plain_convs(conv)])


def _rejoin_norm(norm: nn.Module, donor: nn.Module, rows: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(donor, nn.BatchNorm2d)
    for name in ("weight", "bias"):
        merged = _spread(getattr(norm, name).detach(), getattr(donor, name).detach(), rows)
        setattr(norm, name, nn.Parameter(merged))
    for name in ("running_mean", "running_var"):
        setattr(norm, name, _spread(getattr(norm, name), getattr(donor, name), rows))
    norm.num_features = donor.num_features


def _rejoin_inputs(consumer: nn.Module, donor: nn.Module, rows: Tensor, channels: int) -> None:
    """Put back what the donor's consumer reads of the channels that this one lacks."""
    assert isinstance(consumer, nn.Linear | nn.Conv2d)
    assert isinstance(donor, nn.Linear | nn.Conv2d)
    # A linear layer's columns lie channel by channel; a convolution's weight has one entry for each.
    merged = donor.weight.detach().unflatten(1, (channels, -1)).clone()
    merged[:, rows.to(merged.device)] = consumer.weight.detach().unflatten(1, (len(rows), -1))
    consumer.weight = nn.Parameter(merged.flatten(1, 2))
    if isinstance(consumer, nn.Linear):
        consumer.in_features = donor.weight.shape[1]
    else:
        consumer.in_channels = channels


def _spread(narrow: Tensor, wide: Tensor, rows: Tensor) -> Tensor:
    """``wide`` with ``narrow`` in the given rows."""
    merged = wide.clone()
    merged[rows.to(wide.device)] = narrow
    return merged
