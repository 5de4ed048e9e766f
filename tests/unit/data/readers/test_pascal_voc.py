import dataclasses

import pytest

from fineprune.data.readers import read
from fineprune.data.readers.pascal_voc import PascalVocOptions
from fineprune.errors import DataError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x}</xmin><ymin>2</ymin>"
    "<xmax>20</xmax><ymax>12.0</ymax></bndbox></object>"
)
OPTIONS = PascalVocOptions(
    kind="pascal_voc",
    height=16,
    width=16,
    min_size=2,
    max_unreadable=0.0,
    annotations="annotations",
    images="images",
)


def write(voc, stem, objects, filename=None, size=(32, 16)):
    path = voc / "annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{filename or stem + '.png'}</filename>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )
    return path


@pytest.fixture
def voc(tmp_path, write_image):
    """Two images of 32×16 pixels: one with two signs, one with a difficult one."""
    voc = tmp_path / "voc"
    for stem in ("a", "b"):
        write_image(voc / f"images/{stem}.png", 1, size=(32, 16))
    stop = OBJECT.format(name="stop", difficult=0, x=4)
    write(voc, "a", stop + OBJECT.format(name="crosswalk", difficult=0, x=0))
    write(voc, "b", OBJECT.format(name="stop", difficult=1, x=4))
    return voc


def test_objects_are_signs_and_images_groups(voc, work):
    raw = read(OPTIONS, voc, work)
    assert raw.classes == ("crosswalk", "stop")
    assert raw.labels.tolist() == [[1, 0], [1, -1]]
    assert raw.places[0].tolist() == [[2, 1, 10, 6], [0, 1, 10, 6]]
    assert (raw.group, raw.groups.tolist()) == ("image", [0, 1])
    assert raw.counts["boxes_difficult"] == 1
    assert raw.warnings == (
        "the format names no videos: frames of one may be in several splits, which flatters accuracy",
        "1 signs are flagged difficult; they are used like the others",
    )


def test_an_image_that_was_converted_is_found_by_its_stem(voc, work, write_image):
    (voc / "images/a.png").unlink()
    write_image(voc / "images/a.jpg", 1, size=(32, 16))
    raw = read(OPTIONS, voc, work)
    assert len(raw.labels) == 2
    assert raw.counts["images_found_by_stem"] == 1
    assert "1 images have another suffix than their annotation says: found by their stem" in raw.warnings


def test_a_name_without_a_suffix_may_have_a_dot(voc, work, write_image):
    write_image(voc / "images/street.png", 10, size=(32, 16))  # not annotated
    write_image(voc / "images/street.2.png", 20, size=(32, 16))
    write(voc, "street.2", OBJECT.format(name="stop", difficult=0, x=4), filename="street.2")
    raw = read(OPTIONS, voc, work)
    assert raw.inputs[2, 0, 0, 0] == 20
    assert raw.counts["images_found_by_stem"] == raw.counts["images_named_otherwise"] == 0


def test_annotations_that_name_each_others_images_are_told(voc, work):
    for stem, other in ("ab", "ba"):
        write(voc, stem, OBJECT.format(name="stop", difficult=" 1 ", x=4), filename=f"{other}.png")
    raw = read(OPTIONS, voc, work)
    assert raw.counts["images_named_otherwise"] == raw.counts["boxes_difficult"] == 2
    assert "2 annotations name another image than the one with their own name" in raw.warnings


