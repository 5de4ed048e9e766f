import pytest
import torch

from fineprune.data.batches import CACHE_BYTES, cache_limit


@pytest.mark.parametrize(("free", "limit"), [(4 << 30, CACHE_BYTES), (100 << 30, 25 << 30)])
def test_a_large_gpu_keeps_more_inputs_than_a_small_one(monkeypatch, free, limit):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 200 << 30))
    assert cache_limit(torch.device("cuda")) == limit
    assert cache_limit(torch.device("cpu")) == CACHE_BYTES
