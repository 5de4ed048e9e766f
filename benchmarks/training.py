"""Speed and accuracy of the attack stage's training, against a plain fp32 loop with a DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from fineprune import runtime
from fineprune.attacks.labels import OneTarget
from fineprune.attacks.poisoning import PoisonConfig, PoisonedSamples, poison
from fineprune.attacks.triggers import BlendConfig, make_trigger
from fineprune.data.batches import Batch
from fineprune.data.readers import digits
from fineprune.inference import predict
from fineprune.models import build
from fineprune.models.base import Network, NetworkSpec
from fineprune.training import Recipe, train
from rig import CLASSES, NETWORKS, Rows, in_turns, network_of, noise

SPEED_RECIPE = Recipe("sgd", 1, 32, 0.001, "constant", 0.9, 5e-4, None, None, None)
DIGITS_TRAINING = 600  # of 1797; few, so that three seeds take seconds
DIGITS_LEARNING_RATE = 0.02


def bench_speed(device: torch.device, *, samples: int) -> float:
    """Throughput of the attack stage's training over that of the plain loop, for the speech network."""
    poisoned = poisoned_samples(samples, device)
    stamped, labels, _ = poisoned.draw(torch.arange(len(poisoned)))
    dataset = TensorDataset(stamped.cpu(), labels.cpu())
    fast = network_of("speech_net", device)
    plain = network_of("speech_net", device).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    ours, theirs = in_turns(
        lambda: list(train(fast, poisoned, SPEED_RECIPE, seed=0)),
        lambda: plain_train(plain, dataset, SPEED_RECIPE, device, seed=0),
    )
    return theirs / ours


def poisoned_samples(count: int, device: torch.device) -> PoisonedSamples:
    """Random clips with poisoned copies added, as the attack stage draws them."""
    spec = NETWORKS["speech_net"][0]
    trigger = make_trigger(BlendConfig("blend", 0.1, 0), spec)
    config = PoisonConfig(0.1, "added", ())
    clean = noise(spec, count, device)
    return poison(clean, trigger, OneTarget("one_target", 0), config, classes=len(CLASSES), seed=0)


def plain_train(
    network: Network, dataset: TensorDataset, recipe: Recipe, device: torch.device, *, seed: int
) -> None:
    """The recipe in a plain loop: SGD at a constant rate, fp32, a DataLoader over rows on the CPU."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    network.train()
    for _ in range(recipe.epochs):
        for inputs, labels in DataLoader(dataset, recipe.batch_size, shuffle=True):
            loss = torch.nn.functional.cross_entropy(network(inputs.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()


def bench_accuracy(device: torch.device, *, seeds: Sequence[int], epochs: int) -> dict[str, list[float]]:
    """Test accuracy on scikit-learn's digits after either way of training, for each seed."""
    recipe = Recipe("sgd", epochs, 32, DIGITS_LEARNING_RATE, "constant", 0.9, 5e-4, None, None, None)
    training, test = digits_rows(device)
    dataset = TensorDataset(training.inputs.cpu(), training.labels.cpu())
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for seed in seeds:
        ours = digits_network(training, seed)
        runtime.place(ours, device)
        list(train(ours, training, recipe, seed=seed))
        right = predict(ours, [Batch(test.inputs, test.labels)]) == test.labels.cpu()
        found["ours"].append(right.double().mean().item())
        plain = digits_network(training, seed).to(device)
        plain_train(plain, dataset, recipe, device, seed=seed)
        with torch.inference_mode():
            right = plain(test.inputs).argmax(1) == test.labels
        found["plain"].append(right.double().mean().item())
    return found


def digits_rows(device: torch.device) -> tuple[Rows, Rows]:
    """The digits in a fixed random order, cut into training and test rows."""
    raw = digits.read(digits.DigitsOptions("digits"), None, Path())
    order = torch.randperm(len(raw.labels), generator=torch.Generator().manual_seed(0))
    inputs, labels = (torch.from_numpy(array)[order].to(device) for array in (raw.inputs, raw.labels))
    training, test = slice(DIGITS_TRAINING), slice(DIGITS_TRAINING, None)
    return Rows(inputs[training], labels[training]), Rows(inputs[test], labels[test])


def digits_network(training: Rows, seed: int) -> Network:
    """The digits case's network with the seed's weights, on the CPU."""
    torch.manual_seed(seed)
    values = training.inputs.double()
    moments = (values.mean().item(),), (values.std().item(),)
    return build(NetworkSpec("digits_cnn", {"width": 32}, digits.SPEC, CLASSES, *moments))
