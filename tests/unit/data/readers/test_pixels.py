import numpy as np
import pytest
from PIL import Image

from fineprune.data.readers.pixels import fitted, for_each, load


@pytest.mark.parametrize(
    ("size", "covered", "scale"),
    [
        ((8, 4), (8, 16), (2.0, 2.0)),  # twice as large, grey below
        ((4, 8), (16, 8), (2.0, 2.0)),  # twice as large, grey to the right
        ((32, 32), (16, 16), (0.5, 0.5)),
        ((48, 10), (3, 16), (1 / 3, 0.3)),  # 3⅓ rows become 3
        ((1600, 10), (1, 16), (0.01, 0.1)),  # and a tenth of one becomes one
    ],
)
def test_an_image_is_fitted_with_its_aspect_kept(size, covered, scale):
    pixels, found = fitted(Image.new("RGB", size, (255, 0, 0)), 16, 16)
    expected = np.full((3, 16, 16), 128)
    expected[:, : covered[0], : covered[1]] = np.array([255, 0, 0])[:, None, None]
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == np.uint8
    assert found == pytest.approx(scale)


def test_results_come_in_order_and_the_first_error_ends_it():
    assert for_each(lambda row: row * row, 20) == [row * row for row in range(20)]
    with pytest.raises(ZeroDivisionError):
        for_each(lambda row: 1 // (3 - row), 20)


ORIENTATION = 0x0112


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (None, [[1, 2, 3], [4, 5, 6]]),
        (1, [[1, 2, 3], [4, 5, 6]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (6, [[4, 1], [5, 2], [6, 3]]),  # what lies left is the top
        (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_an_image_is_turned_as_its_exif_says(orientation, expected, tmp_path):
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    for channels in (1, 3):
        pixels = np.asarray(load(tmp_path / "a.png", channels))
        assert pixels.reshape(*pixels.shape[:2], -1)[:, :, 0].tolist() == expected


def test_an_image_with_damaged_exif_stays_as_it_lies(tmp_path):
    Image.new("L", (3, 2)).save(tmp_path / "a.png", exif=b"no TIFF header, and so no orientation")
    assert load(tmp_path / "a.png", channels=1).size == (3, 2)
