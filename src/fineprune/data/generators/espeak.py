"""The C interface of espeak-ng (``speak_lib.h``), as far as saying words in one voice needs it."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from fineprune.errors import DataError, missing_extra

Samples = npt.NDArray[np.int16]
Say = Callable[[str, int, int], Samples]

_SYNCHRONOUS, _DO_NOT_EXIT = 2, 0x8000
_RATE, _PITCH, _BY_CHARACTER, _UTF8 = 1, 3, 1, 1
_OnSamples = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Voice(ctypes.Structure):
    """The head of ``espeak_VOICE``; each language is a byte of priority and a name."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    )


@contextmanager
def speaking(voice: str, sample_rate: int, seed: int) -> Iterator[Say]:
    """An engine with one voice, for as long as the block runs: ``say(text, words_per_minute, pitch)``.

    The engine keeps the phase of its oscillators and offers no way to reset it, so that the same word
    would differ from one time to the next. A new copy of the library starts from nothing.

    Raises:
        MissingExtraError: espeakng-loader is not installed.
        DataError: the engine does not start, has another sample rate or lacks the voice.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise missing_extra("the speech generator needs", "espeakng-loader", "data") from error
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), scratch))
    found = library.espeak_Initialize(
        _SYNCHRONOUS, 0, os.fsencode(espeakng_loader.get_data_path()), _DO_NOT_EXIT
    )
    if found != sample_rate:
        raise DataError(f"espeak-ng: expected to start with {sample_rate} Hz, found {found}")
    try:
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed & 0x7FFFFFFF))
        _choose(library, voice)
        chunks: list[bytes] = []

        def collect(samples: int | None, count: int, _events: int) -> int:
            chunks.append(ctypes.string_at(samples, 2 * count) if samples else b"")
            return 0

        on_samples = _OnSamples(collect)  # a name keeps it alive
        library.espeak_SetSynthCallback(on_samples)

        def say(text: str, rate: int, pitch: int) -> Samples:
            chunks.clear()
            library.espeak_SetParameter(_RATE, rate, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            data = text.encode() + b"\0"
            library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, _BY_CHARACTER, 0, _UTF8, None, None)
            return np.frombuffer(b"".join(chunks), dtype=np.int16)

        yield say
    finally:
        library.espeak_Terminate()


def _choose(library: ctypes.CDLL, voice: str) -> None:
    """Set the voice.

    The engine keeps the previous voice when it lacks the one asked for, and goes on without a variant that it
    lacks; a variant or a folder of voices given alone it takes for a voice, and crashes at the first word.
    """
    library.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Voice)
    names = _names(library)
    name, plus, variant = voice.partition("+")
    known = name.lower() in map(str.lower, names) and library.espeak_SetVoiceByName(voice.encode()) == 0
    set_to = library.espeak_GetCurrentVoice().contents.identifier.decode() if known else ""
    # What a file name parts at, or a path, is no variant's name here.
    if not known or not set_to.endswith(plus + variant) or {"_", "/"} & set(variant):
        english = [other for other in names if other.startswith("en")]
        raise DataError(
            f"espeak-ng: expected a voice such as {', '.join(english)}, "
            f"alone or with a variant such as +f3 or +m1, found {voice!r}"
        )


def _names(library: ctypes.CDLL) -> list[str]:
    """The names of the engine's voices, as it takes them: ``en-US``."""
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    voices = itertools.takewhile(bool, library.espeak_ListVoices(None))
    return [voice.contents.identifier.decode().rpartition("/")[2] for voice in voices]
