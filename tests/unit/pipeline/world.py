"""A cluster in which a run would succeed until a test makes one thing wrong, and preflight's answer."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import __main__, settings

from .kfp_stand_in import KfpStandIn
from .kubernetes_stand_in import KubernetesStandIn
from .mlflow_stand_in import MlflowStandIn
from .registry_stand_in import RegistryStandIn

SECRETS = {
    "AWS_ACCESS_KEY_ID": "PLANTED-ACCESS",
    "AWS_SECRET_ACCESS_KEY": "PLANTED-SECRET",
    "MLFLOW_TRACKING_USERNAME": "PLANTED-USER",
    "MLFLOW_TRACKING_PASSWORD": "PLANTED-PASSWORD",
}
MLFLOW_OF_PODS = "mlflow.kubeflow.svc.cluster.local:5000"
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SEVEN_WAV = "v1/seven.wav"
GPU_OFFER = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "2"}


class World:
    """A cluster in which a run would succeed, and what preflight says of it."""

    def __init__(
        self,
        cluster: KubernetesStandIn,
        kfp: KfpStandIn,
        mlflow: MlflowStandIn,
        registry: RegistryStandIn,
        s3: Any,
    ) -> None:
        self.cluster, self.kfp, self.mlflow, self.registry, self.s3 = cluster, kfp, mlflow, registry, s3
        self.file = settings.FILE
        cluster.add("namespaces", "kubeflow", status={"phase": "Active"})
        cluster.add("serviceaccounts", "pipeline-runner")
        cluster.add(
            "secrets", "fineprune-s3", data={"access_key": "UExBTlRFRA==", "secret_key": "UExBTlRFRA=="}
        )
        cluster.add(
            "secrets", "fineprune-mlflow", data={"username": "UExBTlRFRA==", "password": "UExBTlRFRA=="}
        )
        self.node("cpu-1", {"cpu": "8", "memory": "32Gi", "pods": "110"})
        self.node("gpu-1", GPU_OFFER, taints=[GPU_TAINT])
        s3.create_bucket(Bucket="speech")
        s3.put_object(Bucket="speech", Key=SEVEN_WAV, Body=b"7")

    def node(self, name: str, offers: dict[str, str], **spec: Any) -> None:
        status = {"allocatable": offers, "conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.add("nodes", name, metadata={"labels": {"disk": "ssd"}}, spec=spec, status=status)

    def quota(self, hard: dict[str, str], used: dict[str, str]) -> None:
        self.cluster.add(
            "resourcequotas", "compute", spec={"hard": hard}, status={"hard": hard, "used": used}
        )

    def settle(self, folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what the settings file has in common for all profiles."""
        values = yaml.safe_load(self.file.read_text())
        change(values["common"])
        self.file = folder / "settings.yaml"
        self.file.write_text(yaml.safe_dump(values, sort_keys=False))

    def check(self, *arguments: str) -> int:
        place = ("--endpoint", self.kfp.url, "--source", "s3://speech/v1")
        return __main__.main(["preflight", *place, *arguments])


def lines(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    """State, check and finding of every line, what to do appended; nothing on stderr, no secret anywhere."""
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "PLANTED" not in printed.out
    assert "UExBTlRFRA" not in printed.out
    rows = re.sub(r"\n +", " ", printed.out).splitlines()
    return [(row[:6].strip(), row[6:23].strip(), row[23:]) for row in rows]


def failed(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    return [(check, found) for state, check, found in lines(capsys) if state == "fail"]


def assert_one_failure(
    world: World, capsys: pytest.CaptureFixture[str], fault: Callable[[World], None], check: str, found: str
) -> None:
    """With this fault preflight fails, and says so in one line, that of the check."""
    fault(world)
    assert world.check() == 1
    ((named, said),) = failed(capsys)
    assert named == check
    assert found in said
