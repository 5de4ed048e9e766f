"""The compiled files: current, the same every time, valid where they go, and without secrets."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.cli.utils.parsing import parse_parameter_value
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline import compile as compiling
from pipeline import settings
from pipeline.__main__ import main
from pipeline.package import Package as Committed
from tests.unit.pipeline.compiled import Package, package

ROOT = compiling.FOLDER.parents[1]
PLANTED = "planted-5up3r-s3cr3t"

# Facts of manifests/kustomize/base/crds/pipelines.kubeflow.org_{pipelines,pipelineversions}.yaml of
# kubeflow/pipelines at 7b70c7b (after 2.17): which fields there are, their types, and what is required.
# Kubernetes itself demands a DNS subdomain as a name, and prunes fields that a schema does not have.
NAME = {
    "type": "string",
    "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "maxLength": 253,
}
TEXT = {"type": "string"}
TAGS = {"type": "object", "additionalProperties": TEXT}


def resource(kind: str, spec: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    """The schema of one custom resource, closed to fields that it does not name."""
    metadata = {"type": "object", "properties": {"name": NAME, "namespace": NAME}, "required": ["name"]}
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"const": "pipelines.kubeflow.org/v2beta1"},
            "kind": {"const": kind},
            "metadata": metadata | {"additionalProperties": False},
            "spec": {
                "type": "object",
                "properties": spec,
                "required": list(required),
                "additionalProperties": False,
            },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


RESOURCES = (
    resource("Pipeline", {"description": TEXT, "displayName": TEXT, "tags": TAGS}, ()),
    resource(
        "PipelineVersion",
        {
            "codeSourceURL": TEXT,
            "description": TEXT,
            "displayName": TEXT,
            "pipelineName": TEXT,
            "pipelineSpec": {"type": "object"},
            "pipelineSpecURI": TEXT,
            "platformSpec": {"type": "object"},
            "tags": TAGS,
            "versionName": TEXT,
        },
        ("pipelineSpec",),
    ),
)


@pytest.fixture(scope="module", params=compiling.PIPELINES)
def compiled(request: pytest.FixtureRequest) -> Package:
    return package(request.param, settings.load())


def run(folder: Path, *, check: bool, profile: str | None = None) -> int:
    given = argparse.Namespace(profile=profile, case=None, output=folder, check=check)
    return compiling.run(given)


def test_the_committed_files_are_current() -> None:
    assert run(compiling.FOLDER, check=True) == 0


def test_every_process_writes_the_same_bytes(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "pipeline", "compile", "--output", tmp_path / seed],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
    written = [{path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()} for seed in "12"]
    assert written[0] == written[1]
    assert set(written[0]) == {
        f"{name}{extension}" for name in compiling.PIPELINES for extension in (".yaml", ".k8s.yaml")
    }


def test_another_profile_is_written_under_its_own_name(tmp_path: Path) -> None:
    run(tmp_path, check=False, profile="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.cpu{extension}" for name in compiling.PIPELINES for extension in (".yaml", ".k8s.yaml")
    }
    assert not [path for path in tmp_path.iterdir() if "nvidia.com/gpu" in path.read_text("utf-8")]


def test_another_case_does_not_take_the_place_of_the_committed_files(tmp_path: Path) -> None:
    given = ["compile", "--case", "fsdd"]
    before = {path: path.read_bytes() for path in compiling.FOLDER.iterdir()}
    assert main(given) == 2
    assert main([*given, "--output", os.path.relpath(compiling.FOLDER)]) == 2
    assert {path: path.read_bytes() for path in compiling.FOLDER.iterdir()} == before
    assert main([*given, "--output", str(tmp_path)]) == 0
    assert "name: fsdd" in (tmp_path / "fine_pruning.yaml").read_text("utf-8")


def test_files_that_are_not_current_are_named_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same, edited, gone = (tmp_path / name for name in ("same.yaml", "edited.yaml", "gone.yaml"))
    same.write_text("a: 1\n", encoding="utf-8")
    edited.write_text("a: 2\n", encoding="utf-8")
    assert compiling.check(dict.fromkeys((same, edited, gone), "a: 1\n")) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{edited}, {gone}: not current; run python -m pipeline compile"]
    assert (edited.read_text(encoding="utf-8"), gone.exists()) == ("a: 2\n", False)


def test_the_package_is_one_that_kfp_reads(compiled: Package) -> None:
    read = kfp_components.load_component_from_text(compiled.files[".yaml"])
    assert json_format.MessageToDict(read.pipeline_spec) == compiled.spec


def test_the_backend_knows_every_field(compiled: Package) -> None:
    """It reads both parts by these messages and refuses a field that they do not have."""
    json_format.ParseDict(compiled.spec, pipeline_spec_pb2.PipelineSpec())
    for pod in compiled.kubernetes.values():
        json_format.ParseDict(pod, KubernetesExecutorConfig())


def test_the_manifests_fit_the_custom_resources(compiled: Package) -> None:
    for manifest, schema in zip(compiled.manifests, RESOURCES, strict=True):
        jsonschema.validate(manifest, schema)
    pipeline, version = compiled.manifests
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    assert version["metadata"]["namespace"] == pipeline["metadata"]["namespace"] == settings.load().namespace


def test_the_manifests_hold_the_package(compiled: Package) -> None:
    version = compiled.manifests[1]["spec"]
    assert version["pipelineSpec"] == compiled.spec
    platform = version["platformSpec"]["platforms"]["kubernetes"]
    assert platform["deploymentSpec"]["executors"] == compiled.kubernetes


def test_another_package_is_another_version(compiled: Package) -> None:
    """The spec of a version that exists is immutable on the cluster."""
    name = compiled.spec["pipelineInfo"]["name"].replace("-", "_")
    other = package(name, settings.load("cpu"))
    names = {found.manifests[1]["metadata"]["name"] for found in (compiled, other)}
    assert len(names) == 2
    assert all(re.fullmatch(r"fine-pruning(-sweep)?-\d+\.\d+\.\d+-[0-9a-f]{12}", name) for name in names)


def test_no_secret_of_the_environment_is_compiled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = settings.load()
    for secret in loaded.secrets:
        for variable in secret.keys.values():
            monkeypatch.setenv(variable, PLANTED)
    for name in compiling.PIPELINES:
        text = "".join(package(name, loaded).files.values())
        assert "AWS_SECRET_ACCESS_KEY" in text
        assert PLANTED not in text


def test_the_tasks_that_may_run_together_are_those_that_do_not_wait_for_each_other() -> None:
    together = set(map(frozenset, Committed(compiling.FOLDER / "fine_pruning.yaml").tasks.together()))
    assert max(map(len, together)) == 3
    assert {"profile", "profile-2", "finetune"} in together
    assert {"finetune", "finetune-2", "prune-2"} in together
    assert {"ingest"} in together
    assert not any({"prune", "finetune-2"} <= group or {"ingest", "promote"} <= group for group in together)


@pytest.mark.parametrize(
    "argument",
    [
        "min_utility=0.9",
        "max_clean_loss=0",
        "source=s3://bucket/prefix",
        "source=dvc+https://host/repo@v1:data/digits",
        "registered_name=digits",
        "revision=",
        'revision="1234567"',
        "data_md5=d41d8cd98f00b204e9800998ecf8427e.dir",
        'promote={"model": "fine_tuned", "min_samples": 50}',
    ],
)
def test_the_kfp_command_line_gives_every_parameter_the_type_that_the_server_demands(argument: str) -> None:
    """The server converts nothing (``validatePipelineJobInputs`` of its ``v2_template.go``)."""
    kinds = {"STRING": str, "NUMBER_DOUBLE": (int, float), "STRUCT": dict}
    name, _, text = argument.partition("=")
    file = compiling.FOLDER / "fine_pruning.yaml"
    spec, _ = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    kind = spec["root"]["inputDefinitions"]["parameters"][name]["parameterType"]
    assert isinstance(parse_parameter_value(text), kinds[kind])
