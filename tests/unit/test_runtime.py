"""What the machine offers is used."""

import platform
import subprocess
import sys

import pytest

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
