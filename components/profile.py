"""The profile stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def profile(
    params: dict[str, Any],
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    profile: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Measure each channel's activation on the defender's clean data.

    Args:
        params: the profile section.
        dataset: of ingest; only defender_fit is read.
        model: the delivered model.

    Returns:
        profile: the mean activation of each channel of the prunable layer.
        report: report.json: how the activations are spread.
        page: the report to look at.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("profile"),
        command=["fineprune", "profile"],
        args=[
            *("--params", params),
            *("--dataset", dataset.path),
            *("--model", model.path),
            *("--profile", profile.path),
            *("--report", report.path),
            *("--page", page.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
