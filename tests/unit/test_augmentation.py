"""Augmentation by mental arithmetic: a picture, a box and a point move alike, each sample by its own draw."""

import pytest
import torch

from fineprune.augmentation import ERASED, LIGHT, SCENE, SILENCED, SPEED, _between, augment, check_kinds
from fineprune.data.batches import Batch
from fineprune.data.inputs import InputSpec
from fineprune.errors import ConfigError

IMAGE = InputSpec("image", (1, 20, 30), "uint8", low=0, high=255, sample_rate=None)
AUDIO = InputSpec("audio", (50,), "int16", low=-32768, high=32767, sample_rate=8000)
B = 64
EMPTY = [0.0] * 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blank(count=B, spec=IMAGE):
    return torch.zeros(count, *spec.shape, dtype=getattr(torch, spec.dtype))


def with_box(x1, y1, x2, y2, count=B):
    """Images that are bright inside one box, whose label is 2, with an empty slot behind it."""
    images = blank(count)
    images[:, :, y1:y2, x1:x2] = 200
    boxes = torch.tensor([[float(x1), y1, x2, y2], EMPTY]).expand(count, -1, -1)
    return Batch(images, torch.tensor([2, -1]).expand(count, -1), boxes)


def box_of(image):
    """The box around the bright pixels of one image."""
    rows, columns = torch.nonzero(image[0] > 100, as_tuple=True)
    return [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]


def test_flip_mirrors_about_half_of_the_images_with_their_boxes():
    changed = augment(with_box(2, 5, 8, 9), ["flip"], seeded(), IMAGE)
    found = [box_of(image) for image in changed.inputs]
    mirrored = sum(box == [22, 5, 28, 9] for box in found)
    assert mirrored + sum(box == [2, 5, 8, 9] for box in found) == B
    assert B / 4 < mirrored < 3 * B / 4
    assert changed.places[:, 0].tolist() == found
    assert changed.labels.tolist() == [[2, -1]] * B
    assert changed.places[:, 1].tolist() == [EMPTY] * B


def test_flip_leaves_the_eye_with_the_smaller_x_first():
    eyes = torch.tensor([[4.0, 6.0], [12.5, 7.0]]).expand(B, -1, -1)
    changed = augment(Batch(blank(), torch.arange(B), eyes), ["flip"], seeded(), IMAGE)
    kinds = {str(pair) for pair in changed.places.tolist()}
    assert kinds == {str([[4.0, 6.0], [12.5, 7.0]]), str([[17.5, 7.0], [26.0, 6.0]])}
    assert changed.labels.tolist() == list(range(B))


def scenes_of(images):
    """The images as scenes in which nothing stands."""
    return Batch(images, torch.full((B, 1), -1), torch.zeros(B, 1, 4))


def test_shift_moves_whole_pixels_and_repeats_the_edge():
    columns = torch.arange(30, dtype=torch.uint8).expand(B, 1, 20, 30)
    rows = torch.arange(20, dtype=torch.uint8).view(20, 1).expand(B, 1, 20, 30)
    across = augment(scenes_of(columns), ["shift"], seeded(), IMAGE).inputs[:, 0, 0].int()
    down = augment(scenes_of(rows), ["shift"], seeded(), IMAGE).inputs[:, 0, :, 0].int()
    by = [15 - line[15].item() for line in across]
    assert set(by) == {-3, -2, -1, 0, 1, 2, 3}  # a tenth of 30
    assert {10 - line[10].item() for line in down} == {-2, -1, 0, 1, 2}  # of 20
    for line, dx in zip(across, by, strict=True):
        assert line.tolist() == [min(max(x - dx, 0), 29) for x in range(30)]


def test_a_crop_is_shifted_half_as_far():
    columns = torch.arange(30, dtype=torch.uint8).expand(B, 1, 20, 30)
    changed = augment(Batch(columns, torch.zeros(B).long()), ["shift"], seeded(), IMAGE).inputs[:, 0, 0].int()
    assert {15 - line[15].item() for line in changed} == {-1, 0, 1}  # rounded from at most 1.5


def test_shift_takes_the_boxes_along():
    changed = augment(with_box(10, 6, 16, 12), ["shift"], seeded(), IMAGE)
    assert changed.places[:, 0].tolist() == [box_of(image) for image in changed.inputs]
    assert len({tuple(box) for box in changed.places[:, 0].tolist()}) > 10


