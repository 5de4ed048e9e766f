import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fineprune.data.readers.pixels import fitted, for_each, load
from fineprune.errors import DataError


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


@pytest.mark.parametrize("ahead", [1, 7, 20, 4096])
def test_results_come_in_order_and_the_first_error_ends_it(monkeypatch, ahead):
    monkeypatch.setattr("fineprune.progress._AHEAD", ahead)
    assert for_each(lambda row: row * row, 20) == [row * row for row in range(20)]
    with pytest.raises(ZeroDivisionError):
        for_each(lambda row: 1 // (3 - row), 20)


def test_an_image_of_more_pixels_than_pillow_holds_for_sound_is_refused(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    assert for_each(lambda _: load(tmp_path / "bomb.png", 1).size, 1) == [(40, 30)]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    message = r"bomb\.png: expected a whole image, found Image size \(1200 pixels\) exceeds limit of 1199"
    with pytest.raises(DataError, match=message):
        for_each(lambda _: load(tmp_path / "bomb.png", 1), 1)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
@pytest.mark.parametrize("opacity", [255, 254, 0])
def test_pixels_that_nobody_sees_are_refused(tmp_path, kind, opacity):
    image, path = Image.new("RGBA", (2, 1), (9, 9, 9, 255)), tmp_path / "sign.png"
    image.putpixel((1, 0), (9, 9, 9, opacity))
    if kind == "palette":
        image = Image.new("P", (2, 1))
        image.putpalette([9, 9, 9])
        image.save(path, transparency=bytes([opacity]))
    else:
        image.convert(kind).save(path)
    for channels in (1, 3):
        if opacity == 255:
            assert np.asarray(load(path, channels)).max() == 9
        else:
            with pytest.raises(DataError, match=r"sign.png: expected an opaque image, found transparent"):
                load(path, channels)
    assert np.asarray(load(path, 4))[0, 1, 3] == opacity


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


def png(colour, depth, pixel):
    """A PNG of one pixel, of a colour type (0 grey, 2 RGB, 6 RGBA) and a depth in bits."""
    header = struct.pack(">IIBBBBB", 1, 1, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + pixel)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (png(0, 16, b"\1\2"), "mode I;16"),
        (png(2, 16, b"\1\2" * 3), "mode RGB;16B"),
        (png(6, 16, b"\1\2" * 4), "mode RGBA;16B"),
        (b"P5 1 1 65535\n\1\2", "mode I"),
        (b"P6 1 1 65535\n" + b"\1\2" * 3, "samples up to 65535"),
        (b"P6 1 1 256\n" + b"\1\2" * 3, "samples up to 256"),
    ],
)
def test_more_than_eight_bits_are_refused(content, found, channels, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: expected 8 bits per channel, found {found}"):
        load(path, channels)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "EPS"])
def test_what_a_file_holds_counts_and_not_its_name(kind, tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (2, 2)).save(path, kind)
    with pytest.raises(DataError, match=f"{path}: expected a whole image, found cannot identify"):
        load(path, 3)


@pytest.mark.parametrize(
    "content", [png(2, 8, b"\1\2\3"), png(0, 1, b"\x80"), b"P6 1 1 255\n\1\2\3", b"P6 1 1 15\n\1\2\3"]
)
def test_eight_bits_and_fewer_are_read(content, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert load(path, 3).size == (1, 1)
