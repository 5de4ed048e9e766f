"""MLflow: the runs of a pipeline, its registered models, and who is champion. The only file that imports it.

The registry's aliases are last-writer-wins: of two promoters that both saw an old champion, the worse
may write last. :meth:`Tracker.promotion` therefore holds a lock from reading the champion to moving the
alias. The lock is the one thing that MLflow makes atomically on every backend: a registered model's name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fineprune.environment import environment
from fineprune.errors import MissingExtraError, TrackingError, without_credentials
from fineprune.lineage import StageRecord, cut
from fineprune.lock import UNSIGNED, Holder, PromotionLock
from fineprune.mlflow_environment import patience, quieten, silence
from fineprune.models.base import Detections

# isort: split

try:
    import mlflow
    import mlflow.pytorch
    from mlflow.entities import Metric, Param, Run, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec
except ImportError as error:
    raise MissingExtraError("the registry needs mlflow: pip install 'fineprune[tracking]'") from error

CHAMPION, CANDIDATE = "champion", "candidate"
# A version that carries the same values of these tags is the same version: it is reused, not made again.
IDENTITY = ("digest.model", "digest.evaluation")
# On a run and on a version: the Kubeflow run that made it. On a version, with the run's id behind it: what
# the run said of the version. A run with another's model and evaluation has no version of its own.
KUBEFLOW_RUN = "kubeflow.run_id"
_KEY = "fineprune.key"
_PARAM_LENGTH = 6000  # characters; MLflow's own limit
_BATCH = {"params": 100, "tags": 100, "metrics": 800}  # as many as MLflow takes in a request
_EXISTS = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")
_MISSING = ("RESOURCE_DOES_NOT_EXIST",)
_NOTE = "mlflow.note.content"
_EXPERIMENT_NOTE = "Each run is one delivered model on its way through the pipeline; its stages are nested."
_MODEL_NOTE = """Networks cleaned of backdoors by fine-pruning.

`champion` is the version that the gate let in; `candidate` is the last one that it held, with its reasons.
"""


@dataclass(frozen=True)
class Version:
    """A registered version: its number and its tags."""

    number: str
    tags: Mapping[str, str]


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
    with _answering(uri), environment(MLFLOW_TRACKING_URI=uri, **patience(retries=2, seconds=30)):
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


def connect(uri: str, experiment: str) -> Tracker:
    """Open a tracking store and the experiment in it, which is made if it is not there.

    A SQLite store is made too, with its artifacts in ``mlruns`` beside the database file. A server
    that is not there costs seconds, not MLflow's default of minutes; ``MLFLOW_HTTP_REQUEST_*`` win.

    Raises:
        TrackingError: the store does not answer or is in memory, or the experiment is deleted.
    """
    if re.fullmatch(r"sqlite:/*(:memory:)?", uri):
        raise TrackingError(
            f"{uri}: expected a database file behind sqlite:///, found none: nothing would stay"
        )
    quieten()
    # MLflow would leave MLFLOW_TRACKING_URI set, and so decide for every later connection.
    with _answering(uri), environment(MLFLOW_TRACKING_URI=uri, **patience(retries=1, seconds=8)):
        if not uri.startswith("http"):
            from mlflow.store.db import utils

            utils.MAX_RETRY_COUNT = 3  # the tenth comes after 102 s
        _make_store(uri)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        experiment_id = _open_experiment(client, uri, experiment)
    os.environ.update(patience(retries=2, seconds=60))
    return Tracker(client, uri, experiment_id)


@contextlib.contextmanager
def _answering(uri: str) -> Iterator[None]:
    """One line about an MLflow that does not answer."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # each database driver has exceptions of its own
        raise TrackingError(
            f"{without_credentials(uri)}: no answer from MLflow: {_brief(_root(error))}"
        ) from error


class _MlflowError(TrackingError):
    """MLflow refused or is gone: asking it for more would be to wait a second time."""