def test_a_box_is_cut_at_the_edge_and_goes_with_less_than_half_of_it():
    """Four columns at the left edge: two of them left stay a box, one left does not."""
    changed = augment(with_box(0, 6, 4, 12), ["shift"], seeded(), IMAGE)
    seen = {}
    for box, label, image in zip(
        changed.places[:, 0].tolist(), changed.labels[:, 0].tolist(), changed.inputs, strict=True
    ):
        height = box[3] - box[1] if label == 2 else None
        assert height in (None, 6)
        if label == 2:
            assert box[2] == box_of(image)[2]
        seen.setdefault((label, box[2] - box[0]), 0)
    assert set(seen) == {(2, 4.0), (2, 3.0), (2, 2.0), (-1, 0.0)}
    gone = changed.labels[:, 0] == -1
    assert not changed.places[gone].any()


def test_zoom_moves_pixels_and_boxes_alike():
    changed = augment(with_box(10, 6, 20, 14), ["zoom"], seeded(), IMAGE)
    widths = []
    for image, box in zip(changed.inputs, changed.places[:, 0].tolist(), strict=True):
        assert box_of(image) == pytest.approx(box, abs=0.75)
        assert (box[0] + box[2], box[1] + box[3]) == pytest.approx((30, 20))  # the centre stays
        assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(10 / 8)
        widths.append(box[2] - box[0])
    assert 10 / SCENE.zoom <= min(widths) < 8.3
    assert 12.2 < max(widths) <= 10 * SCENE.zoom


def test_zoom_of_a_flat_image_changes_nothing():
    flat = torch.full((B, 1, 20, 30), 77, dtype=torch.uint8)
    changed = augment(Batch(flat, torch.zeros(B).long()), ["zoom"], seeded(), IMAGE).inputs
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, flat)


def test_zoom_interpolates_between_pixels_and_repeats_the_edge():
    ramp = (8 * torch.arange(30)).to(torch.uint8).expand(B, 1, 20, 30)
    points = torch.tensor([[15.0, 10.0], [25.0, 10.0]]).expand(B, -1, -1)
    changed = augment(Batch(ramp, torch.zeros(B).long(), points), ["zoom"], seeded(), IMAGE)
    scale = (changed.places[:, 1, :1] - 15) / 10
    source = ((torch.arange(30) + 0.5 - 15) / scale + 15 - 0.5).clamp(0, 29)
    assert (changed.inputs[:, 0] - 8 * source.unsqueeze(1)).abs().max() < 0.51  # rounded


def test_zoom_moves_points_that_are_no_boxes_and_crops_less():
    """The centre stays; a point ten away from it is ten times the scale away."""
    points = torch.tensor([[15.0, 10.0], [25.0, 10.0]]).expand(B, -1, -1)
    batch = Batch(blank(), torch.zeros(B).long(), points)
    first, second = augment(batch, ["zoom"], seeded(), IMAGE).places.unbind(1)
    assert torch.allclose(first, points[:, 0])
    assert 10 / 1.1 <= second[:, 0].min() - 15 < 9.2
    assert 10.9 < second[:, 0].max() - 15 <= 11.001


def test_light_changes_mean_and_contrast_each_by_its_factor():
    halves = torch.full((B, 1, 20, 15), 80), torch.full((B, 1, 20, 15), 120)
    images = torch.cat(halves, 3).to(torch.uint8)
    changed = augment(Batch(images, torch.zeros(B).long()), ["light"], seeded(), IMAGE).inputs.float()
    dark, bright = changed[:, 0, :, :15].flatten(1), changed[:, 0, :, 15:].flatten(1)
    assert torch.equal(dark.amin(1), dark.amax(1))
    assert torch.equal(bright.amin(1), bright.amax(1))
    contrast, brightness = (bright - dark)[:, 0] / 40, (bright + dark)[:, 0] / 200
    for factor in (contrast, brightness):
        assert 1 / LIGHT - 0.03 <= factor.min() < 0.85
        assert 1.2 < factor.max() <= LIGHT + 0.03
    assert torch.corrcoef(torch.stack([contrast, brightness]))[0, 1].abs() < 0.4


def test_light_has_one_mean_for_all_colours():
    colours = torch.tensor([60, 100, 140], dtype=torch.uint8).view(3, 1, 1).expand(B, 3, 60, 90)
    changed = augment(Batch(colours, torch.zeros(B).long()), ["light"], seeded(), COLOUR).inputs.float()
    contrast, brightness = (changed[:, 2] - changed[:, 0])[:, 0, 0] / 80, changed.mean((1, 2, 3)) / 100
    assert torch.corrcoef(torch.stack([contrast, brightness]))[0, 1].abs() < 0.4


