"""A network as the registry serves it: a ``pt2`` export with its signature, checked by loading it."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from importlib.metadata import version as installed
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import mlflow.pytorch
import numpy as np
import numpy.typing as npt
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn

from fineprune.environment import environment
from fineprune.errors import TrackingError
from fineprune.models.base import Detections
from fineprune.tracking.answers import brief

# Bytes of an export besides the network's own: the graph, the example, what MLflow says of it.
_BESIDES = 2**24


def log_network(network: nn.Module, example: npt.NDArray[Any], model_id: str, run_id: str) -> str:
    """Export a network and upload it; gives ``models:/<id>``.

    Args:
        network: in evaluation mode on the CPU; raw inputs (B, *shape) to float32 logits (B, classes), or to
            :class:`Detections`.
        example: (B, *shape) raw inputs, B >= 2 (torch.export makes a batch of one static).
        model_id: of the logged model that it is the content of.
        run_id: the run that made it.

    Raises:
        TrackingError: the folder of temporary files has no room for it.
    """
    served = _Served(network).eval()
    with torch.no_grad():
        outputs = served(torch.from_numpy(example))
    with _room_for(network):
        # mlflow.pytorch.log_model would start and end the run, which MLFLOW_RUN_ID may name: not ours.
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


def check_export(uri: str, network: nn.Module, example: npt.NDArray[Any]) -> None:
    """Load a model with pickle forbidden and compare its outputs with the network's own.

    Args:
        uri: ``models:/…``.
        network: what was exported.
        example: (B, *shape) raw inputs.

    Raises:
        TrackingError: the model does not run on another batch size, or predicts something else; the folder of
            temporary files has no room for it.
    """
    inputs = torch.from_numpy(np.concatenate([example, example[:1]]))  # another batch size than exported
    with (
        _room_for(network),
        environment(MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"),
        torch.no_grad(),
        TemporaryDirectory(prefix="fineprune-") as folder,  # where MLflow downloads to, it never tidies up
    ):
        try:
            found = mlflow.pytorch.load_model(uri, dst_path=folder)(inputs)
        except (MlflowException, OSError):
            raise
        except Exception as error:  # of a damaged file MLflow's readers raise almost anything
            raise TrackingError(f"{uri}: the exported model does not run: {brief(error)}") from error
        expected = _Served(network)(inputs)
    if not _alike(found, expected):
        raise TrackingError(
            f"{uri}: the exported model predicts something else than the network; no alias was moved"
        )


@contextlib.contextmanager
def _room_for(network: nn.Module) -> Iterator[None]:
    """Name the folder of temporary files where it is full; before, because torch would end the process."""
    folder = gettempdir()
    needed = sum(value.nbytes for value in (*network.parameters(), *network.buffers())) + _BESIDES
    free = shutil.disk_usage(folder).free
    if free < needed:
        found = f"expected {needed:,} bytes free for the exported model, found {free:,}"
        raise TrackingError(f"{folder}: {found}: make room, or set TMPDIR")
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            raise OSError(error.errno, error.strerror, folder) from error
        raise


class _Served(nn.Module):
    """A network as it is registered: a detector's outputs by name, for who knows nothing of our classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> Any:
        """Logits, or ``boxes``, ``scores`` and ``classes``."""
        outputs = self.network(inputs)
        return outputs._asdict() if isinstance(outputs, Detections) else outputs


def _alike(found: Any, expected: Any) -> bool:
    """Whether two outputs are the same but for rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_alike(found[key], expected[key]) for key in expected)
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def _schema(values: Any) -> Schema:
    """Of an array or tensor (B, …), or of several by name; any batch size."""
    if isinstance(values, dict):
        return Schema([_tensor_spec(value, name) for name, value in values.items()])
    return Schema([_tensor_spec(values, None)])


def _tensor_spec(values: Any, name: str | None) -> TensorSpec:
    array = np.asarray(values)
    return TensorSpec(array.dtype, (-1, *array.shape[1:]), name)
