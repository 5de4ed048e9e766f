"""The triggers by the ``kind`` of their config."""

from __future__ import annotations

from fineprune.attacks.base import Trigger
from fineprune.attacks.fixed import (
    BlendConfig,
    FixedConfig,
    FixedTrigger,
    NoiseConfig,
    OverlayConfig,
    PatchConfig,
    make_fixed,
)
from fineprune.attacks.post_it import PostIt, PostItConfig
from fineprune.attacks.sunglasses import Sunglasses, SunglassesConfig
from fineprune.data.inputs import InputSpec
from fineprune.errors import AttackError

__all__ = [
    "BlendConfig",
    "FixedTrigger",
    "NoiseConfig",
    "OverlayConfig",
    "PatchConfig",
    "PostItConfig",
    "SunglassesConfig",
    "Trigger",
    "TriggerConfig",
    "make_trigger",
]

TriggerConfig = FixedConfig | SunglassesConfig | PostItConfig


def make_trigger(config: TriggerConfig, spec: InputSpec) -> Trigger:
    """The trigger that the config describes, for inputs of that spec.

    Raises:
        AttackError: it does not fit the kind or the size of the inputs, or its picture cannot be read.
        MissingExtraError: Pillow is not installed, which an ``overlay`` needs.
    """
    wanted = "audio" if isinstance(config, NoiseConfig) else "image"
    if spec.kind != wanted and not isinstance(config, BlendConfig):
        raise AttackError(f"trigger {config.kind}: expected {wanted} inputs, found {spec.kind}")
    if isinstance(config, SunglassesConfig):
        return Sunglasses(config, spec)
    if isinstance(config, PostItConfig):
        return PostIt(config, spec)
    return make_fixed(config, spec)
