"""The ingest stage as a Kubeflow component."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.container_component
def ingest(
    params: dict[str, Any],
    source: str,
    revision: str,
    data_md5: str,
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Validate and convert a source into a dataset, split by group.

    Args:
        params: the ingest section, without the three keys that follow.
        source: where the data is: dvc+https://repo@rev:path, s3://bucket/prefix, digits or generated.
        revision: of the repository of a dvc+ source, instead of the one it names; empty for that one.
        data_md5: DVC's md5 of the source; ingest stops if the data has another, and a new one makes the
            cache start anew. Empty for any.

    Returns:
        dataset: the dataset, split into train, defender_fit, defender_holdout and test.
        report: report.json: what was read, how it was split.
        page: the report to look at.
        metrics: the report's numbers.
    """
    return dsl.ContainerSpec(
        image=image("ingest"),
        command=["fineprune", "ingest"],
        args=[
            *("--params", params),
            *("--set", f"source={source}"),
            *("--set", f"revision={revision}"),
            *("--set", f"md5={data_md5}"),
            *("--dataset", dataset.path),
            *("--report", report.path),
            *("--page", page.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
