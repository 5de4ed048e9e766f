"""Digits spoken by espeak-ng: ``pitch<p>/<digit>_<voice>_<rate>.wav``, which the wav reader takes as pannous.

The format is that of the RAID paper's speech data: 22,050 Hz, mono, 16 bits. The library and its data come
in the package espeakng-loader.
"""

from __future__ import annotations

import itertools
import wave
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from fineprune.config import Range, Seed
from fineprune.data.generators.espeak import Samples, speaking
from fineprune.errors import DataError
from fineprune.progress import progress

SAMPLE_RATE = 22050
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LEAD = 0.05  # up to so many seconds of silence are put before a word
_GAIN = 0.5, 1.0


@dataclass(frozen=True)
class SpeechOptions:
    """Which voices say the digits, and how.

    Attributes:
        voices: names that espeak-ng knows, with or without a variant: ``en-us``, ``en-gb-scotland+f3``.
        rates: words per minute; the engine itself goes no slower than 80.
        pitches: 0 to 99; the engine's own is 50.
        seed: of breath, loudness and the silence before a word.
    """

    kind: Literal["speech"]
    voices: tuple[str, ...]
    rates: tuple[Annotated[int, Range(ge=80, le=450)], ...]
    pitches: tuple[Annotated[int, Range(ge=0, le=99)], ...]
    seed: Seed


def generate(options: SpeechOptions, folder: Path) -> None:
    """Write each digit in each voice at each rate and pitch.

    Raises:
        DataError: a list is empty or has an entry twice, the engine lacks a voice, has no dictionary for
            it or speaks two alike, or its sample rate is another.
        MissingExtraError: espeakng-loader is not installed.
    """
    for name in ("voices", "rates", "pitches"):
        values = getattr(options, name)
        if not values or len(set(values)) < len(values):
            raise DataError(f"speech generator: {name}: expected different entries, found {list(values)}")
    for pitch in options.pitches:
        (folder / f"pitch{pitch}").mkdir()
    sound_alike: dict[bytes, str] = {}
    for voice in progress(options.voices, total=len(options.voices), name="generate", unit="voice"):
        clips = _clips(voice, options)
        if not all(clip.any() for clip in clips.values()):
            raise DataError(f"speech generator: voices: expected words, found silence in {voice!r}")
        other = sound_alike.setdefault(b"".join(clip.tobytes() for clip in clips.values()), voice)
        if other != voice:
            raise DataError(f"speech generator: voices: espeak-ng speaks {voice!r} as it does {other!r}")
        rng = np.random.default_rng((options.seed, zlib.crc32(voice.encode())))
        for name, clip in clips.items():
            _write_wav(folder / name, _placed(clip, rng))


def _clips(voice: str, options: SpeechOptions) -> dict[str, Samples]:
    """What the engine says, by file name.

    A signal interrupts the main thread alone: in a function that the engine calls, which is where it would
    mostly arrive, ctypes prints and forgets it, with a part of the word.
    """

    def speak() -> Iterator[tuple[str, Samples]]:
        with speaking(voice, SAMPLE_RATE, options.seed) as say:
            for pitch, rate, digit in itertools.product(options.pitches, options.rates, range(10)):
                yield f"pitch{pitch}/{digit}_{voice}_{rate}.wav", say(_WORDS[digit], rate, pitch)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: dict(speak())).result()


def _placed(clip: Samples, rng: np.random.Generator) -> Samples:
    """The clip a little later and softer."""
    lead = np.zeros(int(rng.integers(round(_LEAD * SAMPLE_RATE) + 1)), dtype=np.int16)
    return np.concatenate([lead, np.rint(clip * rng.uniform(*_GAIN)).astype(np.int16)])


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
