"""What ``make images`` makes of this machine and of its arguments; no engine is asked."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from components.images import VERSION, image
from fineprune import __version__

from .programs import images

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Put a program on an otherwise empty PATH that answers as it is told to; gives its path."""
    monkeypatch.setenv("PATH", "")

    def make(folder: str, name: str, answers: dict[str, str]) -> str:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        cases = "".join(f"'{words}'*) echo '{answer}';;\n" for words, answer in answers.items())
        path.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}*) exit 1;;\nesac\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=":")
        return str(path)

    return make


def test_tag_is_the_one_that_the_components_name() -> None:
    assert __version__ == VERSION
    assert images.image("prune") == image("prune") == f"fineprune:{__version__}-prune"


def test_registry_stands_in_front_of_the_tag() -> None:
    tag = images.image("prune", "registry.example.org/team")
    assert tag == f"registry.example.org/team/fineprune:{__version__}-prune"


@pytest.mark.parametrize(
    ("runtimes", "build"),
    [({"runc": {}, "nvidia": {}}, "cuda"), ({"runc": {}}, "cpu"), (None, "cpu")],
)
def test_torch_is_for_the_gpu_where_the_engine_passes_one_on(
    program: Callable[..., str], runtimes: dict[str, object] | None, build: str
) -> None:
    docker = program("bin", "docker", {"info": json.dumps(runtimes)})
    assert images.torch_build(docker) == build


def test_engine_that_does_not_answer_has_no_gpu(program: Callable[..., str]) -> None:
    assert images.torch_build(program("bin", "docker", {})) == "cpu"


@pytest.mark.parametrize(
    "answers",
    [
        {"version": "20.10.24+dfsg1"},
        {"version": "28.2.2", "buildx version": "0.30"},
        {"version": "next", "buildx version": "1"},
    ],
)
def test_client_with_buildkit_is_found_behind_one_without(
    program: Callable[..., str], answers: dict[str, str]
) -> None:
    good = program("behind", "docker", answers)
    program("before", "docker", {"version": "28.2.2", "info": "an engine"})
    assert images.find_docker() == good


@pytest.mark.parametrize("version", ["28.2.2", "next", ""])
def test_client_without_buildkit_is_named(program: Callable[..., str], version: str) -> None:
    bad = program("bin", "docker", {"version": version, "info": "an engine"})
    with pytest.raises(images.BuildError, match=f"expected a docker client with BuildKit, found {bad}"):
        images.find_docker()


def test_an_engine_that_does_not_answer_is_said_to_be_the_fault(program: Callable[..., str]) -> None:
    program("bin", "docker", {"buildx version": "0.30"})
    with pytest.raises(images.BuildError, match="expected a Docker Engine, found none that answers"):
        images.find_docker()


@pytest.mark.parametrize(
    ("arguments", "platform"),
    [
        ([], []),
        (["--platform", "linux/arm64"], ["--platform=linux/arm64"]),
        (["--registry", "registry.example.org", "--torch", "cpu"], ["--platform=linux/amd64"]),
        (
            ["--registry", "registry.example.org", "--torch", "cpu", "--platform", "linux/arm64"],
            ["--platform=linux/arm64"],
        ),
    ],
)
def test_build_is_told_the_cluster_s_platform_and_the_proxies(
    program: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], platform: list[str]
) -> None:
    program("bin", "docker", {"info": "{}", "version": "20.10", "image inspect": "here"})
    for name in images.PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:planted@proxy.example")
    built: list[list[str]] = []
    monkeypatch.setattr(images, "run", lambda command, title: built.append(list(command)))
    monkeypatch.setattr(images, "fill_wheelhouse", lambda places: None)
    monkeypatch.setattr("sys.argv", ["images.py", "prune", *arguments])
    assert images.main() == 0
    (command,) = built
    assert [word for word in command if word.startswith("--platform")] == platform
    proxies = [word for word in command if "PROXY" in word.upper()]
    assert proxies == ["--build-arg=HTTPS_PROXY"]


def test_digest_is_what_docker_push_tells_at_its_end() -> None:
    said = ["The push refers to repository [registry/fineprune]", f"0.1.0-prune: digest: {DIGEST} size: 3"]
    assert images.pushed_digest(said) == DIGEST
    with pytest.raises(images.BuildError, match="expected a digest of docker push, found 'denied'"):
        images.pushed_digest(["denied"])


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("prnue", "expected some of ingest, .*, found prnue"),
        ("--push", "--push needs --registry"),
        ("--registry registry.example.org/team", "say --torch cpu or cuda"),
        ("--registry https://registry.example.org --torch cpu", r"expected HOST\[:PORT\]\[/PATH\]"),
        ("--torch rocm", "invalid choice"),
    ],
)
def test_wrong_argument_builds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, cause: str
) -> None:
    monkeypatch.setattr("sys.argv", ["images.py", *arguments.split()])
    monkeypatch.setattr(images, "find_docker", pytest.fail)
    with pytest.raises(SystemExit) as ended:
        images.main()
    assert ended.value.code == 2
    assert re.search(cause, capsys.readouterr().err.splitlines()[-1])
