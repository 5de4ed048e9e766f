"""What a check is, what it is asked about, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.cluster import Cluster
from pipeline.package import Package
from pipeline.settings import Settings


@dataclass(frozen=True)
class Line:
    """What a check found, and, where it failed or a run may go on with something unwanted, what to do."""

    state: Literal["pass", "fail", "note", "skip"]
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Site:
    """What is checked: a cluster against the settings, for a pipeline and data from a source.

    Attributes:
        autoscaled: whether nodes are added when a pod needs them, so that one that lacks now is no fault.
    """

    cluster: Cluster
    settings: Settings
    package: Package
    namespace: str
    endpoint: str
    source: str
    autoscaled: bool = False


@dataclass(frozen=True)
class Check:
    """A check by its name.

    Attributes:
        name: how it is shown.
        ask: gives its lines.
        needs_namespace: whether it looks inside the namespace, and is pointless without it.
        needs_administrator: whether it asks what a user of the namespace alone may not.
    """

    name: str
    ask: Callable[[Site], Iterator[Line]]
    needs_namespace: bool = False
    needs_administrator: bool = False
