"""The promote stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def promote(
    params: dict[str, Any],
    registered_name: str,
    min_utility: float,
    max_clean_loss: float,
    run_id: str,
    dataset: dsl.Input[dsl.Dataset],
    fine_tuned: dsl.Input[dsl.Model],
    fine_pruned: dsl.Input[dsl.Model],
    ingest_report: dsl.Input[dsl.Artifact],
    attack_report: dsl.Input[dsl.Artifact],
    profile_report: dsl.Input[dsl.Artifact],
    prune_report: dsl.Input[dsl.Artifact],
    control_profile_report: dsl.Input[dsl.Artifact],
    control_prune_report: dsl.Input[dsl.Artifact],
    fine_tuned_report: dsl.Input[dsl.Artifact],
    fine_pruned_report: dsl.Input[dsl.Artifact],
    control_fine_pruned_report: dsl.Input[dsl.Artifact],
    evaluation: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Decide, register the model with its evidence, move the alias on a pass.

    A held verdict is a result, not a failure: the task succeeds, and the verdict says why.

    Args:
        params: the promote section, without the three keys that follow.
        registered_name: of the model in the MLflow registry.
        min_utility: that the lower end of utility must reach.
        max_clean_loss: that the upper end of the loss of clean accuracy may not exceed.
        run_id: of the Kubeflow run, tagged on the MLflow run and the version.
        dataset: of ingest.
        fine_tuned: the undefended model, fine-tuned.
        fine_pruned: the undefended model, pruned and fine-tuned.
        ingest_report: of ingest.
        attack_report: of attack.
        profile_report: of the undefended model's profile.
        prune_report: of pruning the undefended model.
        control_profile_report: of the control's profile.
        control_prune_report: of pruning the control.
        fine_tuned_report: of fine-tuning the undefended model.
        fine_pruned_report: of fine-tuning the pruned model.
        control_fine_pruned_report: of fine-tuning the pruned control.
        evaluation: the report of evaluate.

    Returns:
        report: decision.json: promoted or held, the reasons, the registered version.
        verdict: the decision to read.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("promote"),
        command=["fineprune", "promote"],
        args=[
            *("--params", params),
            *("--set", f"registered_name={registered_name}"),
            *("--set", f"min_utility={min_utility}"),
            *("--set", f"max_clean_loss={max_clean_loss}"),
            *("--run-id", run_id),
            *("--dataset", dataset.path),
            *("--fine-tuned", fine_tuned.path),
            *("--fine-pruned", fine_pruned.path),
            *("--ingest-report", ingest_report.path),
            *("--attack-report", attack_report.path),
            *("--profile-report", profile_report.path),
            *("--prune-report", prune_report.path),
            *("--control-profile-report", control_profile_report.path),
            *("--control-prune-report", control_prune_report.path),
            *("--fine-tuned-report", fine_tuned_report.path),
            *("--fine-pruned-report", fine_pruned_report.path),
            *("--control-fine-pruned-report", control_fine_pruned_report.path),
            *("--evaluation", evaluation.path),
            *("--report", report.path),
            *("--verdict", verdict.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
