"""What came of a Kubeflow run, as the registry remembers it."""

from __future__ import annotations

from dataclasses import dataclass

import mlflow

from fineprune.environment import environment
from fineprune.tracking.answers import answering
from fineprune.tracking.settings import patience, quieten

KUBEFLOW_RUN = "kubeflow.run_id"
"""The tag, on a run and on a version, of the Kubeflow run that made it.

On a version, with the run's id behind it: what the run said of the version. A run with another's model and
evaluation has no version of its own.
"""


@dataclass(frozen=True)
class Outcome:
    """What the gate said of a registered version; ``verdict`` is ``promoted`` or ``held``."""

    verdict: str
    reasons: tuple[str, ...]
    name: str
    version: str


def verdict_of_run(uri: str, run_id: str) -> Outcome | None:
    """What came of a Kubeflow run; None if the registry holds no judged version that it made.

    Args:
        uri: of MLflow.
        run_id: of the Kubeflow run.

    Raises:
        TrackingError: MLflow does not answer.
    """
    quieten()
    with answering(uri), environment(MLFLOW_TRACKING_URI=uri, **patience(retries=2, seconds=30)):
        client = mlflow.MlflowClient(uri)
        found = {
            verdict: client.search_model_versions(f"tags.`{KUBEFLOW_RUN}.{run_id}` = '{verdict}'")
            for verdict in ("promoted", "held")
        }
    for verdict, versions in found.items():
        for version in versions:
            reasons = tuple(version.tags.get(f"{KUBEFLOW_RUN}.{run_id}.reasons", "").splitlines())
            return Outcome(verdict, reasons, version.name, str(version.version))
    return None
