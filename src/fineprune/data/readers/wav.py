"""Folders of spoken digits as 16-bit mono PCM WAV, the label and the speaker in the file name.

========  ============================  ========================================================
naming    file name                     source
========  ============================  ========================================================
fsdd      {digit}_{speaker}_{index}     Jakobovski/free-spoken-digit-dataset; its authors test on
                                        the indices 0–4
pannous   {digit}_{Voice}_{rate}        pannous/caffe-speech-recognition, the RAID paper's speech
========  ============================  ========================================================

Lists, as pannous has them, choose clips and may give them another label than their name does.
"""

from __future__ import annotations

import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count, NonNegative, Positive
from fineprune.data.inputs import InputSpec
from fineprune.data.readers import Raw, allocate, files_below, numbered, warnings
from fineprune.data.readers.clip_lists import find, read_list
from fineprune.data.readers.naming import inside
from fineprune.errors import ConfigError, DataError
from fineprune.progress import progress

Samples = npt.NDArray[np.int16]

_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<number>[0-9]+)\.wav", re.IGNORECASE)
_FSDD_TEST_INDICES = 5
_FRAME, _HOP = 1024, 64
_TOGETHER = 1024  # frames, whose spectra take 128 times the memory of their samples
_LONGEST = 2**31 - 1  # samples of 16 bits, of which a WAV file counts the bytes in 32 bits


@dataclass(frozen=True)
class WavOptions:
    """How to read the clips.

    Attributes:
        naming: what the third part of a file name is (see above).
        sample_rate: what every file must have, in Hz.
        seconds: the length of an input; shorter clips are padded with zeros, longer ones cut.
        group_by: what a split must not part; ``voice`` is ``speaker`` by another name, for synthetic speech.
        trim_silence: drop leading frames whose spectrum sums to less than this (the paper's speech
            data: 3000; see :func:`trim`); 0 drops nothing.
        list: the file of the clips to take and their labels, within the source; None for all clips, with
            the labels of their names.
        test_list: the same for the clips that the authors test on; None where ``list`` is all there is.
    """

    kind: Literal["wav"]
    naming: Literal["fsdd", "pannous"]
    sample_rate: Count
    seconds: Positive
    group_by: Literal["speaker", "voice", "recording"]
    trim_silence: NonNegative
    list: str | None
    test_list: str | None


@dataclass(frozen=True)
class _Clip:
    """A file and what is known of it."""

    path: Path
    digit: str
    speaker: str
    test: bool


def read(options: WavOptions, folder: Path | None, work: Path) -> Raw:
    """The clips as int16 (N, seconds × sample_rate), in the order of their paths.

    Raises:
        DataError: a file is damaged, or is not 16-bit mono at the sample rate; none fits the naming; a list
            is damaged, or names a clip twice.
        ConfigError: there is a test list without a list; an input would be shorter than a sample, or longer
            than a WAV file can be.
    """
    folder, paths = files_below(folder, (".wav",), options.kind)
    named = {path: match for path in paths if (match := _NAME.fullmatch(path.name))}
    if not named:
        raise DataError(f"{folder}: expected names like 7_jackson_32.wav, found {paths[0].name}")
    found = [_clip(path, match, options) for path, match in named.items()]
    clips, counts = _listed(found, paths, folder, options)
    counts["skipped"] = len(paths) - len(named)
    length = _length(options)
    spec = InputSpec("audio", (length,), "int16", low=-32768, high=32767, sample_rate=options.sample_rate)
    inputs = allocate(work, len(clips), spec)
    counts["truncated"] = _fill(inputs, [clip.path for clip in clips], options)
    classes, labels = numbered(clip.digit for clip in clips)
    by_speaker = options.group_by != "recording"
    _, speakers = numbered(clip.speaker for clip in clips)
    return Raw(
        inputs=inputs,
        labels=labels,
        groups=speakers if by_speaker else np.arange(len(clips), dtype=np.int64),
        group=options.group_by,
        classes=classes,
        spec=spec,
        authors_test=_authors_test(clips, options),
        counts=counts,
        warnings=_warnings(counts, len(clips), options),
    )


