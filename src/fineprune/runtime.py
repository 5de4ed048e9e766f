"""What the machine offers: the device, the precision and the use of memory that are fast on it."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager

import torch
from torch import nn

from fineprune.errors import ConfigError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def pick_device() -> torch.device:
    """The first visible GPU, else the CPU.

    ``FINEPRUNE_DEVICE=cpu`` or ``cuda`` asks for one of them. A pod that was given a GPU says ``cuda``: one
    that cannot use it, as with too old a driver, would hold it for a day and compute on the CPU.

    Raises:
        ConfigError: a GPU was asked for, and torch can use none.
    """
    found = "cuda" if torch.cuda.is_available() else "cpu"
    asked = os.environ.get("FINEPRUNE_DEVICE") or found
    if asked not in ("cpu", "cuda"):
        raise ConfigError(f"FINEPRUNE_DEVICE: expected cpu or cuda, found {asked!r}")
    if asked == "cuda" != found:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        raise ConfigError(
            f"FINEPRUNE_DEVICE: expected a GPU that torch {torch.__version__}, built for {built}, can use, "
            "found none; is it visible here (nvidia-smi), and its driver new enough?"
        )
    return torch.device(asked)


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there: on a GPU with tensor cores for it, on a CPU with AMX, and on
    AMD's CPUs with AVX512-BF16.

    On Zen 4 training is 1.3 to 2.4 times as fast, most for wide networks. On another CPU without AMX it was
    0.6 times as fast, so all others stay in fp32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.cpu.get_capabilities()
    by_amd = cpu.get("cpu_name", "").startswith("AMD")
    return bool(cpu.get("amx_tile") or (by_amd and cpu.get("avx512_bf16")))


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision in bf16 where that is faster (:func:`fast_bf16`), plain fp32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device))


def place(network: nn.Module, device: torch.device) -> None:
    """Move a network to the device, with its convolutions in channels-last layout, in place.

    On a CPU the process keeps the memory that it frees from then on.
    """
    if device.type == "cpu":
        keep_freed_memory()
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tensor; without glibc nothing happens.

    It would give every large block back to the kernel and have it mapped and zeroed anew in the next step:
    up to 500,000 page faults an epoch, and a tenth to a third of the time. The peak stays the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1):
            mallopt(option, value)
