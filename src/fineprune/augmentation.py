"""Random changes of training batches, made on the device where the batch lies; places follow the inputs.

Every input draws its own numbers. What an image shift or a zoom brings in from outside repeats the edge;
a shift in time or a higher speed brings in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fineprune.data.batches import Batch
from fineprune.data.inputs import InputSpec
from fineprune.errors import ConfigError

Kind = Literal["flip", "shift", "zoom", "light", "speed", "erase"]


class Reach(NamedTuple):
    """How far images may be moved: a share of width and height, and times larger or smaller."""

    shift: float
    zoom: float


# Crops show their object in the middle and at one size; in a scene it stands anywhere.
CROP, SCENE = Reach(0.05, 1.1), Reach(0.1, 1.25)
TIME_SHIFT = 0.1  # of a clip's length: ±100 ms of a second, as is habit for speech commands
# Ko et al., "Audio Augmentation for Speech Recognition" (Interspeech 2015): times faster or slower.
SPEED = 1.1
LIGHT = 1.25  # times more or less contrast, and brightness
KEPT = 0.5  # of a box's area must stay inside
# Zhong et al., "Random Erasing Data Augmentation" (AAAI 2020): of the object's area, and width over height.
ERASED, ASPECT = (0.02, 0.4), 10 / 3
# Park et al., "SpecAugment" (Interspeech 2019), table 1: of a clip's length, at most.
SILENCED = 0.2


def augment(batch: Batch, kinds: Sequence[Kind], generator: Generator, spec: InputSpec) -> Batch:
    """The batch with each kind of change applied in turn.

    ``flip`` mirrors an image with probability ½; ``shift`` moves it by whole pixels, or a clip in time;
    ``zoom`` scales by a log-uniform factor around the centre, by bilinear interpolation; ``light`` changes
    the mean of an image and the contrast about it; ``speed`` plays a clip faster or slower around its middle,
    pitch and all, by linear interpolation (Ko et al., Interspeech 2015); ``erase`` paints, with probability
    ½, a rectangle of one random colour over a part of a crop, or of every box of a scene (Zhong et al., AAAI
    2020), and silences up to a fifth of a clip (Park et al., Interspeech 2019). Scenes with boxes are moved
    further than crops.

    Args:
        batch: raw inputs (B, channels, height, width) or (B, samples), with or without places.
        kinds: what to apply, in this order.
        generator: source of the random numbers, on any device.
        spec: what one input is, and its range of values.

    Returns:
        A new batch, inputs in the same dtype. A box that one step leaves with less than half of its area
        becomes an empty slot (label -1, zeros) where it stood. The eye with the smaller x stays first.

    Raises:
        ConfigError: see :func:`check_kinds`.
    """
    check_kinds(kinds, spec)
    steps = _IMAGE_STEPS if spec.kind == "image" else _AUDIO_STEPS
    for kind in kinds:
        batch = steps[kind](batch, generator, spec)
    return batch


def check_kinds(kinds: Sequence[Kind], spec: InputSpec) -> None:
    """Refuse what makes no sense for the input.

    Raises:
        ConfigError: a kind that is not for this kind of input.
    """
    steps = _IMAGE_STEPS if spec.kind == "image" else _AUDIO_STEPS
    unknown = [kind for kind in kinds if kind not in steps]
    if unknown:
        raise ConfigError(
            f"augment: for {spec.kind} expected any of {', '.join(steps)}, found {', '.join(unknown)}"
        )


def _flip(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    height, width = spec.shape[-2:]
    mirrored = (_uniform(batch, generator, 1) < 0).float()
    rows = torch.arange(height, device=mirrored.device).expand(len(mirrored), -1)
    columns = torch.arange(width, device=mirrored.device)
    columns = torch.where(mirrored > 0, columns.flip(0), columns)
    scale = torch.cat([1 - 2 * mirrored, torch.ones_like(mirrored)], 1)
    offset = torch.cat([width * mirrored, torch.zeros_like(mirrored)], 1)
    return _followed(batch, _picked(batch.inputs, rows, columns), scale, offset)


def _shift(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    height, width = spec.shape[-2:]
    across, down = (_uniform(batch, generator, 2) * _reach(batch).shift).split(1, 1)
    offset = torch.cat([across * width, down * height], 1).round()
    columns = (torch.arange(width, device=offset.device) - offset[:, :1]).clamp(0, width - 1).long()
    rows = (torch.arange(height, device=offset.device) - offset[:, 1:]).clamp(0, height - 1).long()
    return _followed(batch, _picked(batch.inputs, rows, columns), torch.ones_like(offset), offset)


def _zoom(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    height, width = spec.shape[-2:]
    scale = _reach(batch).zoom ** _uniform(batch, generator, 1)
    # affine_grid asks where each output pixel comes from, with the centre at 0.
    source = F.pad(torch.diag_embed((1 / scale).expand(-1, 2)), (0, 1))
    grid = F.affine_grid(source, list(batch.inputs.shape), align_corners=False)
    zoomed = F.grid_sample(batch.inputs.float(), grid, padding_mode="border", align_corners=False)
    offset = torch.cat([width / 2 * (1 - scale), height / 2 * (1 - scale)], 1)
    return _followed(batch, zoomed.round_().to(batch.inputs.dtype), scale.expand(-1, 2), offset)


def _light(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    contrast, brightness = (LIGHT ** _uniform(batch, generator, 2)).view(-1, 2, 1, 1, 1).unbind(1)
    values = batch.inputs.float()
    offset = values.mean((1, 2, 3), keepdim=True) * (brightness - contrast)
    values = values.mul_(contrast).add_(offset).round_().clamp_(spec.low, spec.high)
    return batch._replace(inputs=values.to(batch.inputs.dtype))


def _erase(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    channels, height, width = spec.shape
    chance, colour = _uniform(batch, generator, 1 + channels).split([1, channels], 1)
    colour = (spec.low + (spec.high - spec.low) * (colour + 1) / 2).round_().to(batch.inputs.dtype)
    if batch.labels.dim() == 1:
        edge = torch.zeros(len(colour), 1, 1, device=colour.device)
        objects = torch.cat([edge, edge, edge + width, edge + height], 2)
    else:
        assert batch.places is not None
        objects = batch.places
    gone = _covered(_parts(objects, batch, generator), height, width) & (chance < 0).unsqueeze(2)
    painted = gone.unsqueeze(1) * colour.view(-1, channels, 1, 1)
    return batch._replace(inputs=batch.inputs * ~gone.unsqueeze(1) + painted)


def _shift_in_time(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    (length,) = spec.shape
    reach = math.ceil(TIME_SHIFT * length)
    offset = (_uniform(batch, generator, 1) * TIME_SHIFT * length).round().long()
    windows = F.pad(batch.inputs, (reach, reach)).unfold(1, length, 1)
    first = torch.arange(len(windows), device=offset.device)
    return batch._replace(inputs=windows[first, reach - offset.squeeze(1)])


def _speed(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    (length,) = spec.shape
    times = SPEED ** _uniform(batch, generator, 1)
    middle = (length - 1) / 2
    source = (torch.arange(length, device=times.device) - middle) * times + middle
    before = source.floor()
    values = [_silent_outside(batch.inputs, (before + step).long()).float() for step in (0, 1)]
    played = values[0].lerp_(values[1], source - before).round_()
    return batch._replace(inputs=played.to(batch.inputs.dtype))


def _erase_in_time(batch: Batch, generator: Generator, spec: InputSpec) -> Batch:
    (length,) = spec.shape
    size, start = ((_uniform(batch, generator, 2) + 1) / 2).split(1, 1)
    size = size * SILENCED * length
    start = start * (length - size)
    return batch._replace(inputs=batch.inputs * ~_between(start, start + size, length))


Step = Callable[[Batch, Generator, InputSpec], Batch]
_IMAGE_STEPS: dict[str, Step] = {
    "flip": _flip,
    "shift": _shift,
    "zoom": _zoom,
    "light": _light,
    "erase": _erase,
}
_AUDIO_STEPS: dict[str, Step] = {"shift": _shift_in_time, "speed": _speed, "erase": _erase_in_time}


def _uniform(batch: Batch, generator: Generator, columns: int) -> Tensor:
    """(B, columns) random numbers in -1…1 on the batch's device."""
    drawn = torch.rand(len(batch.inputs), columns, generator=generator, device=generator.device)
    return drawn.to(batch.inputs.device) * 2 - 1


