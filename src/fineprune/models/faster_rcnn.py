"""The paper's traffic-sign detector: Faster R-CNN on the ZF network (BadNets' ``ZF/test.prototxt``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineprune.config import Fraction, Positive
from fineprune.models.base import Detections, Network, NetworkSpec, PrunableLayer, Step, he_initialise, scaled
from fineprune.models.detection.anchors import AnchorSpec, anchor_grid
from fineprune.models.detection.detections import DetectionSpec, detect, match_detections
from fineprune.models.detection.local_response_norm import local_response_norm
from fineprune.models.detection.losses import box_loss, class_loss
from fineprune.models.detection.proposals import ProposalSpec, propose
from fineprune.models.detection.roi_pool import roi_pool
from fineprune.models.detection.targets import BACKGROUND, SamplingSpec, anchor_targets, sample_regions
from fineprune.models.frontends import Normalise

STRIDE = 16  # pixels of the input per cell of conv5
BINS = 6  # per side of a pooled region


class Regions(NamedTuple):
    """The region proposal network's outputs for every anchor: logits (B, N, 2) and offsets (B, N, 4)."""

    logits: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class FasterRCNNOptions:
    """Its size, and where it looks for signs.

    Attributes:
        width: factor on every hidden layer's width.
        dropout: behind fc6 and fc7, 0…1 (paper: 0.5).
        anchors: the boxes that proposals start from.
        proposals: the regions that are looked at.
        sampling: what it learns from in each image.
        detections: what is given out.
    """

    width: Positive
    dropout: Fraction
    anchors: AnchorSpec
    proposals: ProposalSpec
    sampling: SamplingSpec
    detections: DetectionSpec


