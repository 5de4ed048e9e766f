"""scikit-learn's bundled handwritten digits: real data that needs no download.

1797 images of 8×8 pixels with values 0…16; the test half of the UCI set "Optical Recognition of
Handwritten Digits". Who wrote which digit is not recorded, so each sample is its own group.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fineprune.data.inputs import InputSpec
from fineprune.data.readers import Raw
from fineprune.errors import DataError, missing_extra

SPEC = InputSpec(kind="image", shape=(1, 8, 8), dtype="uint8", low=0, high=16, sample_rate=None)


@dataclass(frozen=True)
class DigitsOptions:
    """There is nothing to choose."""

    kind: Literal["digits"]


def read(options: DigitsOptions, folder: Path | None, work: Path) -> Raw:
    """The 1797 digits as uint8 (1797, 1, 8, 8).

    Raises:
        DataError: the source is not the embedded one.
        MissingExtraError: scikit-learn is not installed.
    """
    if folder is not None:
        raise DataError(f"the digits reader: expected the source 'digits', found {folder}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_extra("the digits reader needs", "scikit-learn", "data") from error
    bundle = load_digits()
    return Raw(
        inputs=bundle.images.astype(np.uint8)[:, None],
        labels=bundle.target.astype(np.int64),
        groups=np.arange(len(bundle.target), dtype=np.int64),
        group="sample",
        classes=tuple(str(name) for name in bundle.target_names),
        spec=SPEC,
        licence="CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
    )