def _reach(batch: Batch) -> Reach:
    return CROP if batch.labels.dim() == 1 else SCENE


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image (C, H, W) the pixels in the rows (B, H) and columns (B, W) that are named."""
    source = (rows.unsqueeze(2) * images.shape[3] + columns.unsqueeze(1)).view(len(images), 1, -1)
    return images.flatten(2).gather(2, source.expand(-1, images.shape[1], -1)).view_as(images)


def _silent_outside(clips: Tensor, source: Tensor) -> Tensor:
    """Of each clip (B, length) the samples (B, length) that ``source`` names; silence outside of it."""
    inside = (source >= 0) & (source < clips.shape[1])
    return clips.gather(1, source.clamp(0, clips.shape[1] - 1)) * inside


def _followed(batch: Batch, inputs: Tensor, scale: Tensor, offset: Tensor) -> Batch:
    """The batch with changed images, and with its places at ``scale · place + offset``, both (B, 2)."""
    if batch.places is None:
        return batch._replace(inputs=inputs)
    count = len(inputs)
    points = batch.places.reshape(count, -1, 2) * scale.unsqueeze(1) + offset.unsqueeze(1)
    if batch.labels.dim() == 1:
        return Batch(inputs, batch.labels, _left_eye_first(points))
    boxes, labels = _kept(points.view(count, -1, 2, 2), batch.labels, inputs.shape[-1], inputs.shape[-2])
    return Batch(inputs, labels, boxes)


def _left_eye_first(eyes: Tensor) -> Tensor:
    """Eyes (B, 2, 2) with the smaller x first."""
    crossed = eyes[:, 0, 0] > eyes[:, 1, 0]
    return torch.where(crossed.view(-1, 1, 1), eyes.flip(1), eyes)


def _kept(corners: Tensor, labels: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Boxes (B, K, 4) inside the image from two corners each (B, K, 2, 2), and labels (B, K).

    Slots of which too little is left are emptied.
    """
    whole = torch.stack([corners.amin(2), corners.amax(2)], 2)
    inside = torch.stack([whole[..., 0].clamp(0, width), whole[..., 1].clamp(0, height)], 3)
    area, left = ((boxes[:, :, 1] - boxes[:, :, 0]).prod(2) for boxes in (whole, inside))
    kept = (labels >= 0) & (left >= KEPT * area)
    return inside.flatten(2) * kept.unsqueeze(2), labels.where(kept, -1)


