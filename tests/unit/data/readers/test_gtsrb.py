import pytest
from PIL import Image

from fineprune.data.readers import read
from fineprune.data.readers.gtsrb import GtsrbOptions
from fineprune.errors import DataError

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
ROI = "10;10;3;3;7;7"


def options(**changes):
    return GtsrbOptions(kind="gtsrb", **({"height": 4, "width": 4, "crop_to_sign": True} | changes))


def write_sign(path, value):
    """A white image of 10×10 pixels with a sign of 4×4 in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (10, 10), (255, 255, 255))
    image.paste((value, 0, 0), (3, 3, 7, 7))
    image.save(path)


@pytest.fixture
def gtsrb(tmp_path):
    """Two classes: two tracks of the first, one of the second."""
    train = tmp_path / "gtsrb/Final_Training/Images"
    for cc, names in {
        "00000": ("00000_00000", "00000_00001", "00001_00000"),
        "00014": ("00000_00000",),
    }.items():
        rows = [f"{name}.ppm;{ROI};{int(cc)}\n" for name in names]
        for name in names:
            write_sign(train / cc / f"{name}.ppm", int(cc))
        (train / cc / f"GT-{cc}.csv").write_text(HEADER + "".join(rows))
    return tmp_path / "gtsrb"


@pytest.fixture
def test_set(gtsrb):
    """Two test images, with a table in a folder above theirs."""
    for name in ("00000", "00001"):
        write_sign(gtsrb / f"Final_Test/Images/{name}.ppm", 0)
    (gtsrb / "GT-final_test.csv").write_text(HEADER + f"00000.ppm;{ROI};14\n00001.ppm;{ROI};0\n")
    return gtsrb


def test_classes_and_tracks_are_in_the_tables(gtsrb, work):
    raw = read(options(), gtsrb, work)
    assert raw.classes == ("00000", "00014")
    assert raw.labels.tolist() == [0, 0, 0, 1]
    assert (raw.group, raw.groups.tolist()) == ("track", [0, 0, 1, 2])
    assert raw.authors_test is None
    assert raw.inputs.shape == (4, 3, 4, 4)
    assert raw.inputs[3].max() == 14  # nothing of the white around the sign
    assert raw.counts == {"images_unlisted": 0}


def test_the_margin_around_the_sign_can_stay(gtsrb, work):
    raw = read(options(crop_to_sign=False, height=10, width=10), gtsrb, work)
    assert raw.inputs[3, :, 2, 2].tolist() == [255, 255, 255]
    assert raw.inputs[3, :, 3, 3].tolist() == [14, 0, 0]


def test_the_authors_test_set_is_single_images(test_set, work):
    raw = read(options(), test_set, work)
    assert raw.authors_test.sum() == 2
    assert raw.labels[raw.authors_test].tolist() == [1, 0]
    assert len(set(raw.groups)) == 5


def test_test_images_may_lie_beside_their_table(test_set, work):
    (test_set / "Final_Test/Images").rename(test_set / "Test")
    (test_set / "GT-final_test.csv").rename(test_set / "Test/GT-final_test.csv")
    assert read(options(), test_set, work).authors_test.sum() == 2


def test_images_beside_the_test_table_come_before_others_of_their_names(test_set, work):
    for name in ("00000", "00001"):
        write_sign(test_set / f"00_Online/Images/{name}.ppm", 99)  # a folder that sorts first
    (test_set / "GT-final_test.csv").rename(test_set / "Final_Test/Images/GT-final_test.csv")
    raw = read(options(), test_set, work)
    assert raw.inputs[raw.authors_test].max() == 0


def test_refuses_test_images_that_may_be_in_two_folders(test_set, work):
    write_sign(test_set / "00_Online/Images/00000.ppm", 99)
    message = (
        r"GT-final_test.csv: expected 00000.ppm beside it or in one other .*00_Online/Images and .*/Final_"
    )
    with pytest.raises(DataError, match=message):
        read(options(), test_set, work)


def test_test_images_without_classes_are_told(test_set, work):
    (test_set / "GT-final_test.csv").rename(test_set / "GT-final_test.test.csv")
    raw = read(options(), test_set, work)
    assert raw.authors_test is None
    assert raw.counts == {"images_unlisted": 2}
    assert raw.warnings == ("2 images are in no table with classes: skipped",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "00000_00000.ppm;10;10;3;3;11;7;14\n",
            r"00000_00000.ppm: expected a crop within 10×10 pixels, found",
        ),
        (
            "00000_00000.ppm;10;10;3;3;3;7;14\n",
            r"00000_00000.ppm: expected a crop within 10×10 pixels, found",
        ),
        ("gone.ppm;10;10;3;3;7;7;14\n", r"gone.ppm: expected a whole image, found"),
        ("00000_00000.ppm;10;10;3;3;7;7;\n", "GT-00014.csv:2: expected a number in 'ClassId', found ''"),
        (f"00000_00000.ppm;{ROI};1.7\n", r"csv:2: expected a whole number in 'ClassId', found '1.7'"),
        ("00000_00000.ppm;10;10;3;3;5.9;7;1\n", r"expected a whole number in 'Roi.X2', found '5.9'"),
        ("../x.ppm;10;10;3;3;7;7;1\n", "GT-00014.csv:2: expected a path below"),
    ],
)
def test_refuses_a_damaged_row(row, message, gtsrb, work):
    (gtsrb / "Final_Training/Images/00014/GT-00014.csv").write_text(HEADER + row)
    with pytest.raises(DataError, match=message):
        read(options(), gtsrb, work)


def test_refuses_to_crop_an_image_of_another_size_than_in_the_table(gtsrb, work):
    path = gtsrb / "Final_Training/Images/00014/00000_00000.ppm"
    Image.new("RGB", (40, 40)).save(path)
    with pytest.raises(DataError, match=r"00000.ppm: expected 10×10 pixels as in the table, found 40×40"):
        read(options(), gtsrb, work)
    assert len(read(options(crop_to_sign=False), gtsrb, work).labels) == 4


def test_refuses_a_folder_without_a_table_of_classes(gtsrb, work):
    for path in list(gtsrb.rglob("*.csv")):
        path.rename(path.with_name("labels.csv"))
    with pytest.raises(DataError, match=r"expected GT-00000.csv … or GT-final_test.csv .* found labels.csv"):
        read(options(), gtsrb, work)


def test_refuses_an_image_that_is_listed_twice(gtsrb, work):
    with (gtsrb / "Final_Training/Images/00014/GT-00014.csv").open("a") as table:
        table.write(f"00000_00000.ppm;{ROI};14\n")
    with pytest.raises(
        DataError, match=r"GT-00014.csv:3: expected each image once, .*/00000_00000.ppm is at .*:2 too"
    ):
        read(options(), gtsrb, work)
