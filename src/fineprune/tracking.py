"""MLflow: the runs of a pipeline, its registered models, and who is champion. The only file that imports it.

The registry's aliases are last-writer-wins: of two promoters that both saw an old champion, the worse
may write last. :meth:`Tracker.promotion` therefore holds a lock from reading the champion to moving the
alias. The lock is the one thing that MLflow makes atomically on every backend: a registered model's name.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fineprune.errors import TrackingError

# MLflow reads this while it is imported, and would send usage statistics abroad.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.pytorch
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

CHAMPION, CANDIDATE = "champion", "candidate"
# A version that carries the same values of these tags is the same version: it is reused, not made again.
IDENTITY = ("digest.model", "digest.evaluation")
_KEY = "fineprune.key"
_PARAM_LENGTH, _TAG_LENGTH = 6000, 5000  # 5000 is what older MLflow servers take for a version's tag
_PARAMS_PER_BATCH, _METRICS_PER_BATCH = 100, 800
_EXISTS = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


@dataclass(frozen=True)
class StageRecord:
    """What one stage left behind, as its nested run shows it.

    Attributes:
        name: the stage.
        key: tells this execution of the stage from others, for example its report's SHA-256.
        params, metrics, tags: by name.
        series: ``{name: [(step, value), …]}``.
        files: the artifacts, by their path in the run.
    """

    name: str
    key: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A registered version: its number and its tags."""

    number: str
    tags: Mapping[str, str]


def connect(uri: str, experiment: str) -> Tracker:
    """Open a tracking store and the experiment in it, which is made if it is not there.

    A SQLite store is made too, with its artifacts in ``mlruns`` beside the database file. A server
    that is not there costs seconds, not MLflow's default of minutes; ``MLFLOW_HTTP_REQUEST_*`` win.

    Raises:
        TrackingError: the store does not answer, or the experiment is deleted.
    """
    _quieten()
    try:
        # MLflow would leave MLFLOW_TRACKING_URI set, and so decide for every later connection.
        with _environment(MLFLOW_TRACKING_URI=uri, **_patience(retries=1, seconds=8)):
            if not uri.startswith("http"):
                from mlflow.store.db import utils

                utils.MAX_RETRY_COUNT = 3  # the tenth comes after 102 s
            mlflow.set_tracking_uri(uri)
            client = mlflow.MlflowClient(uri)
            experiment_id = _open_experiment(client, uri, experiment)
    except TrackingError:
        raise
    except Exception as error:  # each database driver has exceptions of its own
        raise TrackingError(
            f"{without_credentials(uri)}: no answer from MLflow: {_brief(_root(error))}"
        ) from error
    os.environ.update(_patience(retries=2, seconds=60))
    return Tracker(client, uri, experiment_id)


def without_credentials(text: str) -> str:
    """The text with ``user:password@`` and secret query values removed from every URI in it."""
    text = re.sub(r"(?<=://)[^/\s]*@", "", text)
    return re.sub(r"(?i)([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]*", r"\1…", text)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        raise TrackingError(f"MLflow: {_brief(error)}") from error


