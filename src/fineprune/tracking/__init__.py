"""MLflow: the runs of a pipeline, its registered models, and who is champion. Nothing else imports it."""

from fineprune.errors import missing_extra
from fineprune.tracking import settings  # noqa: F401 - switches the telemetry off, before MLflow is imported

# isort: split

try:
    import mlflow  # noqa: F401
except ImportError as error:
    raise missing_extra("the registry needs", "mlflow", "tracking") from error
