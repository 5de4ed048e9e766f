"""A compiled pipeline package: where it is, what parameters it takes, and which stages it has."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from fineprune.errors import ConfigError
from pipeline import settings

FOLDER = Path(__file__).with_name("compiled")
PACKAGE = FOLDER / "fine_pruning.yaml"
"""The one of the default profile."""


def package_file(profile: str | None = None, name: str = PACKAGE.stem, *, folder: Path = FOLDER) -> Path:
    """The file of a pipeline that is compiled under a profile: the default profile is not in its name."""
    default = profile in (None, settings.default_profile())
    return folder / (f"{name}.yaml" if default else f"{name}.{profile}.yaml")


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
class TaskGraph:
    """The tasks of a pipeline.

    Attributes:
        spec: the pipeline as kfp compiles it (``PipelineSpec`` of its ``pipeline_spec.proto``).
        origin: what a message calls it.
    """

    spec: Mapping[str, Any]
    origin: str

    @functools.cached_property
    def stages(self) -> dict[str, str]:
        """How each task of the graph is shown to people, by its name; each after those that it needs."""
        needed = {name: names_needed(task) for name, task in self._tasks.items()}
        try:
            names = [*TopologicalSorter(needed).static_order()]
        except CycleError:
            raise ConfigError(f"{self.origin}: expected a graph without circles, found one") from None
        return {name: _title(name, self._tasks[name]) for name in names}

    @functools.cached_property
    def inner(self) -> dict[str, dict[str, str]]:
        """How the tasks inside each loop are shown to people, by the name of the loop in the graph."""
        components = self.spec["components"]
        parts = {name: components[task["componentRef"]["name"]] for name, task in self._tasks.items()}
        return {
            loop: {name: _title(name, task) for name, task in part["dag"]["tasks"].items()}
            for loop, part in parts.items()
            if "dag" in part
        }

    @property
    def titles(self) -> dict[str, str]:
        """How each task is shown to people, those inside a loop too."""
        inner = {name: title for titles in self.inner.values() for name, title in titles.items()}
        return inner | self.stages

    @property
    def memory_limits(self) -> dict[str, int]:
        """Bytes of memory that each task may use; a task without a limit is not in it."""
        executors = self.spec["deploymentSpec"]["executors"]
        limits = {}
        for name, component in self.spec["components"].items():
            executor = executors.get(component.get("executorLabel"), {})
            limit = executor.get("container", {}).get("resources", {}).get("resourceMemoryLimit")
            if limit:
                limits[name.removeprefix("comp-")] = settings.size(limit)
        return limits

    def together(self) -> list[tuple[str, ...]]:
        """Every set of tasks that may run at the same time, because none of them waits for another."""
        before: dict[str, set[str]] = {}
        groups: list[tuple[str, ...]] = [()]
        for name in self.stages:  # each after those that it needs
            needed = names_needed(self._tasks[name])
            before[name] = needed.union(*(before[other] for other in needed))
            groups += [(*group, name) for group in groups if not before[name] & {*group}]
        return groups[1:]

    @property
    def judged(self) -> bool:
        """Whether a run of it ends with a verdict."""
        return "promote" in self.stages

    @property
    def _tasks(self) -> Mapping[str, Any]:
        tasks: Mapping[str, Any] = self.spec["root"]["dag"]["tasks"]
        return tasks


@dataclass(frozen=True)
class Package:
    """A file that ``python -m pipeline compile`` wrote."""

    path: Path

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The pipeline's parameters by name."""
        given = self.tasks.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return {
            name: Parameter(kind=spec["parameterType"], default=spec.get("defaultValue"))
            for name, spec in given.items()
        }

    @property
    def defaults(self) -> dict[str, Any]:
        """What each parameter is without an argument; None where a run must give one."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    @functools.cached_property
    def tasks(self) -> TaskGraph:
        """The pipeline's tasks."""
        return TaskGraph(self._documents[0], str(self.path))

    def write_uncached(self, target: Path) -> None:
        """Write the package to another file, with no task that may take its outputs from Kubeflow's cache."""
        pipeline, *rest = copy.deepcopy(self._documents)
        for part in (pipeline["root"], *pipeline["components"].values()):
            for task in part.get("dag", {}).get("tasks", {}).values():
                task["cachingOptions"] = {}
        target.write_text(yaml.safe_dump_all([pipeline, *rest]), encoding="utf-8")

    @functools.cached_property
    def _documents(self) -> list[Any]:
        """The pipeline, and what else kfp put below it."""
        try:
            documents = list(yaml.safe_load_all(self.path.read_text(encoding="utf-8")))
            documents[0]["root"]["dag"]["tasks"].keys()
            documents[0]["components"].keys()
        except OSError as error:
            hint = "python -m pipeline compile writes it"
            raise ConfigError(f"{self.path}: cannot read the package: {error.strerror} ({hint})") from error
        except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.path}: expected a compiled pipeline, found something else") from error
        return documents


def _title(name: str, task: Mapping[str, Any]) -> str:
    return str(task.get("taskInfo", {}).get("name", name))


def names_needed(task: Mapping[str, Any]) -> set[str]:
    """The tasks that a task waits for."""
    return set(task.get("dependentTasks", ()))
