import numpy as np
import pytest
from PIL import Image

from fineprune.data.readers import read
from fineprune.data.readers.pixels import Box
from fineprune.data.readers.youtube_faces import YoutubeFacesOptions, face
from fineprune.errors import DataError


def options(**changes):
    given = {
        "height": 4,
        "width": 4,
        "min_per_class": 2,
        "min_videos": 1,
        "per_class": None,
        "group_by": "video",
        "seed": 0,
    }
    return YoutubeFacesOptions(kind="youtube_faces", **(given | changes))


@pytest.fixture
def faces(tmp_path, write_image):
    """Al: two videos of three frames; Bo: one of four; Cy: one frame."""
    root = tmp_path / "faces/aligned_images_DB"
    videos = {"Al/0": 3, "Al/2": 3, "Bo/1": 4, "Cy/0": 1}
    value = 0
    for video, count in videos.items():
        for frame in range(count):
            value += 1
            write_image(root / video / f"{video[-1]}.{frame}.png", (value, 0, 0), size=(8, 8))
    return tmp_path / "faces"


def test_videos_are_groups_and_people_classes(faces, work):
    raw = read(options(), faces, work)
    assert raw.classes == ("Al", "Bo")
    assert raw.labels.tolist() == [0] * 6 + [1] * 4
    assert (raw.group, raw.groups.tolist()) == ("video", [0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    assert raw.inputs[:, 0, 0, 0].tolist() == list(range(1, 11))
    assert raw.counts == {"people_left_out": 1, "frames_left_out": 1, "frames_not_drawn": 0}
    assert raw.warnings == (
        "1 people with fewer than 2 frames or 1 videos were left out",
        "1 frames are of people who were left out",
    )


def test_the_papers_split_of_frames_is_told(faces, work):
    raw = read(options(group_by="frame"), faces, work)
    assert raw.groups.tolist() == list(range(10))
    assert raw.warnings[-1].startswith("frames of one video are in several splits, as in the paper")


def test_people_with_too_few_videos_are_left_out(faces, work):
    raw = read(options(min_videos=2), faces, work)
    assert raw.classes == ("Al",)
    assert raw.counts == {"people_left_out": 2, "frames_left_out": 5, "frames_not_drawn": 0}


def test_people_without_a_frame_are_counted(faces, work):
    (faces / "aligned_images_DB/Di/0").mkdir(parents=True)
    assert read(options(), faces, work).counts["people_left_out"] == 2


def test_frames_are_drawn_over_all_videos_by_the_seed(faces, work):
    raw = read(options(per_class=3), faces, work)
    assert raw.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert raw.counts["frames_not_drawn"] == 4
    assert "4 frames are beyond the 3 taken of each person" in raw.warnings
    drawn = [
        read(options(per_class=3, seed=seed), faces, work).inputs[:, 0, 0, 0].tolist() for seed in (0, 0, 1)
    ]
    assert drawn[0] == sorted(set(drawn[0])) == drawn[1] != drawn[2]


@pytest.mark.parametrize("seed", range(5))
def test_every_video_is_drawn_from_as_far_as_there_is_room(seed, faces, work, write_image):
    write_image(faces / "aligned_images_DB/Al/5/5.0.png", 1, size=(8, 8))  # the only frame of its video
    raw = read(options(per_class=3, seed=seed), faces, work)
    assert raw.groups.tolist() == [0, 1, 2, 3, 3, 3]
    raw = read(options(per_class=2, seed=seed), faces, work)
    assert len(set(raw.groups.tolist())) == 3


def test_the_crop_takes_the_width_for_the_height(tmp_path, work):
    pixels = np.arange(80, dtype=np.uint8).reshape(10, 8)
    for name in ("a", "b"):
        path = tmp_path / f"set/{name}/0/0.1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    raw = read(options(min_per_class=1), tmp_path / "set", work)  # without the folder of aligned images
    np.testing.assert_array_equal(raw.inputs[0, 0], pixels[2:6, 2:6])
    assert face(321) == Box(80, 80, 240, 240)


def test_refuses_frames_that_lie_elsewhere(faces, work, write_image):
    path = write_image(faces / "aligned_images_DB/Al/stray.png", 1)
    with pytest.raises(DataError, match=f"{path}: expected .*/<person>/<video>/<frame>"):
        read(options(), faces, work)


def test_refuses_images_that_the_crop_leaves(faces, work, write_image):
    path = write_image(faces / "aligned_images_DB/Al/0/wide.png", 1, size=(16, 8))
    with pytest.raises(DataError, match=f"{path}: expected a crop within 16×8 pixels"):
        read(options(), faces, work)


def test_refuses_a_tree_in_which_nobody_has_enough(faces, work):
    message = "expected people with at least 9 frames in 1 videos, found 6 frames and 2 videos at most"
    with pytest.raises(DataError, match=message):
        read(options(min_per_class=9), faces, work)
    with pytest.raises(DataError, match="expected a source with files, found an embedded one"):
        read(options(), None, work)


def test_refuses_a_damaged_frame(faces, work):
    path = faces / "aligned_images_DB/Al/0/0.0.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=f"{path}: expected a whole image, found"):
        read(options(), faces, work)
