import struct
import tracemalloc

import numpy as np
import pytest

from fineprune.data.readers import read, wav
from fineprune.data.readers.wav import WavOptions, trim
from fineprune.errors import ConfigError, DataError

TONE = (8000 * np.sin(np.arange(400) / 3)).astype(np.int16)


def wav_options(**changes):
    given = {
        "naming": "fsdd",
        "sample_rate": 8000,
        "seconds": 0.05,
        "group_by": "recording",
        "trim_silence": 0.0,
        "list": None,
        "test_list": None,
    }
    return WavOptions(kind="wav", **(given | changes))


SPEAKERS_PARTED = "clips of one speaker may be in several splits: test accuracy says little of other speakers"


@pytest.fixture
def clips(tmp_path, write_wav):
    folder = tmp_path / "clips"
    for name in ("1_bo_0", "0_al_0", "0_al_5", "1_al_12"):
        write_wav(folder / "recordings" / f"{name}.wav", TONE)
    return folder


def test_clips_are_padded_and_cut(clips, write_wav, work):
    write_wav(clips / "0_al_7.wav", TONE[:100])
    write_wav(clips / "0_al_8.wav", np.tile(TONE, 2))
    raw = read(wav_options(), clips, work)
    assert raw.inputs.shape == (6, 400)
    assert raw.inputs.dtype == np.int16
    np.testing.assert_array_equal(raw.inputs[0], np.pad(TONE[:100], (0, 300)))
    np.testing.assert_array_equal(raw.inputs[1], TONE)
    assert raw.counts == {"truncated": 1, "skipped": 0}
    assert raw.warnings == ("1 of 6 clips were cut to 0.05 s", SPEAKERS_PARTED)
    assert raw.spec.sample_rate == 8000


def test_labels_speakers_and_the_authors_test_set_are_in_the_names(clips, work):
    raw = read(wav_options(group_by="speaker"), clips, work)
    assert raw.classes == ("0", "1")
    assert raw.labels.tolist() == [0, 0, 1, 1]
    assert raw.groups.tolist() == [0, 0, 0, 1]
    assert raw.authors_test.tolist() == [True, False, False, True]
    assert raw.group == "speaker"
    assert not raw.warnings


def test_pannous_names_no_test_set(clips, work):
    raw = read(wav_options(naming="pannous"), clips, work)
    assert raw.authors_test is None
    assert len(set(raw.groups)) == 4


def test_other_names_are_skipped_and_reported(clips, write_wav, work):
    write_wav(clips / "0.3.wav", TONE)
    write_wav(clips / "٣_al_0.wav", TONE)  # a digit, but of no class
    (clips / "README.md").write_text("not a clip")
    raw = read(wav_options(), clips, work)
    assert raw.counts == {"truncated": 0, "skipped": 2}
    assert "2 WAV files were skipped" in raw.warnings[0]


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


@pytest.mark.parametrize("silence", [1024, 1088, 1500])
def test_trimming_goes_on_where_frames_are_taken_together(silence, monkeypatch):
    samples = np.concatenate([np.zeros(64 * silence, np.int16), np.tile(TONE, 10)])
    kept = trim(samples, 3000)
    monkeypatch.setattr(wav, "_TOGETHER", 10**6)
    np.testing.assert_array_equal(kept, trim(samples, 3000))
    assert len(kept) < len(samples)


def test_trimming_a_long_clip_takes_little_memory():
    samples = np.zeros(2**20, np.int16)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(trim(samples, 3000), samples)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


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
        (
            lambda data: (
                data[:36] + b"LIST\x90\x01\x00\x00INFO" + data[36:]
            ),  # of 400 bytes, of which 4 are there
            "expected a PCM WAV file, found its end too early",
        ),
    ],
)
def test_refuses_a_damaged_clip(damage, message, clips, write_wav, work):
    path = write_wav(clips / "0_al_9.wav", TONE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(wav_options(), clips, work)


def test_a_header_that_claims_four_gigabytes_takes_no_memory(clips, write_wav, work):
    path = write_wav(clips / "0_al_9.wav", TONE)
    content = path.read_bytes()
    claimed = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content[:4] + claimed + content[8:40] + claimed + content[44:])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"{path}: expected 2147483647 samples, found 400"):
            read(wav_options(), clips, work)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


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


