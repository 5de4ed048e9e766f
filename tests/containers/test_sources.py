"""Data as a cluster gets it: a ``dvc+`` source, by the image's git and from S3; or made in the container."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from docker.client import DockerClient
from PIL import Image

from fineprune.params import merge
from pipeline.__main__ import main
from pipeline.parameters import defaults
from tests.e2e.test_cases import FACES, SIGNS, SPEECH
from tests.unit.images.programs import stack as program
from tests.unit.repositories import commit_remote
from tests.unit.repositories import run as run_in

from .packages import ingest_only

READER = {"kind": "images", "height": 8, "width": 8, "channels": 1, "min_per_class": 1, "group_by": "file"}


def draw(folder: Path, number: int) -> None:
    """Add files of noise to each of two classes."""
    noise = np.random.default_rng(0)
    for label in ("noise", "more_noise"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            pixels = noise.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")


@pytest.fixture
def repository(stack: Mapping[str, str], environment: None, tmp_path: Path) -> Path:
    """Tracks 60 images at ``v1`` and 80 now; the objects are in the store alone."""
    boto3.client("s3").create_bucket(Bucket="data-store")
    repo = tmp_path / "git" / "repo"
    repo.mkdir(parents=True)
    run_in(repo, "git", "init", "-q", "-b", "main")
    run_in(repo, "dvc", "init", "-q")
    draw(repo / "images", 30)
    run_in(repo, "dvc", "add", "-q", "images")
    run_in(repo, "git", "add", ".")
    run_in(repo, "git", "commit", "-q", "-m", "first")
    commit_remote(repo, "s3://data-store/dvc", endpoint=stack["AWS_ENDPOINT_URL"])
    run_in(repo, "git", "tag", "v1")
    draw(repo / "images", 40)
    run_in(repo, "dvc", "add", "-q", "images")
    run_in(repo, "git", "commit", "-q", "-a", "-m", "second")
    run_in(repo, "dvc", "push", "-q")
    run_in(repo, "git", "config", "uploadpack.allowFilter", "true")
    return repo


@pytest.fixture
def address(repository: Path) -> Iterator[str]:
    """The repository's, as git's own server gives it out on loopback."""
    (port,) = program.free_ports(1)
    flags = ("--export-all", f"--base-path={repository.parent}", "--listen=127.0.0.1", f"--port={port}")
    with subprocess.Popen(["git", "daemon", "--reuseaddr", *flags, str(repository.parent)]) as server:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"git://127.0.0.1:{port}/repo"
        server.terminate()


def test_dvc_source_comes_at_its_revision(images: DockerClient, address: str, tmp_path: Path) -> None:
    section = {**defaults("digits")["ingest"], "name": "noise", "reader": READER}
    package = ingest_only(tmp_path / "package.yaml")
    parameters = (f"ingest={json.dumps(section)}", f"source=dvc+{address}@v1:images")
    assert main(["local", "--folder", str(tmp_path / "run"), "--package", str(package), *parameters]) == 0
    (report,) = (tmp_path / "run").glob("outputs/*/ingest/report/report.json")
    assert json.loads(report.read_text())["numbers"]["samples"] == 60


@pytest.mark.parametrize(("case", "changes"), [("faces", FACES), ("speech", SPEECH), ("signs", SIGNS)])
def test_data_is_generated(
    images: DockerClient, environment: None, tmp_path: Path, case: str, changes: Mapping[str, Any]
) -> None:
    section = merge(defaults(case)["ingest"], changes["ingest"])
    package = ingest_only(tmp_path / "package.yaml")
    parameters = (f"ingest={json.dumps(section)}", "source=generated")
    assert main(["local", "--folder", str(tmp_path / "run"), "--package", str(package), *parameters]) == 0
    (card,) = (tmp_path / "run").glob("outputs/*/ingest/dataset/dataset.json")
    assert json.loads(card.read_text())["licence"] == "synthetic"
