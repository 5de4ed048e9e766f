"""The evaluate stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def evaluate(
    params: dict[str, Any],
    dataset: dsl.Input[dsl.Dataset],
    attack: dsl.Input[dsl.Artifact],
    profile: dsl.Input[dsl.Artifact],
    control: dsl.Input[dsl.Model],
    undefended: dsl.Input[dsl.Model],
    pruned: dsl.Input[dsl.Model],
    fine_tuned: dsl.Input[dsl.Model],
    fine_pruned: dsl.Input[dsl.Model],
    control_pruned: dsl.Input[dsl.Model],
    control_fine_pruned: dsl.Input[dsl.Model],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    row: dsl.OutputPath(str),  # type: ignore[valid-type]  # kfp's own spelling of an output parameter
) -> dsl.ContainerSpec:
    """Measure clean accuracy, backdoor success and utility of every model of the run.

    Args:
        params: the evaluate section.
        dataset: of ingest.
        attack: of attack: the trigger and the labels that the attacker wants.
        profile: of the undefended model.
        control: the model that never saw the trigger.
        undefended: the attacker's model, as delivered.
        pruned: the undefended model, pruned.
        fine_tuned: the undefended model, fine-tuned.
        fine_pruned: the undefended model, pruned and fine-tuned.
        control_pruned: the control, pruned.
        control_fine_pruned: the control, pruned and fine-tuned.

    Returns:
        report: report.json, report.html, metrics.json and table.txt.
        page: the report to look at.
        metrics: the figures of every model.
        confusion_matrix: of the fine-pruned model on triggered inputs.
        row: the figures as one JSON object, a row of a sweep's table.
    """
    return dsl.ContainerSpec(
        image=image("evaluate"),
        command=["fineprune", "evaluate"],
        args=[
            *("--params", params),
            *("--dataset", dataset.path),
            *("--attack", attack.path),
            *("--profile", profile.path),
            *("--control", control.path),
            *("--undefended", undefended.path),
            *("--pruned", pruned.path),
            *("--fine-tuned", fine_tuned.path),
            *("--fine-pruned", fine_pruned.path),
            *("--control-pruned", control_pruned.path),
            *("--control-fine-pruned", control_fine_pruned.path),
            *("--report", report.path),
            *("--page", page.path),
            *("--row", row),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
