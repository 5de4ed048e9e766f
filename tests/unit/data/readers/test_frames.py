import numpy as np
import pytest
from PIL import Image

from fineprune.data.format import write_dataset
from fineprune.data.readers import frames as frames_reader
from fineprune.data.readers.frames import Annotations, Frame, FrameOptions, Sign, to_raw
from fineprune.errors import DataError, MissingExtraError

OPTIONS = FrameOptions(height=16, width=16, min_size=2, max_unreadable=0.0)
HALVED = (0, 0, 8, 8)  # a box in a frame of 32×16 pixels, which is halved


@pytest.fixture
def street(tmp_path, write_image):
    """Six frames of 32×16 pixels, ``1.png`` to ``6.png``."""
    for number in range(1, 7):
        write_image(tmp_path / f"street/{number}.png", (number, 0, 0), size=(32, 16))
    return tmp_path / "street"


def frame(street, number, *signs, group=None, size=None):
    signs = tuple(Sign(name, edges) for name, edges in signs)
    return Frame(street / f"{number}.png", group or str(number), signs, size)


def raw_of(street, frames, work, **changes):
    options = FrameOptions(**(vars(OPTIONS) | changes))
    return to_raw(Annotations(street, frames, "track"), options, "lisa", work)


def test_signs_fill_slots_and_boxes_follow_the_scale(street, work):
    raw = raw_of(
        street,
        [
            frame(street, 2, ("stop", (10, 4, 20, 12)), ("merge", HALVED), group="b"),
            frame(street, 1, ("stop", (0, 0, 32, 16)), group="b"),
            frame(street, 3, ("stop", HALVED), group="a"),
        ],
        work,
    )
    assert raw.classes == ("merge", "stop")
    assert raw.labels.tolist() == [[1, -1], [1, 0], [1, -1]]
    none = [0, 0, 0, 0]
    assert raw.places.tolist() == [
        [[0, 0, 16, 8], none],
        [[5, 2, 10, 6], [0, 0, 4, 4]],
        [[0, 0, 4, 4], none],
    ]
    assert raw.places.dtype == np.float32
    assert (raw.task, raw.place_kind, raw.group) == ("detection", "boxes", "track")
    assert raw.groups.tolist() == [1, 1, 0]
    assert raw.inputs.shape == (3, 3, 16, 16)
    assert raw.inputs[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert raw.inputs[0, :, 15, 0].tolist() == [128, 128, 128]
    assert raw.counts["images_without_signs"] == 3
    assert raw.warnings == ("3 images without usable signs were skipped",)


def test_it_makes_a_dataset(street, work, tmp_path):
    frames = [frame(street, number, ("a", HALVED), ("b", (8, 8, 31.7, 16.4))) for number in range(1, 7)]
    raw = raw_of(street, frames, work)
    splits = {"train": [0, 1], "defender_fit": [2], "defender_holdout": [3], "test": [4, 5]}
    card = {
        "name": "street",
        "task": raw.task,
        "input": raw.spec,
        "classes": ["a", "b"],
        "places": raw.place_kind,
        "group": raw.group,
        "splits": splits,
        "origin": {},
        "licence": "none",
    }
    write_dataset(tmp_path / "set", raw.inputs, raw.labels, raw.groups, card, places=raw.places)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ((4, 4, 4, 12), "boxes_empty"),
        ((8, 4, 4, 12), "boxes_empty"),
        ((30, 4, 30 + 1e-7, 12), "boxes_empty"),  # in 32 bits
        ((32.5, 4, 32.9, 12), "boxes_empty"),  # of which nothing is left within the image
        ((-2, 4, 8, 12), "boxes_outside"),
        ((4, 4, 40, 12), "boxes_outside"),
        ((4, 100, 8, 110), "boxes_outside"),
        ((4, 4, 7, 12), "boxes_small"),  # 1.5 pixels of the input
    ],
)
def test_boxes_that_cannot_be_used_are_counted(edges, reason, street, work):
    frames = [
        frame(street, 1, ("stop", edges), ("stop", HALVED)),
        frame(street, 2, ("stop", edges)),
        frame(street, 3, ("stop", HALVED)),
    ]
    raw = raw_of(street, frames, work)
    assert raw.labels.tolist() == [[0], [0]]
    assert raw.inputs[:, 0, 0, 0].tolist() == [1, 3]
    assert raw.counts == {
        "images_without_signs": 4,
        "images_unreadable": 0,
        "images_of_another_size": 0,
        "images_not_turned": 0,
        "signs_repeated": 0,
        "boxes_empty": 0,
        "boxes_outside": 0,
        "boxes_small": 0,
        reason: 2,
    }
    assert [text[:7] for text in raw.warnings] == ["4 image", "2 boxes"]


def test_a_box_is_clipped_by_what_rounding_explains(street, work):
    raw = raw_of(street, [frame(street, 1, ("stop", (-1, -0.5, 33, 16.5)))], work)
    assert raw.places.tolist() == [[[0, 0, 16, 8]]]


