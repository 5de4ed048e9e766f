"""What a registered version was let in on, as the runs of its pipeline keep it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.errors import TrackingError
from fineprune.files import as_mapping
from fineprune.lineage import REPORT
from fineprune.tracking.answers import translated
from fineprune.tracking.promotion import Version


@translated()
def evaluation_of(client: Any, version: Version) -> Mapping[str, Any]:
    """The evaluation's report that a version was judged by.

    Args:
        client: MLflow's.
        version: that carries the report's SHA-256 as its tag ``digest.evaluation``.

    Raises:
        TrackingError: it is not to be had, or is another one; a ``GoneError`` where MLflow does not answer.
    """
    digest = version.tags.get("digest.evaluation", "")
    stage = _stage_run(client, version.run_id, digest) if version.run_id else None
    if stage is None:
        raise TrackingError(f"expected a run with the evaluation of version {version.number}, found none")
    with tempfile.TemporaryDirectory(prefix="fineprune-") as folder:
        content = Path(client.download_artifacts(stage, REPORT, folder)).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        told = f"expected the one that version {version.number} names, {digest[:16]}…"
        raise TrackingError(f"{REPORT} of run {stage}: {told}, found another")
    return as_mapping(json.loads(content))


def _stage_run(client: Any, parent: str, report: str) -> str | None:
    """The id of the stage's run that keeps this report; None if there is none."""
    experiment = client.get_run(parent).info.experiment_id
    query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.report = '{report}'"
    found = client.search_runs([experiment], query, max_results=1)
    return str(found[0].info.run_id) if found else None