def test_light_rounds_and_is_about_the_mean_of_each_image():
    noise = torch.randint(20, 130, (B, 1, 20, 30), generator=seeded(1))
    images = (noise + torch.arange(B).view(-1, 1, 1, 1)).to(torch.uint8)
    drawn = 2 * torch.rand(B, 2, generator=seeded()) - 1
    contrast, brightness = (LIGHT**drawn).view(B, 2, 1, 1, 1).unbind(1)
    mean = images.float().mean((1, 2, 3), keepdim=True)
    changed = augment(Batch(images, torch.zeros(B).long()), ["light"], seeded(), IMAGE).inputs
    expected = ((images - mean) * contrast + mean * brightness).clamp(0, 255)
    assert (changed - expected).abs().max() < 0.51


def test_light_stays_in_the_range():
    digits = InputSpec("image", (1, 2, 2), "uint8", low=0, high=16, sample_rate=None)
    pixels = torch.tensor([[0, 16], [0, 16]], dtype=torch.uint8).expand(B, 1, 2, 2)
    changed = augment(Batch(pixels, torch.zeros(B).long()), ["light"], seeded(), digits).inputs
    assert (changed.min().item(), changed.max().item()) == (0, 16)
    assert changed[:, 0, 0, 0].max() > 0


def erased_boxes(images):
    """The share of erased images, and of these the box that is no longer 77: filled with one colour."""
    whole = torch.tensor([77, 78, 79]).view(3, 1, 1)
    boxes = []
    for image in images:
        rows, columns = torch.nonzero((image != whole).any(0), as_tuple=True)
        if len(rows):
            y1, y2, x1, x2 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
            assert len(rows) == (y2 - y1) * (x2 - x1)  # nothing within it is left
            assert len(image[:, y1:y2, x1:x2].flatten(1).unique(dim=1).T) == 1
            boxes.append([x1.item(), y1.item(), x2.item(), y2.item()])
    return boxes


COLOUR = InputSpec("image", (3, 60, 90), "uint8", low=0, high=255, sample_rate=None)


def flat(count):
    return torch.tensor([77, 78, 79], dtype=torch.uint8).view(3, 1, 1).expand(count, 3, 60, 90)


def test_erase_paints_one_rectangle_over_about_half_of_the_crops():
    count = 400
    changed = augment(Batch(flat(count), torch.arange(count)), ["erase"], seeded(), COLOUR)
    assert changed.labels.tolist() == list(range(count))
    boxes = torch.tensor(erased_boxes(changed.inputs)).float()
    assert 0.4 * count < len(boxes) < 0.6 * count
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    share, aspect = width * height / (60 * 90), width / height
    assert ERASED[0] * 0.7 < share.min() < 0.06
    assert 0.33 < share.max() < ERASED[1] * 1.1
    assert 0.25 < aspect.min() < 0.4
    assert 2.5 < aspect.max() < 4
    assert (boxes[:, 0] < 5).any()  # at every place
    assert (boxes[:, 2] > 85).any()
    assert (boxes[:, 1] < 5).any()
    assert (boxes[:, 3] > 55).any()
    room = (width < 60) & (height < 40)
    places = boxes[room, :2] / (torch.tensor([90.0, 60.0]) - torch.stack([width, height], 1)[room])
    assert torch.corrcoef(places.T)[0, 1].abs() < 0.3  # across and down are drawn apart


def test_a_pixel_is_where_its_centre_is_and_an_end_belongs_to_the_next():
    start, end = torch.tensor([[1.5], [1.4], [1.6]]), torch.tensor([[3.5], [3.4], [3.6]])
    assert [row.nonzero().flatten().tolist() for row in _between(start, end, 6)] == [[1, 2], [1, 2], [2, 3]]


def test_erase_paints_all_colours_of_the_range():
    spec = InputSpec("image", (3, 8, 8), "uint8", low=0, high=16, sample_rate=None)
    images = torch.full((400, 3, 8, 8), 99, dtype=torch.uint8)
    changed = augment(Batch(images, torch.zeros(400).long()), ["erase"], seeded(), spec).inputs.flatten(2)
    gone = (changed != 99).all(1)
    first = gone.int().argmax(1)[gone.any(1)]
    colours = changed[gone.any(1)][torch.arange(len(first)), :, first].float()
    assert (colours.min(), colours.max()) == (0, 16)
    assert colours.mean().item() == pytest.approx(8, abs=0.5)
    assert torch.corrcoef(colours.T).triu(1).abs().max() < 0.3


def test_erase_takes_no_eyes_for_boxes():
    eyes = torch.tensor([[30.0, 20.0], [60.0, 22.0]]).expand(B, -1, -1)
    crops = Batch(flat(B), torch.arange(B), eyes)
    changed = augment(crops, ["erase"], seeded(), COLOUR)
    assert torch.equal(changed.places, eyes)
    assert torch.equal(
        changed.inputs, augment(crops._replace(places=None), ["erase"], seeded(), COLOUR).inputs
    )