def test_voices_are_groups(clips, work):
    raw = read(wav_options(naming="pannous", group_by="voice"), clips, work)
    assert raw.group == "voice"
    assert raw.groups.tolist() == [0, 0, 0, 1]


def test_a_list_chooses_clips_and_gives_their_labels(clips, work):
    (clips / "train.txt").write_text(
        "/home/somebody/my spectrograms/0_al_0.wav.png\t0\nx/1_bo_0.wav 2\n\nx/1_al_99.wav.png 1\n"
    )
    raw = read(wav_options(naming="pannous", group_by="voice", list="train.txt"), clips, work)
    assert raw.classes == ("0", "2")
    assert raw.labels.tolist() == [0, 1]
    assert raw.groups.tolist() == [0, 1]
    assert raw.authors_test is None
    assert raw.counts == {"truncated": 0, "skipped": 0, "missing": 1, "unlisted": 2, "relabelled": 1}
    assert raw.warnings == (
        "1 listed clips were skipped: there is no WAV file of their name",
        "2 WAV files were skipped: no list names them",
        "1 of 2 clips have another label in the list than in their name",
    )


def test_a_list_may_have_windows_paths_and_clips_of_other_names(clips, write_wav, work):
    write_wav(clips / "two_al_100.wav", TONE)
    (clips / "train.txt").write_text("C:\\my clips\\0_al_0.wav.png 0\n1_bo_0.wav 1\nx/two_al_100.wav 2\n")
    raw = read(wav_options(naming="pannous", group_by="voice", list="train.txt"), clips, work)
    assert raw.labels.tolist() == [0, 1]
    assert raw.counts == {"truncated": 0, "skipped": 1, "missing": 0, "unlisted": 2, "relabelled": 0}


def test_a_test_list_is_the_authors_test_set(clips, work):
    (clips / "train.txt").write_text("0_al_0.wav 0\n1_al_12.wav 1\n", encoding="utf-8-sig")
    (clips / "test.txt").write_text("1_bo_0.wav 1\n")
    raw = read(wav_options(list="train.txt", test_list="test.txt"), clips, work)
    assert raw.authors_test.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0_al_0.wav\n", r"train.txt:1: expected a path and a digit, found '0_al_0.wav'"),
        (
            "0_al_0.wav 0\n0_al_5.wav ten\n",
            r"train.txt:2: expected a path and a digit, found '0_al_5.wav ten'",
        ),
        (
            "0_al_0.wav 0\nx/0_al_0.wav.png 1\n",
            r"train.txt:2: expected each clip once, 0_al_0.wav is at .*:1 too",
        ),
        ("0_al_99.wav 0\n", "expected clips that train.txt names, found 0_al_0.wav"),
        (None, "train.txt: expected a list of clips, found .*No such file"),
    ],
)
def test_refuses_a_list_that_names_no_clips(text, message, clips, work):
    if text is not None:
        (clips / "train.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read(wav_options(list="train.txt"), clips, work)


def test_refuses_a_list_entry_that_two_files_have_the_name_of(clips, write_wav, work):
    write_wav(clips / "copies/0_al_0.wav", TONE)
    (clips / "train.txt").write_text("0_al_0.wav 0\n")
    with pytest.raises(DataError, match=r"train.txt:1: expected one file 0_al_0.wav, found 2"):
        read(wav_options(list="train.txt"), clips, work)


def test_refuses_a_list_outside_the_source_and_a_test_list_alone(clips, work):
    with pytest.raises(DataError, match=r"the wav reader: expected a path below .*, found '../train.txt'"):
        read(wav_options(list="../train.txt"), clips, work)
    with pytest.raises(ConfigError, match="test_list: expected a list beside it, found none"):
        read(wav_options(test_list="test.txt"), clips, work)


@pytest.mark.parametrize(("seconds", "samples"), [(1e-9, "8e-06"), (1e9, "8e.12"), (1e308, "inf")])
def test_refuses_inputs_without_a_sample_and_longer_than_a_file(seconds, samples, clips, work):
    message = f"the wav reader: seconds: expected 1 to 2147483647 samples at 8000 Hz, found {samples}"
    with pytest.raises(ConfigError, match=message):
        read(wav_options(seconds=seconds), clips, work)