def test_without_a_size_and_a_file_name_the_stem_of_the_annotation_counts(voc, work):
    objects = OBJECT.format(name="stop", difficult=0, x=4)
    (voc / "annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    write(voc, "b", objects, size=(0, 0))
    raw = read(OPTIONS, voc, work)
    assert len(raw.labels) == 2
    assert raw.counts["images_found_by_stem"] == 0  # the annotation says no suffix


def test_images_without_signs_and_of_another_size_are_skipped(voc, work, write_image):
    write_image(voc / "images/nobody_says.png", 1)
    write_image(voc / "images/c.png", 1)
    write(voc, "c", "")
    write(voc, "b", OBJECT.format(name="stop", difficult=0, x=4), size=(64, 32))
    raw = read(OPTIONS, voc, work)
    assert len(raw.labels) == 1
    assert (raw.counts["images_without_signs"], raw.counts["images_of_another_size"]) == (2, 1)


BOMB = (
    '<!DOCTYPE lol [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation><filename>&b;</filename></annotation>'
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected XML, found no element found"),
        (b"<annotation><object>", "expected XML, found no element found"),
        (b"\x89PNG", "expected XML, found not well-formed"),
        (BOMB.encode(), "expected no document type, found <!DOCTYPE lol>"),
        (BOMB.encode("utf-16"), "expected no document type, found <!DOCTYPE lol>"),
        (b"<annotation><object/></annotation>", "expected the name of every object, found none"),
        (
            b"<annotation><object><name>stop</name></object></annotation>",
            "expected a number in <bndbox/xmin>, found ''",
        ),
        (b"<annotation><size><width>?</width></size></annotation>", r"number in <size/width>, found '\?'"),
        (b"<annotation><size><width>nan</width></size></annotation>", r"number in <size/width>, found 'nan'"),
        (b"<annotation><size><width>inf</width></size></annotation>", r"number in <size/width>, found 'inf'"),
        (
            b"<annotation><object><name>a</name><bndbox><xmin>nan</xmin></bndbox></object></annotation>",
            "expected a number in <bndbox/xmin>, found 'nan'",
        ),
        (b'<?xml version="1.0" encoding="foo"?><annotation/>', "expected XML, found unknown encoding: foo"),
    ],
)
def test_refuses_a_damaged_annotation(data, message, voc, work):
    path = voc / "annotations/a.xml"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path}: .*{message}"):
        read(OPTIONS, voc, work)


def test_refuses_a_missing_image_and_two_of_one_name(voc, work, write_image):
    write(voc, "a", OBJECT.format(name="stop", difficult=0, x=4), filename="../gone.png")
    with pytest.raises(DataError, match=r"0.0% of 2 images unreadable, found 1, first .*/images/gone.png"):
        read(OPTIONS, voc, work)
    for suffix in (".jpg", ".bmp"):
        write_image(voc / f"images/gone{suffix}", 1)
    with pytest.raises(DataError, match=r"a.xml: expected one image of its name, found .*gone.bmp and .*jpg"):
        read(OPTIONS, voc, work)
    for folder in "xy":
        write_image(voc / f"images/{folder}/gone.png", 1)
    with pytest.raises(DataError, match=r"expected one image of its name, found .*/x/gone.png and .*/y/gone"):
        read(OPTIONS, voc, work)


def test_refuses_an_embedded_source_and_a_missing_folder(voc, work):
    with pytest.raises(DataError, match="expected a source with files, found an embedded one"):
        read(OPTIONS, None, work)
    (voc / "images").rename(voc / "pictures")
    with pytest.raises(DataError, match=r"images: expected files of type .jpg, .*, found none"):
        read(OPTIONS, voc, work)


def test_annotations_and_images_may_lie_in_the_source_itself(voc, work):
    options = dataclasses.replace(OPTIONS, annotations="", images="")
    assert len(read(options, voc, work).labels) == 2


@pytest.mark.parametrize("field", ["annotations", "images"])
@pytest.mark.parametrize("leads_to", ["/etc", "../voc/{}", "a\0b"])
def test_refuses_options_that_lead_out_of_the_source(field, leads_to, voc, work):
    name = leads_to.format(field)
    with pytest.raises(DataError) as caught:
        read(dataclasses.replace(OPTIONS, **{field: name}), voc, work)
    assert str(caught.value) == f"the pascal_voc reader: expected a path below {voc}, found {name!r}"


def test_refuses_two_annotations_of_one_image(voc, work):
    path = write(voc, "b", OBJECT.format(name="stop", difficult=0, x=4), filename="a.png")
    message = f"{path}: expected each image once, .*/images/a.png is at .*/annotations/a.xml too"
    with pytest.raises(DataError, match=message):
        read(OPTIONS, voc, work)
