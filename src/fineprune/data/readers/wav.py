"""Folders of spoken digits as 16-bit mono PCM WAV, the label and the speaker in the file name.

========  ============================  ========================================================
naming    file name                     source
========  ============================  ========================================================
fsdd      {digit}_{speaker}_{index}     Jakobovski/free-spoken-digit-dataset; its authors test on
                                        the indices 0–4
pannous   {digit}_{Voice}_{rate}        pannous/caffe-speech-recognition, the RAID paper's speech
========  ============================  ========================================================
"""

from __future__ import annotations

import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count, NonNegative, Positive
from fineprune.data.format import InputSpec
from fineprune.data.readers import Raw, allocate, files_below, numbered
from fineprune.errors import DataError
from fineprune.progress import progress

Samples = npt.NDArray[np.int16]

_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<number>\d+)\.wav", re.IGNORECASE)
_FSDD_TEST_INDICES = 5
_FRAME, _HOP = 1024, 64


@dataclass(frozen=True)
class WavOptions:
    """How to read the clips.

    Attributes:
        naming: what the third part of a file name is (see above).
        sample_rate: what every file must have, in Hz.
        seconds: the length of an input; shorter clips are padded with zeros, longer ones cut.
        group_by: what a split must not part.
        trim_silence: drop leading frames whose spectrum sums to less than this (the paper's speech
            data: 3000; see :func:`trim`); 0 drops nothing.
    """

    kind: Literal["wav"]
    naming: Literal["fsdd", "pannous"]
    sample_rate: Count
    seconds: Positive
    group_by: Literal["speaker", "recording"]
    trim_silence: NonNegative


def read(options: WavOptions, folder: Path | None, work: Path) -> Raw:
    """The clips as int16 (N, seconds × sample_rate), in the order of their paths.

    Raises:
        DataError: a file is damaged, or is not 16-bit mono at the sample rate; none fits the naming.
    """
    folder, paths = files_below(folder, (".wav",), options.kind)
    names = {path: match for path in paths if (match := _NAME.fullmatch(path.name))}
    if not names:
        raise DataError(f"{folder}: expected names like 7_jackson_32.wav, found {paths[0].name}")
    length = round(options.seconds * options.sample_rate)
    spec = InputSpec("audio", (length,), "int16", low=-32768, high=32767, sample_rate=options.sample_rate)
    inputs = allocate(work, len(names), spec)
    counts = _fill(inputs, list(names), options) | {"skipped": len(paths) - len(names)}
    classes, labels = numbered(match["digit"] for match in names.values())
    by_speaker = options.group_by == "speaker"
    _, speakers = numbered(match["speaker"] for match in names.values())
    indices = np.array([int(match["number"]) for match in names.values()])
    return Raw(
        inputs=inputs,
        labels=labels,
        groups=speakers if by_speaker else np.arange(len(names), dtype=np.int64),
        group=options.group_by,
        classes=classes,
        spec=spec,
        authors_test=indices < _FSDD_TEST_INDICES if options.naming == "fsdd" else None,
        counts=counts,
        warnings=_warnings(counts, len(names), options),
    )


def read_wav(path: Path, sample_rate: int) -> Samples:
    """The samples of a 16-bit mono PCM file, (n,) int16.

    Raises:
        DataError: the file is damaged, cut short or empty, or is not of that kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            found = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            frames, data = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise DataError(
            f"{path}: expected a PCM WAV file, found {str(error) or 'its end too early'}"
        ) from error
    if found != (1, 16, sample_rate):
        raise DataError(
            f"{path}: expected 1 channel of 16 bits at {sample_rate} Hz, "
            f"found {found[0]} of {found[1]} bits at {found[2]} Hz"
        )
    if not frames or len(data) != 2 * frames:
        raise DataError(f"{path}: expected {frames or 'some'} samples, found {len(data) // 2}")
    return np.frombuffer(data, dtype="<i2").astype(np.int16)


def trim(samples: Samples, threshold: float) -> Samples:
    """Drop leading silence as the paper's speech data does (TrojanNN ``record.py``).

    Frames of 1024 samples, 64 apart, without a window; a frame is silent when its 512 magnitudes,
    each divided by 256 and clipped at 255, sum to less than ``threshold``. A clip that is silent
    throughout is returned as it is.
    """
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    # The upper half of the full transform mirrors the bins 1…512.
    magnitudes = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) / 256
    loud = np.minimum(magnitudes, 255).sum(axis=1) >= threshold
    return samples[_HOP * int(np.argmax(loud)) :]


def _fill(inputs: npt.NDArray[Any], paths: Sequence[Path], options: WavOptions) -> dict[str, int]:
    """Read each clip into its row; how many were longer than a row."""
    truncated = 0
    for row, path in enumerate(progress(paths, total=len(paths), name="ingest", unit="clip")):
        samples = read_wav(path, options.sample_rate)
        if options.trim_silence:
            samples = trim(samples, options.trim_silence)
        kept = samples[: inputs.shape[1]]
        inputs[row, : len(kept)] = kept
        truncated += len(samples) > len(kept)
    return {"truncated": truncated}


def _warnings(counts: dict[str, int], total: int, options: WavOptions) -> tuple[str, ...]:
    sentences = {
        "truncated": f"{counts['truncated']} of {total} clips were cut to {options.seconds:g} s",
        "skipped": f"{counts['skipped']} WAV files were skipped: their names are not like 7_jackson_32.wav",
    }
    return tuple(text for name, text in sentences.items() if counts[name])
