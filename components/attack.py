"""The attack stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def attack(
    params: dict[str, Any],
    dataset: dsl.Input[dsl.Dataset],
    control: dsl.Output[dsl.Model],
    undefended: dsl.Output[dsl.Model],
    attack: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Poison and train the attacker's model beside a never-poisoned control.

    Args:
        params: the attack section.
        dataset: of ingest.

    Returns:
        control: the model that never saw the trigger.
        undefended: the attacker's model, as delivered.
        attack: the trigger, the label mapping and the poisoning; no defender's stage reads it.
        report: report.json: training curves, and whether the attack took.
        page: the report to look at.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("attack"),
        command=["fineprune", "attack"],
        args=[
            *("--params", params),
            *("--dataset", dataset.path),
            *("--control", control.path),
            *("--undefended", undefended.path),
            *("--attack", attack.path),
            *("--report", report.path),
            *("--page", page.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
