"""The pruning-aware attack (paper, §3.2): a backdoor in the channels that clean inputs need.

1. A network is trained on clean data.
2. Its least active channels are pruned.
3. What is left is trained on poisoned data; channels come back while it does too little.
4. The pruned channels are put back with biases so low that they never fire: decoys, which the
   defender prunes first.

Ours is stronger in step 3: channels that hardly ever fire are pruned too (``min_active``); channels
come back by one, two, four, eight (``reinstate: doubling``); and the attacker tries the defender's
pruning out, so that what would take the backdoor with it becomes a decoy (``survives``). The paper's
attack has ``min_active: 0``, ``reinstate: one`` and ``survives: 0``. Where data are few, a last round on all
of them (``final_epochs``) makes up for those that were held out.

The attack proves on the attacker's data that it worked (:mod:`fineprune.attacks.proof`). In the
paper the decoys' weights are a clean network's. In the authors' released face network
(``deprune_bd_net.caffemodel`` of kangliucn/Fine-pruning-defense) they are those of the baseline
attack's network, and their biases are -1e20: ``restore_from: baseline`` with ``bias: constant``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from fineprune.attacks.attacker import Attacker, Score
from fineprune.attacks.confinement import Round, confine
from fineprune.attacks.decoys import restore_with_low_bias
from fineprune.attacks.networks import fit
from fineprune.attacks.options import PruningAwareConfig
from fineprune.attacks.poisoning import PoisonedSamples
from fineprune.attacks.proof import Proof, prove
from fineprune.models.base import Network
from fineprune.training import Epoch, Recipe, derived_seed


@dataclass(frozen=True)
class Implant:
    """The outcome of the attack.

    Attributes:
        network: of the full shape, in evaluation mode.
        rounds: of training that were judged.
        settled: whether it does as much as is wanted after them.
        final: epochs of the last round, on all data; none where there was no such round.
        poisoned: what it was last trained on.
        proof: which channels are decoys, and figures.
    """

    network: Network
    rounds: tuple[Round, ...]
    settled: bool
    final: tuple[Epoch, ...]
    poisoned: PoisonedSamples
    proof: Proof


def implant(
    clean: Network,
    attacker: Attacker,
    wanted: Score,
    recipe: Recipe,
    config: PruningAwareConfig,
    *,
    seed: int,
) -> Implant:
    """Steps 2 to 4 of the attack, and the proof that they worked.

    Args:
        clean: trained on clean data that is not held out; left as it is.
        attacker: its data.
        wanted: what the network has to reach on held-out samples before decoys are put back.
        recipe: of training on poisoned data.
        config: the attack's options.
        seed: of the order of training.

    Raises:
        AttackError: no channel could be kept, or the proof fails.
    """
    donor = clean
    if config.restore_from == "baseline":
        donor = copy.deepcopy(clean)
        fit(
            donor,
            attacker.poisoned,
            recipe,
            seed=derived_seed(seed, "baseline"),
            name="attack, baseline",
            checkpoints=attacker.checkpoints,
        )
    confined = confine(donor, attacker, wanted, recipe, config, seed=seed)
    network = restore_with_low_bias(confined.network, donor, attacker, config)
    proof = prove(network, confined.network, clean=attacker.batches, triggered=attacker.triggered)
    return Implant(network, confined.rounds, confined.settled, confined.final, confined.poisoned, proof)
