"""What the images are: facts that the engine tells of them, and what runs in them."""

import json
import re
import subprocess

import pytest
from docker.client import DockerClient

from fineprune import __version__
from fineprune.stages import STAGES

from .conftest import PLANTED, ROOT

LIBRARIES = ("boto3", "dvc", "jinja2", "kfp", "mlflow", "sklearn", "torch")
NEEDED = {
    **{stage: {"jinja2", "torch"} for stage in STAGES},
    "ingest": {"boto3", "jinja2", "sklearn", "torch"},
    "promote": {"jinja2", "mlflow", "sklearn", "torch"},  # MLflow brings scikit-learn along
}
LAST_LAYER = 5_000_000  # bytes: fineprune itself


def tag(stage: str) -> str:
    return f"fineprune:{__version__}-{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_image_says_what_it_is_and_runs_as_nobody_special(images: DockerClient, stage: str) -> None:
    told = images.images.get(tag(stage)).attrs["Config"]
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
        tag(stage),
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
    layers = {stage: images.images.get(tag(stage)).attrs["RootFS"]["Layers"] for stage in STAGES}
    plain = layers["prune"]
    assert all(layers[stage] == plain for stage in STAGES if stage not in ("ingest", "promote"))
    # What carries torch, and all else but fineprune's own layer, is the same in every image.
    assert layers["ingest"][: len(plain) - 1] == layers["promote"][: len(plain) - 1] == plain[:-1]
    for stage in STAGES:
        sizes = [entry["Size"] for entry in images.images.get(tag(stage)).history() if entry["Size"]]
        assert sizes[0] < LAST_LAYER, stage


def test_no_secret_and_no_index_address_is_in_any_layer(images: DockerClient) -> None:
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    wanted = [*PLANTED.values(), *re.findall(r"\w+://[^\s']+", listed)]
    # Shared layers come once; what an upper layer hides is searched as well.
    names = [tag(stage) for stage in ("ingest", "attack", "promote")]
    saved = subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE)
    patterns = [word for text in wanted for word in ("-e", text)]
    hits = subprocess.run(
        ["grep", "--text", "--only-matching", "--fixed-strings", *patterns],
        stdin=saved.stdout,
        capture_output=True,
        text=True,
    )
    assert saved.wait() == 0
    assert set(hits.stdout.split()) == set()


def test_build_context_is_what_the_images_need_and_nothing_else() -> None:
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert patterns[0] == "*"
    assert not {".git", "artifacts", "data", ".env"} & {line.removeprefix("!") for line in patterns}
