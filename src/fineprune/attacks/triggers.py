"""The triggers by the ``kind`` of their config."""

from __future__ import annotations

from fineprune.attacks.base import Trigger
from fineprune.attacks.fixed import (
    BlendTrigger,
    FixedConfig,
    FixedTrigger,
    NoiseTrigger,
    OverlayTrigger,
    PatchTrigger,
    make_fixed,
)
from fineprune.attacks.post_it import PostIt, PostItTrigger
from fineprune.attacks.sunglasses import Sunglasses, SunglassesTrigger
from fineprune.data.format import InputSpec
from fineprune.errors import AttackError

__all__ = [
    "BlendTrigger",
    "FixedTrigger",
    "NoiseTrigger",
    "OverlayTrigger",
    "PatchTrigger",
    "PostItTrigger",
    "SunglassesTrigger",
    "Trigger",
    "TriggerConfig",
    "make_trigger",
]

TriggerConfig = FixedConfig | SunglassesTrigger | PostItTrigger


def make_trigger(config: TriggerConfig, spec: InputSpec) -> Trigger:
    """The trigger that the config describes, for inputs of that spec.

    Raises:
        AttackError: it does not fit the kind or the size of the inputs.
    """
    wanted = "audio" if isinstance(config, NoiseTrigger) else "image"
    if spec.kind != wanted and not isinstance(config, BlendTrigger):
        raise AttackError(f"trigger {config.kind}: expected {wanted} inputs, found {spec.kind}")
    if isinstance(config, SunglassesTrigger):
        return Sunglasses(config, spec)
    if isinstance(config, PostItTrigger):
        return PostIt(config, spec)
    return make_fixed(config, spec)