class FasterRCNN(Network):
    """Region proposals on ``conv5``, and a classifier of what the same ``conv5`` shows in each region.

    It is for images (C, H, W); its spec's ``classes`` are without the background.
    ``conv5`` is prunable: removing a channel cuts the region proposal network and, through the pooled
    regions, fc6. At width 1 it is the paper's network, with 58.9 M parameters for three classes.
    Batches are of images of one size. In training mode dropout and the sampling of anchors and
    regions are random; in evaluation mode the loss, too, is always the same.
    """

    options = FasterRCNNOptions
    task = "detection"
    prunable = PrunableLayer(conv="conv5", consumers=("rpn", "fc6"))
    anchors: Tensor

    def __init__(self, spec: NetworkSpec, options: FasterRCNNOptions) -> None:
        super().__init__(spec)
        self.proposals, self.sampling = options.proposals, options.sampling
        self.detections = options.detections
        self._add_layers(options)
        grid = anchor_grid(options.anchors, *self._cells(), STRIDE)
        self.register_buffer("anchors", grid, persistent=False)

    def preactivation(self, inputs: Tensor) -> Tensor:
        """See :class:`Network`."""
        x = self.pool(local_response_norm(self.conv1(self.normalise(inputs)).relu_()))
        x = self.pool(local_response_norm(self.conv2(x).relu_()))
        x = self.conv3(x).relu_()
        x = self.conv4(x).relu_()
        preactivation: Tensor = self.conv5(x)
        return preactivation

    def head(self, features: Tensor) -> Detections:
        """Detections of each image; all scores NaN where an activation or an output is not finite."""
        found = self._look_for_regions(features)
        regions = self._propose(found, self.proposals.test)
        logits, offsets = self._look_at_regions(features, regions)
        detections = detect(logits, offsets, regions, self.detections, size=self.size)
        there = (features, *found, logits, offsets)
        sound = torch.stack([x.flatten(1).isfinite().all(1) for x in there]).all(0)
        scores = torch.where(sound.unsqueeze(1), detections.scores, torch.nan)
        return detections._replace(scores=scores)

    def logits(self, features: Tensor) -> Tensor:
        """The outputs for every anchor, and for the nine cells of a 3 × 3 grid over the image."""
        height, width = self.size
        cells = anchor_grid(AnchorSpec((1.0,), (1.0,)), 3, 3, 1) + 0.5
        regions = (cells / 3 * torch.tensor([width, height, width, height])).to(features.device)
        outputs = self._look_for_regions(features) + self._look_at_regions(
            features, regions.expand(len(features), -1, -1)
        )
        return torch.cat([output.flatten(1) for output in outputs], 1)

    def forward(self, inputs: Tensor) -> Detections:
        """Detections of raw images (B, 3, H, W)."""
        return self.head(self.features(inputs))

    def loss(self, inputs: Tensor, labels: Tensor, places: Tensor | None) -> Step:
        """Both stages' losses; the decisions counted are the classes told of regions on signs."""
        assert places is not None
        features = self.features(inputs)
        found = self._look_for_regions(features)
        with torch.no_grad():
            anchors = anchor_targets(self.anchors, places, self.sampling, shuffle=self.training)
            proposals = self._propose(found, self.proposals.train)
            regions, targets = sample_regions(proposals, labels, places, self.sampling, shuffle=self.training)
        logits, offsets = self._look_at_regions(features, regions)
        own = offsets.gather(2, targets.classes[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)
        first = class_loss(found.logits, anchors) + box_loss(found.offsets, anchors, quadratic=1 / 9)
        second = class_loss(logits, targets) + box_loss(own, targets, quadratic=1.0)
        right = targets.foreground & (logits.argmax(2) == targets.classes)
        return Step(first + second, right.sum(), targets.foreground.sum())

    def answers(self, outputs: Detections, places: Tensor | None) -> Tensor:
        """For each box (B, K, 4) the class of the best detection that lies on it."""
        assert places is not None
        return match_detections(outputs, places)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.spec.input.shape[1], self.spec.input.shape[2]

    def _look_for_regions(self, features: Tensor) -> Regions:
        """The region proposal network, anchor by anchor in the order of ``anchors``."""
        hidden = F.relu(self.rpn(features))
        # As in Caffe: first the background of every anchor of a cell, then the foreground.
        logits = self.rpn_class(hidden).float().unflatten(1, (2, -1)).permute(0, 3, 4, 2, 1)
        offsets = self.rpn_box(hidden).float().unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)
        return Regions(logits.flatten(1, 3), offsets.flatten(1, 3))

    def _propose(self, found: Regions, count: int) -> Tensor:
        score = found.logits[..., 1] - found.logits[..., BACKGROUND]
        return propose(score, found.offsets, self.anchors, self.proposals, count=count, size=self.size)

    def _look_at_regions(self, features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, R, 1 + classes) and offsets (B, R, 1 + classes, 4) of regions (B, R, 4)."""
        pooled = roi_pool(features, regions, size=BINS, stride=STRIDE)
        hidden = self.dropout(F.relu(self.fc6(pooled.flatten(2))))
        hidden = self.dropout(F.relu(self.fc7(hidden)))
        return self.fc_class(hidden).float(), self.fc_box(hidden).float().unflatten(-1, (-1, 4))

    def _add_layers(self, options: FasterRCNNOptions) -> None:
        wide, anchors = partial(scaled, width=options.width), len(options.anchors)
        outputs = 1 + len(self.spec.classes)
        self.normalise = Normalise(self.spec.mean, self.spec.std)
        self.conv1 = nn.Conv2d(self.spec.input.shape[0], wide(96), 7, stride=2, padding=3)
        self.conv2 = nn.Conv2d(wide(96), wide(256), 5, stride=2, padding=2)
        self.conv3 = nn.Conv2d(wide(256), wide(384), 3, padding=1)
        self.conv4 = nn.Conv2d(wide(384), wide(384), 3, padding=1)
        self.conv5 = nn.Conv2d(wide(384), wide(256), 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.rpn = nn.Conv2d(wide(256), wide(256), 3, padding=1)
        self.rpn_class = nn.Conv2d(wide(256), 2 * anchors, 1)
        self.rpn_box = nn.Conv2d(wide(256), 4 * anchors, 1)
        self.fc6 = nn.Linear(wide(256) * BINS**2, wide(4096))
        self.fc7 = nn.Linear(wide(4096), wide(4096))
        self.fc_class = nn.Linear(wide(4096), outputs)
        self.fc_box = nn.Linear(wide(4096), 4 * outputs)
        self.dropout = nn.Dropout(options.dropout)
        self._initialise()

    def _initialise(self) -> None:
        """He's initialisation, with which it learns from scratch; the outputs start near zero."""
        he_initialise(self)
        for output in (self.rpn_class, self.rpn_box, self.fc_class, self.fc_box):
            nn.init.normal_(output.weight, std=0.01)

    def _cells(self) -> tuple[int, int]:
        """Height and width of conv5's output."""
        height, width = self.size
        for _ in range(2):
            height, width = (height + 1) // 2, (width + 1) // 2
            height, width = height // 2 + 1, width // 2 + 1
        return height, width
