"""Speed of the detector's training, against the same network with loops over boxes, in plain fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from fineprune import runtime
from fineprune.data.inputs import InputSpec
from fineprune.models import build, faster_rcnn
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.detection.boxes import clip, decode, encode, iou
from fineprune.models.detection.proposals import ProposalSpec
from fineprune.models.detection.targets import (
    ANCHOR_NONE,
    ANCHOR_SIGN,
    BACKGROUND,
    REGION_SIGN,
    SamplingSpec,
    Targets,
    choose,
    in_units,
)
from fineprune.training import Recipe, train
from rig import Rows, in_turns

SCENES = InputSpec("image", (3, 320, 240), "uint8", low=0, high=255, sample_rate=None)
SIGNS = ("stop", "speedlimit", "warning")
ARGUMENTS = {
    "width": 0.25,
    "dropout": 0.5,
    "anchors": {"sizes": [20.0, 52.0, 120.0], "ratios": [0.5, 1.0, 2.0]},
    "proposals": {"candidates": 256, "train": 64, "test": 32, "overlap": 0.7},
    "sampling": {"anchors": 256, "regions": 32, "signs": 0.25},
    "detections": {"min_score": 0.05, "overlap": 0.3, "most": 16},
}
BATCH = 4
RECIPE = Recipe("sgd", 1, BATCH, 0.001, "constant", 0.9, 5e-4, None, None, None)


def bench_detector(device: torch.device, *, samples: int, rounds: int) -> dict[str, float]:
    """How many times as fast the detector trains as with loops, and by how much their losses differ."""
    scenes = noisy_scenes(samples, device)
    fast = detector()
    runtime.place(fast, device)
    plain = detector().to(device)
    ours, theirs = in_turns(
        lambda: list(train(fast, scenes, RECIPE, seed=0)),
        lambda: looped_train(plain, scenes),
        rounds=rounds,
    )
    return {"speedup": theirs / ours, "loss_difference": loss_difference(detector().to(device), scenes)}


def loss_difference(network: Network, scenes: Rows) -> float:
    """Of the same network on the same scenes, with loops and without."""
    batch = scenes.draw(torch.arange(min(2, len(scenes))))
    with torch.no_grad():
        ours = network.eval().loss(*batch).loss
        with looped():
            theirs = network.loss(*batch).loss
    return float((ours - theirs).abs())


def looped_train(network: Network, scenes: Rows) -> None:
    """The recipe in a plain loop, fp32, with loops over anchors, proposals, regions and bins."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(
        network.parameters(), RECIPE.learning_rate, RECIPE.momentum, weight_decay=RECIPE.weight_decay
    )
    network.train()
    with looped():
        for positions in torch.randperm(len(scenes)).split(RECIPE.batch_size):
            loss = network.loss(*scenes.draw(positions)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def looped() -> AbstractContextManager[Any]:
    """The network's four steps on boxes replaced by the ones below, which loop."""
    return patch.multiple(
        faster_rcnn,
        anchor_targets=anchor_targets,
        propose=propose,
        sample_regions=sample_regions,
        roi_pool=roi_pool,
    )


def anchor_targets(anchors: Tensor, places: Tensor, spec: SamplingSpec, *, shuffle: bool) -> Targets:
    """As :func:`fineprune.models.detection.targets.anchor_targets`, image by image and anchor by anchor."""
    rows = []
    for signs in places:
        overlaps = torch.cat([iou(anchor[None], signs) for anchor in anchors])
        nearest = overlaps.amax(0).clamp(min=1e-6)
        shows, none, offsets = [], [], []
        for anchor, each in zip(anchors, overlaps, strict=True):
            best, owner = each.max(0)
            shows.append(bool(best >= ANCHOR_SIGN or (each == nearest).any()))
            none.append(bool(best < ANCHOR_NONE) and not shows[-1])
            offsets.append(encode(signs[owner], anchor))
        rows.append((torch.tensor(shows), torch.tensor(none), torch.stack(offsets)))
    sign, empty, there = (torch.stack(parts).to(anchors.device) for parts in zip(*rows, strict=True))
    chosen = choose(sign, empty, spec.anchors, spec.anchors // 2, shuffle=shuffle)
    return Targets(sign.long(), there, chosen)


def propose(
    scores: Tensor, offsets: Tensor, anchors: Tensor, spec: ProposalSpec, *, count: int, size: tuple[int, int]
) -> Tensor:
    """As :func:`fineprune.models.detection.proposals.propose`, box by box."""
    images = []
    for score, offset in zip(scores, offsets, strict=True):
        best = score.topk(min(spec.candidates, len(score))).indices
        boxes = [clip(decode(offset[i], anchors[i]), *size) for i in best]
        stay: list[Tensor] = []
        gone: list[Tensor] = []
        for box in boxes:
            near = bool(stay) and iou(box[None], torch.stack(stay)).max() > spec.overlap
            (gone if near else stay).append(box)
        images.append(torch.stack((stay + gone)[:count]))
    return torch.stack(images)


def sample_regions(
    proposals: Tensor, labels: Tensor, places: Tensor, spec: SamplingSpec, *, shuffle: bool
) -> tuple[Tensor, Targets]:
    """As :func:`fineprune.models.detection.targets.sample_regions`, image by image and region by region."""
    images = []
    for boxes, names, signs in zip(proposals, labels, places, strict=True):
        regions, classes, offsets, usable = torch.cat([signs, boxes]), [], [], []
        for number, region in enumerate(regions):
            best, owner = iou(region[None], signs)[0].max(0)
            shows = bool(best >= REGION_SIGN)
            classes.append(int(names[owner]) + 1 if shows else BACKGROUND)
            offsets.append(in_units(encode(signs[owner], region)))
            usable.append(not shows and (number >= len(names) or int(names[number]) >= 0))
        shown = torch.tensor(classes).gt(BACKGROUND)
        most = round(spec.signs * spec.regions)
        chosen = choose(shown[None], torch.tensor(usable)[None], spec.regions, most, shuffle=shuffle)[0]
        first = chosen.float().topk(min(spec.regions, len(chosen))).indices
        images.append(
            (regions[first], torch.tensor(classes)[first], torch.stack(offsets)[first], chosen[first])
        )
    regions, *targets = (torch.stack(parts).to(proposals.device) for parts in zip(*images, strict=True))
    return regions, Targets(*targets)


def roi_pool(features: Tensor, boxes: Tensor, *, size: int, stride: int) -> Tensor:
    """As :func:`fineprune.models.detection.roi_pool.roi_pool`, region by region and bin by bin."""
    limits = features.shape[-1] - 1, features.shape[-2] - 1
    images = []
    for image, regions in zip(features, boxes, strict=True):
        pooled = []
        for left, top, right, bottom in (regions / stride).tolist():
            x, y = (min(int(low + 0.5), limit) for low, limit in zip((left, top), limits, strict=True))
            ends = (
                min(int(high - 1 / stride + 0.5), n) for high, n in zip((right, bottom), limits, strict=True)
            )
            columns, rows = (max(end - low + 1, 1) for end, low in zip(ends, (x, y), strict=True))
            pooled += [
                image[
                    :,
                    y + i * rows // size : y - (-(i + 1) * rows // size),
                    x + j * columns // size : x - (-(j + 1) * columns // size),
                ].amax((1, 2))
                for i in range(size)
                for j in range(size)
            ]
        images.append(torch.stack(pooled, 1).unflatten(1, (-1, size, size)).transpose(0, 1))
    return torch.stack(images)


def noisy_scenes(count: int, device: torch.device) -> Rows:
    """Noise with two to three boxes called signs."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (count, *SCENES.shape), generator=generator, dtype=torch.uint8)
    low = torch.rand(count, 3, 2, generator=generator) * 180
    sides = torch.rand(count, 3, 2, generator=generator) * 40 + 15
    places = torch.cat([low, low + sides], 2)
    labels = torch.randint(len(SIGNS), (count, 3), generator=generator)
    labels[::2, 2], places[::2, 2] = -1, 0
    return Rows(inputs.to(device), labels.to(device), places.to(device))


@torch.inference_mode()
def as_seen_by(network: Network, scenes: Rows) -> Rows:
    """The same noise, its signs what the network finds there: one with random weights finds no others."""
    assert scenes.places is not None
    found = network(scenes.inputs)
    places = found.boxes[:, : scenes.places.shape[1]]
    return Rows(scenes.inputs, network.answers(found, places), places)


def detector() -> Network:
    """The detector with the same random weights each time."""
    torch.manual_seed(0)
    moments = (128.0,) * 3, (64.0,) * 3
    return build(NetworkSpec("faster_rcnn", ARGUMENTS, SCENES, SIGNS, *moments))


if __name__ == "__main__":
    found = bench_detector(runtime.pick_device(), samples=BATCH, rounds=3)
    print(f"detector: training is {found['speedup']:.1f} times as fast as with loops over boxes")
    print(f"detector: the losses differ by {found['loss_difference']:.1e}")
