"""Tiny networks with weights set by hand, small ones of every architecture, and data to go with them.

In :class:`Pixelwise` channel i of the prunable layer is input channel i, so that what a channel does,
and what the logits are, can be worked out in one's head.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fineprune.data.batches import Batch
from fineprune.data.format import write_dataset
from fineprune.data.inputs import InputSpec
from fineprune.models import build
from fineprune.models.base import LinearHead, Network, NetworkSpec, PrunableLayer
from fineprune.training import Recipe, train

torch.set_num_threads(1)  # the networks are tiny, and tests run side by side


def image(channels, height, width):
    return InputSpec("image", (channels, height, width), "uint8", 0, 255, None)


def audio(samples, rate=8000):
    return InputSpec("audio", (samples,), "int16", -32768, 32767, rate)


def spec_of(architecture, arguments, spec, classes=3):
    """The spec of a network, with a mean and spread in the middle of the inputs' range."""
    channels = spec.shape[0] if spec.kind == "image" else 1
    names = tuple(f"class {number}" for number in range(classes))
    return NetworkSpec(architecture, arguments, spec, names, (120.0,) * channels, (60.0,) * channels)


class Pixelwise(Network):
    """Channel i is input channel i plus ``offset[i]``; the logits are ``weight @ pool(channels) + bias``.

    A channel with an offset of -1000 is dormant: no pixel is bright enough for it.
    """

    prunable = PrunableLayer(conv="conv", consumers=("fc",))

    def __init__(self, weight, *, bias=None, offset=None, pool=None, size=1):
        weight = torch.tensor(weight, dtype=torch.float32)
        channels = len(offset) if offset else weight.shape[1]
        super().__init__(spec_of("pixelwise", {}, image(channels, size, size), classes=len(weight)))
        self.conv = nn.Conv2d(channels, channels, 1)
        self.conv.weight.data = torch.eye(channels).view(channels, channels, 1, 1)
        self.conv.bias.data = torch.tensor(offset or [0.0] * channels)
        self.pool = pool or nn.Identity()
        self.fc = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
        self.fc.weight.data = weight
        if bias is not None:
            self.fc.bias.data = torch.tensor(bias)
        self.eval()

    def preactivation(self, inputs):
        return self.conv(inputs.float())

    def linear_head(self):
        return LinearHead(self.pool, self.fc, nn.Identity())


class Forked(Network):
    """``conv3`` is read by a convolution and, past it, by a linear layer: the head is not linear.

    DeepID, the paper's face network, forks like this.
    """

    prunable = PrunableLayer(conv="conv3", consumers=("conv4", "fc"))

    def __init__(self, *, channels=6, groups=1, seed=0):
        super().__init__(spec_of("forked", {}, image(2, 4, 4)))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv3 = nn.Conv2d(2, channels, 3, padding=1)
            self.conv4 = nn.Conv2d(channels, 4, 2, groups=groups)
            self.fc = nn.Linear(channels * 16, 3)
            self.fc4 = nn.Linear(4 * 9, 3)
        _centre(self, self.fc, self.fc4)

    def preactivation(self, inputs):
        return self.conv3(inputs.float() / 255 - 0.5)

    def head(self, features):
        deeper = torch.relu(self.conv4(features))
        return self.fc(features.flatten(1)) + self.fc4(deeper.flatten(1))


SPECTROGRAM = {"frame": 64, "hop": 32, "bins": 32, "window": "hann", "scale": "decibel"}

SMALL = {
    "digits_cnn": spec_of("digits_cnn", {"width": 4}, image(1, 8, 8)),
    "deep_id": spec_of("deep_id", {"width": 0.1}, image(3, 26, 24)),
    "speech_net": spec_of(
        "speech_net",
        {"spectrogram": SPECTROGRAM, "channels": 1, "kernel": 3, "stride": 1, "width": 0.05, "dropout": 0.5},
        audio(1024),
    ),
    "preact_resnet18": spec_of("preact_resnet18", {"width": 4}, image(3, 16, 16)),
}