class Tracker:
    """An open experiment. Every method raises :class:`TrackingError` when MLflow refuses or is gone."""

    def __init__(self, client: Any, uri: str, experiment_id: str) -> None:
        self._client = client
        self._uri = uri
        self._experiment = experiment_id
        self.uri = without_credentials(uri)

    def look_at(self, run_id: str) -> str:
        """The command that shows the runs, or the run's page where a server shows it already."""
        if self.uri.startswith("http"):
            return f"{self.uri.rstrip('/')}/#/experiments/{self._experiment}/runs/{run_id}"
        return f"mlflow ui --backend-store-uri {self.uri}"

    @contextlib.contextmanager
    def pipeline_run(self, *, name: str, key: str, tags: Mapping[str, str]) -> Iterator[str]:
        """The parent run of a pipeline run; gives its id.

        It is the run that ``MLFLOW_RUN_ID`` names, whose state stays its owner's; else the one that an
        earlier attempt left with the same ``key``; else a new one.
        """
        given = os.environ.get("MLFLOW_RUN_ID")
        with _translated():
            run = self._client.get_run(given) if given else self._find(f"tags.`{_KEY}` = '{key}'")
            run = run or self._client.create_run(self._experiment, tags={_KEY: key}, run_name=name)
            self._experiment = run.info.experiment_id
            self._log(run, StageRecord(name, key, tags=tags))
        run_id: str = run.info.run_id
        try:
            yield run_id
        except BaseException as error:
            if not given and not isinstance(error, TrackingError):
                with contextlib.suppress(MlflowException, OSError):
                    self._client.set_terminated(run_id, "FAILED")
            raise
        with _translated():
            if not given:
                self._client.set_terminated(run_id)

    @_translated()
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

    @_translated()
    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics and tags in the parent run."""
        record = StageRecord("pipeline", "", metrics=metrics or {}, tags=tags or {})
        self._log(self._client.get_run(run_id), record)

    @_translated()
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
            network: in evaluation mode on the CPU; raw inputs (B, *shape) to float32 logits (B, classes).
            example: (B, *shape) raw inputs, B >= 2 (torch.export makes a batch of one static).
            run_id: the run that the model belongs to.
            tags: of the version, with those of :data:`IDENTITY`.

        Raises:
            TrackingError: the loaded model predicts something else than the network.
        """
        tags = {key: _cut(value, _TAG_LENGTH) for key, value in tags.items()}
        number = self._registered(name, tags)
        if number is not None:
            _check_export(f"models:/{name}/{number}", network, example)
            self._tag(name, number, tags)
            return number
        with _silence():
            # Made here, because MLflow would put it into the default experiment.
            model = self._client.create_logged_model(self._experiment, "model", source_run_id=run_id)
            uri = _log_model(network, example, model.model_id, run_id)
            _check_export(uri, network, example)
            return str(mlflow.register_model(uri, name, tags=tags).version)

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
        with _translated(), PromotionLock(self._client, name, **lock) as held:
            number = self._client.get_registered_model(name).aliases.get(CHAMPION)
            tags = self._client.get_model_version(name, str(number)).tags if number else {}
            champion = Version(str(number), tags) if number else None
            yield Promotion(self, name, version, champion, held)

    def _find(self, query: str) -> Run | None:
        found = self._client.search_runs([self._experiment], query, max_results=1)
        return found[0] if found else None

    def _log(self, run: Run, record: StageRecord) -> None:
        """Write params, tags, metrics and series in batches.

        The run's start is the time of every point: MLflow drops a point that it has, so that logging
        twice leaves one.
        """
        time_ms = run.info.start_time
        points = [(name, 0, value) for name, value in record.metrics.items()]
        points += [(name, step, value) for name, line in record.series.items() for step, value in line]
        metrics = [Metric(_name(name), value, time_ms, step) for name, step, value in points]
        params = [Param(_name(name), _cut(value, _PARAM_LENGTH)) for name, value in record.params.items()]
        tags = [RunTag(name, _cut(value, _TAG_LENGTH)) for name, value in record.tags.items()]
        for part in _batches(params, _PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=part)
        for part in _batches(tags, _PARAMS_PER_BATCH):
            self._client.log_batch(run.info.run_id, tags=part)
        for part in _batches(metrics, _METRICS_PER_BATCH):
            self._client.log_batch(run.info.run_id, metrics=part)

    def _registered(self, name: str, tags: Mapping[str, str]) -> str | None:
        same = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in IDENTITY)
        found = self._client.search_model_versions(f"name = '{name}' and {same}")
        return max((str(version.version) for version in found), key=int, default=None)

    def _tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        present = self._client.get_model_version(name, version).tags
        for key, value in tags.items():
            if present.get(key) != _cut(value, _TAG_LENGTH):
                self._client.set_model_version_tag(name, version, key, _cut(value, _TAG_LENGTH))


@dataclass(frozen=True)
class Promotion:
    """The moment of decision: the champion cannot change while this is open."""

    tracker: Tracker
    name: str
    version: str
    champion: Version | None
    lock: PromotionLock

    def settle(self, alias: str, tags: Mapping[str, str]) -> None:
        """Write the verdict's tags, then, as the last act, give the version the alias."""
        client = self.tracker._client
        self.tracker._tag(self.name, self.version, tags)
        self.lock.check()
        client.set_registered_model_alias(self.name, alias, self.version)
        aliases = client.get_registered_model(self.name).aliases
        if alias == CHAMPION and str(aliases.get(CANDIDATE)) == self.version:
            client.delete_registered_model_alias(self.name, CANDIDATE)


