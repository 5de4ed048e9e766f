"""The evaluation that a registered version was judged by, read back from the runs of its pipeline."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineprune.digests import sha256
from fineprune.errors import TrackingError
from fineprune.files import as_mapping, read_json
from fineprune.lineage import REPORT
from fineprune.tracking.answers import MISSING, translated, unless
from fineprune.tracking.promotion import Version


class LostEvidenceError(TrackingError):
    """MLflow answers, and does not have what the version was judged by."""


@translated()
def evaluation_of(client: Any, version: Version) -> Mapping[str, Any]:
    """The evaluation's report that a version was judged by.

    Args:
        client: MLflow's.
        version: that carries the report's SHA-256 as its tag ``digest.evaluation``.

    Raises:
        LostEvidenceError: it is not there any more, or another one is in its place.
        TrackingError: MLflow or the store of its artifacts does not deliver.
    """
    digest, name = version.tags.get("digest.evaluation", ""), f"version {version.number}"
    run = _run_with(client, version, digest)
    if run is None:
        raise LostEvidenceError(f"expected a run with the evaluation of {name}, found none")
    if REPORT not in {file.path for file in client.list_artifacts(run)}:
        raise LostEvidenceError(f"expected the evaluation of {name} in run {run}, found no {REPORT}")
    with tempfile.TemporaryDirectory(prefix="fineprune-") as folder:
        file = Path(client.download_artifacts(run, REPORT, folder))
        if sha256(file) != digest:
            raise LostEvidenceError(f"expected the evaluation of {name} in run {run}, found another")
        return as_mapping(read_json(file))


def _run_with(client: Any, version: Version, report: str) -> str | None:
    """The id of a run that keeps this report; None if there is none.

    It lies beside the run that made the version, and under another one where the pipeline ran again since.
    """
    made = unless(MISSING, lambda: client.get_run(version.run_id)) if version.run_id else None
    if made is None or not re.fullmatch(r"[0-9a-f]{64}", report):
        return None
    whole = f"tags.report = '{report}' and attributes.status = 'FINISHED'"  # the tag comes before the files
    found = client.search_runs([made.info.experiment_id], whole, max_results=1)
    return str(found[0].info.run_id) if found else None
