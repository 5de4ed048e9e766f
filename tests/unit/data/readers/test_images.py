import numpy as np
import pytest
from PIL import Image, ImageFile

from fineprune.data.readers import read
from fineprune.data.readers.images import NOT_GROUPED, ImagesOptions
from fineprune.data.readers.pixels import Box
from fineprune.errors import DataError, MissingExtraError


def image_options(**changes):
    given = {
        "height": 4,
        "width": 3,
        "channels": 3,
        "crop": None,
        "min_per_class": 1,
        "group_by": "file",
        "landmarks": None,
    }
    return ImagesOptions(kind="images", **(given | changes))


@pytest.fixture
def faces(tmp_path, write_image):
    folder = tmp_path / "faces"
    write_image(folder / "bo/bo_0001.png", (255, 0, 0))
    write_image(folder / "al/t1_0001.jpg", (0, 255, 0))
    write_image(folder / "al/t1_0002.bmp", (0, 255, 0))
    write_image(folder / "al/t2_0001.ppm", (0, 255, 0))
    return folder


def test_a_missing_library_is_named(faces, work, without):
    without("PIL")
    with pytest.raises(MissingExtraError, match=r"needs Pillow: pip install 'fineprune\[data\]'"):
        read(image_options(), faces, work)


def test_images_are_sorted_by_class(faces, work):
    raw = read(image_options(), faces, work)
    assert raw.inputs.shape == (4, 3, 4, 3)
    assert raw.inputs.dtype == np.uint8
    assert raw.classes == ("al", "bo")
    assert raw.labels.tolist() == [0, 0, 0, 1]
    assert raw.inputs[3, :, 0, 0].tolist() == [255, 0, 0]
    assert raw.inputs[1, :, 0, 0].tolist() == [0, 255, 0]
    assert len(set(raw.groups)) == 4


def test_grey_images_have_one_channel(faces, write_image, work):
    write_image(faces / "bo/grey.png", 77, mode="L")
    raw = read(image_options(channels=1), faces, work)
    assert raw.inputs.shape == (5, 1, 4, 3)
    assert raw.inputs[4, 0, 0, 0] == 77


def test_a_track_is_what_precedes_the_last_underscore(faces, write_image, work):
    write_image(faces / "bo/t1_0001.png", 1)
    raw = read(image_options(group_by="prefix"), faces, work)
    assert raw.groups.tolist() == [0, 0, 1, 2, 3]  # al/t1 twice, al/t2, bo/bo, bo/t1


def test_prefixes_that_group_nothing_are_told(pair, work):
    assert read(image_options(group_by="prefix"), pair, work).warnings == (NOT_GROUPED.format("prefix"),)


@pytest.mark.parametrize("suffix", [".jpe", ".JFIF", ".pgm", ".pbm", ".pnm"])
def test_every_suffix_of_a_format_is_read(suffix, pair, write_image, work):
    write_image(pair / f"bo/c{suffix}", (0, 200, 0))
    raw = read(image_options(), pair, work)
    assert raw.inputs[2, :, 0, 0].tolist() == pytest.approx([0, 200, 0], abs=2)


@pytest.mark.parametrize("suffix", [".avif", ".gif", ".heif", ".jp2"])
def test_pictures_that_cannot_be_read_are_told(suffix, pair, work):
    (pair / f"bo/c{suffix}").write_bytes(b"")
    told = f"1 files of types that no reader takes ({suffix}): skipped"
    assert told in read(image_options(), pair, work).warnings


def test_the_crop_is_in_source_pixels(tmp_path, work):
    pixels = np.arange(48, dtype=np.uint8).reshape(8, 6)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "set" / name / "x.png")
    crop = Box(left=1, top=2, right=4, bottom=6)
    raw = read(image_options(channels=1, crop=crop), tmp_path / "set", work)
    np.testing.assert_array_equal(raw.inputs[0, 0], pixels[2:6, 1:4])


def test_small_classes_are_left_out_and_reported(faces, work):
    raw = read(image_options(min_per_class=2), faces, work)
    assert raw.classes == ("al",)
    assert raw.counts == {"classes_left_out": 1, "skipped": 1}
    assert raw.warnings == (
        "1 classes of fewer than 2 images were left out",
        "1 images are of classes that were left out",
        NOT_GROUPED.format("file"),
    )
    grouped = read(image_options(min_per_class=2, group_by="prefix"), faces, work)
    assert grouped.warnings == raw.warnings[:2]
    with pytest.raises(DataError, match="expected classes of at least 9 images, found 3"):
        read(image_options(min_per_class=9), faces, work)


@pytest.mark.parametrize("name", ["al/t1_0001.jpg", "bo/bo_0001.png", "al/t1_0002.bmp", "al/t2_0001.ppm"])
@pytest.mark.parametrize("truncated_allowed", [False, True])
def test_refuses_a_truncated_image(name, truncated_allowed, faces, work, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", truncated_allowed)
    path = faces / name
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(DataError, match=f"{path}: expected a whole image, found"):
        read(image_options(), faces, work)


def test_refuses_a_corrupt_image(faces, work):
    path = faces / "bo/bo_0001.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 8] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path}: expected a whole image, found"):
        read(image_options(), faces, work)


