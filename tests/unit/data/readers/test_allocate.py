import errno
import os

import pytest

from fineprune.data.inputs import InputSpec
from fineprune.data.readers import allocate
from fineprune.errors import DataError

SPEC = InputSpec("audio", (400,), "int16", low=-1, high=1, sample_rate=8000)


def test_a_disk_that_is_full_is_told_before_the_map_is_written_to(work, monkeypatch):
    asked = []

    def fallocate(handle, start, size):
        asked.append((start, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        allocate(work, 4, SPEC)
    assert caught.value.filename == str(work / "inputs.npy")
    assert asked == [(0, 128 + 4 * 400 * 2)]  # a header, and four inputs of 400 samples of 2 bytes


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves nothing")
def test_the_map_has_its_place_on_the_disk_from_the_start(work):
    spec = InputSpec("audio", (1 << 20,), "int16", low=-1, high=1, sample_rate=8000)
    assert not allocate(work, 2, spec).any()
    assert (work / "inputs.npy").stat().st_blocks * 512 >= 2 * 2 << 20


def test_an_array_that_cannot_be_is_told_by_its_shape(work):
    spec = InputSpec("image", (3, 10**9, 10**9), "uint8", low=0, high=255, sample_rate=None)
    with pytest.raises(DataError, match=r"^9 inputs of shape \(3, 1000000000, 1000000000\): expected"):
        allocate(work, 9, spec)


def test_a_map_that_no_file_can_hold_is_told_with_its_name(work):
    spec = InputSpec("audio", (1 << 60,), "int16", low=-1, high=1, sample_rate=8000)
    with pytest.raises(OSError, match=r".+") as caught:
        allocate(work, 2, spec)
    assert caught.value.filename == str(work / "inputs.npy")
