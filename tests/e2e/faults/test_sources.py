"""Sources that ingest refuses: damaged recordings and images, and too few classes or samples."""

import shutil
import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fineprune.cli import main
from tests.e2e.workspace import Workspace

from .refusals import Refused


def wav_source(folder: Path, digits: str = "01", clips: int = 12) -> Path:
    """Spoken digits of four speakers."""
    samples = np.random.default_rng(0).integers(-999, 999, 800).astype("<i2")
    for digit in digits:
        for index in range(clips):
            folder.mkdir(parents=True, exist_ok=True)
            with wave.open(str(folder / f"{digit}_speaker{index % 4}_{index}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(samples.tobytes())
    return folder


def image_source(folder: Path, classes: str = "ab", files: int = 12) -> Path:
    """8×8 grey images in a folder per class."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(files):
            (folder / name / f"{index:02}.png").write_bytes(png(pixels))
    return folder


def png(pixels: np.ndarray) -> bytes:
    """A grey PNG: written by hand, so that what is then damaged is known to be whole."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


READERS = {
    "wav": {
        "kind": "wav",
        "naming": "fsdd",
        "sample_rate": 8000,
        "seconds": 0.1,
        "group_by": "recording",
        "trim_silence": 0,
    },
    "images": {
        "kind": "images",
        "height": 8,
        "width": 8,
        "channels": 1,
        "crop": None,
        "min_per_class": 1,
        "group_by": "file",
    },
}


def ingest_of(source: Path, reader: str) -> dict[str, Any]:
    return {"changes": {"source": str(source), "reader": READERS[reader]}}


def test_the_sources_that_are_damaged_below_are_fine_as_they_are(chain: Workspace, tmp_path: Path) -> None:
    for reader, source in (("wav", wav_source(tmp_path / "wav")), ("images", image_source(tmp_path / "png"))):
        out = {"dataset": tmp_path / reader / "dataset", "report": tmp_path / reader / "report"}
        assert main(chain.argv("ingest", **ingest_of(source, reader), **out)) == 0


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"RIFF" + b"garbage" * 9, id="garbage"),
        pytest.param(lambda whole: whole[:-500], id="cut in the samples"),
        pytest.param(lambda whole: whole[:30], id="cut in the header"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole.replace(b"WAVE", b"AVI "), id="another kind"),
    ],
)
def test_a_damaged_wav_is_named(refused: Refused, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    source = wav_source(tmp_path / "source")
    clip = source / "1_speaker3_7.wav"
    clip.write_bytes(damage(clip.read_bytes()))
    refused("ingest", f"{clip}: expected", **ingest_of(source, "wav"))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"\x89PNG\r\n\x1a\n" + b"garbage" * 9, id="garbage"),
        pytest.param(lambda whole: whole[:-40], id="cut in the pixels"),
        pytest.param(lambda whole: whole[:60] + b"\xff\xff\xff" + whole[63:], id="other bytes in the pixels"),
        pytest.param(lambda whole: b"", id="empty"),
    ],
)
def test_a_damaged_png_is_named(refused: Refused, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    source = image_source(tmp_path / "source")
    image = source / "b" / "07.png"
    image.write_bytes(damage(image.read_bytes()))
    refused("ingest", f"{image}: expected a whole image", **ingest_of(source, "images"))


def test_a_source_that_is_not_there_is_named(refused: Refused, tmp_path: Path) -> None:
    refused("ingest", f"{tmp_path / 'none'}: no such folder", **ingest_of(tmp_path / "none", "wav"))


def test_a_class_folder_without_images_is_named(refused: Refused, tmp_path: Path) -> None:
    source = image_source(tmp_path / "source")
    (source / "c").mkdir()
    refused("ingest", f"{source / 'c'}: expected images (.jpg", **ingest_of(source, "images"))


def test_a_class_with_too_few_samples_for_every_split_is_named(refused: Refused, tmp_path: Path) -> None:
    source = image_source(tmp_path / "source")
    image_source(tmp_path / "few", classes="c", files=2)
    shutil.move(tmp_path / "few" / "c", source / "c")
    refused("ingest", "class 'c'", **ingest_of(source, "images"))


@pytest.mark.parametrize("reader", ["wav", "images"])
def test_a_source_of_one_class_is_refused(refused: Refused, tmp_path: Path, reader: str) -> None:
    make = wav_source if reader == "wav" else image_source
    source = make(tmp_path / "source", "1")
    refused("ingest", "at least two classes, found 1", **ingest_of(source, reader))
