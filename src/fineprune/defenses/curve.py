"""The whole pruning curve for about the price of one forward pass.

Along the curve everything before the pruned layer is constant, so it runs once per batch. Behind
it, where the head is pool → linear → rest, the linear layer's output with channels c_j, c_{j+1}, …
still in place is ``bias + Σ_{i ≥ j} W[:, c_i] · pooled[c_i]``: one running sum over the channels in
reverse pruning order gives every point. Any other head is run on many masked copies in one batch, and only
where something changes: to prune a channel that is silent on an input changes nothing for that input. The
curve is cut into sections, and what is off throughout a section is removed there: its head is narrower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from fineprune.data.batches import Batch
from fineprune.data.format import EMPTY
from fineprune.errors import DefenseError
from fineprune.inference import features
from fineprune.models.base import LinearHead, Network, decide
from fineprune.models.surgery import remove_channels
from fineprune.runtime import place

# Floats per block of points: large enough for matrix speed; small enough for a CPU's cache, and for a GPU to
# need no more memory than a step of training at the paper's sizes.
BLOCK = {"cpu": 1 << 20, "cuda": 1 << 23}

# How many heads there are, each for its share of the points: with ever more, half of one head's work would be
# left in the layers that read the channels; with four it is five eighths. Each but the first is a copy.
SECTIONS = 4

# Blocks of the curve for a batch: which points, and the answers (points, B) or (points, B, K) there.
Blocks = Iterator[tuple[slice, Tensor]]


@torch.inference_mode()
def matches_along_curve(
    network: Network, order: Sequence[int], batches: Iterable[Batch], *, exact: bool = False
) -> Tensor:
    """How many answers match given labels with 0, 1, …, C channels of the prunable layer off.

    Args:
        network: in evaluation mode, with C channels in its prunable layer.
        order: positions of all C channels, first pruned first.
        batches: raw inputs (B, *shape), their places, and labels with one more dimension than usual:
            int64 (T, B) or (T, B, K) for T questions of the same inputs; a label of -1 matches nothing.
        exact: all of it in fp32, as what is measured; else in mixed precision, where that is faster.

    Returns:
        int64 (T, C + 1) on the CPU: entry j is with the first j channels of ``order`` off.

    Raises:
        DefenseError: ``order`` does not name each channel once; there is no batch.
    """
    if sorted(order) != list(range(len(network.channels))):
        raise DefenseError(f"pruning order: expected each of the {len(network.channels)} channels once")
    answer = _answerer(network, torch.tensor(order, device=network.device))
    look = network.features if exact else partial(features, network)
    counts: Tensor | None = None
    for inputs, labels, places in batches:
        if counts is None:
            counts = torch.zeros(len(labels), len(order) + 1, dtype=torch.int64, device=labels.device)
        for points, answers in answer(look(inputs), places):
            counts[:, points] += (answers.unsqueeze(0) == labels.unsqueeze(1)).flatten(2).sum(2)
    if counts is None:
        raise DefenseError("pruning curve: expected inputs, found none")
    return counts.cpu()


def clean_accuracy_along_curve(
    network: Network, order: Sequence[int], batches: Iterable[Batch]
) -> list[float]:
    """Clean accuracy with 0, 1, …, C channels of the prunable layer off.

    Args:
        network: in evaluation mode, with C channels in its prunable layer.
        order: positions of all C channels, first pruned first.
        batches: raw inputs (B, *shape), their labels (B,) or (B, K), and places.

    Returns:
        (C + 1,) shares of right labels, 0…1; :data:`EMPTY` ones do not count.

    Raises:
        DefenseError: as :func:`matches_along_curve`.
    """
    asked = 0

    def questions() -> Iterator[Batch]:
        nonlocal asked
        for batch in batches:
            asked += int((batch.labels != EMPTY).sum())
            yield batch._replace(labels=batch.labels[None])

    matches = matches_along_curve(network, order, questions())[0]
    shares: list[float] = (matches.double() / asked).tolist()
    return shares


def _answerer(network: Network, order: Tensor) -> Callable[[Tensor, Tensor | None], Blocks]:
    """What gives the answers along the curve from a batch's activations and places."""
    head = network.linear_head()
    if head is None:
        return partial(_masked_answers, _sections(network, order), order)
    return partial(_incremental_answers, head, _terms(head.linear.weight, order), order)


