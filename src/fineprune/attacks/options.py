"""Options of the pruning-aware attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fineprune.config import Count, Fraction, Positive, Range, Share


@dataclass(frozen=True)
class PruningAwareConfig:
    """Options of the attack.

    Attributes:
        decoys: share of the prunable layer's channels that are pruned first.
        min_active: share of clean inputs on which a kept channel must fire. One that fires more
            rarely is pruned as well: a silent one ties with the decoys in the defender's ranking,
            and one that fires with the trigger alone would be the next to go.
        reinstate: channels that come back after a round that falls short: one, as the paper has it,
            or twice as many after each such round. First what was pruned because it was exposed, then of the
            decoys the most active in the donor, last what fires rarely.
        rounds: of training, at most.
        round_epochs: of every round but the first; all else as ``attack.train``, from the weights
            that the round before left.
        restore_from: what is pruned, and what the decoys' weights come from: the ``clean`` network,
            or the ``baseline`` attack's.
        bias: how a decoy's bias is lowered. With ``margin`` so far that its largest pre-activation
            on the attacker's data, clean and triggered, is ``margin`` standard deviations (of its
            pre-activations, over inputs and positions) below zero; it is never raised. With
            ``constant`` it is that number.
        margin: in standard deviations.
        constant: for example -1e20; at least -3.3e38, which bfloat16 holds as well.
        tolerance: how far clean accuracy may drop, as the attacker supposes, before the defender stops
            pruning.
        survives: share of its success that the backdoor must keep when the attacker prunes so far
            itself; where it keeps less, what that pruning took becomes decoys too.
        validation: share of the training data that the attacker holds out to judge its networks by.
        final_epochs: of a last round, on all of the training data, when nothing is left to judge: the rounds
            before lack what was held out, which matters where data are few. None for no such round.
    """

    decoys: Share
    min_active: Fraction
    reinstate: Literal["one", "doubling"]
    rounds: Count
    round_epochs: Count
    restore_from: Literal["clean", "baseline"]
    bias: Literal["margin", "constant"]
    margin: Positive
    constant: Annotated[float, Range(ge=-3.3e38, lt=0)]
    tolerance: Fraction
    survives: Fraction
    validation: Share
    final_epochs: Count | None
