"""Greedy non-maximum suppression, for all images and classes at once."""

from __future__ import annotations

import torch
from torch import Tensor

from fineprune.models.detection.boxes import iou

# Rounds in an exported program, which cannot wait for the fixed point and fails where it was not reached.
# Each round settles one more link of the longest chain of boxes that suppress one another: trained networks
# have chains of up to 18, untrained ones on smooth images of up to 37 among 2,000 boxes.
EXPORTED_ROUNDS = 64
# Rounds between two checks for the fixed point: at each the CPU has to wait for the GPU.
LOOK = 8


def nms(boxes: Tensor, threshold: float) -> Tensor:
    """Which boxes stay when each box removes all later ones that overlap with it too much.

    The greedy rule is a fixed point, "a box stays iff no earlier box that stays overlaps with it", and
    it is the only one: the first box stays, and each box depends on earlier ones alone. Applying
    the rule to all boxes at once gets box i right in at most i rounds, in practice in a few.

    Args:
        boxes: (G, N, 4), best first, in G independent groups.
        threshold: the overlap (IoU) up to which two boxes may both stay.

    Returns:
        bool (G, N).

    Raises:
        RuntimeError: when an exported program runs, and more than :data:`EXPORTED_ROUNDS` are needed.
    """
    # As 0 and 1 in a matrix product, which is exact in any precision and ten times as fast as logic.
    removes = (iou(boxes, boxes) > threshold).to(boxes.dtype).triu(1)
    stays = torch.ones_like(removes[:, :1])
    exporting = torch.compiler.is_exporting()
    for number in range(1, (EXPORTED_ROUNDS if exporting else boxes.shape[1]) + 1):
        before, stays = stays, (stays @ removes == 0).to(stays.dtype)
        if number % LOOK == 0 and not exporting and torch.equal(before, stays):
            break
    if exporting:  # what is served never decides otherwise than what was judged
        torch._assert_async((before == stays).all(), f"suppression took more than {EXPORTED_ROUNDS} rounds")
    return stays.squeeze(1) > 0