def _parts(boxes: Tensor, batch: Batch, generator: Generator) -> Tensor:
    """A random rectangle inside each box, all (B, K, 4)."""
    drawn = (_uniform(batch, generator, 4 * boxes.shape[1]).view(*boxes.shape[:2], 4) + 1) / 2
    share = ERASED[0] + (ERASED[1] - ERASED[0]) * drawn[..., :1]
    stretch = ASPECT ** (drawn[..., 1:2] - 0.5)  # of the width, and what the height shrinks by
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    part = (size.prod(2, keepdim=True) * share).sqrt() * torch.cat([stretch, 1 / stretch], 2)
    part = part.minimum(size)
    start = corner + (size - part) * drawn[..., 2:]
    return torch.cat([start, start + part], 2)


def _covered(boxes: Tensor, height: int, width: int) -> Tensor:
    """(B, height, width): whether the centre of the pixel lies in any of the boxes (B, K, 4)."""
    across = _between(boxes[..., 0:1], boxes[..., 2:3], width)
    down = _between(boxes[..., 1:2], boxes[..., 3:4], height)
    # As 0 and 1 in a matrix product, which is exact and an eighth of the work of logic over every box.
    return down.float().transpose(1, 2) @ across.float() > 0


def _between(start: Tensor, end: Tensor, length: int) -> Tensor:
    """(…, length): whether the centre of each pixel or sample lies between start and end, both (…, 1)."""
    centres = torch.arange(length, device=start.device) + 0.5
    return (start <= centres) & (centres < end)
