"""What MLflow refuses, and that it does not answer, as errors of one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlflow.exceptions import MlflowException

from fineprune.errors import TrackingError, one_line, root_cause, shortened, without_credentials

TAG_LENGTH = 5000  # characters; what older MLflow servers take for a version's tag or description
# MLflow's codes for what is there already and for what is not.
EXISTS = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")
MISSING = ("RESOURCE_DOES_NOT_EXIST",)
# Its codes, or those that its client puts in their place, where no server or database is reached.
_SILENT = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
# MLflow lets through what its clients of S3, Google's and Azure's stores raise; they need not be installed.
_STORES = frozenset({"boto3", "botocore", "google", "azure"})


class GoneError(TrackingError):
    """MLflow does not answer: another request would only be waited for again."""


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Whatever is raised becomes a :class:`TrackingError`: this MLflow does not answer, and why."""
    if re.match(r"[^/]+:\d+(/|$)", uri):  # MLflow would take the host for a scheme, or for a folder
        told = without_credentials(f"http://{uri}")
        raise TrackingError(f"MLflow: expected an address such as {told}, found one without http://")
    if uri.startswith("file:") or not re.match(r"[a-z][\w+.-]*:/|databricks|uc", uri):  # no lock holds there
        told = without_credentials(uri)
        raise TrackingError(f"MLflow: expected http://HOST:PORT or sqlite:///FILE, found the folder {told}")
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # each database driver has exceptions of its own
        raise TrackingError(
            f"{without_credentials(uri)}: no answer from MLflow: {shortened(root_cause(error), 240)}"
        ) from error


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What MLflow, or the store of its artifacts, refuses becomes a :class:`TrackingError`, and a
    :class:`GoneError` where MLflow does not answer.
    """
    try:
        yield
    except Exception as error:
        origins = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if not (isinstance(error, (MlflowException, OSError)) or origins & _STORES):
            raise
        raise (GoneError if is_gone(error) else TrackingError)(f"MLflow: {brief(error)}") from error


def is_gone(error: Exception) -> bool:
    """Whether it says that MLflow does not answer."""
    if isinstance(error, MlflowException):
        # A refusal that MLflow has no code for, such as 413, is called an internal error too.
        return error.error_code in _SILENT and not re.search(r"error code 4\d\d", str(error))
    return isinstance(error, (ConnectionError, TimeoutError))


@translated()
def unless(codes: Sequence[str], ask: Callable[[], Any]) -> Any:
    """MLflow's answer, or None where it refuses with one of these codes."""
    try:
        return ask()
    except MlflowException as error:
        if error.error_code in codes:
            return None
        raise


def brief(error: BaseException) -> str:
    """What an error says in one line, at most 240 characters, without credentials."""
    return shortened(one_line(error), 240)
