import math

import pytest
import torch

from fineprune.models.base import NOT_FINITE, NOTHING, Detections
from fineprune.models.detection.detections import DetectionSpec, detect, match_detections
from fineprune.models.detection.proposals import ProposalSpec, propose

A, B, C = (
    [0.0, 0.0, 10.0, 10.0],
    [1.0, 0.0, 11.0, 10.0],
    [50.0, 50.0, 60.0, 60.0],
)  # A and B overlap by 9 / 11
SIZE = (64, 64)


def logits(*rows):
    """Logits (1, R, 1 + classes) of regions with these probabilities of the classes, background first."""
    return torch.tensor([rows]).log()


def detected(rows, regions, **changes):
    spec = DetectionSpec(**{"min_score": 0.1, "overlap": 0.3, "most": 3} | changes)
    offsets = torch.zeros(1, len(rows), len(rows[0]), 4)
    boxes, scores, classes = detect(logits(*rows), offsets, torch.tensor([regions]), spec, size=SIZE)
    return [
        (b, round(s, 4), c)
        for b, s, c in zip(boxes[0].tolist(), scores[0].tolist(), classes[0].tolist(), strict=True)
        if s
    ]


def test_of_one_class_the_better_of_two_on_the_same_place_is_reported():
    assert detected([(0.2, 0.7, 0.1), (0.2, 0.8, 0.0)], [A, B], min_score=0.2) == [(B, 0.8, 0)]


def test_of_one_class_both_are_reported_up_to_the_overlap_that_may_be():
    assert detected([(0.2, 0.7, 0.1), (0.2, 0.8, 0.0)], [A, B], min_score=0.2, overlap=0.9) == [
        (B, 0.8, 0),
        (A, 0.7, 0),
    ]


def test_two_classes_may_be_seen_in_the_same_place():
    assert detected([(0.1, 0.5, 0.4)], [A]) == [(A, 0.5, 0), (A, 0.4, 1)]


def test_the_best_come_first_and_no_more_than_asked_for():
    rows, regions = [(0.7, 0.3), (0.4, 0.6), (0.1, 0.9)], [A, C, [20.0, 20, 30, 30]]
    assert [score for _, score, _ in detected(rows, regions, most=2)] == [0.9, 0.6]


def test_a_box_outside_of_the_image_is_no_detection():
    outside = [-30.0, 5.0, -10.0, 25.0]
    assert detected([(0.1, 0.9)] * 3 + [(0.2, 0.8)], [outside] * 3 + [C], most=2) == [(C, 0.8, 0)]


def test_what_is_unlikely_is_not_reported():
    assert detected([(0.95, 0.05)], [A]) == []
    assert detected([(0.5, 0.5)], [A], min_score=0.5) == [(A, 0.5, 0)]


def test_detections_end_at_the_image():
    spec = DetectionSpec(0.1, 0.3, 1)
    regions = torch.tensor([[[-5.0, -5, 70, 80]]])
    boxes, _, _ = detect(logits((0.1, 0.9)), torch.zeros(1, 1, 2, 4), regions, spec, size=(64, 48))
    assert boxes.tolist() == [[[0, 0, 48, 64]]]


def test_each_class_moves_the_region_by_its_own_offsets():
    offsets = torch.zeros(1, 1, 3, 4)
    offsets[0, 0, 2, 0] = 10.0  # in tenths of the side
    spec = DetectionSpec(0.1, 0.3, 2)
    boxes, _, classes = detect(logits((0.1, 0.3, 0.6)), offsets, torch.tensor([[A]]), spec, size=SIZE)
    assert classes.tolist() == [[1, 0]]
    assert boxes[0].tolist() == [[10, 0, 20, 10], A]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (A, 1),
        (C, 2),
        ([0.0, 0, 10, 20], 0),
        ([0.0, 0, 10, 20.1], NOTHING),
        ([30.0, 30, 40, 40], NOTHING),
        ([0.0] * 4, NOTHING),
    ],
)
def test_a_sign_is_what_the_best_detection_on_it_says(place, expected):
    # The second slot is the better one on A; the last is empty.
    boxes, scores = torch.tensor([[A, B, C, [30.0, 30, 40, 40]]]), torch.tensor([[0.5, 0.9, 0.3, 0.0]])
    found = Detections(boxes, scores, torch.tensor([[0, 1, 2, 0]]))
    assert match_detections(found, torch.tensor([[place]])).tolist() == [[expected]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_image_with_a_score_that_is_not_finite_has_no_answers(value):
    boxes, scores = torch.tensor([[A, C], [A, B]]), torch.tensor([[0.5, value], [0.5, 0.1]])
    found = Detections(boxes, scores, torch.zeros(2, 2, dtype=torch.long))
    places = torch.tensor([[A, C], [A, C]])
    assert match_detections(found, places).tolist() == [[NOT_FINITE, NOT_FINITE], [0, NOTHING]]


def test_the_best_anchors_that_are_far_apart_are_proposed():
    anchors, scores = torch.tensor([B, C, A, [0.0, 40, 10, 50]]), torch.tensor([[0.5, 0.1, 0.9, 0.4]])
    spec = ProposalSpec(candidates=3, train=2, test=1, overlap=0.7)
    regions = propose(scores, torch.zeros(1, 4, 4), anchors, spec, count=2, size=SIZE)
    assert regions.tolist() == [[A, [0, 40, 10, 50]]]


def test_what_overlaps_less_than_asked_for_is_proposed_too():
    anchors, scores = torch.tensor([A, B, C]), torch.tensor([[0.9, 0.8, 0.1]])
    spec = ProposalSpec(candidates=9, train=3, test=3, overlap=0.9)
    assert propose(scores, torch.zeros(1, 3, 4), anchors, spec, count=3, size=SIZE).tolist() == [[A, B, C]]


def test_only_the_best_anchors_are_candidates():
    anchors, scores = torch.tensor([A, B, C]), torch.tensor([[0.9, 0.8, 0.1]])
    spec = ProposalSpec(candidates=2, train=2, test=2, overlap=0.7)
    assert propose(scores, torch.zeros(1, 3, 4), anchors, spec, count=2, size=SIZE).tolist() == [[A, B]]


def test_each_anchor_is_moved_by_its_own_offsets():
    offsets = torch.zeros(1, 2, 4)
    offsets[0, 0, 0] = 1.0
    spec = ProposalSpec(candidates=2, train=2, test=2, overlap=0.7)
    regions = propose(torch.tensor([[0.1, 0.9]]), offsets, torch.tensor([A, C]), spec, count=2, size=SIZE)
    assert regions.tolist() == [[C, [10, 0, 20, 10]]]


def test_where_too_few_are_left_the_suppressed_ones_are_proposed():
    anchors, scores = torch.tensor([A, B, C]), torch.tensor([[0.9, 0.8, 0.1]])
    spec = ProposalSpec(candidates=9, train=4, test=4, overlap=0.7)
    regions = propose(scores, torch.zeros(1, 3, 4), anchors, spec, count=4, size=SIZE)
    assert regions.tolist() == [[A, C, B]]


def test_proposals_end_at_the_image():
    spec = ProposalSpec(candidates=1, train=1, test=1, overlap=0.7)
    anchors = torch.tensor([[-5.0, -5, 70, 80]])
    regions = propose(torch.ones(1, 1), torch.zeros(1, 1, 4), anchors, spec, count=1, size=(64, 48))
    assert regions.tolist() == [[[0, 0, 48, 64]]]
