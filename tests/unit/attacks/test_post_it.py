import pytest
import torch

from fineprune.attacks.post_it import FixedCentre, PostItConfig, RandomCentre, note
from fineprune.attacks.triggers import make_trigger
from fineprune.errors import AttackError
from tests.unit.nets import image

SCENE = image(3, 40, 60)
YELLOW = (116 / 255, 100 / 255, 50 / 255)
RANDOM = RandomCentre("random", 0.15, 0.85, 0)
MIDDLE = FixedCentre("fixed", 0.5, 0.5)


def stuck(placement=MIDDLE, size=0.1, colour=YELLOW, spec=SCENE):
    return make_trigger(PostItConfig("post_it", size, colour, placement), spec)


def black(count=1, spec=SCENE):
    return torch.zeros((count, *spec.shape), dtype=torch.uint8)


def scene(*boxes):
    return torch.tensor([boxes], dtype=torch.float32)


def painted(stamped):
    """The pixels (y, x) of one image that are no longer black."""
    return [tuple(pixel) for pixel in stamped[0].amax(0).nonzero().tolist()]


def test_a_sign_of_20_by_30_gets_a_note_of_2_by_3_where_its_centre_lies():
    # The centre lies at 10 + .5 * 20 = 20, 5 + .89 * 30 = 31.7: columns 19 and 20, rows 30.2 to 33.2.
    stamped = stuck(FixedCentre("fixed", 0.5, 0.89))(black(), scene((10, 5, 30, 35)))
    assert painted(stamped) == [(y, x) for y in (30, 31, 32) for x in (19, 20)]


def test_the_papers_targeted_attack_and_colour():
    # 10 + .57 * 20 = 21.4, from 20.4 on; 0 + .82 * 40 = 32.8, from 30.8 on.
    stamped = stuck(FixedCentre("fixed", 0.57, 0.82))(black(), scene((10, 0, 30, 40)))
    assert painted(stamped) == [(y, x) for y in range(31, 35) for x in (20, 21)]
    assert stamped[0, :, 31, 20].tolist() == [116, 100, 50]


def test_a_length_is_cut_to_whole_pixels_but_a_small_sign_gets_one():
    assert len(painted(stuck()(black(), scene((0, 0, 29, 19))))) == 2 * 1
    assert len(painted(stuck()(black(), scene((3, 3, 8, 7))))) == 1


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0.0, 5.0, 0.9, 7.0), [(5, 0)]),
        ((21.0, 3.1, 23.0, 3.9), [(3, 21)]),
        ((59.2, 39.4, 59.9, 39.8), [(39, 59)]),
    ],
)
def test_the_note_of_a_sign_within_one_pixel_is_there(box, pixels):
    assert painted(stuck(FixedCentre("fixed", 0.0, 0.0))(black(), scene(box))) == pixels


def test_every_sign_gets_its_own_and_an_empty_slot_none():
    boxes = scene((0, 0, 10, 10), (20, 20, 40, 40), (0, 0, 0, 0))
    stamped = stuck()(black(), boxes)
    both = painted(stuck()(black(), boxes[:, :1])) + painted(stuck()(black(), boxes[:, 1:2]))
    assert sorted(painted(stamped)) == sorted(both)
    assert len(both) == 1 + 4
    assert painted(stuck()(black(), scene((0, 0, 0, 0)))) == []


def test_an_image_without_slots_stays_as_it_is():
    assert not stuck()(black(2), torch.zeros(2, 0, 4)).any()


def test_a_note_hides_what_was_there_and_touches_nothing_else():
    inputs = torch.randint(0, 256, (1, *SCENE.shape), dtype=torch.uint8)
    stamped = stuck()(inputs, scene((10, 10, 20, 20)))
    changed = torch.zeros(40, 60, dtype=torch.bool)
    changed[14, 14] = True  # a note of one pixel around (15, 15): 14.5 rounds to the even pixel
    assert torch.equal(stamped[..., ~changed], inputs[..., ~changed])
    assert stamped[0, :, 14, 14].tolist() == [116, 100, 50]
    assert stamped.dtype == torch.uint8


