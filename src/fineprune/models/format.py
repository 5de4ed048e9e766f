"""The model folder: ``model.safetensors`` and ``model.json``. Nothing in it can run code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fineprune import config
from fineprune.data.format import Card
from fineprune.data.inputs import InputSpec, check_input
from fineprune.digests import check_digest, sha256
from fineprune.errors import FinePruneError, ModelError, excerpt, one_line
from fineprune.files import write_json
from fineprune.models import build
from fineprune.models.base import Network, NetworkSpec
from fineprune.models.surgery import remove_channels
from fineprune.outputs import whole_outputs

FORMAT = 1
WEIGHTS = "model.safetensors"
CARD = "model.json"
# What pruning may have removed: the whole network is built first, with what its weights file has nothing of.
_SHRINKS = 16
_SMALL = 2**30  # bytes that any network may take: more than four times the largest of the paper


@dataclass(frozen=True)
class ModelCard:
    """The content of ``model.json``: a :class:`NetworkSpec`, the layer it is pruned in, and the digest."""

    format: int
    architecture: str
    arguments: dict[str, Any]
    input: InputSpec
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pruned: tuple[int, ...]
    prunable_layer: str
    sha256: str

    def spec(self, *, pruned: tuple[int, ...]) -> NetworkSpec:
        """The network's spec, with the given channels removed."""
        shared = {field.name: getattr(self, field.name) for field in fields(NetworkSpec)}
        return NetworkSpec(**shared | {"pruned": pruned})


def save_model(path: Path, network: Network) -> None:
    """Write a model folder; weights are stored contiguous on the CPU, in fp32 as trained.

    Raises:
        ModelError: a weight is NaN or infinite, or the weights cannot be written.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    _check_finite(state, str(path))
    path.mkdir(parents=True)
    try:
        save_file(state, path / WEIGHTS)
    except SafetensorError as error:  # a full disk, among others
        raise ModelError(f"{path / WEIGHTS}: cannot write: {error}") from error
    card = ModelCard(
        format=FORMAT,
        prunable_layer=network.prunable.conv,
        sha256=sha256(path / WEIGHTS),
        **{field.name: getattr(network.spec, field.name) for field in fields(NetworkSpec)},
    )
    write_json(path / CARD, asdict(card))


def receive(weights: Path, spec: NetworkSpec, path: Path) -> None:
    """Make a model folder of a ``.safetensors`` file that came from elsewhere; an older one gives way whole.

    Args:
        weights: a state dict of the architecture, by its names.
        spec: what it was trained as; the file does not say.
        path: of the model folder.

    Raises:
        ModelError: the file is missing, is not safetensors (a pickle is never opened), does not fit the
            architecture, or holds NaN or weights of another type.
    """
    state = _read_weights(weights)
    with torch.device("meta"):
        described = build(spec)
    _check_fit(state, described, weights)
    _check_finite(state, str(weights))
    network = build(spec)
    network.load_state_dict(state)
    with whole_outputs({"model": path}) as scratch:
        save_model(scratch["model"], network)


def load_model(path: Path) -> Network:
    """Read a model folder, on the CPU, in evaluation mode.

    Raises:
        ModelError: a file is missing, is not safetensors (a pickle is never opened), does not match
            its digest, does not fit the architecture, names another prunable layer, or holds NaN or
            weights of another type, which would be cast in silence.
    """
    card = read_card(path)
    check_digest(path / WEIGHTS, card.sha256, ModelError)
    state = _read_weights(path / WEIGHTS)
    _check_described(card, state, path)
    _check_finite(state, str(path / WEIGHTS))
    network = _built(card)
    network.load_state_dict(state)
    return network.eval()


def read_card(path: Path) -> ModelCard:
    """Read and check ``model.json``.

    Raises:
        ModelError: it is missing or not a card of this format, or its mean and std do not fit its inputs;
            the path is a file, such as a checkpoint.
    """
    if path.is_file():
        raise ModelError(
            f"{path}: expected a folder as save_model writes it, {CARD} and {WEIGHTS}, found a file"
        )
    card = config.read_card(ModelCard, path / CARD, format_number=FORMAT, error=ModelError, name="card")
    check_input(card.input, card.mean, card.std, str(path / CARD), ModelError)
    return card


def check_fits(network: Network, card: Card, where: Path | str) -> None:
    """Raise unless the network was made for the dataset's task, inputs and classes, these in their order.

    Args:
        network: as :func:`load_model` gave it.
        card: of the dataset.
        where: the model folder, for messages.

    Raises:
        ModelError: the task, the inputs or the classes differ.
    """
    spec = network.spec
    for ours, theirs in (
        (network.task, card.task),
        (describe_input(spec.input), describe_input(card.input)),
        _first_difference(spec.classes, card.classes),
    ):
        if ours != theirs:
            raise ModelError(f"{where}: made for {ours}, found dataset {card.name} with {theirs}")


def model_digest(path: Path) -> str:
    """The SHA-256 of the card, which names the SHA-256 of the weights."""
    return sha256(path / CARD)


def describe_input(spec: InputSpec) -> str:
    """``image input of shape (1, 8, 8), uint8 0…16``."""
    rate = "" if spec.sample_rate is None else f" at {spec.sample_rate} Hz"
    return f"{spec.kind} input of shape {spec.shape}, {spec.dtype} {spec.low}…{spec.high}{rate}"


def _first_difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, str]:
    """Where two lists of classes part, in words; twice the same words if they are equal."""
    if len(ours) != len(theirs):
        return f"{len(ours)} classes", f"{len(theirs)} classes"
    number = next((i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), 0)
    return f"class {number} {ours[number]!r}", f"class {number} {theirs[number]!r}"


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: expected a file of safetensors, found none")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if _opens_like_pickle(path):
            found = "expected safetensors, found a pickle or zip archive, which is never opened"
            raise ModelError(f"{path}: {found}") from error
        raise ModelError(f"{path}: expected readable safetensors, found {error}") from error


def _built(card: ModelCard) -> Network:
    """The network that the card describes, with random weights, on torch's present device."""
    network = build(card.spec(pruned=()))
    return remove_channels(network, card.pruned) if card.pruned else network


