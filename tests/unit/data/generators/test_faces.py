import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from fineprune.data.generators import generate
from fineprune.data.generators.face_drawing import draw
from fineprune.data.generators.faces import FacesOptions, _light, _poses, make_person
from fineprune.data.readers import read
from fineprune.data.readers.images import ImagesOptions
from fineprune.digests import dvc_md5

OPTIONS = FacesOptions("faces", identities=3, sessions=2, frames=2, height=55, width=47, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    generate(OPTIONS, folder)
    return folder


@pytest.fixture
def drawn():
    """Draw somebody in front of the camera with some changes: the picture (H, W, 3) and the eyes (2, 2)."""

    def draw_one(seed=0, *, pose=None, height=110, width=94, **changes):
        rng = np.random.default_rng(seed)
        person = dataclasses.replace(make_person(rng), **changes)
        poses = dataclasses.replace(_poses(1, rng), lids=np.ones((1, 1, 1), np.float32), **(pose or {}))
        pictures, eyes = draw(person, _light(rng), poses, height, width)
        return pictures[:, 0].transpose(1, 2, 0), eyes[0]

    return draw_one


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    generate(OPTIONS, tmp_path)
    assert dvc_md5(tmp_path) == dvc_md5(folder)


def test_another_seed_gives_others(folder, tmp_path):
    generate(dataclasses.replace(OPTIONS, seed=1), tmp_path)
    one, other = (np.asarray(Image.open(at / "person0000/00_000.png"), float) for at in (folder, tmp_path))
    assert np.abs(one - other).mean() > 10


def test_more_people_leave_the_first_ones_as_they_are(folder, tmp_path):
    generate(dataclasses.replace(OPTIONS, identities=4), tmp_path)
    assert dvc_md5(tmp_path / "person0002") == dvc_md5(folder / "person0002")


def test_the_reader_takes_them_with_eyes_and_sessions(folder, tmp_path):
    options = ImagesOptions("images", 55, 47, 3, None, 1, "prefix", "landmarks.csv")
    raw = read(options, folder, tmp_path)
    assert raw.inputs.shape == (12, 3, 55, 47)
    assert raw.classes == ("person0000", "person0001", "person0002")
    assert len(np.unique(raw.groups)) == 6
    assert raw.places.shape == (12, 2, 2)
    assert (raw.places[:, 0, 0] < raw.places[:, 1, 0]).all()


def test_every_picture_has_a_row_in_the_table(folder):
    with (folder / "landmarks.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("seed", range(8))
def test_an_iris_of_another_colour_changes_the_picture_where_the_eyes_are(seed, drawn):
    gaze = {"gaze": np.zeros((1, 1, 1), np.float32)}
    red, blue = (np.array(colour, dtype=np.float32) for colour in ((250, 0, 0), (0, 0, 250)))
    one, eyes = drawn(seed, pose=gaze, iris=red)
    other, _ = drawn(seed, pose=gaze, iris=blue)
    changed = np.abs(one - other).sum(-1)
    y, x = np.mgrid[:110, :94] + 0.5
    left = x < eyes[:, 0].mean()
    for side, (eye_x, eye_y) in zip((left, ~left), eyes, strict=True):
        weight = changed * side
        assert np.average(x, weights=weight) == pytest.approx(eye_x, abs=0.8)
        assert np.average(y, weights=weight) == pytest.approx(eye_y, abs=0.8)


def test_a_face_is_told_from_others_without_its_eyes(drawn):
    """Two people under one light, in one pose: what sunglasses would hide is left out."""
    pose = {name: np.zeros((1, 1, 1), np.float32) for name in ("x", "y", "roll", "yaw", "pitch")}
    pictures = [drawn(seed, pose=pose, height=55, width=47)[0] for seed in range(4)]
    for picture in pictures:
        picture[14:30] = 0
    assert all(np.abs(pictures[i] - pictures[j]).mean() > 10 for i in range(4) for j in range(i))
