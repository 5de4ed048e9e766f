"""The tabulate program as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def tabulate(
    rows: list[Any],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Collect the rows of a sweep in one table.

    Args:
        rows: one JSON object per run, as evaluate wrote it.

    Returns:
        report: report.json and the table.
        page: the table to look at.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("tabulate"),
        command=["fineprune", "tabulate"],
        args=[
            *("--params", f'{{"rows": {rows}}}'),
            *("--report", report.path),
            *("--page", page.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