def _check_described(card: ModelCard, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse a card that does not describe the weights; its sizes, which are not trusted, take no memory."""
    try:
        with torch.device("meta"):
            whole = build(card.spec(pruned=()))
    except FinePruneError as error:
        raise ModelError(f"{path / CARD}: {error}") from error
    _check_size(whole, path)
    prunable = whole.prunable.conv
    if card.prunable_layer != prunable:
        raise ModelError(
            f"{path / CARD}: expected prunable_layer {prunable} for {card.architecture}, "
            f"found {card.prunable_layer}"
        )
    width = len(whole.channels)
    if not set(card.pruned) < set(range(width)) or len(set(card.pruned)) != len(card.pruned):
        expected = f"some of channels 0…{width - 1} of {card.prunable_layer}, each once"
        raise ModelError(f"{path / CARD}: pruned: expected {expected}, found {excerpt(card.pruned)}")
    described = remove_channels(whole, card.pruned)
    _check_fit(state, described, path / WEIGHTS)


def _check_fit(state: Mapping[str, torch.Tensor], described: Network, path: Path) -> None:
    """Refuse weights of other names, shapes or types than those of a network on torch's meta device."""
    _check_types(state, described.state_dict(), str(path))
    try:
        with torch.device("meta"):  # batch norms make what a state lacks
            described.load_state_dict({name: value.to("meta") for name, value in state.items()})
    except RuntimeError as error:
        raise ModelError(
            f"{path}: does not fit architecture {described.spec.architecture}: {one_line(error)}"
        ) from error


def _check_size(whole: Network, path: Path) -> None:
    """Refuse a network that no pruning could have made so small as its weights file is."""
    needed = sum(value.nbytes for value in (*whole.parameters(), *whole.buffers()))
    limit = max(_SMALL, _SHRINKS * (path / WEIGHTS).stat().st_size)
    if needed > limit:
        raise ModelError(
            f"{path / CARD}: expected a network of at most {limit:,} bytes before pruning, found {needed:,}"
        )


def _opens_like_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2)
    return start[:1] == b"\x80" or start == b"PK"


def _check_types(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str) -> None:
    for name in state.keys() & expected.keys():
        if state[name].dtype != expected[name].dtype:
            raise ModelError(
                f"{where}: weights {name!r}: expected {expected[name].dtype}, found {state[name].dtype}"
            )


def _check_finite(state: dict[str, torch.Tensor], where: str) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"{where}: weights {name!r} hold NaN or infinite values")