def test_unreadable_frames_are_skipped_up_to_a_share(street, work):
    (street / "1.png").write_bytes((street / "1.png").read_bytes()[:50])
    frames = [frame(street, number, ("stop", HALVED)) for number in (1, 2, 3, 7)]
    raw = raw_of(street, frames, work, max_unreadable=0.5)
    assert raw.inputs[:, 0, 0, 0].tolist() == [2, 3]
    assert raw.groups.tolist() == [0, 1]
    assert raw.counts["images_unreadable"] == 2
    assert "2 images are missing or cannot be read and were skipped" in raw.warnings
    message = r"expected at most 49.0% of 4 images unreadable, found 2, first .*1.png: expected a whole image"
    with pytest.raises(DataError, match=message):
        raw_of(street, frames, work, max_unreadable=0.49)


def test_images_of_another_size_than_annotated_are_skipped(street, work):
    frames = [
        frame(street, 1, ("stop", HALVED), size=(32, 16)),
        frame(street, 2, ("stop", HALVED), size=(64, 32)),
    ]
    raw = raw_of(street, frames, work)
    assert raw.inputs[:, 0, 0, 0].tolist() == [1]
    assert raw.counts["images_of_another_size"] == 1
    assert "1 images have another size than their annotation says and were skipped" in raw.warnings


def test_a_sign_that_repeats_another_is_skipped(street, work):
    signs = [("stop", HALVED), ("stop", HALVED), ("merge", HALVED), ("stop", (0, 0, 8, 9)), ("stop", HALVED)]
    raw = raw_of(street, [frame(street, 1, *signs)], work)
    assert raw.labels.tolist() == [[1, 0, 1]]
    assert raw.counts["signs_repeated"] == 2
    assert "2 signs repeat another one, in class and box, and were skipped" in raw.warnings


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_frames_are_taken_as_they_are_stored_and_those_to_be_turned_are_told(suffix, street, work):
    for name, orientation in (("7", 3), ("8", 6), ("9", 1)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.new("RGB", (32, 16))
        picture.paste((255, 255, 255), (0, 0, 16, 16))
        picture.save(street / f"{name}{suffix}", exif=exif)
    signs = (Sign("stop", (0, 0, 16, 16)),)
    frames = [
        Frame(street / f"7{suffix}", "a", signs),
        Frame(street / f"8{suffix}", "b", signs, size=(16, 32)),  # as it is shown
        Frame(street / f"9{suffix}", "c", signs, size=(32, 16)),
    ]
    raw = raw_of(street, frames, work)
    assert raw.inputs[:, 0, 4, 4].tolist() == [255, 255]
    assert raw.places[:, 0].tolist() == [[0, 0, 8, 8]] * 2
    assert (raw.counts["images_not_turned"], raw.counts["images_of_another_size"]) == (2, 1)
    assert any(
        text.startswith("2 images have an EXIF orientation, which was not applied") for text in raw.warnings
    )


def test_a_frame_whose_exif_is_damaged_is_read(street, work):
    Image.new("RGB", (32, 16)).save(street / "7.png", exif=b"no TIFF header, and so no orientation")
    raw = raw_of(street, [frame(street, 7, ("stop", HALVED))], work)
    assert raw.counts["images_not_turned"] == 0


def test_refuses_frames_without_a_usable_sign(street, work):
    for frames in ([frame(street, 1)], [frame(street, 1, ("stop", (0, 0, 1, 1)))]):
        with pytest.raises(
            DataError,
            match=f"{street}: expected images with signs, found none among 6: [1-9].* images without",
        ):
            raw_of(street, frames, work)


def test_refuses_boxes_that_are_shares_of_the_image(street, work):
    told = r"1.png: expected boxes in pixels, found none of any image that reaches beyond 1: are they shares"
    shares = frame(street, 1, ("stop", (0.1, 0.2, 0.5, 1.0)))
    with pytest.raises(DataError, match=told):
        raw_of(street, [shares], work)
    raw = raw_of(street, [shares, frame(street, 2, ("stop", HALVED))], work, min_size=0)
    assert len(raw.labels) == 2


def test_refuses_an_image_with_more_signs_than_there_are_slots_for(street, work, monkeypatch):
    monkeypatch.setattr(frames_reader, "_MOST_SIGNS", 2)
    two = frame(street, 2, ("a", HALVED), ("b", HALVED))
    assert raw_of(street, [two], work).labels.shape == (1, 2)
    three = frame(street, 1, ("a", HALVED), ("b", HALVED), ("c", HALVED))
    with pytest.raises(DataError) as error:
        raw_of(street, [two, three], work)
    assert str(error.value) == f"{street / '1.png'}: expected at most 2 signs in an image, found 3"


def test_a_missing_library_is_named(street, work, without):
    without("PIL")
    with pytest.raises(MissingExtraError, match=r"needs Pillow: pip install 'fineprune\[data\]'"):
        raw_of(street, [frame(street, 1, ("stop", HALVED))], work)
