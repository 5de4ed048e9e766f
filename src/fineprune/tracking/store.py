"""Open a tracking store: a server's, or a database that is made if it is not there."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import mlflow

from fineprune.environment import check_sendable, environment
from fineprune.errors import TrackingError
from fineprune.tracking.answers import EXISTS, answering, unless
from fineprune.tracking.settings import patience, quieten
from fineprune.tracking.tracker import NOTE, Tracker

_ANOTHER = "name another experiment (promote.experiment)"
_EXPERIMENT_NOTE = "Each run is one delivered model on its way through the pipeline; its stages are nested."


def connect(uri: str, experiment: str) -> Tracker:
    """Open a tracking store and the experiment in it, which is made if it is not there.

    A SQLite store is made too, with its artifacts in ``mlruns`` beside the database file. A server
    that is not there costs seconds, not MLflow's default of minutes; ``MLFLOW_HTTP_REQUEST_*`` win.

    Raises:
        ConfigError: ``MLFLOW_TRACKING_TOKEN`` cannot be sent.
        TrackingError: the store does not answer, is in memory or in a folder that DVC throws away, or the
            experiment is deleted, or keeps its artifacts on another machine's disk or where the database was
            before it was moved.
    """
    if re.fullmatch(r"sqlite:/*(:memory:)?", uri):
        raise TrackingError(
            f"{uri}: expected a database file behind sqlite:///, found none: nothing would stay"
        )
    path = _database_file(uri)
    workspace, thrown_away, _ = path.as_posix().partition("/.dvc/tmp/exps/") if path else ("", "", "")
    if thrown_away:
        raise TrackingError(
            f"{uri}: expected a registry that stays, found one in a folder that DVC throws away after "
            f"--temp and --queue: set MLFLOW_TRACKING_URI=sqlite:///{workspace}/{uri.removeprefix('sqlite:///')}"
        )
    check_sendable("MLFLOW_TRACKING_TOKEN")
    quieten()
    # MLflow would leave MLFLOW_TRACKING_URI set, and so decide for every later connection.
    with answering(uri), environment(MLFLOW_TRACKING_URI=uri, **patience(retries=1, seconds=8)):
        if not uri.startswith("http"):
            from mlflow.store.db import utils

            utils.MAX_RETRY_COUNT = 3  # the tenth comes after 102 s
        _make_store(uri)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        experiment_id = _open_experiment(client, uri, experiment)
    os.environ.update(patience(retries=2, seconds=60))
    return Tracker(client, uri, experiment_id)


def _make_store(uri: str) -> None:
    """Make a SQLite store that is not there yet, whole or not at all.

    MLflow fills the file in seconds, and can neither go on with one that was left half-made nor with one that
    another process is filling.
    """
    path = _database_file(uri)
    if path is None or "?" in uri or path.exists() or not path.parent.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        made = Path(folder, path.name)
        # From here, as the URI that is given: a folder's name may hold what means something else in one.
        mlflow.MlflowClient(f"sqlite:///{os.path.relpath(made)}").search_experiments()
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # another process was faster
        except OSError:  # a file system without hard links
            made.replace(path)


def _open_experiment(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        note = {NOTE: _EXPERIMENT_NOTE}
        # Another promoter may have made it just now.
        unless(EXISTS, lambda: client.create_experiment(name, _artifact_location(uri), note))
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        expected = "expected an active one, found a deleted one or none"
        raise TrackingError(f"experiment {name!r}: {expected}: restore it in MLflow, or {_ANOTHER}")
    _check_artifacts(uri, name, str(found.artifact_location))
    return str(found.experiment_id)


def _check_artifacts(uri: str, experiment: str, location: str) -> None:
    """Refuse an experiment whose artifacts would be lost.

    Of a server, those that lie in a folder that this machine does not have: MLflow would make it here, and
    neither the server nor anybody else would find the model. Of a database that was moved or copied with the
    folder beside it, those in the old place.
    """
    folder = Path(url2pathname(location.removeprefix("file://")))
    local = location.startswith(("file:", "/"))
    beside = _artifacts_beside(uri)
    if beside and local and beside.is_dir() and beside.resolve() != folder.resolve():
        expected = f"expected artifacts in {beside}, found {folder}"
        raise TrackingError(
            f"experiment {experiment!r}: {expected}: move the database back to where it was, or {_ANOTHER}"
        )
    if uri.startswith("http") and local and not (folder.is_dir() or folder.parent.is_dir()):
        raise TrackingError(
            f"experiment {experiment!r}: expected artifacts that the server keeps, found {location} of "
            f"another machine: {_ANOTHER}"
        )


def _artifact_location(uri: str) -> str | None:
    """``mlruns`` beside a SQLite file, not in whatever folder is current; elsewhere the server decides."""
    beside = _artifacts_beside(uri)
    return beside.as_uri() if beside else None


def _artifacts_beside(uri: str) -> Path | None:
    """The folder of artifacts beside a SQLite file."""
    path = _database_file(uri)
    return path.parent / "mlruns" if path else None


def _database_file(uri: str) -> Path | None:
    """The absolute path of a SQLite store; None of any other."""
    path = uri.removeprefix("sqlite:///")
    return Path(path).absolute() if path != uri and path else None
