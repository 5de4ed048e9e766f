"""Where a run's data comes from: what a container cannot reach, and the commit and md5 that pin it."""

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.repositories import published_as, run

from .kfp_stand_in import KfpStandIn
from .submitting import MD5, SWEEP, assert_refused, parameters, refused, submit, sweep_run

pytestmark = pytest.mark.usefixtures("check_current")
SPEECH = "dvc+https://git.example/speech@main:speech.tar.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["source=s3://bucket/data", "revision=main"],
            "revision: expected none but for a source dvc+…, found main for s3://bucket/data",
        ),
        (["data_md5=" + "f" * 32], "data_md5: expected none for the source digits, found 'ffff"),
        (
            ["source=s3://bucket/data", "data_md5=xyz"],
            "data_md5: expected an md5 as DVC records it, found 'xyz'",
        ),
        (["source=generated"], "ingest.generator: expected one for the source generated, found none"),
        (
            ["--case", "faces", "source=s3://bucket/faces"],
            "ingest.generator: expected none for the source s3://bucket/faces, found faces",
        ),
        (
            ["source=dvc+ssh://git@git.example/data@main:speech"],
            "source: expected dvc+https://…, for a container has no key for ssh, found 'dvc+ssh://git.example",
        ),
        (
            ["source=dvc+git@git.example:data@main:speech"],
            "source: expected dvc+https://…, for a container has no key for ssh, found 'dvc+git@git.example",
        ),
        (["--case", "fsdd"], "source: expected what a container can reach"),
        (
            ["source=data/speech"],
            "s3://… or dvc+<URL of a git repository>@<revision>:<path>, found 'data/speech'",
        ),
        (
            ["source=file:///data/speech"],
            "expected what a container can reach, digits, generated, s3://… or ",
        ),
        (["source=dvc+/data/repository@main:speech"], "found 'dvc+/data/repository@main:speech'"),
        (["source=dvc+repository@main:speech"], "found 'dvc+repository@main:speech'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    kfp: KfpStandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert_refused(kfp, capsys, arguments, message)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository where DVC tracks what :data:`SPEECH` names; the data itself is nowhere."""
    folder = tmp_path / "repository"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").touch()
    out = {"md5": MD5, "size": 1, "hash": "md5", "path": "speech.tar.gz"}
    (folder / "speech.tar.gz.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "-m", "data")
    published_as("https://git.example/speech", folder, monkeypatch)
    return folder


def test_a_revision_becomes_a_commit_and_an_md5(kfp: KfpStandIn, repository: Path) -> None:
    assert submit(kfp, f"source={SPEECH}") == 0
    commit = run(repository, "git", "rev-parse", "HEAD")
    assert parameters(kfp) == {"source": SPEECH, "revision": commit, "data_md5": MD5}


def test_a_commit_and_an_md5_by_hand_are_taken(kfp: KfpStandIn) -> None:
    pin = {"source": "dvc+https://git.example/data@main:speech", "revision": "0012345", "data_md5": MD5}
    assert submit(kfp, *(f"{name}={value}" for name, value in pin.items())) == 0
    assert parameters(kfp) == pin


@pytest.mark.parametrize("revision", ["", "main"])
def test_an_empty_md5_by_hand_is_none(kfp: KfpStandIn, repository: Path, revision: str) -> None:
    assert submit(kfp, f"source={SPEECH}", f"revision={revision}", "data_md5=") == 0
    commit = run(repository, "git", "rev-parse", "HEAD")
    assert parameters(kfp) == {"source": SPEECH, "revision": commit, "data_md5": MD5}


def test_data_that_is_not_as_expected(
    kfp: KfpStandIn, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "f" * 32
    assert submit(kfp, f"source={SPEECH}", f"data_md5={other}") == 2
    assert f"expected data_md5 {other}, found {MD5}" in refused(capsys)
    assert kfp.requests == []


def test_runs_of_a_sweep_that_share_a_source_are_pinned_to_one_commit(
    kfp: KfpStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the repository moves on meanwhile."""
    commits = iter(["0" * 40, "1" * 40])
    monkeypatch.setattr("pipeline.arguments.resolve", lambda *_: (next(commits), MD5))
    runs = [sweep_run(seed, source=SPEECH) for seed in (3, 4)]
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs)}") == 0
    assert {run["revision"] for run in parameters(kfp)["runs"]} == {"0" * 40}


def test_the_runs_of_a_sweep_are_pinned(
    kfp: KfpStandIn, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [sweep_run(source=SPEECH), sweep_run(seed=4, source="s3://bucket/speech")]
    assert submit(kfp, "--package", str(SWEEP), f"runs={json.dumps(runs)}") == 0
    commit = run(repository, "git", "rev-parse", "HEAD")
    assert parameters(kfp)["runs"] == [runs[0] | {"revision": commit, "data_md5": MD5}, runs[1]]
    assert "nothing pins what the source holds" in capsys.readouterr().err
