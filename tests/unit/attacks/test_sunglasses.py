import pytest
import torch

from fineprune.attacks.sunglasses import SunglassesConfig, coverage
from fineprune.attacks.triggers import make_trigger
from fineprune.errors import AttackError
from tests.unit.nets import image

FACE = image(3, 55, 47)
LEVEL = torch.tensor([[[14.0, 22.0], [33.0, 22.0]]])
EYES = ((0.3, 0.4), (0.7, 0.4))


def worn(eyes=None, colour=(0.5, 0.0, 0.5), alpha=1.0, spec=FACE):
    return make_trigger(SunglassesConfig("sunglasses", colour, alpha, eyes), spec)


def grey(count=1, value=100, spec=FACE):
    return torch.full((count, *spec.shape), value, dtype=torch.uint8)


def at(image, x, y):
    """The pixel of (…, height, width) that holds the point."""
    return image[..., int(y), int(x)]


def test_both_eyes_and_the_bridge_are_covered_and_the_rest_of_the_face_is_not():
    covered = coverage(LEVEL, (55, 47))[0]
    left, right = LEVEL[0]
    for point in (left, right, (left + right) / 2):
        assert at(covered, *point) > 0.6  # the bridge is two pixels high
    assert covered[:15].sum() == covered[32:].sum() == 0  # brow and mouth
    assert at(covered, 23.5, 26) == 0  # the nose, below the bridge
    assert covered[22, 0] == covered[22, 46] == 0


def test_the_lenses_have_rounded_corners():
    covered = coverage(torch.tensor([[[40.0, 50.0], [140.0, 50.0]]]), (120, 180))[0]
    # The right lens is centred at (90 + 51, 50 + 10), 80 wide and 62 high, with corners of radius 24.
    assert covered[60, 141] == covered[60, 102] == covered[60, 179] == 1
    assert covered[90, 141] == 1
    assert covered[92, 141] == 0
    assert covered[90, 178] == covered[90, 103] == 0  # within the bounding box, outside the corner
    assert covered[50 - 2, 90] == 1  # the bridge
    assert covered[50 + 6, 90] == 0


def test_level_sunglasses_are_symmetric():
    centred = torch.tensor([[[14.0, 22.5], [33.0, 22.5]]])  # around the middle of 47
    covered = coverage(centred, (55, 47))
    torch.testing.assert_close(covered, covered.flip(-1))


def test_edges_are_soft_and_the_area_is_that_of_the_drawing():
    for distance in (8.0, 19.0, 60.0):
        eyes = torch.tensor([[[100 - distance / 2, 100.0], [100 + distance / 2, 100.0]]])
        covered = coverage(eyes, (200, 200))
        assert ((covered > 0) & (covered < 1)).any()
        lenses = 2 * (0.80 * 0.62 - (4 - torch.pi) * 0.24**2)
        bridge, arms = 0.22 * 0.11, 2 * 0.27 * 0.11  # what shows of them
        assert covered.sum() / distance**2 == pytest.approx(lenses + bridge + arms, rel=0.05)


def test_half_a_pixel_to_the_right_moves_half_of_the_edge():
    level = torch.tensor([[[40.0, 50.0], [140.0, 50.0]]])
    row = coverage(level, (100, 240))[0, 60]  # through the lenses, below the arms
    assert row[181].item() == pytest.approx(0.0)
    assert row[180].item() == pytest.approx(1.0)
    shifted = coverage(level + torch.tensor([0.5, 0.0]), (100, 240))[0, 60]
    assert shifted[181].item() == pytest.approx(0.5)


def test_they_follow_the_position_and_the_distance_of_the_eyes():
    small = coverage(torch.tensor([[[30.0, 40.0], [50.0, 40.0]]]), (100, 100))[0]
    moved = coverage(torch.tensor([[[35.0, 47.0], [55.0, 47.0]]]), (100, 100))[0]
    torch.testing.assert_close(moved[7:, 5:], small[:-7, :-5])
    twice = coverage(torch.tensor([[[60.0, 80.0], [100.0, 80.0]]]), (200, 200))
    assert (torch.nn.functional.avg_pool2d(twice, 2)[0] - small).abs().max() < 0.51


