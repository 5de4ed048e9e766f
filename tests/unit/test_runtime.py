"""What the machine offers is used."""

import platform
import subprocess
import sys

import pytest
import torch

from fineprune import runtime

fast_bf16 = runtime.fast_bf16  # before conftest.py puts full precision in its place

FAULTS = """
import resource
import torch
from fineprune import runtime

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

runtime.place(torch.nn.Conv2d(1, 1, 1), torch.device("cpu"))
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_memory_that_a_tensor_frees_is_there_for_the_next_one():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1000


@pytest.mark.parametrize(
    ("cpu", "fast"),
    [
        ({"cpu_name": "Intel Xeon Platinum 8481C", "amx_tile": True, "avx512_bf16": True}, True),
        ({"cpu_name": "Intel Xeon Platinum 8376H", "amx_tile": False, "avx512_bf16": True}, False),
        ({"cpu_name": "AMD EPYC 9B14", "amx_tile": False, "avx512_bf16": True}, True),
        ({"cpu_name": "AMD EPYC 7B13", "amx_tile": False, "avx512_bf16": False}, False),
        ({"architecture": "arm64", "bf16": True}, False),
    ],
)
def test_bf16_is_taken_on_the_cpus_where_it_is_the_faster(monkeypatch, cpu, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert fast_bf16(torch.device("cpu")) is fast
