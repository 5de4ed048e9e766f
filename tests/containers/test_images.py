"""What the images are: facts that the engine tells of them, and what runs in them."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from docker.client import DockerClient

from components.images import image
from fineprune import __version__
from fineprune.stages import STAGES
from pipeline import settings
from tests.unit.images.programs import images as program
from tests.unit.images.programs import stack

from .conftest import PLANTED, PLANTED_INDEX, ROOT

LIBRARIES = ("PIL", "boto3", "dvc", "espeakng_loader", "jinja2", "kfp", "mlflow", "sklearn", "torch")
NEEDED = {
    **{stage: {"PIL", "jinja2", "torch"} for stage in STAGES},  # matplotlib brings Pillow along
    "ingest": {"PIL", "boto3", "espeakng_loader", "jinja2", "sklearn", "torch"},
    "promote": {"PIL", "jinja2", "mlflow", "sklearn", "torch"},  # MLflow brings scikit-learn along
}
PUBLIC = ("pypi.org", "files.pythonhosted.org", "download.pytorch.org")
LAST_LAYER = 5_000_000  # bytes: fineprune itself


@pytest.mark.parametrize("stage", STAGES)
def test_image_says_what_it_is_and_runs_as_nobody_special(images: DockerClient, stage: str) -> None:
    told = images.images.get(image(stage)).attrs["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in told["Labels"].items()}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", told["User"])
    assert not told["Entrypoint"]
    assert labels["title"] == f"fineprune {stage}"
    assert labels["version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert f"FINEPRUNE_GIT_COMMIT={labels['revision']}" in told["Env"]


@pytest.mark.parametrize("stage", STAGES)
def test_stage_answers_on_a_read_only_root_with_the_libraries_it_needs(
    images: DockerClient, stage: str
) -> None:
    look = f"""
import importlib.util, json, os, subprocess, sys
subprocess.run(["fineprune", {stage!r}, "--help"], check=True, stdout=subprocess.DEVNULL)
found = [name for name in {LIBRARIES!r} if importlib.util.find_spec(name)]
print(json.dumps({{"user": os.getuid(), "found": found}}))
"""
    said = images.containers.run(
        image(stage),
        ["python", "-c", look],
        read_only=True,
        tmpfs={"/tmp": ""},
        network_mode="none",
        remove=True,
    )
    told = json.loads(said)
    assert told["user"] != 0
    assert set(told["found"]) == NEEDED[stage]


def test_images_share_all_but_their_last_layers(images: DockerClient) -> None:
    layers = {stage: images.images.get(image(stage)).attrs["RootFS"]["Layers"] for stage in STAGES}
    plain = layers["prune"]
    assert all(layers[stage] == plain for stage in STAGES if stage not in ("ingest", "promote"))
    # What carries torch, and all else but fineprune's own layer, is the same in every image.
    assert layers["ingest"][: len(plain) - 1] == layers["promote"][: len(plain) - 1] == plain[:-1]
    for stage in STAGES:
        sizes = [entry["Size"] for entry in images.images.get(image(stage)).history() if entry["Size"]]
        assert sizes[0] < LAST_LAYER, stage


def test_no_secret_and_no_index_address_is_in_any_layer(images: DockerClient) -> None:
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    addresses = [
        url for url in re.findall(r"https?://[^\s']+", listed) if urlsplit(url).hostname not in PUBLIC
    ]
    # It is in the layers, so it is found, unless the engine hands them out compressed.
    known = (ROOT / "src" / "fineprune" / "errors.py").read_text().splitlines()[0]
    # Shared layers come once; what an upper layer hides is searched as well.
    names = [image(stage) for stage in ("ingest", "attack", "promote")]
    saved = subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE)
    patterns = [
        word for text in (known, PLANTED_INDEX, *PLANTED.values(), *addresses) for word in ("-e", text)
    ]
    hits = subprocess.run(
        ["grep", "--text", "--only-matching", "--fixed-strings", *patterns],
        stdin=saved.stdout,
        capture_output=True,
        text=True,
    )
    assert saved.wait() == 0
    assert set(hits.stdout.splitlines()) == {known}


def test_build_context_is_what_the_images_need_and_nothing_else(tmp_path: Path) -> None:
    """The context as the engine gets it: built into an image of its own, and that written into a folder."""
    context = tmp_path / "context"
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    subprocess.run(
        [
            *(program.find_docker(), "build", f"--file={tmp_path / 'Dockerfile'}"),
            *(f"--output=type=local,dest={context}", "."),
        ],
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        check=True,
        capture_output=True,
    )
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/fineprune"]
    sources = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    found = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()}
    wheels = {path for path in found if re.fullmatch(r"docker/wheelhouse/[^/]+\.whl", path)}
    expected = {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "docker/requirements.py"}
    assert found - wheels == {*expected, "docker/wheelhouse/.gitignore", *sources}


@pytest.fixture
def local_registry(tmp_path: Path) -> Iterator[str]:
    """The address of a real image registry on loopback, where engines ask for no TLS."""
    if not shutil.which("docker-registry"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", "docker-registry"], check=True
        )
    (port,) = stack.free_ports(1)
    address = f"127.0.0.1:{port}"
    told = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.json").write_text(json.dumps(told))
    with subprocess.Popen(["docker-registry", "serve", str(tmp_path / "registry.json")]) as server:
        yield address
        server.terminate()
    shutil.rmtree(tmp_path / "registry")  # pytest would keep the layers for days


def test_pushed_images_are_pulled_by_the_digests_that_were_told(
    images: DockerClient, shown: Any, local_registry: str
) -> None:
    registry = f"{local_registry}/team"
    command = ("docker/images.py", "tabulate", "prune", "--torch", "cpu", "--registry", registry, "--push")
    said = shown(sys.executable, *command)
    told = yaml.safe_load(said.partition("images.digests of pipeline/settings.yaml:")[2])
    assert told["digests"].keys() == {"tabulate", "prune"}
    built = {stage: images.images.get(program.image(stage, registry)).id for stage in told["digests"]}
    for stage in built:
        images.images.remove(program.image(stage, registry))
    images_settings = dataclasses.replace(settings.load().images, registry=registry, digests=told["digests"])
    cluster = dataclasses.replace(settings.load(), images=images_settings)
    for stage, known in built.items():
        by_digest = cluster.image(stage, image(stage))
        assert images.images.pull(by_digest).id == known
        images.images.remove(by_digest)
