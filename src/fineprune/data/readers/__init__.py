"""One reader per public format, found by name: ``kind`` in params.yaml is the module's name.

A reader module holds an options dataclass and ``read(options, folder, work)``. It fills an array in
``work`` file by file, so that memory stays flat in the number of samples.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from fineprune.data.format import PlaceKind, Task
from fineprune.data.inputs import InputSpec
from fineprune.errors import DataError
from fineprune.files import below, hidden

Array = npt.NDArray[Any]
T = TypeVar("T")
UNGROUPED = "{} names no videos: frames of one may be in several splits, which flatters accuracy"
# Pictures and sound that no reader takes; what else lies beside the data is nobody's sample.
FOREIGN = {
    *(".avif", ".cr2", ".dib", ".dng", ".gif", ".heic", ".heif", ".j2k", ".jp2", ".jpg_large", ".jxl"),
    *(".nef", ".psd", ".svg", ".tga", ".tif", ".tiff", ".webp"),
    *(".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".sph", ".wave", ".wma"),
}


class Options(Protocol):
    """The options of some reader."""

    @property
    def kind(self) -> str:
        """The reader's name."""
        ...


@dataclass(frozen=True)
class Raw:
    """What a reader found in a source, before it is split.

    Attributes:
        inputs: (N, *spec.shape) in spec.dtype, raw pixels or audio samples.
        labels: indices into ``classes``, int64: (N,), or (N, K) with -1 in empty slots for detection.
        groups: (N,) int64, equal for samples that a split must not part.
        group: what a group is: ``speaker``, ``track``, ``sample``.
        classes: the class names.
        spec: what one input is.
        places: boxes (N, K, 4) or eyes (N, 2, 2), float32, as :mod:`fineprune.data.format` has them.
        place_kind: which of the two; data with boxes are for detection.
        licence: None where the format does not tell.
        authors_test: (N,) bool, the test set of the data set's authors, where the format has one.
        counts: how many samples were skipped, truncated, … by reason.
        warnings: the same in sentences, for what the user should know.
    """

    inputs: Array
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    group: str
    classes: tuple[str, ...]
    spec: InputSpec
    places: npt.NDArray[np.float32] | None = None
    place_kind: PlaceKind | None = None
    licence: str | None = None
    authors_test: npt.NDArray[np.bool_] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """What a network is to do with it."""
        return "detection" if self.place_kind == "boxes" else "classification"


def read(options: Options, folder: Path | None, work: Path) -> Raw:
    """Read ``folder`` (None for data that comes with a library) with the reader of ``options.kind``.

    Args:
        options: the reader's own options dataclass.
        folder: where the files are.
        work: an existing folder for the array; the result maps it, so it must outlive the result.

    Raises:
        DataError: a file is damaged or is not of the kind that the options say, or there is none; the folder
            holds a link that leads to a folder or nowhere.
        MissingExtraError: a library that the reader needs is not installed.
    """
    reader = importlib.import_module(f"{__name__}.{options.kind}")
    passed_by = () if folder is None else _passed_by(folder)
    raw = cast(Raw, reader.read(options, folder, work))
    return replace(raw, warnings=(*raw.warnings, *passed_by))


def allocate(work: Path, count: int, spec: InputSpec) -> Array:
    """A zeroed (count, *spec.shape) array, mapped from a new file in ``work``.

    Raises:
        DataError: no array can be that large.
        OSError: the disk has not that much space.
    """
    path, shape = work / "inputs.npy", (count, *spec.shape)
    if math.prod(shape) * np.dtype(spec.dtype).itemsize > sys.maxsize:
        raise DataError(f"{count} inputs of shape {spec.shape}: expected fewer or smaller ones")
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(spec.dtype), shape=shape)
        _reserve(path)
    except OSError as error:  # which names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    return array


def _reserve(path: Path) -> None:
    """Give a sparse file its blocks: a write into a map that finds the disk full would kill the process."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _passed_by(folder: Path) -> tuple[str, ...]:
    """Tell of the files that no reader takes; refuse the links that a search for files does not follow."""
    foreign: Counter[str] = Counter()
    for path in below(folder):
        if hidden(path.relative_to(folder)):
            continue
        foreign.update({path.suffix.lower()} & FOREIGN)
        if path.is_symlink() and not path.is_file():
            kind = "a folder" if path.is_dir() else f"nothing ({path.readlink()})"
            raise DataError(f"{path}: expected a file, a folder or a link to a file, found a link to {kind}")
    kinds = ", ".join(sorted(foreign))
    return (f"{foreign.total()} files of types that no reader takes ({kinds}): skipped",) if foreign else ()


def files_below(folder: Path | None, suffixes: tuple[str, ...], kind: str) -> tuple[Path, list[Path]]:
    """The folder, and the files below it with one of the suffixes, sorted by path.

    Raises:
        DataError: there is no folder, or no such file in it.
        OSError: a folder in it cannot be read.
    """
    if folder is None:
        raise DataError(f"the {kind} reader: expected a source with files, found an embedded one")
    seen = below(folder) if folder.is_dir() else ()
    fitting = (path for path in seen if path.suffix.lower() in suffixes and path.is_file())
    found = sorted(path for path in fitting if not hidden(path.relative_to(folder)))
    if not found:
        raise DataError(f"{folder}: expected files of type {', '.join(suffixes)}, found none")
    return folder, found


def numbered(names: Iterable[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The distinct names, sorted, and the number of each given name among them."""
    names = list(names)
    distinct = sorted(set(names))
    number = {name: place for place, name in enumerate(distinct)}
    return tuple(distinct), np.array([number[name] for name in names], np.int64)


def warnings(counts: Mapping[str, int], sentences: Mapping[str, str]) -> tuple[str, ...]:
    """The sentence of every count that is not zero, with the count in place of ``{}``."""
    return tuple(text.format(counts[name]) for name, text in sentences.items() if counts.get(name))
