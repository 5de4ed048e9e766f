import dataclasses
import json

import pytest

from fineprune.data.readers import read
from fineprune.data.readers.coco import CocoOptions
from fineprune.errors import DataError

OPTIONS = CocoOptions(
    kind="coco",
    height=16,
    width=16,
    min_size=2,
    max_unreadable=0.0,
    annotations="annotations/instances.json",
    images="images",
    group_by=None,
)


def instances(**changes):
    sides = {"width": 32, "height": 16}
    given = {
        "images": [
            {"id": 7, "file_name": "b.png", **sides},
            {"id": 5, "file_name": "a.png", **sides},
            {"id": 6, "file_name": "c.png", **sides},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 13, "bbox": [4, 2, 16, 10], "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 1, "bbox": [0, 0, 8.5, 8], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 13, "bbox": [4, 2, 16, 10]},
            {"id": 4, "image_id": 6, "category_id": 13, "bbox": [0, 0, 32, 16], "iscrowd": 1},
        ],
        "categories": [{"id": 13, "name": "stop"}, {"id": 1, "name": "person"}],
    }
    return given | changes


@pytest.fixture
def coco(tmp_path, write_image):
    """Three images of 32×16 pixels; ``write`` replaces their annotations."""
    root = tmp_path / "coco"
    for name in "abc":
        write_image(root / f"images/{name}.png", 1, size=(32, 16))
    (root / "annotations").mkdir()
    write(root, instances())
    return root


def write(root, content):
    (root / OPTIONS.annotations).write_text(json.dumps(content))


def test_boxes_are_edges_and_categories_names(coco, work):
    raw = read(OPTIONS, coco, work)
    assert raw.classes == ("person", "stop")
    assert raw.labels.tolist() == [[1, 0], [1, -1]]
    assert raw.places[0].tolist() == [[2, 1, 10, 6], [0, 0, 4.25, 4]]
    assert (raw.group, raw.groups.tolist()) == ("image", [0, 1])
    assert (raw.counts["boxes_crowd"], raw.counts["images_without_signs"]) == (1, 1)
    assert "1 boxes of crowds were skipped" in raw.warnings


@pytest.mark.parametrize("key", [None, "id", "file_name"])
def test_images_that_no_key_groups_are_told(coco, work, key):
    told = "group_by names no videos: frames of one may be in several splits, which flatters accuracy"
    assert told in read(dataclasses.replace(OPTIONS, group_by=key), coco, work).warnings


def test_a_key_of_the_images_can_group_them(coco, work):
    content = instances(
        annotations=[{"image_id": n, "category_id": 13, "bbox": [4, 2, 16, 10]} for n in (5, 6, 7)]
    )
    for image, drive in zip(content["images"], ("x", 3, "x"), strict=True):  # b, a, c
        image["drive"] = drive
    write(coco, content)
    raw = read(dataclasses.replace(OPTIONS, group_by="drive"), coco, work)
    assert (raw.group, raw.groups.tolist()) == ("drive", [0, 1, 1])
    assert raw.warnings == ()
    content["images"][1]["drive"] = None
    write(coco, content)
    with pytest.raises(DataError, match=r"images: expected drive, id, .*, found \{.*'file_name': 'a.png'"):
        read(dataclasses.replace(OPTIONS, group_by="drive"), coco, work)


def test_the_images_may_lie_in_the_source_itself(coco, work):
    for image in (coco / "images").iterdir():
        image.rename(coco / image.name)
    assert len(read(dataclasses.replace(OPTIONS, images=""), coco, work).labels) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": "/etc/passwd"},
        {"annotations": "../coco/annotations/instances.json"},
        {"annotations": "a\0b"},
        {"annotations": ""},
        {"images": "/etc"},
        {"images": "../coco/images"},
    ],
)
def test_refuses_options_that_lead_out_of_the_source(changes, coco, work):
    (name,) = changes.values()
    with pytest.raises(DataError) as caught:
        read(dataclasses.replace(OPTIONS, **changes), coco, work)
    assert str(caught.value) == f"the coco reader: expected a path below {coco}, found {name!r}"


SIDES = {"width": 32, "height": 16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": [{"id": n, "file_name": name, **SIDES} for n, name in ((5, "a.png"), (6, "./a.png"))]},
            r"images\[1\]: expected each file once, .*/images/a.png is at .*images\[0\] too",
        ),
        (
            {"images": [{"id": 5, "file_name": name, **SIDES} for name in ("a.png", "b.png")]},
            r"images\[1\]: expected each id once, 5 is at .*images\[0\] too",
        ),
        (
            {"categories": [{"id": 13, "name": name} for name in ("stop", "person")]},
            r"categories\[1\]: expected each id once, 13 is at .*categories\[0\] too",
        ),
        (
            {"categories": [{"id": 13, "name": "stop"}, {"id": 1, "name": " stop "}]},
            r"categories: id 1: expected each category once, stop is at .*categories: id 13 too",
        ),
    ],
)
def test_refuses_what_is_listed_twice(changes, message, coco, work):
    annotations = [{"image_id": 5, "category_id": 13, "bbox": [4, 2, 16, 10]}]
    write(coco, instances(annotations=annotations, **changes))
    with pytest.raises(DataError, match=message):
        read(OPTIONS, coco, work)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a list of categories, found None"),
        (instances(images={"id": 5}), r"expected a list of images, found \{'id': 5\}"),
        (instances(images=[{"id": 5}]), r"images: expected id, file_name, width, height, found \{'id': 5\}"),
        (instances(categories=[3]), "categories: expected id, name, found 3"),
        (instances(categories=[{"id": [1], "name": "stop"}]), "categories: expected id, name, found"),
        (instances(categories=[{"id": 1, "name": "person"}]), "expected a listed category, found 13"),
        (instances(images=[]), "expected signs on listed images, found 5"),
        (
            instances(annotations=[{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3]}]),
            r"expected a bbox of 4 numbers, found \[1, 2, 3\]",
        ),
        (
            instances(annotations=[{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, None]}]),
            r"expected a bbox of 4 numbers, found \[1, 2, 3, None\]",
        ),
        (
            instances(annotations=[{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 10**400]}]),
            r"expected a bbox of 4 numbers, found \[1, 2, 3, 1000",
        ),
        (
            instances(annotations=[{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, float("nan")]}]),
            r"expected a bbox of 4 finite numbers, found \[1, 2, 3, nan\]",
        ),
        (
            instances(images=[{"id": 5, "file_name": "/etc/a.png", "width": 1, "height": 1}]),
            r"expected a path below .*/images, found '/etc/a.png'",
        ),
    ],
)
def test_refuses_what_is_not_in_the_form(content, message, coco, work):
    write(coco, content)
    with pytest.raises(DataError, match=rf"instances.json: .*{message}"):
        read(OPTIONS, coco, work)


def test_refuses_no_json(coco, work):
    (coco / OPTIONS.annotations).write_text("{")
    with pytest.raises(DataError, match=r"instances.json: not valid JSON"):
        read(OPTIONS, coco, work)
    with pytest.raises(DataError, match="expected a source with files, found an embedded one"):
        read(OPTIONS, None, work)
