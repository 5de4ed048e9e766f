import tracemalloc

import numpy as np

from fineprune.data.readers import numbered


def test_names_are_numbered_in_their_order():
    names, numbers = numbered(iter(["stop", "merge", "Stop", "stop"]))
    assert names == ("Stop", "merge", "stop")
    assert numbers.tolist() == [2, 1, 0, 2]
    assert numbers.dtype == np.int64


def test_one_long_name_takes_its_memory_once():
    tracemalloc.start()
    try:
        numbered(["a" * 10**6] + ["b"] * 100)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
