import numpy as np
import pytest
import torch

from fineprune.data import batches
from fineprune.data.batches import CACHE_BYTES, SplitSamples, cache_limit
from fineprune.data.format import Dataset
from tests.unit.nets import write_halves


@pytest.mark.parametrize(("free", "limit"), [(4 << 30, 1 << 30), (100 << 30, 25 << 30)])
def test_a_gpu_keeps_inputs_in_a_quarter_of_what_is_free(monkeypatch, free, limit):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 200 << 30))
    assert cache_limit(torch.device("cuda")) == limit


@pytest.mark.parametrize(
    ("free", "allowed", "limit"),
    [
        (4 << 20, "max", 1 << 30),
        (100 << 20, "max", CACHE_BYTES),
        (100 << 20, str(8 << 30), 2 << 30),
        (None, None, CACHE_BYTES),
    ],
)
def test_a_cpu_keeps_inputs_in_a_quarter_of_what_is_free_and_allowed(
    monkeypatch, tmp_path, free, allowed, limit
):
    monkeypatch.setattr(batches, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(batches, "_LIMIT", tmp_path / "memory.max")
    if free:
        (tmp_path / "meminfo").write_text(f"MemTotal:  99 kB\nMemAvailable:   {free} kB\n")
    if allowed:
        (tmp_path / "memory.max").write_text(f"{allowed}\n")
    assert cache_limit(torch.device("cpu")) == limit


def test_inputs_that_are_kept_are_brought_to_the_device_in_pieces(tmp_path, monkeypatch):
    dataset, reads = Dataset(write_halves(tmp_path / "dataset", per_split=25)), []
    inputs, size = dataset.inputs, dataset.inputs([0]).nbytes
    monkeypatch.setattr(dataset, "inputs", lambda rows: (reads.append(len(rows)), inputs(rows))[1])
    monkeypatch.setattr(batches, "_PIECE_BYTES", 10 * size)
    samples = SplitSamples(dataset, "test", torch.device("cpu"), cache=True)
    assert set(reads[:-1]) == {10}
    assert sum(reads) == len(samples)
    kept = samples.draw(torch.arange(len(samples))).inputs
    assert np.array_equal(kept.numpy(), inputs(samples.rows))
    assert sum(reads) == len(samples)
