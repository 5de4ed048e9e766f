"""The runs of a pipeline in MLflow, and its registered models."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy.typing as npt
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from torch import nn

from fineprune.errors import TrackingError, shortened, without_credentials
from fineprune.lineage import StageRecord
from fineprune.tracking.answers import TAG_LENGTH, GoneError, brief, is_gone, translated
from fineprune.tracking.evidence import evaluation_of
from fineprune.tracking.export import check_export, log_network
from fineprune.tracking.lock import PromotionLock
from fineprune.tracking.promotion import CHAMPION, LockEntries, Promotion, Version, tag_version
from fineprune.tracking.settings import silence

IDENTITY = ("digest.model", "digest.evaluation")
"""A version that carries the same values of these tags is the same version: it is reused, not made again."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description, in Markdown."""
_KEY = "fineprune.key"
_OUR_NOTE = (
    "fineprune.note"  # the SHA-256 of the description that was written here, which a person may change
)
_PARAM_LENGTH = 6000  # characters; MLflow's own limit
_BATCH = {"params": 100, "tags": 100, "metrics": 800}  # as many as MLflow takes in a request
_MODEL_NOTE = """Networks cleaned of backdoors by fine-pruning.

`champion` is the version that the gate let in; `candidate` is the last one that it held, with its reasons.
"""


