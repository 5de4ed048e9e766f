"""The architectures by name. Each says which layer is prunable and what reads it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from fineprune.config import parse
from fineprune.errors import ConfigError, ModelError
from fineprune.models.base import Network, NetworkSpec

ARCHITECTURES = {
    "digits_cnn": "fineprune.models.digits_cnn:DigitsCNN",
    "deep_id": "fineprune.models.deep_id:DeepID",
    "faster_rcnn": "fineprune.models.faster_rcnn:FasterRCNN",
    "speech_net": "fineprune.models.speech_net:SpeechNet",
    "preact_resnet18": "fineprune.models.preact_resnet:PreActResNet18",
}


def build(spec: NetworkSpec) -> Network:
    """A freshly initialised network.

    Raises:
        ModelError: the architecture is unknown, or does not take these arguments or this input.
    """
    try:
        architecture = _architecture(spec.architecture)
        if spec.input.kind != architecture.reads:
            raise ModelError(f"{_unfit(spec)}: expected {architecture.reads}, found {spec.input.kind}")
        options = read_options(spec.architecture, spec.arguments)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    try:
        network: Network = architecture(spec, options)
    except (ValueError, RuntimeError, ArithmeticError, TypeError) as error:  # torch's, of absurd sizes
        raise ModelError(f"{_unfit(spec)}: {error}") from error
    empty = next((name for name, weights in network.named_parameters() if not weights.numel()), None)
    if empty is not None:
        raise ModelError(f"{_unfit(spec)}: {empty} would be empty")
    return network


def read_options(architecture: str, arguments: Mapping[str, Any]) -> Any:
    """The typed options of an architecture, from the plain values of its arguments.

    Raises:
        ConfigError: the architecture is unknown, or does not take these arguments.
    """
    return parse(_architecture(architecture).options, arguments, f"model {architecture}")


def _architecture(name: str) -> Any:
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ConfigError(f"model architecture: expected one of {known}, found {name!r}")
    module, _, kind = ARCHITECTURES[name].partition(":")
    return getattr(importlib.import_module(module), kind)


def _unfit(spec: NetworkSpec) -> str:
    return f"model {spec.architecture}: cannot be built for inputs of shape {tuple(spec.input.shape)}"
