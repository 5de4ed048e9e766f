"""The finetune stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def finetune(
    params: dict[str, Any],
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    tuned: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Continue training on the defender's clean data.

    Args:
        params: the finetune section.
        dataset: of ingest; only defender_fit and defender_holdout are read.
        model: the delivered or the pruned model.

    Returns:
        tuned: the fine-tuned model.
        report: report.json: training curves, and where they stopped.
        page: the report to look at.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("finetune"),
        command=["fineprune", "finetune"],
        args=[
            *("--params", params),
            *("--dataset", dataset.path),
            *("--model", model.path),
            *("--tuned", tuned.path),
            *("--report", report.path),
            *("--page", page.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