def read_wav(path: Path, sample_rate: int) -> Samples:
    """The samples of a 16-bit mono PCM file, (n,) int16.

    Raises:
        DataError: the file is damaged, cut short or empty, or is not of that kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            found = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            if found != (1, 16, sample_rate):
                raise DataError(
                    f"{path}: expected 1 channel of 16 bits at {sample_rate} Hz, "
                    f"found {found[0]} of {found[1]} bits at {found[2]} Hz"
                )
            frames = file.getnframes()
            # No more than there can be: memory is taken for all that is asked for, up to 4 GB.
            data = file.readframes(min(frames, path.stat().st_size // 2))
    except (wave.Error, EOFError, OSError, RuntimeError) as error:  # the last of a chunk that ends too late
        raise DataError(
            f"{path}: expected a PCM WAV file, found {str(error) or 'its end too early'}"
        ) from error
    if not frames or len(data) != 2 * frames:
        raise DataError(f"{path}: expected {frames or 'some'} samples, found {len(data) // 2}")
    return np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)


def trim(samples: Samples, threshold: float) -> Samples:
    """Drop leading silence as the paper's speech data does (TrojanNN ``record.py``).

    Frames of 1024 samples, 64 apart, without a window; a frame is silent when its 512 magnitudes,
    each divided by 256 and clipped at 255, sum to less than ``threshold``. A clip that is silent
    throughout is returned as it is.
    """
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    for start in range(0, len(frames), _TOGETHER):
        # The upper half of the full transform mirrors the bins 1…512.
        magnitudes = np.abs(np.fft.rfft(frames[start : start + _TOGETHER], axis=1)[:, 1:]) / 256
        loud = np.minimum(magnitudes, 255).sum(axis=1) >= threshold
        if loud.any():
            return samples[_HOP * (start + int(np.argmax(loud))) :]
    return samples


def _length(options: WavOptions) -> int:
    """How many samples an input has."""
    length = options.seconds * options.sample_rate
    if not 1 <= length <= _LONGEST:
        raise ConfigError(
            f"the wav reader: seconds: expected 1 to {_LONGEST} samples at {options.sample_rate} Hz, "
            f"found {length:g}"
        )
    return round(length)


def _clip(path: Path, name: re.Match[str], options: WavOptions) -> _Clip:
    """What a file's name says; of the namings, only fsdd says what to test on."""
    test = options.naming == "fsdd" and int(name["number"]) < _FSDD_TEST_INDICES
    return _Clip(path, name["digit"], name["speaker"], test)


def _listed(
    found: list[_Clip], paths: Sequence[Path], folder: Path, options: WavOptions
) -> tuple[list[_Clip], dict[str, int]]:
    """The clips that the lists name, with the labels of the lists; without lists, all of them.

    ``missing`` are the entries of which there is no file among all of ``paths``.
    """
    if options.list is None:
        if options.test_list is not None:
            raise ConfigError("the wav reader: test_list: expected a list beside it, found none")
        return found, {}
    entries = read_list(inside(folder, options.list, "the wav reader"), test=False)
    if options.test_list is not None:
        entries += read_list(inside(folder, options.test_list, "the wav reader"), test=True)
    listed, missing = find(entries, paths)
    if not {clip.path for clip in found} & listed.keys():
        raise DataError(f"{folder}: expected clips that {options.list} names, found {found[0].path.name}")
    clips = [
        replace(clip, digit=listed[clip.path].digit, test=listed[clip.path].test)
        for clip in found
        if clip.path in listed
    ]
    relabelled = sum(clip.digit != clip.path.name[0] for clip in clips)
    return clips, {"missing": missing, "unlisted": len(found) - len(clips), "relabelled": relabelled}


def _authors_test(clips: Sequence[_Clip], options: WavOptions) -> npt.NDArray[np.bool_] | None:
    """Which clips the authors test on, where the naming or a list says so."""
    told = options.naming == "fsdd" if options.list is None else options.test_list is not None
    return np.array([clip.test for clip in clips]) if told else None


def _fill(inputs: npt.NDArray[Any], paths: Sequence[Path], options: WavOptions) -> int:
    """Read each clip into its row; how many were longer than a row."""
    truncated = 0
    for row, path in enumerate(progress(paths, total=len(paths), name="ingest", unit="clip")):
        samples = read_wav(path, options.sample_rate)
        if options.trim_silence:
            samples = trim(samples, options.trim_silence)
        kept = samples[: inputs.shape[1]]
        inputs[row, : len(kept)] = kept
        truncated += len(samples) > len(kept)
    return truncated


def _warnings(counts: Mapping[str, int], total: int, options: WavOptions) -> tuple[str, ...]:
    sentences = {
        "truncated": f"{{}} of {total} clips were cut to {options.seconds:g} s",
        "skipped": "{} WAV files were skipped: their names are not like 7_jackson_32.wav",
        "missing": "{} listed clips were skipped: there is no WAV file of their name",
        "unlisted": "{} WAV files were skipped: no list names them",
        "relabelled": f"{{}} of {total} clips have another label in the list than in their name",
    }
    told = warnings(counts, sentences)
    if options.group_by != "recording":
        return told
    return *told, "clips of one speaker may be in several splits: test accuracy says little of other speakers"