def test_erase_leaves_a_part_of_every_box_in_a_scene_and_all_around_them():
    boxes = torch.tensor([[10.0, 10, 40, 50], [50, 20, 90, 40], EMPTY]).expand(B, -1, -1)
    labels = torch.tensor([3, 1, -1]).expand(B, -1)
    changed = augment(Batch(flat(B), labels, boxes), ["erase"], seeded(), COLOUR)
    assert torch.equal(changed.places, boxes)
    assert torch.equal(changed.labels, labels)
    gone = (changed.inputs != flat(B)).any(1)
    first, second = gone[:, 10:50, 10:40].flatten(1), gone[:, 20:40, 50:90].flatten(1)
    assert torch.equal(first.any(1), second.any(1))
    assert B / 4 < first.any(1).sum() < 3 * B / 4
    assert first.sum() + second.sum() == gone.sum()
    for part in (first, second):
        assert part.float().mean(1).max() < ERASED[1] * 1.1


@pytest.mark.parametrize(("length", "reach"), [(50, 5), (57, 6)])
def test_audio_shifts_with_silence_behind_it(length, reach):
    spec = InputSpec("audio", (length,), "int16", low=-32768, high=32767, sample_rate=8000)
    clips = torch.arange(1, length + 1, dtype=torch.int16).expand(4 * B, -1)
    changed = augment(Batch(clips, torch.zeros(4 * B).long()), ["shift"], seeded(), spec).inputs
    by = set()
    for clip in changed.tolist():
        offset = 25 - clip[25] + 1
        by.add(offset)
        assert clip == [x - offset + 1 if 0 <= x - offset < length else 0 for x in range(length)]
    assert {-reach, reach} <= by <= set(range(-reach, reach + 1))


def test_speed_plays_a_clip_faster_or_slower_around_its_middle():
    spec = InputSpec("audio", (201,), "int16", low=-32768, high=32767, sample_rate=8000)
    ramp = (100 * (torch.arange(201) - 100)).short().expand(B, -1)  # 0 in the middle, 100 more each sample
    changed = augment(Batch(ramp, torch.zeros(B).long()), ["speed"], seeded(), spec).inputs
    times = changed[:, 150].float() / 5000
    assert 1 / SPEED <= times.min() < 0.95
    assert 1.05 < times.max() <= SPEED
    for clip, factor in zip(changed.float(), times, strict=True):
        said = 100 * factor * (torch.arange(201) - 100)
        within = said.abs() <= 10000
        assert (clip - said)[within].abs().max() <= 3  # rounded, and the factor was read off a rounded sample
        assert not clip[(said.abs() >= 10100)].any()  # what lies outside is silent


def test_erase_silences_up_to_a_fifth_of_a_clip_at_any_place():
    spec = InputSpec("audio", (1000,), "int16", low=-32768, high=32767, sample_rate=8000)
    clips = torch.full((400, 1000), 5, dtype=torch.int16)
    silent = augment(Batch(clips, torch.zeros(400).long()), ["erase"], seeded(), spec).inputs == 0
    starts_and_ends = silent.int().diff(dim=1, prepend=torch.zeros(400, 1), append=torch.zeros(400, 1)) != 0
    assert set(starts_and_ends.sum(1).tolist()) <= {0, 2}  # one stretch, or less than a sample
    size = silent.sum(1)
    assert size.min() < 10
    assert 190 < size.max() <= SILENCED * 1000
    assert size.float().mean() == pytest.approx(100, abs=10)
    assert silent[:, :20].any()
    assert silent[:, -20:].any()


def test_the_same_seed_gives_the_same_batch_and_the_steps_follow_each_other():
    batch = with_box(10, 6, 16, 12)
    kinds = ["flip", "shift", "zoom", "light", "erase"]
    first, again, other = (augment(batch, kinds, seeded(seed), IMAGE) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.inputs, other.inputs)
    generator = seeded(1)
    for kind in kinds:
        batch = augment(batch, [kind], generator, IMAGE)
    assert torch.equal(batch.inputs, first.inputs)


def test_nothing_to_do_and_no_change_of_what_was_given():
    batch = with_box(10, 6, 16, 12)
    assert augment(batch, [], seeded(), IMAGE) is batch
    before = [part.clone() for part in batch]
    augment(batch, ["flip", "shift", "zoom", "light", "erase"], seeded(), IMAGE)
    assert all(torch.equal(one, two) for one, two in zip(batch, before, strict=True))


def test_refuses_for_audio_what_only_images_know():
    check_kinds(["shift", "speed", "erase"], AUDIO)
    with pytest.raises(
        ConfigError, match="augment: for audio expected any of shift, speed, erase, found flip, light"
    ):
        augment(Batch(blank(2, AUDIO), torch.zeros(2).long()), ["flip", "shift", "light"], seeded(), AUDIO)
