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


def test_settings_of_a_command_and_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    told = """\
:env:.index-url='of the environment'
global.index-url='of all commands'
global.cert='/ca.pem'
global.timeout='5'
install.timeout='6'
freeze.timeout='7'"""
    monkeypatch.setattr(images, "_output", lambda command: told)
    assert images.pip_configuration() == {
        "index-url": "of the environment",
        "cert": "/ca.pem",
        "timeout": "6",
    }


@pytest.mark.parametrize("as_url", [False, True])
def test_wheelhouse_gets_the_wheels_of_the_lock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_url: bool
) -> None:
    (tmp_path / "requirements.lock").write_text("torch==2.13.0\nruamel-yaml==0.18\nnumpy==2.4.6 ; extra\n")
    for folder in ("wheels", "wheelhouse"):
        (tmp_path / folder).mkdir()
    pinned = {
        "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl",
        "ruamel.yaml-0.18-py3-none-any.whl",
        "numpy-2.4.6-cp311-cp311-linux_x86_64.whl",
    }
    for name in {*pinned, "torch-2.12.0-cp311-cp311-linux_x86_64.whl", "other-1-py3-none-any.whl"}:
        (tmp_path / "wheels" / name).write_text(name)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "WHEELHOUSE", tmp_path / "wheelhouse")
    place = f"file://{tmp_path}/wheels" if as_url else str(tmp_path / "wheels")
    images.fill_wheelhouse(["https://index.example.org/wheels", place])
    assert {path.name for path in (tmp_path / "wheelhouse").iterdir()} == pinned


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("#9 ERROR: No matching distribution found for torch==2.13.0+cpu", "PyPI has no build of torch"),
        ("#9 ERROR: No matching distribution found for numpy==2.4.0", None),
    ],
)
def test_remedy_for_a_torch_that_pypi_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, told: str | None
) -> None:
    builder = tmp_path / "docker"
    builder.write_text(f"#!/bin/sh\necho '{said}'\nexit 3\n")
    builder.chmod(0o755)
    with pytest.raises(images.BuildError, match=r"^build: exit code 3") as failure:
        images._run([str(builder)], "build")
    assert (told in str(failure.value)) if told else str(failure.value) == "build: exit code 3"
    assert said in capsys.readouterr().err


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
