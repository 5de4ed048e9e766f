import pytest
import torch

from fineprune.models.detection.boxes import decode
from fineprune.models.detection.losses import box_loss, class_loss
from fineprune.models.detection.targets import (
    SamplingSpec,
    Targets,
    anchor_targets,
    choose,
    from_units,
    in_units,
    sample_regions,
)

SIGN = [0.0, 0.0, 10.0, 10.0]
NO_SIGN = [0.0] * 4
ALL = SamplingSpec(anchors=100, regions=100, signs=1.0)


def along(*lengths):
    """Boxes in a row whose overlap with SIGN is a tenth of the given length."""
    return torch.tensor([[0.0, 0, length, 10] for length in lengths])


def test_anchors_show_a_sign_from_seven_tenths_and_none_below_three():
    targets = anchor_targets(along(9, 7, 6.9, 3, 2.9, 0), torch.tensor([[SIGN]]), ALL, shuffle=False)
    assert targets.classes.tolist() == [[1, 1, 0, 0, 0, 0]]
    assert targets.chosen.tolist() == [[True, True, False, False, True, True]]


def test_the_nearest_anchor_shows_its_sign_however_far_it_is():
    places = torch.tensor([[SIGN, NO_SIGN], [NO_SIGN, NO_SIGN]])
    targets = anchor_targets(along(2, 1, 0), places, ALL, shuffle=False)
    assert targets.classes.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert targets.chosen.all()
    torch.testing.assert_close(decode(targets.offsets[0, :1], along(2)), torch.tensor([SIGN]))


def test_at_most_half_of_the_anchors_show_signs():
    spec = SamplingSpec(anchors=4, regions=1, signs=1.0)
    targets = anchor_targets(along(10, 9, 8, 1, 1, 1, 1), torch.tensor([[SIGN]]), spec, shuffle=True)
    assert targets.foreground.sum() == 2
    assert targets.chosen.sum() == 4


def test_regions_are_the_signs_and_proposals_half_on_them():
    labels, places = torch.tensor([[2, -1]]), torch.tensor([[SIGN, NO_SIGN]])
    regions, targets = sample_regions(along(5, 4)[None], labels, places, ALL, shuffle=False)
    chosen = targets.chosen[0]
    found = dict(zip(regions[0, chosen, 2].tolist(), targets.classes[0, chosen].tolist(), strict=True))
    assert found == {10: 3, 5: 3, 4: 0}


def test_region_offsets_lead_to_the_sign():
    labels, places = torch.tensor([[0]]), torch.tensor([[SIGN]])
    regions, targets = sample_regions(along(6)[None], labels, places, ALL, shuffle=False)
    there = decode(targets.offsets * torch.tensor([0.1, 0.1, 0.2, 0.2]), regions)
    torch.testing.assert_close(there, torch.tensor([[SIGN, SIGN]]))


def test_offsets_in_units_come_back():
    offsets = torch.randn(2, 3, 4)
    torch.testing.assert_close(from_units(in_units(offsets)), offsets)


def test_an_image_without_signs_gives_background_only():
    labels, places = torch.tensor([[-1]]), torch.tensor([[NO_SIGN]])
    _, targets = sample_regions(along(5, 4)[None], labels, places, ALL, shuffle=True)
    assert targets.chosen.sum() == 2
    assert not targets.classes.any()


def test_a_quarter_of_the_regions_may_show_signs():
    spec = SamplingSpec(anchors=1, regions=8, signs=0.25)
    proposals = along(*[10] * 9, *[1] * 9)[None]
    _, targets = sample_regions(proposals, torch.tensor([[1]]), torch.tensor([[SIGN]]), spec, shuffle=True)
    assert targets.chosen.all()
    assert targets.classes.sort().values.tolist() == [[0] * 6 + [2] * 2]


@pytest.mark.parametrize(("count", "share"), [(1, 0.25), (2, 0.25), (3, 0.1)])
def test_however_few_are_chosen_one_may_show_a_sign(count, share):
    spec, places = SamplingSpec(anchors=1, regions=count, signs=share), torch.tensor([[SIGN]])
    assert anchor_targets(along(10, 1), places, spec, shuffle=False).foreground.sum() == 1
    _, targets = sample_regions(along(10, 9, 8)[None], torch.tensor([[0]]), places, spec, shuffle=False)
    assert targets.foreground.sum() == 1


def test_what_is_not_wanted_fills_up():
    wanted = torch.tensor([[True] * 5 + [False] * 5, [True] + [False] * 9])
    chosen = choose(wanted, ~wanted, 6, 2, shuffle=True)
    assert (chosen & wanted).sum(1).tolist() == [2, 1]
    assert chosen.sum(1).tolist() == [6, 6]


def test_the_fixed_choice_is_spread_over_the_row_and_always_the_same():
    wanted = torch.ones(1, 100, dtype=torch.bool)
    chosen = choose(wanted, ~wanted, 10, 10, shuffle=False)
    assert torch.equal(chosen, choose(wanted, ~wanted, 10, 10, shuffle=False))
    assert chosen.view(10, 10).sum(1).max() <= 2


def test_the_random_choice_is_another_for_every_image_and_each_time():
    torch.manual_seed(0)
    wanted = torch.ones(2, 100, dtype=torch.bool)
    first, again = (choose(wanted, ~wanted, 10, 10, shuffle=True) for _ in range(2))
    assert len({str(row.tolist()) for row in (*first, *again)}) == 4


@pytest.mark.parametrize("shuffle", [False, True])
def test_anchors_and_regions_are_chosen_at_random_where_asked(shuffle):
    torch.manual_seed(0)
    spec = SamplingSpec(anchors=10, regions=10, signs=0.5)
    boxes, labels, places = along(*range(1, 101)), torch.tensor([[0]]), torch.tensor([[SIGN]])
    anchors, regions = set(), set()
    for _ in range(4):
        anchors.add(str(anchor_targets(boxes, places, spec, shuffle=shuffle).chosen.tolist()))
        found, targets = sample_regions(boxes[None], labels, places, spec, shuffle=shuffle)
        regions.add(str(found[targets.chosen].sort(0).values.tolist()))
    assert (len(anchors), len(regions)) == ((4, 4) if shuffle else (1, 1))


def test_losses_are_means_over_what_is_chosen():
    chosen = torch.tensor([[True, True, False]])
    targets = Targets(torch.tensor([[1, 0, 1]]), torch.zeros(1, 3, 4), chosen)
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [torch.inf, 0.0]]])
    assert class_loss(logits, targets).item() == pytest.approx(0.6931, abs=1e-4)
    # 0.5 · 1² / 1 within the parabola, 3 - 0.5 beyond; the second and third box are no chosen signs.
    offsets = torch.tensor([[[1.0, 3, 0, 0], [9, 9, 9, 9], [torch.inf] * 4]])
    assert box_loss(offsets, targets, quadratic=1.0).item() == pytest.approx((0.5 + 2.5) / 2)
    assert box_loss(offsets, targets, quadratic=0.5).item() == pytest.approx((0.75 + 2.75) / 2)


def test_the_loss_of_nothing_is_zero():
    targets = Targets(
        torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, 4), torch.zeros(1, 2, dtype=torch.bool)
    )
    assert class_loss(torch.randn(1, 2, 3), targets).item() == 0