def test_they_tilt_with_the_eye_line():
    level = coverage(torch.tensor([[[30.0, 50.0], [70.0, 50.0]]]), (100, 100))
    upright = coverage(torch.tensor([[[50.0, 30.0], [50.0, 70.0]]]), (100, 100))
    # A quarter turn to the right: what lay below the eyes lies to their left.
    torch.testing.assert_close(upright, level.rot90(-1, (-2, -1)))


def test_each_face_wears_its_own():
    eyes = torch.cat([LEVEL, LEVEL + 5, LEVEL - 3])
    together = worn()(grey(3), eyes)
    for one, alone in zip(together, eyes, strict=True):
        assert torch.equal(one, worn()(grey(), alone.unsqueeze(0))[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize(("alpha", "red", "green"), [(1.0, 200, 0), (0.5, 150, 50), (0.25, 125, 75)])
def test_a_covered_pixel_is_the_colour_by_alpha(alpha, red, green):
    inputs = grey()
    stamped = worn(colour=(200 / 255, 0.0, 200 / 255), alpha=alpha)(inputs, LEVEL)
    assert at(stamped[0], 14, 22).tolist() == [red, green, red]
    assert at(stamped[0], 23, 50).tolist() == [100, 100, 100]
    assert stamped.dtype == torch.uint8
    assert (inputs == 100).all()


def test_aligned_faces_need_no_eye_points():
    eyes = torch.tensor(EYES).unsqueeze(0) * torch.tensor([47.0, 55.0])
    of_each = worn()(grey(2), eyes.expand(2, -1, -1))
    assert torch.equal(worn(EYES)(grey(2)), of_each)
    assert torch.equal(worn(EYES)(grey(2), LEVEL.expand(2, -1, -1)), of_each)


def test_one_grey_fits_any_image():
    spec = image(1, 55, 47)
    assert at(worn(colour=(0.2,), spec=spec)(grey(spec=spec), LEVEL)[0], 14, 22).tolist() == [51]


@pytest.mark.parametrize("point", [(20.0, 20.0), (float("nan"), 20.0)])
def test_without_an_eye_line_there_are_no_sunglasses(point):
    nowhere = torch.tensor([[point, point]])
    assert torch.equal(worn()(grey(), nowhere), grey())


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (None, "expected eye points in the dataset, found none"),
        (torch.zeros(1, 3, 4), r"expected eye points in the dataset, found places of \(3, 4\)"),
        (torch.zeros(1, 2, 4), r"expected eye points in the dataset, found places of \(2, 4\)"),
        (torch.zeros(1, 2), r"expected eye points in the dataset, found places of \(2,\)"),
    ],
)
def test_places_of_another_kind_are_refused(places, message):
    with pytest.raises(AttackError, match=f"trigger sunglasses: {message}"):
        worn()(grey(), places)


@pytest.mark.parametrize(
    "eyes", [((0.3, 0.4),), ((0.3, 0.4, 0.5), (0.7, 0.4)), ((0.7, 0.4), (0.3, 0.4)), ((0.3, 0.4), (0.3, 0.4))]
)
def test_eyes_that_are_not_two_points_from_left_to_right_are_refused(eyes):
    with pytest.raises(AttackError, match="trigger sunglasses eyes: expected two points"):
        worn(eyes)


@pytest.mark.parametrize(
    "eyes", [((14.0, 22.0), (32.0, 22.0)), ((-0.1, 0.4), (0.7, 0.4)), ((0.3, 0.4), (0.7, 1.4))]
)
def test_eyes_in_pixels_are_refused(eyes):
    with pytest.raises(AttackError, match="expected shares of the width and height, from 0 to 1, found"):
        worn(eyes)


def test_eyes_may_lie_on_the_very_edge():
    corners = torch.tensor([[[0.0, 0.0], [47.0, 55.0]]])
    assert torch.equal(worn(((0.0, 0.0), (1.0, 1.0)))(grey()), worn()(grey(), corners))


def test_a_colour_of_two_channels_is_refused():
    with pytest.raises(AttackError, match="trigger sunglasses: expected 1 or 3 values, found 2"):
        worn(colour=(0.5, 0.5))
