"""The rule that stops on a pruning curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StopPoint:
    """Where the rule stops on a curve of C + 1 accuracies.

    Attributes:
        pruned: how many channels the last model that satisfies the rule has lost.
        accuracy: of that model.
        violating: how many channels the first violating model has lost; None if none violates that has a
            channel left.
        violating_accuracy: of that model.
    """

    pruned: int
    accuracy: float
    violating: int | None
    violating_accuracy: float | None


def stop_point(accuracies: Sequence[float], tolerance: float) -> StopPoint:
    """Stop once accuracy has dropped by more than ``tolerance`` (paper, §3: 4 points).

    Args:
        accuracies: (C + 1,) clean accuracy with 0, 1, …, C channels pruned, 0…1.
        tolerance: in the same unit, compared with the unpruned accuracy.

    Returns:
        The last point before the first violation. At least one channel always stays.
    """
    # A drop of exactly the tolerance satisfies the rule, whatever binary fractions make of it.
    floor = accuracies[0] - tolerance - 1e-9
    violating = next((j for j, accuracy in enumerate(accuracies[:-1]) if accuracy < floor), None)
    last = (len(accuracies) - 1 if violating is None else violating) - 1
    return StopPoint(
        pruned=last,
        accuracy=accuracies[last],
        violating=violating,
        violating_accuracy=None if violating is None else accuracies[violating],
    )