class Tracker:
    """An open experiment. Every method raises :class:`TrackingError` when MLflow refuses or is gone."""

    def __init__(self, client: Any, uri: str, experiment_id: str) -> None:
        self._client = client
        self._experiment = experiment_id
        self.uri = without_credentials(uri)

    def look_at(self, run_id: str) -> str:
        """The command that shows the runs, or the run's page where a server shows it already."""
        if self.uri.startswith("http"):
            return f"{self.uri.rstrip('/')}/#/experiments/{self._experiment}/runs/{run_id}"
        return f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}"

    @contextlib.contextmanager
    def pipeline_run(
        self, *, name: str, key: str, tags: Mapping[str, str], params: Mapping[str, str]
    ) -> Iterator[str]:
        """The parent run of a pipeline run; gives its id. A param that it has keeps its value.

        It is the run that ``MLFLOW_RUN_ID`` names, whose state stays its owner's; else the one that an
        earlier attempt left with the same ``key``; else a new one.
        """
        given = os.environ.get("MLFLOW_RUN_ID")
        with translated():
            run = self._client.get_run(given) if given else self._find(f"tags.`{_KEY}` = '{key}'")
            run = run or self._client.create_run(self._experiment, tags={_KEY: key}, run_name=name)
            self._experiment = run.info.experiment_id
            new = {key: value for key, value in params.items() if _name(key) not in run.data.params}
            self._log(run, StageRecord(name, key, params=new, tags=tags))
        run_id: str = run.info.run_id
        try:
            yield run_id
        except BaseException as error:
            if not given and not isinstance(error, GoneError):
                with contextlib.suppress(MlflowException, OSError):
                    self._client.set_terminated(run_id, "FAILED")
            raise
        # What is done is done, and a run that has ended keeps its duration.
        with contextlib.suppress(MlflowException, OSError):
            if not given and run.info.status != "FINISHED":
                self._client.set_terminated(run_id)

    @translated()
    def log_stage(self, parent: str, record: StageRecord) -> None:
        """Log a stage as a nested run; one that an earlier attempt finished is left as it is."""
        run = self._find(f"tags.`mlflow.parentRunId` = '{parent}' and tags.`{_KEY}` = '{record.key}'")
        if run and run.info.status == "FINISHED":
            return
        if not run:
            tags = {"mlflow.parentRunId": parent, _KEY: record.key, "fineprune.stage": record.name}
            run = self._client.create_run(self._experiment, tags=tags, run_name=record.name)
        self._log(run, record)
        for place, file in record.files.items():
            self._client.log_artifact(run.info.run_id, str(file), str(Path(place).parent).strip("."))
        self._client.set_terminated(run.info.run_id)

    @translated()
    def log(
        self, run_id: str, *, metrics: Mapping[str, float], tags: Mapping[str, str], description: str
    ) -> None:
        """Log metrics, tags and a description (Markdown) in the parent run, whose owner's own stays."""
        run, note = self._client.get_run(run_id), shortened(description, TAG_LENGTH)
        present = run.data.tags.get(NOTE)
        if present is None or run.data.tags.get(_OUR_NOTE) == _digest(present):
            tags = {**tags, NOTE: note, _OUR_NOTE: _digest(note)}
        self._log(run, StageRecord("pipeline", "", metrics=metrics, tags=tags))

    @translated()
    def register(
        self,
        name: str,
        network: nn.Module,
        example: npt.NDArray[Any],
        *,
        run_id: str,
        tags: Mapping[str, str],
    ) -> str:
        """Register a network as a ``pt2`` export, checked by loading it without pickle; gives the version.

        The version appears with all its tags, after the check. One that has the same :data:`IDENTITY`
        tags already is checked again and gets the tags; no second one is made.

        Args:
            name: of the registered model.
            network: in evaluation mode on the CPU; raw inputs (B, *shape) to float32 logits (B, classes), or
                to a detector's detections.
            example: (B, *shape) raw inputs, B >= 2 (torch.export makes a batch of one static).
            run_id: the run that the model belongs to.
            tags: of the version, with those of :data:`IDENTITY`.

        Raises:
            TrackingError: the loaded model predicts something else than the network.
        """
        tags = {key: shortened(value, TAG_LENGTH) for key, value in tags.items()}
        number = self._registered(name, tags)
        if number is not None:
            self._check_again(name, number, network, example)
            tag_version(self._client, name, number, tags)
            return number
        with silence():
            uri = self._log_checked(network, example, run_id)
            made = str(mlflow.register_model(uri, name, tags=tags).version)
        first = self._registered(name, tags) or made
        if first != made:  # another promoter of the same registered it since we looked
            self._client.delete_model_version(name, made)
        return first

    @contextlib.contextmanager
    def promotion(self, name: str, version: str, **lock: float) -> Iterator[Promotion]:
        """Hold the lock of a registered model's aliases, from reading its champion to moving the alias.

        Args:
            name: of the registered model.
            version: the challenger.
            lock: ``wait`` and ``stale`` of :class:`PromotionLock`.

        Raises:
            TrackingError: another promoter holds the lock for too long.
        """
        with translated(), PromotionLock(LockEntries(self._client), name, **lock) as held:
            if not self._client.get_registered_model(name).description:
                self._client.update_registered_model(name, _MODEL_NOTE)
            yield Promotion(self._client, name, version, self.champion(name), held)

    @translated()
    def champion(self, name: str) -> Version | None:
        """The registered model's champion at this moment; None if there is none."""
        number = self._client.get_registered_model(name).aliases.get(CHAMPION)
        found = self._client.get_model_version(name, str(number)) if number else None
        return Version(str(number), found.tags, found.run_id) if found else None

    def evaluation_of(self, version: Version) -> Mapping[str, Any]:
        """See :func:`fineprune.tracking.evidence.evaluation_of`."""
        return evaluation_of(self._client, version)

    def _find(self, query: str) -> Run | None:
        found = self._client.search_runs([self._experiment], query, max_results=1)
        return found[0] if found else None

    def _log(self, run: Run, record: StageRecord) -> None:
        """Write params, tags, metrics and series in batches.

        The run's start is the time of every point: MLflow drops a point that it has, so that logging
        twice leaves one. A metric that has changed since is of now: of the same time MLflow shows the larger.
        """
        start, now, last = run.info.start_time, int(1000 * time.time()), run.data.metrics
        points = [
            (name, 0, value, now if _name(name) in last else start)
            for name, value in record.metrics.items()
            if last.get(_name(name)) != value
        ]
        points += [(name, step, value, start) for name, line in record.series.items() for step, value in line]
        batches: dict[str, list[Any]] = {
            "params": [
                Param(_name(key), shortened(text, _PARAM_LENGTH)) for key, text in record.params.items()
            ],
            "tags": [RunTag(key, shortened(text, TAG_LENGTH)) for key, text in record.tags.items()],
            "metrics": [Metric(_name(name), value, at, step) for name, step, value, at in points],
        }
        for kind, items in batches.items():
            for start in range(0, len(items), _BATCH[kind]):
                self._client.log_batch(run.info.run_id, **{kind: items[start : start + _BATCH[kind]]})

    def _check_again(self, name: str, number: str, network: nn.Module, example: npt.NDArray[Any]) -> None:
        """Load a version that is registered already, and compare it with the network."""
        try:
            check_export(f"models:/{name}/{number}", network, example)
        except (MlflowException, OSError) as error:
            self._client.get_model_version(name, number)  # or MLflow itself does not answer
            lost = f"registered model {name} version {number}: its files cannot be read: {brief(error)}"
            raise TrackingError(f"{lost}; bring them back, or delete the version") from error

    def _log_checked(self, network: nn.Module, example: npt.NDArray[Any], run_id: str) -> str:
        """Log the network as a model of the run, load and compare it; gives its URI. A fault leaves none."""
        # Made here, because MLflow would put it into the default experiment.
        model = self._client.create_logged_model(self._experiment, "model", source_run_id=run_id)
        try:
            uri = log_network(network, example, model.model_id, run_id)
            check_export(uri, network, example)
        except Exception as error:
            if not is_gone(error):
                with contextlib.suppress(MlflowException, OSError):
                    self._client.delete_logged_model(model.model_id)
            raise
        return uri

    def _registered(self, name: str, tags: Mapping[str, str]) -> str | None:
        same = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in IDENTITY)
        found = self._client.search_model_versions(f"name = '{name}' and {same}")
        return min((str(version.version) for version in found), key=int, default=None)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _name(text: str) -> str:
    """A metric's or param's name in the characters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", text)[:250]
