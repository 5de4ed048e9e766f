"""Which nodes could take a stage, and what keeps it from the nearest."""

from dataclasses import replace
from decimal import Decimal

import pytest

from pipeline import settings
from pipeline.cluster import Node, Taint
from pipeline.placement import NoRoomError, alike, place
from pipeline.settings import Accelerator, Toleration

ASKED = settings.load("cpu").stages["prune"]  # 2 CPU, 8Gi
GIB = 2**30
TAKEN = Taint("team", None, "NoSchedule")


def node(name: str, *taints: Taint, cpu: str = "2", memory: int = 8 * GIB, ready: bool = True) -> Node:
    return Node(name, {}, taints, {"cpu": Decimal(cpu), "memory": Decimal(memory)}, ready)


def test_the_first_node_that_fits_is_named_and_the_others_counted() -> None:
    nodes = [node("small", cpu="1"), node("one")]
    assert place(ASKED, nodes) == "2 CPU, 8Gi on one"
    assert place(ASKED, [*nodes, node("two"), node("three")]) == "2 CPU, 8Gi on one and 2 more"


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([], ", because there is none"),
        ([node("far", TAKEN, ready=False), node("near", cpu="1.5")], ": near offers 1.5 CPU"),
        # What is offered must not look like enough.
        ([node("a", memory=8 * GIB - 1)], ": a offers 7.9Gi"),
        ([Node("a", {}, (), {"cpu": Decimal(2)}, True)], ": a offers 0Gi"),
        (
            [node("a", TAKEN, cpu="1")],
            ": a has the taint team:NoSchedule, which is not tolerated and offers 1 CPU",
        ),
    ],
)
def test_what_keeps_a_stage_from_the_nearest_node_is_told(nodes: list[Node], found: str) -> None:
    with pytest.raises(NoRoomError) as error:
        place(ASKED, nodes)
    assert str(error.value) == f"no node takes 2 CPU, 8Gi{found}"


def test_nodes_without_any_device_are_told_as_such() -> None:
    asked = replace(ASKED, accelerator=Accelerator("nvidia.com/gpu", 1))
    with pytest.raises(NoRoomError, match=r"^no node offers nvidia\.com/gpu; nodes offer no devices$"):
        place(asked, [node("a")])


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": replace(ASKED.cpu, request="1")},
        {"memory": replace(ASKED.memory, request="1Gi")},
        {"accelerator": Accelerator("nvidia.com/gpu", 1)},
        {"node_selector": {"disk": "ssd"}},
        {"tolerations": (Toleration("team", "Exists", None, None),)},
    ],
)
def test_stages_are_alike_that_ask_the_same_of_a_node(change: dict[str, object]) -> None:
    loaded = settings.load("cpu")
    other = replace(ASKED, scratch="1Gi", timeout_seconds=1)  # which no node is chosen by
    same = replace(loaded.stages, finetune=other)
    heavy = ["attack", "profile", "prune", "finetune", "evaluate"]
    light = ["ingest", "promote", "tabulate"]
    assert [names for _, names in alike(replace(loaded, stages=same))] == [light, heavy]
    changed = replace(loaded.stages, finetune=replace(ASKED, **change))
    apart = [names for _, names in alike(replace(loaded, stages=changed))]
    assert apart == [light, [name for name in heavy if name != "finetune"], ["finetune"]]
