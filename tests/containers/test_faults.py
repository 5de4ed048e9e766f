"""What goes wrong in a container: the stage and the cause in one line, no success, no promotion."""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from docker.client import DockerClient

from fineprune.reporting.table import COLUMNS
from pipeline.__main__ import main

from .packages import Local, Spec, ingest_only, promote_only

NOBODY_LISTENS = "http://127.0.0.1:9"
pytestmark = pytest.mark.usefixtures("images", "environment", "nothing_promoted")


@pytest.fixture
def nothing_promoted(registry: Any) -> Iterator[None]:
    before = registry()
    yield
    assert registry() == before


@pytest.fixture
def run_local(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """``python -m pipeline local``; gives its exit code and the last line that it wrote to stderr."""

    def run(package: Path, *arguments: str, folder: Path = tmp_path / "run") -> tuple[int, str]:
        code = main(["local", "--folder", str(folder), "--package", str(package), *arguments])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        assert not [word for word in ("promoted", "held", COLUMNS["utility"]) if word in told.out]
        return code, told.err.splitlines()[-1]

    return run


def command(*argv: str) -> Callable[[Spec], None]:
    """Let the container run another program; kfp still tells it where its outputs belong."""

    def change(container: Spec) -> None:
        container["command"] = list(argv)
        container["args"] = ["--executor-input", "{{$}}"]

    return change


def python(code: str) -> Callable[[Spec], None]:
    return command("python", "-c", code)


def bogus_flag(container: Spec) -> None:
    container["args"].append("--bogus")


def little_memory(container: Spec) -> None:
    container["resources"]["resourceMemoryLimit"] = "32Mi"


def image(name: str) -> Callable[[Spec], None]:
    def change(container: Spec) -> None:
        container["image"] = name

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (image("fineprune:0.0.0-ingest"), "there is no image fineprune:0.0.0-ingest here: make images"),
        (image("127.0.0.1:9/fineprune:1"), r"cannot pull the image 127\.0\.0\.1:9/fineprune:1: .+"),
        (bogus_flag, r"exit code 2: fineprune ingest: error: unrecognized arguments: --bogus .+"),
        (command("no-such-program"), "exit code 127: .*no-such-program.*"),
        (python("raise SystemExit(3)"), "exit code 3: it printed nothing"),
        (python("import os; os.kill(os.getpid(), 9)"), r"killed by a signal .*SIGKILL, exit code 137\)"),
        (little_memory, r"killed for memory: it needs more than 0\.0312 GiB \(exit code 137\)"),
        (python("pass"), "it exited with 0, but left no executor output, .*dataset.*"),
    ],
    ids=["no image", "no registry", "flag", "no program", "exit 3", "SIGKILL", "memory", "no output"],
)
def test_fault_of_a_container(run_local: Any, tmp_path: Path, change: Any, cause: str) -> None:
    code, line = run_local(ingest_only(tmp_path / "package.yaml", change))
    assert code == 1
    assert re.fullmatch(f"ingest failed: {cause}", line)


def test_stage_that_fails_at_once_is_never_taken_for_a_success(run_local: Any, tmp_path: Path) -> None:
    package = ingest_only(tmp_path / "package.yaml", python("raise SystemExit(1)"))
    assert [run_local(package)[0] for _ in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["min_utility=high"], "parameters.min_utility: expected a finite number, found 'high'"),
        (["--set", "ingest.seed=first"], "ingest.seed: expected a whole number"),
        (["no_such=1"], "has no parameter no_such"),
    ],
)
def test_wrong_parameter_starts_nothing(
    run_local: Any, tmp_path: Path, arguments: list[str], cause: str
) -> None:
    code, line = run_local(ingest_only(tmp_path / "package.yaml"), *arguments)
    assert code == 2
    assert line.startswith("python -m pipeline local: error: ")
    assert cause in line
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def archive(stack: dict[str, str]) -> str:
    """The source of an archive in the object store that is cut in half."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as file:
        content = bytes(range(256)) * 40
        info = tarfile.TarInfo("clips/0_someone_0.wav")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    client = boto3.client(
        "s3",
        endpoint_url=stack["AWS_ENDPOINT_URL"],
        aws_access_key_id=stack["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket="deliveries")
    client.put_object(Bucket="deliveries", Key="half.tar.gz", Body=whole.getvalue()[: whole.tell() // 2])
    return "s3://deliveries/half.tar.gz"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, r".*expected a whole and safe archive, found .+"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, ".*access denied to this key and secret"),
        ({"AWS_ENDPOINT_URL": NOBODY_LISTENS, "AWS_MAX_ATTEMPTS": "1"}, r".*127\.0\.0\.1:9.*"),
    ],
    ids=["truncated", "wrong secret", "unreachable"],
)
def test_fault_of_the_object_store(
    run_local: Any,
    tmp_path: Path,
    archive: str,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    cause: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    code, line = run_local(ingest_only(tmp_path / "package.yaml"), f"source={archive}")
    assert code == 1
    assert re.fullmatch(f"ingest failed: exit code 2: fineprune ingest: error: {cause}", line)


def test_unreachable_mlflow_promotes_nothing(
    run: Local, run_local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY_LISTENS)
    monkeypatch.setattr("pipeline.watch.check_mlflow", lambda *_: None)  # it answered then
    package = promote_only(tmp_path / "package.yaml", run.outputs)
    code, line = run_local(package, folder=run.folder)
    assert code == 1
    expected = (
        f"promote failed: exit code 2: fineprune promote: error: {NOBODY_LISTENS}: no answer from MLflow"
    )
    assert line.startswith(expected)


def test_no_engine_is_one_line(
    run_local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: DockerClient
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    code, line = run_local(ingest_only(tmp_path / "package.yaml"))
    assert code == 2
    assert line.startswith("python -m pipeline local: error: no Docker Engine answers")
