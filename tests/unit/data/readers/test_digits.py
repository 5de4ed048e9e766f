import numpy as np
import pytest

from fineprune.data.readers import read
from fineprune.data.readers.digits import DigitsOptions
from fineprune.errors import DataError, MissingExtraError


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


def test_a_missing_library_is_named(work, without):
    without("sklearn")
    with pytest.raises(MissingExtraError, match=r"needs scikit-learn: pip install 'fineprune\[data\]'"):
        read(DigitsOptions(kind="digits"), None, work)
