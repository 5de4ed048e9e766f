import dataclasses
import sys
import wave

import numpy as np
import pytest

from fineprune.config import parse
from fineprune.data.generators import generate
from fineprune.data.generators.espeak import speaking
from fineprune.data.generators.speech import SpeechOptions
from fineprune.data.readers import read
from fineprune.data.readers.wav import WavOptions, read_wav
from fineprune.digests import dvc_md5
from fineprune.errors import ConfigError, DataError, MissingExtraError
from tests.unit.interrupts import interrupted

pytest.importorskip("espeakng_loader")

OPTIONS = SpeechOptions("speech", voices=("en-us", "en-us+f3"), rates=(120, 200), pitches=(30, 70), seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    generate(OPTIONS, folder)
    return folder


def seconds(path):
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    generate(OPTIONS, tmp_path)
    assert dvc_md5(tmp_path) == dvc_md5(folder)


def test_an_interrupt_is_not_lost_in_what_the_engine_calls(tmp_path):
    with interrupted(0.1), pytest.raises(KeyboardInterrupt):
        generate(dataclasses.replace(OPTIONS, rates=tuple(range(80, 200))), tmp_path)


def test_another_seed_gives_others(folder, tmp_path):
    generate(dataclasses.replace(OPTIONS, seed=1), tmp_path)
    name = "pitch30/1_en-us_120.wav"
    assert (tmp_path / name).read_bytes() != (folder / name).read_bytes()


def test_a_voice_does_not_depend_on_the_others(folder, tmp_path):
    generate(dataclasses.replace(OPTIONS, voices=("en-us+f3",)), tmp_path)
    name = "pitch30/7_en-us+f3_200.wav"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_format_is_the_originals(folder):
    paths = sorted(folder.rglob("*.wav"))
    assert len(paths) == 10 * 2 * 2 * 2
    for path in paths:
        samples = read_wav(path, 22050)  # which takes 16-bit mono at that rate alone
        assert 1000 < np.abs(samples.astype(int)).max() < 32767
        assert 0.2 < len(samples) / 22050 < 1.2


def test_the_reader_takes_them_by_voice(folder, tmp_path):
    options = WavOptions("wav", "pannous", 22050, 1.5, "voice", 0, None, None)
    raw = read(options, folder, tmp_path)
    assert raw.inputs.shape == (80, 33075)
    assert raw.classes == tuple("0123456789")
    assert np.bincount(raw.groups).tolist() == [40, 40]
    assert np.bincount(raw.labels).tolist() == [8] * 10


def test_voices_rates_and_pitches_are_heard(folder):
    def samples(voice, rate, pitch):
        return read_wav(folder / f"pitch{pitch}/7_{voice}_{rate}.wav", 22050)

    slow, fast = samples("en-us", 120, 30), samples("en-us", 200, 30)
    assert len(slow) > 1.2 * len(fast)
    assert not np.array_equal(samples("en-us", 120, 70), slow)
    assert not np.array_equal(samples("en-us+f3", 120, 30), slow)


VARIANTS, FAMILIES = ["f3", "Alex", "klatt2", "f3+m1"], ["gmw", "roa", "gmw+f3"]


@pytest.mark.parametrize(
    "voice", ["atlantean", "en-us+atlantean", "en_us", "gmw/en-US", "", *VARIANTS, *FAMILIES]
)
def test_a_voice_that_the_engine_lacks_is_refused_with_some_that_it_has(voice, tmp_path):
    with pytest.raises(DataError, match=r"expected a voice such as .*en-US.* found") as caught:
        generate(dataclasses.replace(OPTIONS, voices=(voice,)), tmp_path)
    assert str(caught.value).endswith(f"found {voice!r}")
    assert "\n" not in str(caught.value)


def test_a_voice_without_a_dictionary_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected words, found silence in 'fo'"):
        generate(dataclasses.replace(OPTIONS, voices=("fo",)), tmp_path)


def test_two_names_of_one_voice_are_refused(tmp_path):
    voices = ("en-us", "en-US")
    with pytest.raises(DataError, match="speaks 'en-US' as it does 'en-us'"):
        generate(dataclasses.replace(OPTIONS, voices=voices), tmp_path)


@pytest.mark.parametrize("change", [{"voices": ()}, {"rates": (120, 120)}, {"pitches": ()}])
def test_empty_and_repeated_lists_are_refused(change, tmp_path):
    with pytest.raises(DataError, match="expected different entries"):
        generate(dataclasses.replace(OPTIONS, **change), tmp_path)


def test_the_sample_rate_is_checked():
    with (
        pytest.raises(DataError, match="expected to start with 16000 Hz, found 22050"),
        speaking("en", 16000, 0),
    ):
        pass


def test_rates_below_the_engines_slowest_are_refused():
    values = dataclasses.asdict(OPTIONS) | {"rates": [60]}
    with pytest.raises(ConfigError, match=r"rates\[0\]"):
        parse(SpeechOptions, values, "generator")


def test_without_the_engine_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match=r"espeakng-loader: pip install 'fineprune\[data\]'"):
        generate(OPTIONS, tmp_path)