# MLflow lets through what its clients of S3, Google's and Azure's stores raise; they need not be installed.
_STORES = frozenset({"boto3", "botocore", "google", "azure"})


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        origins = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if not (isinstance(error, (MlflowException, OSError)) or origins & _STORES):
            raise
        raise _MlflowError(f"MLflow: {_brief(error)}") from error


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
        return f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}"

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
            if not given and not isinstance(error, _MlflowError):
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
        self, run_id: str, *, metrics: Mapping[str, float], tags: Mapping[str, str], description: str
    ) -> None:
        """Log metrics, tags and a description in Markdown in the parent run."""
        record = StageRecord("pipeline", "", metrics=metrics, tags={**tags, _NOTE: description})
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
        tags = {key: cut(value) for key, value in tags.items()}
        number = self._registered(name, tags)
        if number is not None:
            _check_export(f"models:/{name}/{number}", network, example)
            self._tag(name, number, tags)
            return number
        with silence():
            # Made here, because MLflow would put it into the default experiment.
            model = self._client.create_logged_model(self._experiment, "model", source_run_id=run_id)
            uri = _log_model(network, example, model.model_id, run_id)
            _check_export(uri, network, example)
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
        with _translated(), PromotionLock(LockEntries(self._client), name, **lock) as held:
            model = self._client.get_registered_model(name)
            if not model.description:
                self._client.update_registered_model(name, _MODEL_NOTE)
            number = model.aliases.get(CHAMPION)
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
        points = [(name, 0, value) for name, value in record.metrics.items()]
        points += [(name, step, value) for name, line in record.series.items() for step, value in line]
        at = run.info.start_time
        batches: dict[str, list[Any]] = {
            "params": [Param(_name(key), cut(text, _PARAM_LENGTH)) for key, text in record.params.items()],
            "tags": [RunTag(key, cut(text)) for key, text in record.tags.items()],
            "metrics": [Metric(_name(name), value, at, step) for name, step, value in points],
        }
        for kind, items in batches.items():
            for start in range(0, len(items), _BATCH[kind]):
                self._client.log_batch(run.info.run_id, **{kind: items[start : start + _BATCH[kind]]})

    def _registered(self, name: str, tags: Mapping[str, str]) -> str | None:
        same = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in IDENTITY)
        found = self._client.search_model_versions(f"name = '{name}' and {same}")
        return min((str(version.version) for version in found), key=int, default=None)

    def _tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        present = self._client.get_model_version(name, version).tags
        for key, value in tags.items():
            if present.get(key) != (value := cut(value)):
                self._client.set_model_version_tag(name, version, key, value)


# The alias is asked for once and briefly: a request that is repeated for minutes could reach the server after
# another promoter took the lock over, and put the worse version back.
_ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@dataclass(frozen=True)
class Promotion:
    """The moment of decision: the champion cannot change while this is open."""

    tracker: Tracker
    name: str
    version: str
    champion: Version | None
    lock: PromotionLock

    def settle(self, alias: str, tags: Mapping[str, str], description: str) -> None:
        """Write the verdict's tags and description (Markdown), then, as the last act, give the alias.

        Raises:
            TrackingError: the lock was held for too long, at the beginning or before the alias. Who is
                champion is what the alias says; a tag that runs ahead of it is mended by the next run.
        """
        client = self.tracker._client
        self.lock.check()
        self.tracker._tag(self.name, self.version, tags)
        client.update_model_version(self.name, self.version, cut(description))
        self.lock.check()
        with environment(**_ONCE):
            client.set_registered_model_alias(self.name, alias, self.version)
        aliases = client.get_registered_model(self.name).aliases
        if alias == CHAMPION and str(aliases.get(CANDIDATE)) == self.version:
            client.delete_registered_model_alias(self.name, CANDIDATE)


class LockEntries:
    """The entries of a :class:`PromotionLock` as registered models: MLflow makes each name only once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def make(self, name: str, owner: str) -> bool:
        """Make an entry in one step; False if there is one of that name."""
        # MLflow looks for the entry that stands in the way, and says that there is none if it has just gone.
        refused = (*_EXISTS, *_MISSING)
        made = _unless(refused, lambda: self._client.create_registered_model(name, {"owner": owner}))
        return made is not None

    def holder(self, name: str) -> Holder | None:
        """Who made the entry, by MLflow's clock; None if there is none."""
        entry = _unless(_MISSING, lambda: self._client.get_registered_model(name))
        age = time.time() - entry.creation_timestamp / 1000 if entry else 0.0
        # One that is deleted while MLflow reads it comes without its tags, as a model that is no entry does.
        return Holder(entry.tags.get("owner", "").strip() or UNSIGNED, age) if entry else None

    def delete(self, name: str) -> None:
        """Delete the entry; nothing happens if there is none."""
        _unless(_MISSING, lambda: self._client.delete_registered_model(name))