class PromotionLock:
    """A mutex between promoters of one registered model, on any backend of MLflow.

    To hold it is to have made the registered model ``<name>.promotion-lock``. One that is older than
    ``stale`` belongs to a dead promoter and is taken over. Only who makes the marker named after that
    owner may delete it, so that of two that take over none deletes the other's new lock; and an owner
    that is merely slow finds out in :meth:`check` before it writes. Clocks must agree within ``stale / 2``.

    Args:
        client: of MLflow.
        name: of the registered model.
        wait: seconds to wait for the lock; more than ``stale``, so that a dead owner cannot block.
        stale: seconds after which an owner is taken for dead; its work takes about one.
    """

    def __init__(self, client: Any, name: str, *, wait: float = 180, stale: float = 120) -> None:
        self._client = client
        self._name = f"{name}.promotion-lock"
        self._wait, self._stale = wait, stale
        self._owner = f"{socket.gethostname()} pid {os.getpid()} {uuid.uuid4().hex}"
        self._since = 0.0

    def __enter__(self) -> PromotionLock:
        deadline = time.monotonic() + self._wait
        while True:
            self._since = time.monotonic()
            # A request that MLflow repeats after a lost answer finds its own first try: not made, but ours.
            if self._make(self._name) or (holder := self._holder())[0] == self._owner:
                return self
            if holder[1] > self._stale:
                self._take_over(holder[0])
            if time.monotonic() > deadline:
                text = f"held by {holder[0]} for {holder[1]:.0f} s; if that promoter is dead, delete it"
                raise TrackingError(f"registered model {self._name}: {text}")
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        # A lock that cannot be given back goes stale; the promotion itself has succeeded or failed already.
        with contextlib.suppress(MlflowException, OSError):
            if self._holder()[0] == self._owner:
                self._client.delete_registered_model(self._name)

    def check(self) -> None:
        """Raise :class:`TrackingError` if the lock may be taken over soon, or has been."""
        if time.monotonic() - self._since > self._stale / 2:
            raise TrackingError(
                f"registered model {self._name}: held for too long, nothing was promoted; run again"
            )

    def _make(self, name: str) -> bool:
        try:
            self._client.create_registered_model(name, tags={"owner": self._owner})
        except MlflowException as error:
            if error.error_code in _EXISTS:
                return False
            raise
        return True

    def _holder(self) -> tuple[str, float]:
        """The lock's owner and its age in seconds; nobody and 0 if it is free."""
        try:
            lock = self._client.get_registered_model(self._name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return "nobody", 0.0
            raise
        return lock.tags.get("owner", "unknown"), time.time() - lock.creation_timestamp / 1000

    def _take_over(self, owner: str) -> None:
        marker = f"{self._name}.{owner.split()[-1]}"
        if not self._make(marker):
            return
        try:
            if self._holder()[0] == owner:
                self._client.delete_registered_model(self._name)
        finally:
            self._client.delete_registered_model(marker)


def _open_experiment(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        with contextlib.suppress(MlflowException):  # another promoter may have made it just now
            client.create_experiment(name, artifact_location=_artifact_location(uri))
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r}: expected an active one, found a deleted one or none")
    return str(found.experiment_id)


def _artifact_location(uri: str) -> str | None:
    """``mlruns`` beside a SQLite file, not in whatever folder is current; elsewhere the server decides."""
    path = uri.removeprefix("sqlite:///")
    return (Path(path).absolute().parent / "mlruns").as_uri() if path != uri and path else None


def _log_model(network: nn.Module, example: npt.NDArray[Any], model_id: str, run_id: str) -> str:
    """Export the network and upload it; gives ``models:/<id>``."""
    with torch.no_grad():
        logits = network(torch.from_numpy(example)).numpy()
    # mlflow.pytorch.log_model would start and end the run, which is not ours where MLFLOW_RUN_ID names it.
    info = Model.log(
        artifact_path=None,
        flavor=mlflow.pytorch,
        model_id=model_id,
        run_id=run_id,
        pytorch_model=network,
        serialization_format="pt2",
        signature=ModelSignature(inputs=_schema(example), outputs=_schema(logits)),
        input_example=example,
        # Given, because finding them out takes MLflow ten seconds.
        pip_requirements=[
            f"{name}=={installed(name).split('+')[0]}" for name in ("mlflow", "numpy", "torch")
        ],
    )
    return str(info.model_uri)


def _schema(array: npt.NDArray[Any]) -> Schema:
    return Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]))])


def _check_export(uri: str, network: nn.Module, example: npt.NDArray[Any]) -> None:
    """Load the registered model with pickle forbidden and compare its logits with the network's own."""
    inputs = torch.from_numpy(np.concatenate([example, example[:1]]))  # another batch size than exported
    with _environment(MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"), torch.no_grad():
        try:
            found = mlflow.pytorch.load_model(uri)(inputs)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise TrackingError(f"{uri}: the exported model does not run: {_brief(error)}") from error
        expected = network(inputs)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise TrackingError(
            f"{uri}: the exported model predicts something else than the network; no alias was moved"
        )


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables and restore them at the end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _patience(*, retries: int, seconds: int) -> dict[str, str]:
    """How long MLflow tries to reach a server, as environment variables; what the user has set stays."""
    wanted = {"MAX_RETRIES": retries, "BACKOFF_FACTOR": 1, "TIMEOUT": seconds}
    names = {f"MLFLOW_HTTP_REQUEST_{name}": str(value) for name, value in wanted.items()}
    return {name: os.environ.get(name, value) for name, value in names.items()}


def _quieten() -> None:
    """Keep MLflow's progress bars, run links and INFO lines out of the stage's own output."""
    for name, value in {
        "ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    for name in ("mlflow", "alembic", "torch.export", "urllib3.connectionpool"):
        getLogger(name).setLevel(ERROR)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Swallow what MLflow prints and warns of on success; errors are raised, not printed."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(text: str) -> str:
    """A metric's or param's name in the characters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", text)[:250]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _root(error: BaseException) -> BaseException:
    """What started it: "Connection refused" says more than MLflow's account of its retries."""
    while below := error.__cause__ or error.__context__:
        error = below
    return error


def _brief(error: BaseException) -> str:
    text = without_credentials(" ".join(str(error).split())) or type(error).__name__
    return _cut(text, 240)
