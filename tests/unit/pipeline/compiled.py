"""Compiled pipelines as plain data, for the tests that look into them."""

from dataclasses import dataclass
from typing import Any

import yaml

from pipeline import compile as compiling
from pipeline.settings import Settings


@dataclass(frozen=True)
class Package:
    """What ``NAME.yaml`` and ``NAME.k8s.yaml`` hold, as text by extension and as data."""

    files: dict[str, str]
    spec: dict[str, Any]
    kubernetes: dict[str, Any]
    manifests: list[dict[str, Any]]

    def container(self, task: str) -> dict[str, Any]:
        """The container of a task, as ``deploymentSpec`` has it."""
        return self.spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]

    def pod(self, task: str) -> dict[str, Any]:
        """The Kubernetes part of a task."""
        return self.kubernetes[f"exec-{task}"]


def package(name: str, settings: Settings) -> Package:
    """Compile one of the pipelines under the given settings."""
    files = compiling.render(compiling.PIPELINES[name](settings, None), settings)
    spec, platform = yaml.safe_load_all(files[".yaml"])
    return Package(
        files=files,
        spec=spec,
        kubernetes=platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"],
        manifests=list(yaml.safe_load_all(files[".k8s.yaml"])),
    )
