"""A compiled pipeline package: what parameters it takes, and which stages it has."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fineprune.errors import ConfigError


@dataclass(frozen=True)
class Parameter:
    """A parameter of the pipeline.

    Attributes:
        kind: ``STRING``, ``NUMBER_INTEGER``, ``NUMBER_DOUBLE``, ``BOOLEAN``, ``LIST`` or ``STRUCT``.
        default: what it is without an argument; None where a run must give one.
    """

    kind: str
    default: Any


@dataclass(frozen=True)
class Package:
    """A file that ``python -m pipeline compile`` wrote."""

    path: Path

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The pipeline's parameters by name."""
        given = self._root.get("inputDefinitions", {}).get("parameters", {})
        return {
            name: Parameter(kind=spec["parameterType"], default=spec.get("defaultValue"))
            for name, spec in given.items()
        }

    @functools.cached_property
    def stages(self) -> dict[str, str]:
        """How each task of the graph is shown to people, by its name; each after those that it needs."""
        tasks = self._root["dag"]["tasks"]
        names: list[str] = []
        while len(names) < len(tasks):
            ready = [name for name in tasks if name not in names and names_needed(tasks[name]) <= {*names}]
            if not ready:
                raise ConfigError(f"{self.path}: expected a graph without circles, found one")
            names += ready
        return {name: _title(name, tasks[name]) for name in names}

    @functools.cached_property
    def titles(self) -> dict[str, str]:
        """How each task is shown to people, those inside a loop too."""
        inner = [part["dag"]["tasks"] for part in self._spec["components"].values() if "dag" in part]
        return {name: _title(name, task) for tasks in inner for name, task in tasks.items()} | self.stages

    @property
    def _root(self) -> Mapping[str, Any]:
        root: Mapping[str, Any] = self._spec["root"]
        return root

    @functools.cached_property
    def _spec(self) -> Mapping[str, Any]:
        try:
            documents = list(yaml.safe_load_all(self.path.read_text(encoding="utf-8")))
            spec: Mapping[str, Any] = documents[0]
            spec["root"]["dag"]["tasks"].keys()
            spec["components"].keys()
        except OSError as error:
            hint = "python -m pipeline compile writes it"
            raise ConfigError(f"{self.path}: cannot read the package: {error.strerror} ({hint})") from error
        except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.path}: expected a compiled pipeline, found something else") from error
        return spec


def _title(name: str, task: Mapping[str, Any]) -> str:
    return str(task.get("taskInfo", {}).get("name", name))


def names_needed(task: Mapping[str, Any]) -> set[str]:
    """The tasks that a task waits for."""
    return set(task.get("dependentTasks", ()))
