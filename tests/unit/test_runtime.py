"""What the machine offers is used."""

import platform
import subprocess
import sys

import pytest
import torch

from fineprune import runtime
from fineprune.errors import ConfigError

fast_bf16 = runtime.fast_bf16  # before conftest.py puts full precision in its place

FAULTS = """
import resource
import torch
from fineprune import runtime
from fineprune.errors import ConfigError

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


@pytest.mark.parametrize(
    ("asked", "there", "picked"), [("", True, "cuda"), ("", False, "cpu"), ("cpu", True, "cpu")]
)
def test_a_gpu_is_taken_where_there_is_one_unless_the_cpu_is_asked_for(monkeypatch, asked, there, picked):
    monkeypatch.setenv("FINEPRUNE_DEVICE", asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert runtime.pick_device().type == picked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("cuda", r"expected a GPU that torch .* can use, found none; is it visible here \(nvidia-smi\)"),
        ("tpu", "FINEPRUNE_DEVICE: expected cpu or cuda, found 'tpu'"),
    ],
)
def test_a_gpu_that_was_asked_for_and_is_not_there_is_refused(monkeypatch, asked, said):
    monkeypatch.setenv("FINEPRUNE_DEVICE", asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=said):
        runtime.pick_device()
