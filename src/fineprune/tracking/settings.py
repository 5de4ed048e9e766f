"""How MLflow behaves inside a stage: no telemetry, little output, seconds instead of minutes of patience.

All of it is environment variables and loggers. Importing this module switches the telemetry off, which must
happen before MLflow is imported.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from logging import CRITICAL, ERROR, getLogger

# MLflow reads this while it is imported, and would send usage statistics abroad.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def patience(*, retries: int, seconds: int) -> dict[str, str]:
    """How long MLflow tries to reach a server, as environment variables; what the user has set stays."""
    wanted = {"MAX_RETRIES": retries, "BACKOFF_FACTOR": 1, "TIMEOUT": seconds}
    names = {f"MLFLOW_HTTP_REQUEST_{name}": str(value) for name, value in wanted.items()}
    return {name: os.environ.get(name, value) for name, value in names.items()}


def quieten() -> None:
    """Keep MLflow's progress bars, run links and INFO lines out of the stage's own output."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "torch.export", "urllib3.connectionpool"):
        getLogger(name).setLevel(ERROR)
    getLogger("mlflow").setLevel(CRITICAL)  # it logs a database's error with a traceback, and raises it too


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Swallow what MLflow prints and warns of on success; errors are raised, not printed."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
