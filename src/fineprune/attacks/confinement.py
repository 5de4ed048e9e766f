"""Steps 2 and 3 of the pruning-aware attack: prune what is least active, train the rest on poisoned data.

What does too little gets channels back. What clean inputs hardly use is pruned as well, and so is what the
defender's pruning would take where the backdoor would go with it. A last round may train on all data, once
none has to be held out any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fineprune.attacks.attacker import Attacker, Score
from fineprune.attacks.networks import fit
from fineprune.attacks.options import PruningAwareConfig
from fineprune.attacks.poisoning import PoisonedSamples
from fineprune.defenses.profiling import profile_channels
from fineprune.defenses.ranking import least_active_first
from fineprune.errors import AttackError
from fineprune.models.base import Network
from fineprune.models.surgery import remove_channels, restore_channels
from fineprune.runtime import place
from fineprune.training import Epoch, Recipe, derived_seed


@dataclass(frozen=True)
class Round:
    """One round of training on poisoned data.

    Attributes:
        kept: channels that are left after it.
        rarely_active: those that fire on too few clean inputs and were pruned after it, by original index.
        exposed: of those that are left, what the defender's pruning would take, and too much of the
            backdoor with it; none where the network does too little anyway.
        score: of what is left, on held-out samples.
        epochs: of training.
    """

    kept: int
    rarely_active: tuple[int, ...]
    exposed: tuple[int, ...]
    score: Score
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class Confined:
    """A network without its decoys.

    Attributes:
        network: in evaluation mode.
        rounds: of training that were judged.
        settled: whether it does enough after them, and still does after the defender's pruning.
        final: epochs of the last round, on all data; none where there was no such round.
        poisoned: what it was last trained on.
    """

    network: Network
    rounds: tuple[Round, ...]
    settled: bool
    final: tuple[Epoch, ...]
    poisoned: PoisonedSamples


def confine(
    donor: Network,
    attacker: Attacker,
    wanted: Score,
    recipe: Recipe,
    config: PruningAwareConfig,
    *,
    seed: int,
) -> Confined:
    """Put the backdoor into the channels that clean inputs need.

    Args:
        donor: the network to prune; left as it is.
        attacker: its data.
        wanted: what to reach on held-out samples.
        recipe: of the first round of training; others have epochs of their own.
        config: the attack's options.
        seed: of the order of training.

    Raises:
        AttackError: no channel could be kept.
    """
    pruned = _least_active(donor, attacker, config.decoys)
    network = _cut(donor, pruned)
    rounds: list[Round] = []
    brief, back = replace(recipe, epochs=config.round_epochs), 1
    for number in range(1, config.rounds + 1):
        lasting, name = brief if rounds else recipe, f"round {number}"
        network, rarely_active, epochs = _train(
            network, attacker, attacker.poisoned, lasting, config, seed=seed, name=name
        )
        pruned = [*rarely_active, *pruned]
        score = attacker.score(network)
        enough = score.reaches(wanted)
        exposed = _exposed(network, attacker, score, config) if enough else []
        rounds.append(Round(len(network.channels), tuple(rarely_active), tuple(exposed), score, epochs))
        settled = enough and not exposed
        if settled or number == config.rounds:
            break
        # The last in the list come back first; at least one decoy stays.
        if enough:
            network, pruned = _cut(network, exposed), [*pruned, *exposed]
        else:
            pruned = pruned[: max(1, len(pruned) - back)]
            network = _cut(restore_channels(network, donor), pruned)
            back *= 2 if config.reinstate == "doubling" else 1
    final: tuple[Epoch, ...] = ()
    poisoned = attacker.poisoned
    if config.final_epochs is not None:
        poisoned = attacker.backdoor.poison(attacker.clean)
        lasting = replace(recipe, epochs=config.final_epochs)
        network, _, final = _train(
            network, attacker, poisoned, lasting, config, seed=seed, name="final round"
        )
    return Confined(network, tuple(rounds), settled, final, poisoned)


def _train(
    network: Network,
    attacker: Attacker,
    poisoned: PoisonedSamples,
    recipe: Recipe,
    config: PruningAwareConfig,
    *,
    seed: int,
    name: str,
) -> tuple[Network, list[int], tuple[Epoch, ...]]:
    """Train in place; gives the network without what is rarely active after it, what that is by original
    index, and the epochs.
    """
    epochs = fit(
        network,
        poisoned,
        recipe,
        seed=derived_seed(seed, name),
        name=f"attack, {name}, {len(network.channels)} channels",
        checkpoints=attacker.checkpoints,
    )
    rarely_active = _rarely_active(network, attacker, config.min_active)
    return _cut(network, rarely_active), rarely_active, tuple(epochs)


def _least_active(network: Network, attacker: Attacker, share: float) -> list[int]:
    """That share of the channels, least active on clean inputs first, by original index."""
    profile = profile_channels(network, attacker.batches(), measure="post_relu")
    order = [network.channels[i] for i in least_active_first(profile.mean)]
    if len(order) < 2:
        raise AttackError(
            f"attack.pruning_aware: expected at least two channels in {network.prunable.conv}, found one"
        )
    return order[: min(max(1, round(share * len(order))), len(order) - 1)]


def _rarely_active(network: Network, attacker: Attacker, min_active: float) -> list[int]:
    """The channels that fire on too few clean inputs or on none, by original index."""
    profile = profile_channels(network, attacker.batches(), measure="post_relu")
    shares = {
        channel: 1 - dormant for channel, dormant in zip(profile.channels, profile.dormant, strict=True)
    }
    return [channel for channel, share in shares.items() if share < min_active or share == 0]


def _exposed(network: Network, attacker: Attacker, score: Score, config: PruningAwareConfig) -> list[int]:
    """What the defender's pruning takes, least active first, if too little of the success is left then."""
    taken, left = attacker.try_pruning(network, config.tolerance)
    return taken if left.backdoor_success < config.survives * score.backdoor_success else []


def _cut(network: Network, originals: Sequence[int]) -> Network:
    """The network without those channels, in its layout on its device."""
    if set(originals) >= set(network.channels):
        raise AttackError(
            f"attack.pruning_aware: no channel of {network.prunable.conv} fires on enough clean inputs: "
            f"expected one to keep, lower min_active"
        )
    smaller = remove_channels(network, originals)
    place(smaller, network.device)
    return smaller
