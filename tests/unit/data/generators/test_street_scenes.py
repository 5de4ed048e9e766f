import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from fineprune.data.generators import generate
from fineprune.data.generators.sign_drawing import TAGS, sign
from fineprune.data.generators.sign_placing import place_signs
from fineprune.data.generators.street_scenes import StreetScenesOptions
from fineprune.data.readers import read
from fineprune.data.readers.coco import CocoOptions
from fineprune.data.readers.lisa import LisaOptions
from fineprune.digests import dvc_md5
from fineprune.errors import DataError

OPTIONS = StreetScenesOptions(
    "street_scenes",
    tracks=6,
    frames=2,
    height=96,
    width=128,
    smallest_sign=12,
    largest_sign=40,
    signs=3,
    seed=0,
)
# As LISA has it.
HEADER = (
    "Filename;Annotation tag;Upper left corner X;Upper left corner Y;Lower right corner X;"
    "Lower right corner Y;Occluded,On another road;Origin file;Origin frame number;Origin track;"
    "Origin track frame number"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("street")
    generate(OPTIONS, folder)
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    with (folder / "allAnnotations.csv").open() as file:
        return list(csv.DictReader(file, delimiter=";"))


def box(row):
    return [int(row[f"{corner} corner {axis}"]) for corner in ("Upper left", "Lower right") for axis in "XY"]


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    generate(OPTIONS, tmp_path)
    assert dvc_md5(tmp_path) == dvc_md5(folder)


def test_another_seed_gives_others(folder, tmp_path):
    generate(dataclasses.replace(OPTIONS, seed=1), tmp_path)
    assert dvc_md5(tmp_path / "street0000_00.jpg") != dvc_md5(folder / "street0000_00.jpg")


def test_the_table_is_lisas(folder, rows):
    first = (folder / "allAnnotations.csv").read_text().splitlines()[0]
    assert first == HEADER
    assert {row["Annotation tag"] for row in rows} <= {tag for family in TAGS for tag in family}
    assert {row["Filename"] for row in rows} == {path.name for path in folder.glob("*.jpg")}


def test_boxes_are_inside_the_frame_and_of_the_size_asked_for(rows):
    for left, top, right, bottom in map(box, rows):
        assert 0 <= left < right <= 128
        assert 0 <= top < bottom <= 96
        assert 6 < max(right - left, bottom - top) <= 1.2 * 40 + 2


def test_coco_says_the_same(folder, rows):
    coco = json.loads((folder / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    tags = {category["id"]: category["name"] for category in coco["categories"]}
    found = []
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        edges = [x, y, x + width, y + height]
        found.append((names[annotation["image_id"]], tags[annotation["category_id"]], edges))
    assert found == [(row["Filename"], row["Annotation tag"], box(row)) for row in rows]


def test_the_frames_of_a_track_show_the_same_signs_growing(rows):
    for track in {row["Origin track"] for row in rows}:
        first, last = (
            [
                row
                for row in rows
                if row["Origin track"] == track and row["Origin track frame number"] == str(n)
            ]
            for n in range(2)
        )
        assert [row["Annotation tag"] for row in first] == [row["Annotation tag"] for row in last]
        areas = [[(b[2] - b[0]) * (b[3] - b[1]) for b in map(box, frame)] for frame in (first, last)]
        assert all(after >= 0.9 * before for before, after in zip(*areas, strict=True))


def test_the_readers_take_them(folder, rows, tmp_path):
    limits = {"height": 96, "width": 128, "min_size": 4, "max_unreadable": 0.0}
    for work in ("lisa", "coco"):
        (tmp_path / work).mkdir()
    lisa = read(LisaOptions(kind="lisa", superclasses=True, **limits), folder, tmp_path / "lisa")
    coco_options = CocoOptions(
        kind="coco", annotations="annotations.json", images=".", group_by="track", **limits
    )
    coco = read(coco_options, folder, tmp_path / "coco")
    assert lisa.classes == ("speedlimit", "stop", "warning")
    assert len(np.unique(lisa.groups)) == 6
    assert (lisa.labels >= 0).sum() == (coco.labels >= 0).sum() == len(rows)
    np.testing.assert_array_equal(lisa.places, coco.places)
    assert len(set(zip(lisa.groups, coco.groups, strict=True))) == len(set(coco.groups)) == 6


@pytest.mark.parametrize("seed", range(6))
def test_a_box_holds_the_whole_sign_and_touches_it_on_every_side(seed):
    placed = place_signs((240, 320), (30, 90), 1, 0.5, np.random.default_rng(seed))[0]
    placed = dataclasses.replace(placed, leaves=())
    frame = Image.new("RGB", (320, 240), (0, 0, 255))
    placed.draw(frame, 1.0)
    y, x = np.nonzero(np.abs(np.asarray(frame, int) - (0, 0, 255)).sum(-1) > 60)
    found = x.min(), y.min(), x.max() + 1, y.max() + 1
    np.testing.assert_allclose(found, placed.box(1.0), atol=2)
    inside = np.array(placed.box(1.0)) - found
    assert (inside[:2] <= 0).all()
    assert (inside[2:] >= 0).all()


def test_no_sign_stands_before_another():
    for seed in range(10):
        boxes = [s.box(1.0) for s in place_signs((240, 320), (20, 90), 4, 0.5, np.random.default_rng(seed))]
        covered = np.zeros((240, 320), int)
        for left, top, right, bottom in boxes:
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1


def test_signs_have_their_colours():
    def middle(tag, x, y):
        return sign(tag).pictures[0].getpixel((round(256 * x), round(256 * y)))

    assert middle("stop", 0.5, 0.15)[0] > 2 * middle("stop", 0.5, 0.15)[1]  # red
    assert min(middle("speedLimit35", 0.5, 0.45)[:3]) > 200  # white
    red, green, blue, _ = middle("merge", 0.3, 0.5)  # yellow
    assert min(red, green) > 3 * blue
    assert middle("merge", 0.05, 0.05)[3] == 0  # outside the diamond


@pytest.mark.parametrize("change", [{"smallest_sign": 50}, {"largest_sign": 90}])
def test_signs_that_do_not_fit_are_refused(change, tmp_path):
    with pytest.raises(DataError, match="expected smallest_sign <= largest_sign <= 76"):
        generate(dataclasses.replace(OPTIONS, **change), tmp_path)