@_translated()
def _unless(codes: Sequence[str], ask: Callable[[], Any]) -> Any:
    """MLflow's answer, or None where it refuses with one of these codes."""
    try:
        return ask()
    except MlflowException as error:
        if error.error_code in codes:
            return None
        raise


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
        mlflow.MlflowClient(f"sqlite:///{made}").search_experiments()
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # another process was faster
        except OSError:  # a file system without hard links
            made.replace(path)


def _open_experiment(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        with contextlib.suppress(MlflowException):  # another promoter may have made it just now
            client.create_experiment(name, _artifact_location(uri), {_NOTE: _EXPERIMENT_NOTE})
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r}: expected an active one, found a deleted one or none")
    return str(found.experiment_id)


def _artifact_location(uri: str) -> str | None:
    """``mlruns`` beside a SQLite file, not in whatever folder is current; elsewhere the server decides."""
    path = _database_file(uri)
    return (path.parent / "mlruns").as_uri() if path else None


def _database_file(uri: str) -> Path | None:
    """The absolute path of a SQLite store; None of any other."""
    path = uri.removeprefix("sqlite:///")
    return Path(path).absolute() if path != uri and path else None


def _log_model(network: nn.Module, example: npt.NDArray[Any], model_id: str, run_id: str) -> str:
    """Export the network and upload it; gives ``models:/<id>``."""
    served = _Served(network).eval()
    with torch.no_grad():
        outputs = served(torch.from_numpy(example))
    # mlflow.pytorch.log_model would start and end the run, which is not ours where MLFLOW_RUN_ID names it.
    info = Model.log(
        artifact_path=None,
        flavor=mlflow.pytorch,
        model_id=model_id,
        run_id=run_id,
        pytorch_model=served,
        serialization_format="pt2",
        signature=ModelSignature(inputs=_schema(example), outputs=_schema(outputs)),
        input_example=example,
        # Given, because finding them out takes MLflow ten seconds.
        pip_requirements=[
            f"{name}=={installed(name).split('+')[0]}" for name in ("mlflow", "numpy", "torch")
        ],
    )
    return str(info.model_uri)


def _alike(found: Any, expected: Any) -> bool:
    """Whether two outputs are the same but for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_alike(found[key], expected[key]) for key in expected)
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


class _Served(nn.Module):
    """A network as it is registered: a detector's outputs by name, for who knows nothing of our classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> Any:
        """Logits, or ``boxes``, ``scores`` and ``classes``."""
        outputs = self.network(inputs)
        return outputs._asdict() if isinstance(outputs, Detections) else outputs


def _schema(values: Any) -> Schema:
    """Of an array or tensor (B, …), or of several by name; any batch size."""
    if isinstance(values, dict):
        return Schema([_tensor_spec(value, name) for name, value in values.items()])
    return Schema([_tensor_spec(values, None)])


def _tensor_spec(values: Any, name: str | None) -> TensorSpec:
    array = np.asarray(values)
    return TensorSpec(array.dtype, (-1, *array.shape[1:]), name)


def _check_export(uri: str, network: nn.Module, example: npt.NDArray[Any]) -> None:
    """Load the registered model with pickle forbidden and compare its outputs with the network's own."""
    inputs = torch.from_numpy(np.concatenate([example, example[:1]]))  # another batch size than exported
    with environment(MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"), torch.no_grad():
        try:
            found = mlflow.pytorch.load_model(uri)(inputs)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise TrackingError(f"{uri}: the exported model does not run: {_brief(error)}") from error
        expected = _Served(network)(inputs)
    if not _alike(found, expected):
        raise TrackingError(
            f"{uri}: the exported model predicts something else than the network; no alias was moved"
        )


def _name(text: str) -> str:
    """A metric's or param's name in the characters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", text)[:250]


def _root(error: BaseException) -> BaseException:
    """What started it: "Connection refused" says more than MLflow's account of its retries."""
    while below := error.__cause__ or error.__context__:
        error = below
    return error


def _brief(error: BaseException) -> str:
    return cut(without_credentials(" ".join(str(error).split())) or type(error).__name__, 240)
