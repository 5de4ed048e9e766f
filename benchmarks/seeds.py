"""The pipeline under several seeds, as one Markdown table.

    python benchmarks/seeds.py --seeds 0 1 2 -S case=fsdd -S cases/fsdd.yaml:ingest.source=PATH

Each seed is a ``dvc exp run`` in the workspace with ``attack.seed`` and ``finetune.seed`` set; only what has
not changed since the run before is left out: DVC keeps no run cache of outputs that persist. A cell is the
mean over the seeds, then the value of each seed. Each is judged by itself, in a registry of its own that does
not stay. The last seed's params stay in the workspace, as ``dvc exp run`` leaves them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments import run_experiment, seeds_parser
from fineprune.reporting.sweep import table
from fineprune.reporting.table import as_markdown

REPORT = Path("artifacts/evaluate/report.json")
DECISION = Path("artifacts/promote/decision.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed and print the table and the verdicts."""
    parser = seeds_parser(__doc__)
    given = parser.parse_args(arguments)
    reports, verdicts = [], []
    for seed in given.seeds:
        seeded = [f"{stage}.seed={seed}" for stage in ("attack", "finetune")]
        with TemporaryDirectory(prefix="fineprune-") as folder:
            registry = f"sqlite:///{folder}/mlflow.db"
            if code := run_experiment([*given.S, *seeded], MLFLOW_TRACKING_URI=registry):
                parser.exit(code, f"seeds: seed {seed}: dvc exp run failed, see above\n")
        reports.append(json.loads(REPORT.read_text(encoding="utf-8")))
        verdicts.append(json.loads(DECISION.read_text(encoding="utf-8"))["verdict"])
    print(as_markdown(table([report["models"] for report in reports])))
    print(f"verdicts, seeds {given.seeds}: {', '.join(verdicts)}")


if __name__ == "__main__":
    main()
