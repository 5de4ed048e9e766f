"""Whether the pods will find the data where the source says: in an object store, or where DVC tracks it."""

import hashlib
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.unit.pipeline.loopback import Loopback
from tests.unit.pipeline.world import SEVEN_WAV, World, assert_one_failure, failed, lines
from tests.unit.repositories import commit_remote, published_as, run

SPEECH = "dvc+https://git.example/speech@main:speech.txt"
SEVEN = hashlib.md5(b"seven", usedforsecurity=False).hexdigest()


def no_object(world: World) -> None:
    world.s3.delete_object(Bucket="speech", Key=SEVEN_WAV)
    world.s3.put_object(Bucket="speech", Key="v10/seven.wav", Body=b"7")


def no_bucket(world: World) -> None:
    world.s3.delete_object(Bucket="speech", Key=SEVEN_WAV)
    world.s3.delete_bucket(Bucket="speech")


@pytest.mark.parametrize(
    ("fault", "check", "found"),
    [
        (
            no_object,
            "data",
            "s3://speech/v1: there is no such object, nor any below it → put the data there, or name another",
        ),
        (no_bucket, "data", "s3://speech: there is no such bucket → set AWS_ACCESS_KEY_ID"),
    ],
)
def test_one_thing_wrong_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], fault: Callable[[World], None], check: str, found: str
) -> None:
    assert_one_failure(world, capsys, fault, check, found)


