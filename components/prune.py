"""The prune stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def prune(
    params: dict[str, Any],
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    profile: dsl.Input[dsl.Artifact],
    pruned: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Remove the least active channels while clean accuracy holds.

    Args:
        params: the prune section.
        dataset: of ingest; only defender_fit is read.
        model: the delivered model.
        profile: of that model.

    Returns:
        pruned: the model without those channels.
        report: report.json: the pruning curve, and where it stopped.
        page: the report to look at.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("prune"),
        command=["fineprune", "prune"],
        args=[
            *("--params", params),
            *("--dataset", dataset.path),
            *("--model", model.path),
            *("--profile", profile.path),
            *("--pruned", pruned.path),
            *("--report", report.path),
            *("--page", page.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
