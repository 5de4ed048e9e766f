"""In which order channels are pruned."""

from __future__ import annotations

from collections.abc import Sequence


def least_active_first(mean_activation: Sequence[float]) -> list[int]:
    """Positions of the channels by increasing mean activation; equal ones by position (paper, §3)."""
    return sorted(range(len(mean_activation)), key=lambda channel: (mean_activation[channel], channel))
