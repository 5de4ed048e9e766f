"""What the pipeline asks of a cluster: ``settings.yaml``, typed and checked before anything is compiled."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from fineprune.config import Count, Range, Seed, parse
from fineprune.errors import ConfigError, without_credentials
from fineprune.params import merge, read_yaml
from fineprune.stages import BATCHED

FILE = Path(__file__).with_name("settings.yaml")
REACH_MLFLOW = "set MLFLOW_TRACKING_URI to its address from here, such as that of a kubectl port-forward"

StageName = Literal["ingest", "attack", "profile", "prune", "finetune", "evaluate", "promote", "tabulate"]

MAX_RUNS = 50  # tabulate gets a row of each in one argument, which holds 128 KiB; a row has about 1.6 KiB
"""Runs that a sweep may have."""

ARGO_RUNS = 15  # of a workflow Argo keeps 1 MiB, zipped; by its sources a run takes 60 KB (KFP 2.16: 40)
"""Runs of a sweep that Argo is sure to keep track of."""


@dataclass(frozen=True)
class Form:
    """The form that a string must have; ``like`` says it in a message."""

    pattern: str
    like: str

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"the form {self.like}"


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
Cpu = Annotated[str, Form(r"(\d+(\.\d+)?|\d+m)", "2, 0.5 or 500m")]
Quantity = Annotated[str, Form(r"\d+(Ki|[EPTGM]i?)?", "8Gi or 500M")]  # what kfp and Kubernetes both take
Name = Annotated[str, Form(rf"{_LABEL}(\.{_LABEL})*", "my-name")]
Address = Annotated[str, Form(r"https?://[^\s/@]+(/\S*)?", "http://host:port, without credentials")]
AcceleratorType = Annotated[
    str, Form(rf"{_LABEL}(\.{_LABEL})+/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", "vendor.tld/name")
]
Registry = Annotated[
    str, Form(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", "registry.example.org/team")
]
Id = Annotated[int, Range(ge=1, lt=2**31)]
Seconds = Annotated[int, Range(ge=1)]


@dataclass(frozen=True)
class CpuBounds:
    """CPU cores that a task is promised and may use."""

    request: Cpu
    limit: Cpu


@dataclass(frozen=True)
class MemoryBounds:
    """Memory that a task is promised and may use."""

    request: Quantity
    limit: Quantity


@dataclass(frozen=True)
class Accelerator:
    """Devices of one task: the extended resource that a node offers, and how many of it."""

    type: AcceleratorType
    limit: Count


@dataclass(frozen=True)
class Toleration:
    """A taint that a task may run in spite of."""

    key: str
    operator: Literal["Equal", "Exists"]
    value: str | None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None


@dataclass(frozen=True)
class StageSettings:
    """What a task of one stage asks for.

    Attributes:
        cpu, memory: requests and limits.
        accelerator: None for a stage that computes on the CPU.
        node_selector: labels that the node must have.
        tolerations: taints that the node may have.
        scratch: size of /tmp, the only writable place beside the outputs where the root is read-only.
        timeout_seconds: of one try.
    """

    cpu: CpuBounds
    memory: MemoryBounds
    accelerator: Accelerator | None
    node_selector: dict[str, Any]
    tolerations: tuple[Toleration, ...]
    scratch: Quantity
    timeout_seconds: Seconds


@dataclass(frozen=True)
class StagesSettings:
    """The settings of every stage: ``stages["prune"]`` or ``stages.prune``."""

    ingest: StageSettings
    attack: StageSettings
    profile: StageSettings
    prune: StageSettings
    finetune: StageSettings
    evaluate: StageSettings
    promote: StageSettings
    tabulate: StageSettings

    def __getitem__(self, stage: str) -> StageSettings:
        settings: StageSettings = getattr(self, stage)
        return settings

    def items(self) -> Iterator[tuple[str, StageSettings]]:
        """Each stage's name and settings, in the order of the pipeline."""
        return ((field.name, self[field.name]) for field in fields(self))


@dataclass(frozen=True)
class Images:
    """Where the images are: ``<registry>/fineprune:<version>-<stage>``, or by digest instead of the tag."""

    registry: Registry | None
    digests: dict[str, Any]
    pull_policy: Literal["IfNotPresent", "Always", "Never"]
    pull_secrets: tuple[Name, ...]


@dataclass(frozen=True)
class Security:
    """The numeric user and group that the containers run as; never root."""

    user: Id
    group: Id


@dataclass(frozen=True)
class Mlflow:
    """The tracking server, as the pods reach it."""

    address: Address


@dataclass(frozen=True)
class S3:
    """The object store of data sources; ``address`` is None for AWS."""

    address: Address | None
    region: str


@dataclass(frozen=True)
class Secret:
    """A Kubernetes secret, which of its keys become which variables, and in which stages."""

    name: Name
    keys: dict[str, Any]
    stages: tuple[StageName, ...]


@dataclass(frozen=True)
class Retry:
    """How often a task is tried again; waits grow from ``wait_seconds`` by ``factor``.

    Argo reads the factor as a whole number.
    """

    limit: Annotated[int, Range(ge=0, le=10)]
    wait_seconds: Seconds
    factor: Annotated[int, Range(ge=1)]


@dataclass(frozen=True)
class Sweep:
    """Which runs the sweep makes, and how many of them at a time."""

    cases: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: tuple[Seed, ...]
    parallelism: Count