@pytest.mark.parametrize("source", ["digits", "generated"])
def test_a_source_without_a_store_is_skipped(
    world: World, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    assert world.check("--source", source) == 0
    found = f"{source} needs no store; name another source with --source"
    assert lines(capsys)[-1] == ("skip", "data", found)


@pytest.mark.parametrize("source", [f"s3://speech/{SEVEN_WAV}", "s3://speech/v1/", "s3://speech"])
def test_a_source_is_an_object_or_a_prefix(
    world: World, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    assert world.check("--source", source) == 0
    assert lines(capsys)[-1] == ("pass", "data", f"{source} is there")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_object_store_is_asked_where_the_environment_says(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert world.check() == 1
    ((named, said),) = failed(capsys)
    assert named == "data"
    assert "127.0.0.1:1" in said


def test_a_source_on_this_machine_is_a_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.check("--source", "data/speech") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith("source: expected what a container can reach, digits, generated, s3://… or dvc+")


@pytest.mark.parametrize("repository", ["ssh://git@git.example/speech", "git@git.example:speech"])
def test_a_repository_behind_ssh_is_a_failure(
    world: World, capsys: pytest.CaptureFixture[str], repository: str
) -> None:
    assert world.check("--source", f"dvc+{repository}@main:speech.txt") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith("source: expected dvc+https://…, for a container has no key for ssh, found 'dvc+")


# --- data that DVC tracks -----------------------------------------------------------------------


@pytest.fixture
def tracked(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository behind :data:`SPEECH`, where DVC tracks a file; it is pushed to the object store."""
    repository = tmp_path / "repository"
    repository.mkdir()
    run(repository, "git", "init", "-q", "-b", "main")
    run(repository, "dvc", "init", "-q")
    run(repository, "dvc", "config", "core.analytics", "false")
    (repository / "speech.txt").write_text("seven")
    run(repository, "dvc", "add", "-q", "speech.txt")
    run(repository, "git", "add", ".")
    run(repository, "git", "commit", "-q", "-m", "data")
    commit_remote(repository, "s3://speech/dvc", endpoint=os.environ["AWS_ENDPOINT_URL"])
    published_as("https://git.example/speech", repository, monkeypatch)
    return repository


def test_tracked_data_is_found_in_the_object_store(
    world: World, tracked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.check("--source", SPEECH) == 0
    commit = run(tracked, "git", "rev-parse", "HEAD")[:12]
    found = f"{SPEECH} is {SEVEN} at {commit}, and in s3://speech/dvc"
    assert lines(capsys)[-1] == ("pass", "data", found)


def test_a_path_inside_tracked_data_is_asked_of_the_store_of_the_settings(
    world: World,
    tracked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tracked / "set").mkdir()
    (tracked / "set" / "seven.txt").write_text("seven")
    run(tracked, "dvc", "add", "-q", "set")
    run(tracked, "dvc", "push", "-q")
    run(tracked, "dvc", "remote", "modify", "store", "--unset", "endpointurl")
    run(tracked, "git", "add", ".")
    run(tracked, "git", "commit", "-q", "-m", "folder")
    address = os.environ["AWS_ENDPOINT_URL"]
    world.settle(tmp_path, lambda common: common["s3"].update(address=address))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert world.check("--source", SPEECH.replace("speech.txt", "set/seven.txt")) == 0
    assert f"is {SEVEN} at" in lines(capsys)[-1][-1]


@pytest.mark.usefixtures("tracked")
def test_tracked_data_that_was_not_pushed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    key = f"dvc/files/md5/{SEVEN[:2]}/{SEVEN[2:]}"
    world.s3.delete_object(Bucket="speech", Key=key)
    assert world.check("--source", SPEECH) == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said == f"s3://speech/{key}: there is no such object; dvc push it"


def test_tracked_data_without_a_remote_for_pods(
    world: World, tracked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tracked, "dvc", "remote", "add", "-q", "-f", "-d", "store", "/mnt/data")
    run(tracked, "git", "commit", "-q", "-a", "-m", "folder")
    assert world.check("--source", SPEECH) == 1
    ((_, said),) = failed(capsys)
    assert said.endswith(": expected an s3:// default remote, found /mnt/data")


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize(
    ("source", "found"),
    [
        (SPEECH.replace("@main", "@v9"), "there is no revision 'v9'"),
        (SPEECH.replace("speech.txt", "music.txt"), "music.txt is not tracked by DVC at main"),
    ],
)
def test_what_no_login_would_mend_is_told_alone(
    world: World, capsys: pytest.CaptureFixture[str], source: str, found: str
) -> None:
    assert world.check("--source", source) == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.endswith(found)


# --- logins and settings that a pod has not -----------------------------------------------------


class _PrivateHandler(BaseHTTPRequestHandler):
    server_of: "PrivateRepository"

    def do_GET(self) -> None:
        self.server_of.logins.append(self.headers.get("Authorization"))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class PrivateRepository(Loopback):
    """A git server that lets nobody in, and notes the login of all who ask."""

    handler = _PrivateHandler

    def __init__(self) -> None:
        self.logins: list[str | None] = []


def test_settings_of_this_user_s_git_are_none_of_a_pod_s(
    world: World, tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """An address that git rewrites here, as to ssh, is asked for as it is."""
    nobody = "http://127.0.0.1:1/speech"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text(f'[url "{tracked.as_uri()}"]\n    insteadOf = {nobody}\n')
    assert world.check("--source", f"dvc+{nobody}@main:speech.txt") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert said.startswith(f"{nobody}: git clone: fatal: unable to access '{nobody}/'")
    assert said.endswith(" → pods clone without a login: the repository must ask for none")
    assert os.environ["GIT_CONFIG_GLOBAL"] == str(tmp_path / "gitconfig")
    assert "GIT_CONFIG_NOSYSTEM" not in os.environ


def test_logins_of_this_user_are_none_of_a_pod_s(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    helper = tmp_path / "askpass"
    helper.write_text("#!/bin/sh\necho PLANTED\n")
    helper.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_ASKPASS", str(helper))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password PLANTED\n")
    with PrivateRepository() as private:
        assert world.check("--source", f"dvc+{private.url}/speech@main:speech.txt") == 1
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert "git clone: fatal: could not read Username" in said
    assert private.logins == [None]


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("source", ["s3://speech/v1", SPEECH])
def test_a_wrong_secret_of_the_store(
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    s3_endpoint: str,
    source: str,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "PLANTED-WRONG")
    switch_authentication(s3_endpoint, "0")
    try:
        assert world.check("--source", source) == 1
    finally:
        switch_authentication(s3_endpoint, "inf")
    ((check, said),) = failed(capsys)
    assert check == "data"
    assert "access denied to this key and secret → set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in said


def switch_authentication(endpoint: str, free_requests: str) -> None:
    """After so many requests, moto checks who asks."""
    url, kind = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urlopen(Request(url, data=free_requests.encode(), headers=kind, method="POST")).close()