def small_network(architecture, seed=0):
    """A small random network in evaluation mode, with batch norms that have seen something.

    A ``KeyError`` here says that an architecture is missing in :data:`SMALL`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(SMALL[architecture])
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    nn.init.uniform_(tensor, 0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    nn.init.normal_(tensor, std=0.3)
    return _centre(network, [module for module in network.modules() if isinstance(module, nn.Linear)][-1])


def _centre(network, *last):
    """Scale and shift the last layers so that every class is a likely prediction."""
    network.eval()
    with torch.no_grad():
        spread, middle = torch.std_mean(network(random_inputs(network, 64, seed=99)), dim=0)
        last[0].bias -= middle
        for layer in last:
            layer.bias /= spread
            layer.weight /= spread.unsqueeze(1)
    return network


def random_inputs(network, count, seed=0):
    """Random raw inputs, no two alike in brightness and colour, or in loudness and pitch."""
    spec, generator = network.spec.input, np.random.default_rng(seed)
    noise = generator.standard_normal((count, *spec.shape))
    if spec.kind == "image":
        colour = generator.integers(0, 256, (count, spec.shape[0], 1, 1))
        pixels = colour + noise * generator.integers(0, 100, (count, 1, 1, 1))
        return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))
    dull = np.cumsum(noise, axis=1) * generator.random((count, 1))
    loud = (noise + dull) * 10 ** generator.uniform(1, 3, (count, 1))
    return torch.from_numpy(loud.clip(spec.low, spec.high).astype(np.int16))


def masked_logits(network, inputs, positions):
    """What the network says with the channels at these positions set to zero."""
    with torch.no_grad():
        features = network.features(inputs).clone()
        features[:, list(positions)] = 0
        return network.head(features)


class InMemory:
    """Samples that remember which positions were drawn."""

    def __init__(self, inputs, labels, places=None):
        self.inputs, self.labels, self.places, self.drawn = inputs, torch.as_tensor(labels), places, []

    def __len__(self):
        return len(self.labels)

    def draw(self, positions):
        self.drawn.append(positions.tolist())
        places = None if self.places is None else self.places[positions]
        return Batch(self.inputs[positions], self.labels[positions], places)


class Questions(TorchDispatchMode):
    """Counts what is asked of tensors while it is entered: what a GPU would have to be waited for.

    Those are values that the program wants to know, shapes that depend on values, and constants made on the
    host, since to copy one to the device waits as well.
    """

    ASKED = (
        "_local_scalar_dense",
        "equal",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "lift_fresh",
        "_unique2",
    )

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation._schema.name.removeprefix("aten::")
        chosen = args[1] if name in ("index", "index_put", "_index_put_impl_") else ()
        flags = [index for index in chosen if index is not None and index.dtype == torch.bool]
        self.count += name in self.ASKED or bool(flags)
        return operation(*args, **(kwargs or {}))


def questions_of_a_step(network, inputs, labels, places=None, *, augment):
    """How many questions one more step of an epoch of training asks."""
    counts = []
    for batch_size in (len(inputs), len(inputs) // 2):
        recipe = replace(RECIPE, epochs=1, batch_size=batch_size, clip=1.0, augment=augment)
        samples = InMemory(inputs, labels, places)
        with Questions() as asked:
            list(train(network, samples, recipe, seed=0))
        counts.append(asked.count)
    return counts[1] - counts[0]


def halves(count, seed=0):
    """8×8 images that are bright above (class 0) or below (class 1): separable by one look."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    inputs = generator.integers(0, 60, (count, 1, 8, 8))
    for label, rows in enumerate((slice(0, 4), slice(4, 8))):
        inputs[labels == label, :, rows] += 180
    return torch.from_numpy(inputs.astype(np.uint8)), torch.from_numpy(labels)


RECIPE = Recipe(
    optimizer="sgd",
    epochs=2,
    batch_size=4,
    learning_rate=0.05,
    schedule="cosine",
    momentum=0.9,
    weight_decay=0.0,
    warm_up=None,
    clip=None,
    augment=None,
)
"""Trains :func:`fresh_cnn` on :func:`halves`."""


def fresh_cnn(seed=0, width=2):
    """A small network for :func:`halves`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(spec_of("digits_cnn", {"width": width}, image(1, 8, 8), classes=2))


def write_halves(path, per_split=8):
    """A dataset folder of :func:`halves`, in which every sample is its own group."""
    inputs, labels = halves(4 * per_split)
    starts = {"train": 0, "defender_fit": 1, "defender_holdout": 2, "test": 3}
    card = {
        "name": "halves",
        "input": image(1, 8, 8),
        "classes": ["above", "below"],
        "group": "sample",
        "splits": {name: np.arange(per_split) + per_split * start for name, start in starts.items()},
        "origin": {"source": "made for a test"},
        "licence": "none",
    }
    write_dataset(path, inputs.numpy(), labels.numpy(), np.arange(len(labels)), card)
    return path