@dataclass(frozen=True)
class Settings:
    """One profile of ``settings.yaml``."""

    endpoint: Address
    experiment: str
    namespace: Name
    service_account: Name
    images: Images
    security: Security
    mlflow: Mlflow
    s3: S3
    secrets: tuple[Secret, ...]
    retry: Retry
    sweep: Sweep
    stages: StagesSettings

    def image(self, stage: str, default: str) -> str:
        """The image of a stage: ``default`` behind the registry, and by digest where one is given."""
        prefix = f"{self.images.registry}/" if self.images.registry else ""
        digest = self.images.digests.get(stage)
        return f"{prefix}{default.partition(':')[0]}@{digest}" if digest else f"{prefix}{default}"

    @property
    def tracking_uri(self) -> str:
        """The address of MLflow from here, which need not be the pods'."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.mlflow.address

    def secrets_of(self, stage: str) -> tuple[Secret, ...]:
        """The secrets that a stage gets."""
        return tuple(secret for secret in self.secrets if stage in secret.stages)


@dataclass(frozen=True)
class _File:
    default_profile: str
    common: dict[str, Any]
    profiles: dict[str, Any]


def load(profile: str | None = None, path: Path = FILE) -> Settings:
    """Read one profile.

    Args:
        profile: its name; None for the file's ``default_profile``.
        path: of the settings file.

    Raises:
        ConfigError: one line that lists everything that is wrong with the file.
    """
    file = _read(path)
    profile = profile or file.default_profile
    over = file.profiles.get(profile)
    if not isinstance(over, Mapping):
        raise ConfigError(f"{path}: no profile {profile!r}; there are {', '.join(map(str, file.profiles))}")
    try:
        settings = parse(Settings, merge(file.common, over), "settings")
    except ConfigError as error:
        # An address that is refused for its credentials must not be repeated with them.
        raise ConfigError(without_credentials(f"{path}, profile {profile}: {error}")) from None
    if problems := list(_problems(settings)):
        raise ConfigError(f"{path}, profile {profile}: {'; '.join(problems)}")
    return settings


def default_profile() -> str:
    """The profile that is meant where none is named."""
    return _read(FILE).default_profile


def cores(cpu: str) -> Decimal:
    """CPU cores of a quantity: 0.5 for ``500m``."""
    return Decimal(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)


def size(quantity: str) -> int:
    """Bytes of a quantity: 2**30 for ``1Gi``, 10**6 for ``1M``."""
    number, suffix = re.fullmatch(r"(\d+)(\D*)", quantity).groups()  # type: ignore[union-attr]  # a Quantity
    power = " KMGTPE".index(suffix[0]) if suffix else 0
    unit: int = (1024 if suffix.endswith("i") else 1000) ** power
    return int(number) * unit


def _read(path: Path) -> _File:
    return parse(_File, read_yaml(path), str(path))


def _problems(settings: Settings) -> Iterator[str]:
    """What no single key shows to be wrong."""
    for stage, asked in settings.stages.items():
        where = f"settings.stages.{stage}"
        if cores(asked.cpu.request) > cores(asked.cpu.limit):
            yield f"{where}.cpu: request {asked.cpu.request} is above limit {asked.cpu.limit}"
        if size(asked.memory.request) > size(asked.memory.limit):
            yield f"{where}.memory: request {asked.memory.request} is above limit {asked.memory.limit}"
        if asked.accelerator and stage not in BATCHED:
            yield f"{where}.accelerator: {stage} uses none, expected null"
        for index, toleration in enumerate(asked.tolerations):
            if toleration.operator == "Exists" and toleration.value is not None:
                found = f"expected null with Exists, found {toleration.value!r}"
                yield f"{where}.tolerations[{index}].value: {found}"
        yield from _not_strings(asked.node_selector, f"{where}.node_selector")
    for secret in settings.secrets:
        where = f"settings.secrets.{secret.name}"
        yield from _not_strings(secret.keys, f"{where}.keys")
        if "promote" in secret.stages and "AWS_ACCESS_KEY_ID" in secret.keys.values():
            without = "promote, whose image has no client for S3; let MLflow proxy its artifacts"
            yield f"{where}.stages: expected any but {without}"
    yield from _contradictions(settings.secrets)
    for stage, digest in settings.images.digests.items():
        where = f"settings.images.digests.{stage}"
        if stage not in {field.name for field in fields(StagesSettings)}:
            yield f"{where}: no such stage"
        if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            yield f"{where}: expected sha256: and 64 hex digits, found {digest!r}"
    for name in ("cases", "attacks", "seeds"):
        values = getattr(settings.sweep, name)
        if len({*values}) < len(values):
            yield f"settings.sweep.{name}: expected each once, found {[*values]}"
    runs = len(settings.sweep.cases) * len(settings.sweep.attacks) * len(settings.sweep.seeds)
    if runs > MAX_RUNS:
        yield f"settings.sweep: expected at most {MAX_RUNS} runs (cases × attacks × seeds), found {runs}"


def _contradictions(secrets: Sequence[Secret]) -> Iterator[str]:
    """One secret may have several entries, each with keys for other stages, but a key is of one variable."""
    first: dict[tuple[str, str], Any] = {}
    for secret in secrets:
        for key, variable in secret.keys.items():
            if (other := first.setdefault((secret.name, key), variable)) != variable:
                found = f"expected {other}, as before, found {variable}"
                yield f"settings.secrets.{secret.name}.keys.{key}: {found}"


def _not_strings(values: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, value in values.items():
        if not isinstance(key, str):
            yield f"{where}: expected a string as the key, found {key!r}"
        if not isinstance(value, str):
            yield f"{where}.{key}: expected a string, found {value!r}"
