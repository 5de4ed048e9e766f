"""Whether the stages fit: on a node, and into what is left of a quota."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal

from fineprune.errors import FinePruneError
from pipeline.cluster import Node, Quota
from pipeline.settings import Settings, StageSettings, cores, size


class NoRoomError(FinePruneError):
    """No node takes a stage."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


def alike(settings: Settings) -> list[tuple[StageSettings, list[str]]]:
    """What is asked of a node, each with the stages that ask the same."""
    groups: list[tuple[StageSettings, list[str]]] = []
    for stage, asked in settings.stages.items():
        same = next((names for other, names in groups if _asks(other) == _asks(asked)), None)
        if same is None:
            groups.append((asked, [stage]))
        else:
            same.append(stage)
    return groups


def place(asked: StageSettings, offered: Sequence[Node]) -> str:
    """What is asked, and the nodes that could take it if they were empty.

    Raises:
        NoRoomError: there is none; says what keeps it from the nearest.
    """
    needed = _needed(asked)
    wanted = ", ".join(_shown(name, amount) for name, amount in needed.items())
    candidates = _with_device(asked.accelerator.type, offered) if asked.accelerator else offered
    obstacles = {node.name: list(_obstacles(asked, needed, node)) for node in candidates}
    fitting = [name for name, found in obstacles.items() if not found]
    if not fitting:
        nearest = min(obstacles, key=lambda name: len(obstacles[name]), default=None)
        why = f": {nearest} {' and '.join(obstacles[nearest])}" if nearest else ", because there is none"
        raise NoRoomError(
            f"no node takes {wanted}{why}", "correct the stages in pipeline/settings.yaml, or add such a node"
        )
    more = f" and {len(fitting) - 1} more" if len(fitting) > 1 else ""
    return f"{wanted} on {fitting[0]}{more}"


def shortage(quota: Quota, settings: Settings, groups: Iterable[Sequence[str]]) -> list[str]:
    """Which resources of a quota are not enough for the group of tasks that asks the most together.

    Args:
        quota: of the namespace.
        settings: of the stages.
        groups: tasks of the graph that run at the same time; one each for what every task needs alone.
    """
    most = _most(settings, groups)
    return [
        f"{name}: {_shown(name, left)} left, {' + '.join(most[name][1])} "
        f"{'need' if most[name][1][1:] else 'needs'} {_shown(name, most[name][0])}"
        for name, left in quota.left.items()
        if name in most and left < most[name][0]
    ]


def _asks(asked: StageSettings) -> tuple[object, ...]:
    return asked.cpu.request, asked.memory.request, asked.accelerator, asked.node_selector, asked.tolerations


def _needed(asked: StageSettings) -> dict[str, Decimal]:
    needed = {"cpu": cores(asked.cpu.request), "memory": Decimal(size(asked.memory.request))}
    if asked.accelerator:
        needed[asked.accelerator.type] = Decimal(asked.accelerator.limit)
    return needed


def _with_device(device: str, offered: Sequence[Node]) -> list[Node]:
    found = [node for node in offered if node.offers.get(device)]
    if not found:
        there = sorted({name for node in offered for name in node.offers if "/" in name})
        raise NoRoomError(
            f"no node offers {device}; nodes offer {', '.join(there) or 'no devices'}",
            "install its device plugin, correct accelerator in pipeline/settings.yaml, or --profile cpu; "
            "where one is added when it is needed, --autoscaled",
        )
    return found


def _obstacles(asked: StageSettings, needed: Mapping[str, Decimal], node: Node) -> Iterator[str]:
    """Why a pod that asks for this cannot be placed on the node."""
    if not node.ready:
        yield "takes no pods"
    for key, value in asked.node_selector.items():
        if node.labels.get(key) != value:
            yield f"has no label {key}={value}"
    for taint in node.taints:
        if taint.effect != "PreferNoSchedule" and not any(taint.tolerated(by) for by in asked.tolerations):
            yield f"has the taint {taint}, which is not tolerated"
    for name, amount in needed.items():
        if node.offers.get(name, Decimal(0)) < amount:
            yield f"offers {_shown(name, node.offers.get(name, Decimal(0)))}"


def _most(settings: Settings, groups: Iterable[Sequence[str]]) -> dict[str, tuple[Decimal, Sequence[str]]]:
    """The most that a group asks of each resource that a quota can limit, and which group."""
    asked = {stage: _limited(wanted) for stage, wanted in settings.stages.items()}
    most: dict[str, tuple[Decimal, Sequence[str]]] = {}
    for group in groups:
        stages = [re.sub(r"-\d+$", "", task) for task in group]  # kfp numbers the tasks of one stage
        for name in {name for stage in stages for name in asked[stage]}:
            asking = [stage for stage in stages if name in asked[stage]]
            amount = sum((asked[stage][name] for stage in asking), Decimal(0))
            if name not in most or most[name][0] < amount:
                most[name] = amount, asking
    # A quota may leave out the word.
    return most | {name: most[f"requests.{name}"] for name in ("cpu", "memory")}


def _limited(asked: StageSettings) -> dict[str, Decimal]:
    """What a pod takes of a quota, by the quota's names."""
    return {f"requests.{name}": amount for name, amount in _needed(asked).items()} | {
        "pods": Decimal(1),
        "limits.cpu": cores(asked.cpu.limit),
        "limits.memory": Decimal(size(asked.memory.limit)),
    }


def _shown(name: str, amount: Decimal) -> str:
    """An amount as people say it: ``2 CPU``, ``16Gi``, ``1 nvidia.com/gpu``."""
    if name.endswith("memory"):  # rounded down: what is offered must not look like enough
        return f"{(amount / 2**30).quantize(Decimal('0.1'), ROUND_DOWN).normalize():f}Gi"
    number = f"{amount.normalize():f}"
    return f"{number} CPU" if name.endswith("cpu") else f"{number} {name.removeprefix('requests.')}"