def test_refuses_deep_pixels_and_a_crop_outside_the_image(faces, write_image, work):
    with pytest.raises(DataError, match="expected a crop within 6×8 pixels"):
        read(image_options(crop=Box(0, 0, 7, 8)), faces, work)
    path = write_image(faces / "bo/deep.png", 4000, mode="I;16")
    with pytest.raises(DataError, match=f"{path}: expected 8 bits per channel, found mode I;16"):
        read(image_options(), faces, work)


def test_refuses_an_empty_class(faces, work):
    (faces / "nobody").mkdir()
    with pytest.raises(DataError, match=rf"{faces}/nobody: expected images \(\.jpg .*\) of the class"):
        read(image_options(), faces, work)


def test_hidden_files_are_no_data(faces, work):
    (faces / "bo/._bo_0001.png").write_bytes(b"left by another system")
    assert len(read(image_options(), faces, work).labels) == 4


def test_what_is_in_a_hidden_folder_is_no_data(faces, write_image, work):
    write_image(faces / ".ipynb_checkpoints/bo_0001.png", 1)
    write_image(faces / "bo/.thumbnails/bo_0001.png", 1)
    assert read(image_options(), faces, work).classes == ("al", "bo")


def test_a_source_in_a_hidden_folder_is_read(faces, work):
    hidden = faces.rename(faces.with_name(".faces"))
    assert len(read(image_options(), hidden, work).labels) == 4


def test_a_class_that_cannot_be_read_is_not_passed_by(faces, work, unreadable):
    unreadable(faces / "bo")
    with pytest.raises(PermissionError) as caught:
        read(image_options(), faces, work)
    assert caught.value.filename == str(faces / "bo")


def test_refuses_images_outside_a_class_folder(faces, write_image, work):
    path = write_image(faces / "stray.png", 1)
    with pytest.raises(DataError, match=f"{path}: expected {faces}/<class>/<file>"):
        read(image_options(), faces, work)


HEADER = "path,left_x,left_y,right_x,right_y\n"


@pytest.fixture
def pair(tmp_path, write_image):
    """Two faces of 6×8 pixels."""
    for name in ("al/a.png", "bo/b.png"):
        write_image(tmp_path / "pair" / name, 1)
    return tmp_path / "pair"


def test_eyes_follow_the_crop_and_the_size(pair, work):
    # Al's eyes are given with the right one in the picture first.
    (pair / "eyes.csv").write_text(HEADER + "bo/b.png,2,3,4,3.5\nal/a.png,5,4,3,2\nno/n.png,0,0,0,0\n")
    crop = Box(left=1, top=2, right=5, bottom=6)  # 4×4 pixels, which become 6 wide and 8 high
    raw = read(image_options(width=6, height=8, crop=crop, landmarks="eyes.csv"), pair, work)
    assert (raw.place_kind, raw.task, raw.places.dtype) == ("eyes", "classification", np.float32)
    assert raw.places.tolist() == [[[3, 0], [6, 4]], [[1.5, 2], [4.5, 3]]]
    assert raw.counts == {"classes_left_out": 0, "skipped": 0, "eyes_without_image": 1}
    assert raw.warnings == (
        "1 rows of eyes.csv were skipped: no image has their path",
        NOT_GROUPED.format("file"),
    )


def test_without_landmarks_there_are_no_places(pair, work):
    raw = read(image_options(), pair, work)
    assert (raw.place_kind, raw.places) == (None, None)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "bo/b.png,1,1,2,1\n",
            r"eyes.csv: expected the eyes of every image, found none of al/a.png \(1 such",
        ),
        (
            "bo/b.png,1,1,2,1\nal/a.png,1,1,7,1\n",
            r"al/a.png: expected both eyes within the crop, found \[\[1.0, 1.0\], \[7.0, 1.0\]\] of",
        ),
        ("bo/b.png,1,1,2,1\nal/a.png,1,-1,2,1\n", "al/a.png: expected both eyes within the crop"),
        (
            "bo/b.png,1,1,2,1\nal/a.png,2,1,2,1\n",
            r"al/a.png: expected the eyes apart, found \[\[2.0, 1.0\], \[2.0, 1.0\]\] of .*\(1 such images\)",
        ),
        (
            "bo/b.png,1,1,2,1\nal/a.png,1,1,2,1\nbo/b.png,1,1,3,1\n",
            "eyes.csv:4: expected each image once, bo/b.png is at .*eyes.csv:2 too",
        ),
        ("bo/b.png,1,1,2,1\nal/a.png,1,?,2,1\n", r"eyes.csv:3: expected a number in 'left_y', found '\?'"),
    ],
)
def test_refuses_a_missing_eye_and_one_outside(table, message, pair, work):
    (pair / "eyes.csv").write_text(HEADER + table)
    with pytest.raises(DataError, match=message):
        read(image_options(landmarks="eyes.csv"), pair, work)


@pytest.mark.parametrize("name", ["/etc/passwd", "../pair/eyes.csv", "eyes\0.csv", ""])
def test_refuses_landmarks_outside_of_the_source(name, pair, work):
    (pair / "eyes.csv").write_text(HEADER + "bo/b.png,2,3,4,3.5\nal/a.png,5,4,3,2\n")
    with pytest.raises(DataError) as caught:
        read(image_options(landmarks=name), pair, work)
    assert str(caught.value) == f"the images reader: expected a path below {pair}, found {name!r}"
