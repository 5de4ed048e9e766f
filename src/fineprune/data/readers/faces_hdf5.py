"""Faces in HDF5, as the paper's authors hold them: ``data`` (N, 3, 55, 47) and ``label`` (N,).

Some files hold values of 0–255 and some of 0–1, some are laid out for Caffe and some for Keras: the options
say which, and a file that contradicts them is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fineprune.config import Count
from fineprune.data.expansion import most
from fineprune.data.readers import UNGROUPED, Raw, allocate, warnings
from fineprune.data.readers.naming import check_once, inside
from fineprune.data.readers.pixels import rgb
from fineprune.errors import DataError, missing_extra
from fineprune.progress import progress

_PIECE = 1024
# Values that came from whole ones by a division in float32 miss them by less.
_ROUNDING = 1e-3

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FacesHdf5Options:
    """How to read the files.

    Attributes:
        files: the HDF5 files, within the source; poisoned files (``bd_*.h5``) are not for here.
        test_files: more of them, which are the authors' test set; empty for none.
        layout: ``nchw`` for Caffe's (N, 3, height, width), ``nhwc`` for Keras' (N, height, width, 3).
        values: the range of the stored values, which white and black take up.
        height, width: the size of the stored images; the paper's is 55×47.
    """

    kind: Literal["faces_hdf5"]
    files: tuple[str, ...]
    test_files: tuple[str, ...]
    layout: Literal["nchw", "nhwc"]
    values: Literal["0-255", "0-1"]
    height: Count
    width: Count


def read(options: FacesHdf5Options, folder: Path | None, work: Path) -> Raw:
    """The faces as uint8 (N, 3, height, width), file by file; each is a group of its own.

    Classes are named by their number in the files.

    Raises:
        DataError: a file is named twice, missing, damaged, has other data sets, shapes, types or values than
            the options say, or claims far more than it holds.
        MissingExtraError: h5py is not installed.
    """
    if folder is None:
        raise DataError(f"the {options.kind} reader: expected a source with files, found an embedded one")
    names = (*options.files, *options.test_files)
    paths = [inside(folder, name, f"the {options.kind} reader") for name in names]
    if not paths:
        raise DataError(f"the {options.kind} reader: expected the names of files, found none")
    check_once("file", zip(paths, (f"the {options.kind} reader: {name}" for name in names), strict=True))
    labels = [_labels(path, options) for path in paths]
    starts = np.cumsum([0, *map(len, labels)])
    spec = rgb(options.height, options.width)
    inputs = allocate(work, int(starts[-1]), spec)
    rounded = sum(_fill(inputs[start:], path, options) for start, path in zip(starts, paths, strict=False))
    numbers, classes = np.unique(np.concatenate(labels), return_inverse=True)
    digits = len(str(numbers.max()))
    test = np.arange(starts[-1]) >= starts[len(options.files)]
    counts = {"images_rounded": rounded}
    return Raw(
        inputs=inputs,
        labels=classes.astype(np.int64),
        groups=np.arange(starts[-1], dtype=np.int64),
        group="sample",
        classes=tuple(f"{number:0{digits}d}" for number in numbers),
        spec=spec,
        authors_test=test if options.test_files else None,
        counts=counts,
        warnings=(
            UNGROUPED.format("the format"),
            *warnings(counts, {"images_rounded": "{} images hold values between the 256 levels: rounded"}),
        ),
    )


def _labels(path: Path, options: FacesHdf5Options) -> npt.NDArray[np.int64]:
    """The labels of a file whose data fit the options, (N,)."""
    size = options.height, options.width
    shape = (3, *size) if options.layout == "nchw" else (*size, 3)
    with _opened(path) as (data, label):
        if (data.shape or ())[1:] != shape or data.dtype.kind not in "uif":
            wanted = ", ".join(map(str, shape))
            raise DataError(
                f"{path}: expected numbers of shape (N, {wanted}) in 'data' for the layout {options.layout}, "
                f"found {data.dtype} of shape {data.shape}"
            )
        if label.shape != data.shape[:1] or label.dtype.kind not in "uif" or not len(label):
            raise DataError(
                f"{path}: expected {len(data)} numbers in 'label', found {label.dtype} of shape {label.shape}"
            )
        values = label[:]
    if not (np.isfinite(values).all() and (values >= 0).all() and (values == np.floor(values)).all()):
        raise DataError(f"{path}: expected whole numbers from 0 in 'label', found others")
    if float(values.max()) >= 2**63:
        raise DataError(f"{path}: expected numbers below 2**63 in 'label', found {values.max():g}")
    numbers: npt.NDArray[np.int64] = values.astype(np.int64)
    return numbers


def _fill(rows: Array, path: Path, options: FacesHdf5Options) -> int:
    """Read a file's images into the first rows; how many had to be rounded."""
    high = 255 if options.values == "0-255" else 1
    rounded, fractions, largest = 0, 0, 0.0
    for start, part in _pieces(path):
        # NaN fails the comparison too.
        if not (part.min() >= 0 and part.max() <= high):
            raise DataError(
                f"{path}: expected values in {options.values}, found {part.min():g}…{part.max():g}"
            )
        if options.values == "0-1" and part.dtype.kind in "ui":
            raise DataError(f"{path}: expected fractions in 0-1, found whole numbers")
        tops = part.max(axis=(1, 2, 3))
        largest = max(largest, float(tops.max()))
        if part.dtype.kind == "f":
            fractions += int(((tops <= 1) & (part.min(axis=(1, 2, 3)) < tops)).sum())
        scaled = part.astype(np.float64) * (255 / high)
        levels = np.rint(scaled)
        rounded += int((abs(scaled - levels) > _ROUNDING).any(axis=(1, 2, 3)).sum())
        images = levels if options.layout == "nchw" else levels.transpose(0, 3, 1, 2)
        rows[start : start + len(part)] = images
    if options.values == "0-255" and (largest <= 1 or fractions):
        found = f"none above {largest:g}" if largest <= 1 else f"{fractions} images without one above 1"
        raise DataError(f"{path}: expected values in 0-255, found {found}: are they 0-1?")
    return rounded


def _pieces(path: Path) -> Iterator[tuple[int, Array]]:
    """The images of a file, some at a time, each time with the number of the first."""
    with _opened(path) as (data, _):
        starts = range(0, len(data), _PIECE)
        for start in progress(starts, total=len(starts), name="ingest", unit="piece"):
            yield start, data[start : start + _PIECE]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The data sets ``data`` and ``label`` of a file."""
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("the faces_hdf5 reader needs", "h5py", "data") from error
    try:
        with h5py.File(path, "r") as file:
            for name in ("data", "label"):
                if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(
                    found := file[name], h5py.Dataset
                ):
                    raise DataError(f"{path}: expected 'data' and 'label', found {sorted(map(str, file))}")
                if found.external or found.is_virtual:
                    raise DataError(f"{path}: expected {name!r} in the file itself, found it in other files")
                _check_extent(found, path, name)
            yield file["data"], file["label"]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:  # h5py's, of damaged metadata
        raise DataError(f"{path}: expected an HDF5 file, found {error}") from error


def _check_extent(data: Any, path: Path, name: str) -> None:
    """Refuse a data set of which the file holds next to nothing, or a chunk of it that is read at once."""
    extent = max(data.size or 0, math.prod(data.chunks or ())) * data.dtype.itemsize
    stored = path.stat().st_size
    if extent > most(stored):
        raise DataError(
            f"{path}: expected at most {most(stored):,} bytes from a file of {stored:,}, "
            f"found {extent:,} in {name!r}"
        )