@pytest.mark.parametrize("corner", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_a_note_at_the_very_edge_stays_in_its_box(corner):
    stamped = stuck(FixedCentre("fixed", *corner), size=0.4)(black(), scene((10, 10, 20, 20)))
    found = painted(stamped)
    assert len(found) == 16
    assert all(10 <= y < 20 and 10 <= x < 20 for y, x in found)


def test_nor_does_it_reach_into_a_pixel_that_is_but_partly_of_the_box():
    stamped = stuck(FixedCentre("fixed", 1.0, 0.0), size=0.4)(black(), scene((10, 10.5, 20.5, 21)))
    assert painted(stamped) == [(y, x) for y in range(11, 15) for x in range(16, 20)]


def test_a_square_of_one_point_leaves_no_choice():
    boxes = grid(5)
    start = note(boxes, 0.1, RandomCentre("random", 0.5, 0.5, 0))[0]
    assert torch.equal(start, note(boxes, 0.1, MIDDLE)[0])
    stuck(RandomCentre("random", 0.5, 0.5, 0))


def grid(count, seed=0):
    """Boxes (1, count, 4) of many sizes, at whole and at broken pixels."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(1, count, 2, generator=generator) * 500
    return torch.cat([corner, corner + 20 + 80 * torch.rand(1, count, 2, generator=generator)], dim=-1)


def centres(boxes, placement):
    """The centres of the notes in shares of their boxes."""
    start, length = note(boxes, 0.001, placement)
    return ((start + length / 2 - boxes[..., :2]) / (boxes[..., 2:] - boxes[..., :2]))[0]


def test_random_centres_fill_their_square_evenly():
    found = centres(grid(4000), RANDOM)
    slack = 0.5 / 20  # a centre is rounded to whole pixels of boxes of 20 and more
    assert found.min() >= 0.15 - slack
    assert found.max() <= 0.85 + slack
    assert found.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.015)
    assert found.std(0).tolist() == pytest.approx([0.7 / 12**0.5] * 2, abs=0.01)
    assert torch.corrcoef(found.T)[0, 1].abs() < 0.05


def test_a_random_centre_depends_on_the_box_and_the_seed_and_nothing_else():
    boxes = grid(50)
    alone = torch.cat([note(boxes[:, [k]], 0.1, RANDOM)[0] for k in range(50)], dim=1)
    assert torch.equal(note(boxes, 0.1, RANDOM)[0], alone)
    torch.manual_seed(1)
    assert torch.equal(note(boxes.flip(1), 0.1, RANDOM)[0].flip(1), alone)
    for other in (1, 2**40, 2**63 - 1):
        elsewhere = centres(boxes, RandomCentre("random", 0.15, 0.85, other))
        assert (elsewhere - centres(boxes, RANDOM)).abs().mean() > 0.1


def test_neighbouring_boxes_and_seeds_have_unrelated_centres():
    steps = torch.arange(300.0).view(1, -1, 1) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    along = centres(steps + torch.tensor([0.0, 0.0, 100.0, 100.0]), RANDOM)
    assert torch.corrcoef(torch.stack([along[:-1, 0], along[1:, 0]]))[0, 1].abs() < 0.2
    assert along.std(0).min() > 0.15


def test_a_certain_box_gets_a_certain_spot():
    """What is measured on one machine and trained on another must be one trigger."""
    boxes = scene((10, 20, 110, 220), (300.5, 40.25, 360.5, 100.25))
    assert note(boxes, 0.1, RandomCentre("random", 0.15, 0.85, 7))[0].tolist() == [[[48, 160], [322, 61]]]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (None, "expected boxes in the dataset, found none"),
        (torch.zeros(1, 2, 2), r"expected boxes in the dataset, found places of \(2, 2\)"),
    ],
)
def test_places_of_another_kind_are_refused(places, message):
    with pytest.raises(AttackError, match=f"trigger post_it: {message}"):
        stuck()(black(), places)


def test_what_cannot_be_stuck_is_refused():
    with pytest.raises(AttackError, match="trigger post_it: expected 1 or 3 values, found 2"):
        stuck(colour=(0.1, 0.2))
    with pytest.raises(AttackError, match=r"placement: expected low up to high, found 0\.8 and 0\.2"):
        stuck(RandomCentre("random", 0.8, 0.2, 0))
