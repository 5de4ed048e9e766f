import errno
import importlib
import os
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile

from fineprune.data.format import InputSpec
from fineprune.data.readers import allocate, read
from fineprune.data.readers.digits import DigitsOptions
from fineprune.data.readers.images import Box, ImagesOptions
from fineprune.data.readers.wav import WavOptions, trim
from fineprune.errors import DataError

TONE = (8000 * np.sin(np.arange(400) / 3)).astype(np.int16)


def wav_options(**changes):
    given = {
        "naming": "fsdd",
        "sample_rate": 8000,
        "seconds": 0.05,
        "group_by": "recording",
        "trim_silence": 0.0,
    }
    return WavOptions(kind="wav", **(given | changes))


def image_options(**changes):
    given = {"height": 4, "width": 3, "channels": 3, "crop": None, "min_per_class": 1, "group_by": "file"}
    return ImagesOptions(kind="images", **(given | changes))


@pytest.fixture
def work(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def clips(tmp_path, write_wav):
    folder = tmp_path / "clips"
    for name in ("1_bo_0", "0_al_0", "0_al_5", "1_al_12"):
        write_wav(folder / "recordings" / f"{name}.wav", TONE)
    return folder


def write_image(path, colour, size=(6, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "faces"
    write_image(folder / "bo/bo_0001.png", (255, 0, 0))
    write_image(folder / "al/t1_0001.jpg", (0, 255, 0))
    write_image(folder / "al/t1_0002.bmp", (0, 255, 0))
    write_image(folder / "al/t2_0001.ppm", (0, 255, 0))
    return folder


def test_a_disk_that_is_full_is_told_before_the_map_is_written_to(clips, work, monkeypatch):
    asked = []

    def fallocate(handle, start, size):
        asked.append((start, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        read(wav_options(), clips, work)
    assert caught.value.filename == str(work / "inputs.npy")
    assert asked == [(0, 128 + 4 * 400 * 2)]  # a header, and four clips of 400 samples of 2 bytes


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves nothing")
def test_the_map_has_its_place_on_the_disk_from_the_start(work):
    spec = InputSpec("audio", (1 << 20,), "int16", low=-1, high=1, sample_rate=8000)
    assert not allocate(work, 2, spec).any()
    assert (work / "inputs.npy").stat().st_blocks * 512 >= 2 * 2 << 20


def test_digits_are_all_there(work):
    raw = read(DigitsOptions(kind="digits"), None, work)
    assert raw.inputs.shape == (1797, 1, 8, 8)
    assert raw.inputs.dtype == np.uint8
    assert (raw.inputs.min(), raw.inputs.max()) == (0, 16) == (raw.spec.low, raw.spec.high)
    assert raw.classes == tuple("0123456789")
    assert len(set(raw.groups)) == 1797
    assert raw.licence.startswith("CC BY 4.0")


def test_digits_refuse_a_folder(tmp_path, work):
    with pytest.raises(DataError, match="expected the source 'digits'"):
        read(DigitsOptions(kind="digits"), tmp_path, work)


@pytest.mark.parametrize(
    ("options", "library", "needs"),
    [(DigitsOptions(kind="digits"), "sklearn", "scikit-learn"), (image_options(), "PIL", "Pillow")],
)
def test_a_missing_library_is_named(options, library, needs, faces, work, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    importlib.invalidate_caches()
    with pytest.raises(DataError, match=rf"needs {needs}: pip install fineprune\[data\]"):
        read(options, None if options.kind == "digits" else faces, work)


def test_clips_are_padded_and_cut(clips, write_wav, work):
    write_wav(clips / "0_al_7.wav", TONE[:100])
    write_wav(clips / "0_al_8.wav", np.tile(TONE, 2))
    raw = read(wav_options(), clips, work)
    assert raw.inputs.shape == (6, 400)
    assert raw.inputs.dtype == np.int16
    np.testing.assert_array_equal(raw.inputs[0], np.pad(TONE[:100], (0, 300)))
    np.testing.assert_array_equal(raw.inputs[1], TONE)
    assert raw.counts == {"truncated": 1, "skipped": 0}
    assert raw.warnings == ("1 of 6 clips were cut to 0.05 s",)
    assert raw.spec.sample_rate == 8000


def test_labels_speakers_and_the_authors_test_set_are_in_the_names(clips, work):
    raw = read(wav_options(group_by="speaker"), clips, work)
    assert raw.classes == ("0", "1")
    assert raw.labels.tolist() == [0, 0, 1, 1]
    assert raw.groups.tolist() == [0, 0, 0, 1]
    assert raw.authors_test.tolist() == [True, False, False, True]
    assert raw.group == "speaker"


def test_pannous_names_no_test_set(clips, work):
    raw = read(wav_options(naming="pannous"), clips, work)
    assert raw.authors_test is None
    assert len(set(raw.groups)) == 4


def test_other_names_are_skipped_and_reported(clips, write_wav, work):
    write_wav(clips / "0.3.wav", TONE)
    (clips / "README.md").write_text("not a clip")
    raw = read(wav_options(), clips, work)
    assert raw.counts == {"truncated": 0, "skipped": 1}
    assert "1 WAV files were skipped" in raw.warnings[0]


def test_leading_silence_is_trimmed(clips, write_wav, work):
    loud = np.tile(TONE, 10)
    samples = np.concatenate([np.zeros(2048, np.int16), loud])
    kept = trim(samples, 3000)
    assert len(samples) - len(kept) == 1088  # the first frame that reaches far enough into the tone
    np.testing.assert_array_equal(kept, samples[1088:])
    np.testing.assert_array_equal(trim(np.zeros(5000, np.int16), 3000), np.zeros(5000))
    np.testing.assert_array_equal(trim(TONE[:10], 3000), TONE[:10])


def test_trimming_agrees_with_the_full_transform_frame_by_frame():
    samples = (np.random.default_rng(0).normal(size=6000) * np.linspace(0, 300, 6000)).astype(np.int16)
    start = 0
    while np.minimum(np.abs(np.fft.fft(samples[start : start + 1024]))[-512:] / 256, 255).sum() < 3000:
        start += 64
    assert start > 0
    np.testing.assert_array_equal(trim(samples, 3000), samples[start:])


def test_trimming_can_be_switched_on(clips, write_wav, work):
    write_wav(clips / "0_al_9.wav", np.concatenate([np.zeros(4096, np.int16), np.tile(TONE, 10)]))
    untouched = read(wav_options(seconds=0.2), clips, work)
    assert not untouched.inputs[0].any()
    trimmed = read(wav_options(seconds=0.2, trim_silence=3000.0), clips, work)
    assert trimmed.inputs[0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, r"expected 1 channel of 16 bits at 8000 Hz, found 2 of 16 bits at 8000 Hz"),
        ({"rate": 22050}, r"expected 1 channel of 16 bits at 8000 Hz, found 1 of 16 bits at 22050 Hz"),
    ],
)
def test_refuses_two_channels_and_another_rate(options, message, clips, write_wav, work):
    path = write_wav(clips / "0_al_9.wav", TONE, **options)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(wav_options(), clips, work)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-100], "expected 400 samples, found 350"),
        (lambda data: data[:20], "expected a PCM WAV file, found its end too early"),
        (lambda data: data[:44], "expected 400 samples, found 0"),
        (lambda data: b"", "expected a PCM WAV file, found its end too early"),
        (lambda data: b"ID3" + data[3:], "expected a PCM WAV file, found file does not start with RIFF id"),
        (lambda data: data[:20] + b"\x03\x00" + data[22:], "expected a PCM WAV file, found unknown format"),
    ],
)
def test_refuses_a_damaged_clip(damage, message, clips, write_wav, work):
    path = write_wav(clips / "0_al_9.wav", TONE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(wav_options(), clips, work)


def test_refuses_an_empty_clip(clips, write_wav, work):
    path = write_wav(clips / "0_al_9.wav", [])
    with pytest.raises(DataError, match=f"{path}: expected some samples, found 0"):
        read(wav_options(), clips, work)


def test_refuses_folders_without_a_usable_file(tmp_path, write_wav, work):
    write_wav(tmp_path / "clips" / "hello.wav", TONE)
    with pytest.raises(DataError, match=r"expected names like 7_jackson_32.wav, found hello.wav"):
        read(wav_options(), tmp_path / "clips", work)
    with pytest.raises(DataError, match=r"expected files of type .wav, found none"):
        read(wav_options(), work, work)
    with pytest.raises(DataError, match="expected a source with files, found an embedded one"):
        read(wav_options(), None, work)


def test_images_are_sorted_by_class(faces, work):
    raw = read(image_options(), faces, work)
    assert raw.inputs.shape == (4, 3, 4, 3)
    assert raw.inputs.dtype == np.uint8
    assert raw.classes == ("al", "bo")
    assert raw.labels.tolist() == [0, 0, 0, 1]
    assert raw.inputs[3, :, 0, 0].tolist() == [255, 0, 0]
    assert raw.inputs[1, :, 0, 0].tolist() == [0, 255, 0]
    assert len(set(raw.groups)) == 4


def test_grey_images_have_one_channel(faces, work):
    write_image(faces / "bo/grey.png", 77, mode="L")
    raw = read(image_options(channels=1), faces, work)
    assert raw.inputs.shape == (5, 1, 4, 3)
    assert raw.inputs[4, 0, 0, 0] == 77


def test_a_track_is_what_precedes_the_last_underscore(faces, work):
    write_image(faces / "bo/t1_0001.png", 1)
    raw = read(image_options(group_by="prefix"), faces, work)
    assert raw.groups.tolist() == [0, 0, 1, 2, 3]  # al/t1 twice, al/t2, bo/bo, bo/t1


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
    assert raw.counts == {"skipped": 1}
    assert raw.warnings == ("1 images are in classes of fewer than 2",)
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


def test_refuses_deep_pixels_and_a_crop_outside_the_image(faces, work):
    with pytest.raises(DataError, match="expected a crop within 6×8 pixels"):
        read(image_options(crop=Box(0, 0, 7, 8)), faces, work)
    path = write_image(faces / "bo/deep.png", 4000, mode="I;16")
    with pytest.raises(DataError, match=f"{path}: expected 8 bits per channel, found mode I;16"):
        read(image_options(), faces, work)


def test_refuses_an_empty_class(faces, work):
    (faces / "nobody").mkdir()
    with pytest.raises(DataError, match=f"{faces}/nobody: expected images of the class 'nobody', found none"):
        read(image_options(), faces, work)


def test_hidden_files_are_no_data(faces, work):
    (faces / "bo/._bo_0001.png").write_bytes(b"left by another system")
    assert len(read(image_options(), faces, work).labels) == 4


def test_refuses_images_outside_a_class_folder(faces, work):
    path = write_image(faces / "stray.png", 1)
    with pytest.raises(DataError, match=f"{path}: expected {faces}/<class>/<file>"):
        read(image_options(), faces, work)
