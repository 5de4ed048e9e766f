"""The secrets that the stages need, made from the environment; what they hold is printed nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from fineprune.errors import ConfigError
from pipeline.cluster import Cluster
from pipeline.settings import Settings

_TOKEN = "AWS_SESSION_TOKEN"  # noqa: S105 - the variable's name


def from_environment(settings: Settings) -> dict[str, dict[str, str]]:
    """What each secret is to hold, by its name and key.

    Raises:
        ConfigError: one line that lists every variable that is not set, or is empty; or the keys of S3 are
            those of a session, whose token no secret would hold.
    """
    wanted: dict[str, dict[str, str]] = {}
    for secret in settings.secrets:  # several may be parts of one, for other stages
        wanted.setdefault(secret.name, {}).update(secret.keys)
    held = {name for keys in wanted.values() for name in keys.values()}
    if "AWS_ACCESS_KEY_ID" in held and _TOKEN not in held and os.environ.get(_TOKEN):
        keep = "unset it and give keys that stay valid; no secret was written"
        raise ConfigError(
            f"{_TOKEN}: expected none, because no secret of the settings takes it, found one; {keep}"
        )
    missing = [name for keys in wanted.values() for name in keys.values() if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"expected in the environment: {', '.join(missing)}; no secret was written")
    return {secret: {key: os.environ[name] for key, name in keys.items()} for secret, keys in wanted.items()}


def write(cluster: Cluster, namespace: str, secrets: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Make or change the secrets; tells of each what was done."""
    for name, values in secrets.items():
        made = cluster.write_secret(namespace, name, values)
        yield f"{'made' if made else 'changed'} secret {name} in {namespace}: {', '.join(values)}"