def _terms(weight: Tensor, order: Tensor) -> Tensor:
    """The linear layer's columns (C, positions, outputs) channel by channel, pruned last first."""
    by_channel: Tensor = weight.unflatten(1, (len(order), -1)).permute(1, 2, 0)
    return by_channel[order.flip(0)].contiguous()


def _incremental_answers(
    head: LinearHead, weight: Tensor, order: Tensor, activations: Tensor, _places: Tensor | None
) -> Blocks:
    """From the bare bias on: each point adds the channel that is pruned last before it."""
    channels, _, outputs = weight.shape
    pooled = head.pool(activations).flatten(2).transpose(0, 1)[order.flip(0)].contiguous()
    batch = pooled.shape[1]
    rows = max(1, BLOCK[activations.device.type] // (batch * outputs))
    running = _bias(head, batch)
    yield slice(channels, channels + 1), decide(head.rest(running)).unsqueeze(0)
    for first in range(0, channels, rows):
        last = min(channels, first + rows)
        sums = torch.bmm(pooled[first:last], weight[first:last])
        sums[0] += running
        running = _accumulate(sums)[-1].clone()
        predictions = decide(head.rest(sums.flatten(0, 1))).view(last - first, batch)
        yield slice(channels - last, channels - first), predictions.flip(0)


def _accumulate(sums: Tensor) -> Tensor:
    """Running sums over the first dimension, in place."""
    if sums.is_cuda:
        return sums.cumsum_(0)
    # On a CPU cumsum walks down the columns, ten times as slow as adding row to row.
    for before, point in pairwise(sums):
        point += before
    return sums


def _bias(head: LinearHead, batch: int) -> Tensor:
    linear = head.linear
    bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
    return bias.expand(batch, -1)


class Section(NamedTuple):
    """Points of the curve for which the same channels are off for good.

    Attributes:
        first, end: from which to before which.
        network: without these channels.
        kept: positions (K,) of the others in the whole network.
        until: (K,), up to which point each of them is on.
    """

    first: int
    end: int
    network: Network
    kept: Tensor
    until: Tensor


def _sections(network: Network, order: Tensor) -> list[Section]:
    """The curve in :data:`SECTIONS` parts, or in one for each channel where they are fewer."""
    channels, found, until = len(order), [], order.argsort()
    edges = sorted({channels * number // SECTIONS for number in range(SECTIONS)})
    for first, end in pairwise([*edges, channels + 1]):
        narrow = network
        if first:
            narrow = remove_channels(network, [network.channels[i] for i in order[:first].tolist()])
            place(narrow, order.device)
        kept = order[first:].sort().values
        found.append(Section(first, end, narrow, kept, until[kept]))
    return found


def _masked_answers(
    sections: Sequence[Section], order: Tensor, activations: Tensor, places: Tensor | None
) -> Blocks:
    """Any head: many masked copies in one batch, of those inputs whose activations change at a point."""
    batch, channels = activations.shape[:2]
    fires = (activations != 0).flatten(2).any(2)[:, order].T
    points, inputs = torch.cat([fires.new_ones(1, batch), fires]).nonzero(as_tuple=True)
    before = [0, *torch.bincount(points, minlength=channels + 1).cumsum(0).tolist()]
    rows = max(1, BLOCK[activations.device.type] // activations[0].numel())
    answers = []
    for first, end, network, kept, until in sections:
        if before[first] == before[end]:
            continue
        seen = activations[:, kept].contiguous(memory_format=torch.channels_last)
        for copies in torch.arange(before[first], before[end], device=order.device).split(rows):
            of = inputs[copies]
            on = until >= points[copies].unsqueeze(1)
            outputs = network.head(seen[of].where(on.view(*on.shape, 1, 1), 0))
            answers.append(network.answers(outputs, None if places is None else places[of]))
    # At each point, an input's latest copy: they are sorted by point.
    latest = torch.zeros(channels + 1, batch, dtype=torch.int64, device=order.device)
    latest[points, inputs] = torch.arange(len(points), device=order.device)
    yield slice(0, channels + 1), torch.cat(answers)[latest.cummax(0).values]
