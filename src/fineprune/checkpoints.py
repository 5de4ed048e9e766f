"""How far trainings are, on disk: an attempt after one that was killed goes on from there.

A checkpoint is one safetensors file with the weights, the state of the optimizer and of the random numbers,
and a JSON text. What is trained after it is bit for bit what would have been, where the device computes the
same twice. It is found by what the training depends on, so that no other takes it for its own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fineprune.files import remove, sync

_SECONDS = 60.0  # between two checkpoints, at least
_SHARE = 0.02  # of the time that may go into writing them
_NAME = re.compile(r"training-[0-9a-f]{64}\.safetensors")
_ASIDE = ".unfinished"  # a folder: safetensors leaves a file of its own behind where it is killed
_WEIGHTS, _OPTIMIZER, _RANDOM = "network.", "optimizer.", "random."


class Checkpoints:
    """A folder for the checkpoints of one stage's trainings, made when the first is written.

    ``seconds_before`` is how long interrupted attempts had worked on the trainings that went on from here.

    Args:
        folder: where they lie, of this stage alone.
        about: what all the trainings depend on: the data and the stage's config, say.
        seconds: between two checkpoints of one training, at least.
    """

    def __init__(self, folder: Path, about: str, seconds: float = _SECONDS) -> None:
        self._folder, self._about, self._seconds = folder, about, seconds
        self._due = time.monotonic() + seconds
        self.seconds_before = 0.0

    def of(self, network: nn.Module, about: str) -> Checkpoint:
        """The checkpoint of the training that begins with these weights.

        Args:
            network: as it is before training.
            about: what else this training depends on: recipe and seed.
        """
        device = next(network.parameters()).device.type
        key = hashlib.sha256(json.dumps([torch.__version__, device, self._about, about]).encode())
        for name, value in network.state_dict().items():
            key.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            key.update(value.detach().cpu().contiguous().numpy().data)
        return Checkpoint(self, self._folder / f"training-{key.hexdigest()}.safetensors")

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if nothing else is in it."""
        with contextlib.suppress(OSError):  # no reason to lose what is done
            for path in self._folder.iterdir():
                if path.name == _ASIDE or _NAME.fullmatch(path.name):
                    remove(path)
            self._folder.rmdir()

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._due

    def wrote(self, seconds: float) -> None:
        """One was written, which took so long."""
        self._due = time.monotonic() + max(self._seconds, seconds / _SHARE)


class Checkpoint:
    """How far one training is."""

    def __init__(self, all_of_them: Checkpoints, path: Path) -> None:
        self._all, self._path = all_of_them, path
        self._began, self._before = time.monotonic(), 0.0

    @functools.cached_property
    def notes(self) -> list[Any]:
        """What :meth:`save` noted last; nothing where there is no checkpoint that can be used."""
        return self._told_and_tensors[0]["notes"]  # type: ignore[no-any-return]

    def restore(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        generators: Mapping[str, torch.Generator],
    ) -> None:
        """Put everything back as it was; nothing happens where there is no checkpoint.

        Of a training that is over there is no state of the optimizer.

        Args:
            network: the one that the checkpoint was asked for.
            optimizer: of its parameters, before its first step.
            generators: by the same names.
        """
        told, found = self._told_and_tensors
        del self._told_and_tensors  # three times the size of the network
        if not found:
            return
        self._before = told["seconds"]
        self._all.seconds_before += self._before
        network.load_state_dict(_below(_WEIGHTS, found))
        _load_optimizer(optimizer, _below(_OPTIMIZER, found))
        states = _below(_RANDOM, found)
        for name, generator in generators.items():
            generator.set_state(states[name])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"])

    def save(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        generators: Mapping[str, torch.Generator],
        notes: list[Any],
        *,
        over: bool,
    ) -> None:
        """Write how far the training is, if it is over or it is time to; it goes on if that fails.

        Args:
            network: in training.
            optimizer: of its parameters.
            generators: of random numbers, by name, besides torch's own.
            notes: what JSON can hold.
            over: whether this was the last epoch.
        """
        if not (over or self._all.due()):
            return
        began = time.monotonic()
        states = {name: generator.get_state() for name, generator in generators.items()}
        states["cpu"] = torch.get_rng_state()
        if next(network.parameters()).is_cuda:
            states["cuda"] = torch.cuda.get_rng_state()
        parts = {
            _WEIGHTS: network.state_dict(),
            _OPTIMIZER: {} if over else _optimizer_state(optimizer),
            _RANDOM: states,
        }
        tensors = {
            f"{prefix}{name}": value.detach().cpu().contiguous()
            for prefix, part in parts.items()
            for name, value in part.items()
        }
        seconds = self._before + began - self._began
        told = {"notes": notes, "seconds": seconds, "sha256": _sha256(tensors)}
        aside = self._path.parent / _ASIDE
        try:
            aside.mkdir(parents=True, exist_ok=True)
            save_file(tensors, aside / self._path.name, {"told": json.dumps(told)})
            sync(aside)
            os.replace(aside / self._path.name, self._path)
        except (OSError, SafetensorError) as error:
            print(f"{self._path}: no checkpoint written: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):
            remove(aside)
        self._all.wrote(time.monotonic() - began)

    @functools.cached_property
    def _told_and_tensors(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        nothing: dict[str, Any] = {"notes": [], "seconds": 0.0}
        if not self._path.exists():
            return nothing, {}
        try:
            with safe_open(self._path, framework="pt") as file:
                told = json.loads(file.metadata()["told"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if (found := _sha256(tensors)) != told["sha256"]:
                raise ValueError(f"expected digest {told['sha256'][:16]}…, found {found[:16]}…")
            return told, tensors
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            print(f"{self._path}: not usable, training begins anew: {error}", file=sys.stderr)
            return nothing, {}


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """By ``<number of the parameter>.<name>``."""
    return {
        f"{number}.{name}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, values: Mapping[str, Tensor]) -> None:
    """In the layout of the parameters: a fused step goes through all of them as they lie in memory."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in values.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
        optimizer.state[parameter][name] = like.to(parameter.device, value.dtype).copy_(value)


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names and values; safetensors itself checks only how long they are."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _below(prefix: str, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
