"""Build the stages' images, and push them: ``make images``, or ``python docker/images.py [STAGE …]``.

Wheels that pip would find in a folder of this machine are laid into ``docker/wheelhouse``; the rest of pip's
configuration goes into the build as a secret, so that no index address is left in an image.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from fineprune import __version__
from fineprune.stages import STAGES

ROOT = Path(__file__).parents[1]
WHEELHOUSE = ROOT / "docker" / "wheelhouse"
PUBLIC_BASE = "python:3.11-slim-bookworm"
OWN_BASE = "fineprune-base:bookworm"
CERTIFICATES = "/run/secrets/ca.pem"
_PASSED_ON = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "default-timeout")
_LISTS = ("extra-index-url", "find-links")
_LAST_LINES = 25
# Read by its path: as a module of its package it would bring kfp along.
_tag: Callable[[str], str] = runpy.run_path(str(ROOT / "components" / "images.py"))["image"]


def main() -> int:
    """Build, then print a table of sizes and times; pushed images with their digests."""
    given = _arguments()
    try:
        _build(given)
    except BuildError as error:
        print(f"images: error: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the stages' images.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="default: all")
    parser.add_argument(
        "--torch",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="which build of torch; auto (the default): cuda where the engine has NVIDIA's runtime, else cpu",
    )
    parser.add_argument(
        "--base-image", help=f"default: {PUBLIC_BASE}, or {OWN_BASE}, made here, where it cannot be had"
    )
    parser.add_argument("--registry", help="registry.example.org/team, in front of the tags; needs --torch")
    parser.add_argument("--push", action="store_true", help="push to the registry, and print the digests")
    parser.add_argument("--server", action="store_true", help="the MLflow server of compose.yaml too")
    given = parser.parse_args()
    if unknown := set(given.stages) - set(STAGES):
        parser.error(f"expected some of {', '.join(STAGES)}, found {', '.join(sorted(unknown))}")
    if given.push and not given.registry:
        parser.error("--push needs --registry")
    if given.registry and not re.fullmatch(r"[\w.-]+(:\d+)?(/[a-z0-9._-]+)*", given.registry):
        parser.error(f"--registry: expected HOST[:PORT][/PATH], found {given.registry!r}")
    if given.registry and given.torch == "auto":
        parser.error("--registry: say --torch cpu or cuda; what the cluster has, this machine cannot tell")
    return given


class BuildError(Exception):
    """An image cannot be built."""


def _build(given: argparse.Namespace) -> None:
    docker = find_docker()
    torch = torch_build(docker) if given.torch == "auto" else given.torch
    base = given.base_image or _base(docker)
    pushed = {stage: image(stage, given.registry) for stage in given.stages or STAGES}
    tags = pushed | ({"mlflow": image("mlflow")} if given.server else {})
    configuration = pip_configuration()
    fill_wheelhouse(configuration.get("find-links", "").split())
    commit = _commit()
    print(f"version {__version__}, commit {commit}, torch for {torch}, on {base}")
    rows = []
    with _secrets(configuration) as secrets:
        for number, (target, tag) in enumerate(tags.items(), start=1):
            command = [
                *(docker, "build", "--network=host", "--progress=plain", "--file=docker/Dockerfile"),
                *(f"--target={target}", f"--tag={tag}", *secrets),
                *(f"--build-arg=BASE_IMAGE={base}", f"--build-arg=TORCH={torch}"),
                *(f"--build-arg=VERSION={__version__}", f"--build-arg=COMMIT={commit}", "."),
            ]
            started = time.monotonic()
            _run(command, f"[{number}/{len(tags)}] {tag}")
            rows.append((tag, time.monotonic() - started))
    print(_table(docker, rows))
    if given.push:
        print(_push(docker, pushed))


def image(target: str, registry: str | None = None) -> str:
    """The tag of a target."""
    return f"{registry}/{_tag(target)}" if registry else _tag(target)


def torch_build(docker: str) -> str:
    """The build of torch that the engine can make use of: cuda where it passes GPUs on, else cpu."""
    runtimes = json.loads(_output([docker, "info", "--format", "{{json .Runtimes}}"]) or "null")
    return "cuda" if "nvidia" in (runtimes or {}) else "cpu"


def _push(docker: str, tags: dict[str, str]) -> str:
    """Push the images of the stages; gives their digests as pipeline/settings.yaml takes them.

    Raises:
        BuildError: the registry does not take one, or tells no digest.
    """
    lines = ["images.digests of pipeline/settings.yaml:", "    digests:"]
    for number, (stage, tag) in enumerate(tags.items(), start=1):
        said = _run([docker, "push", tag], f"push [{number}/{len(tags)}] {tag}")
        lines.append(f"      {stage}: {pushed_digest(said)}")
    return "\n".join(lines)


def pushed_digest(said: Sequence[str]) -> str:
    """The digest that ``docker push`` tells at its end.

    Raises:
        BuildError: it tells none.
    """
    found = re.findall(r"digest: (sha256:[0-9a-f]{64})\b", "\n".join(said))
    if not found:
        raise BuildError(f"expected a digest of docker push, found {' '.join(said[-1:])!r}")
    return str(found[-1])


def find_docker() -> str:
    """A client that has BuildKit: with the buildx plugin, or of a version before 23, which needs none."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if (client := shutil.which("docker")) and not _output([client, "info", "--format", "{{.ID}}"]):
        raise BuildError("expected a Docker Engine, found none that answers: docker info says more")
    clients = [path for folder in folders if (path := shutil.which("docker", path=folder))]
    for client in clients:
        version = re.match(r"\d+", _output([client, "version", "--format", "{{.Client.Version}}"]))
        old = version is not None and int(version[0]) in range(19, 23)
        if old or _output([client, "buildx", "version"]):
            return client
    raise BuildError(f"expected a docker client with BuildKit, found {', '.join(clients) or 'none'}")


def pip_configuration() -> dict[str, str]:
    """The settings of pip on this machine; those of a command win, and those of the environment most."""
    pip = next(
        command
        for command in ([sys.executable, "-m", "pip"], [shutil.which("pip") or "pip"])
        if _output([*command, "--version"])
    )
    lines = _output([*pip, "config", "list"]).splitlines()
    told = {key: str(ast.literal_eval(value)) for key, _, value in (line.partition("=") for line in lines)}
    merged: dict[str, str] = {}
    for section in ("global", "install", "wheel", ":env:"):
        merged |= {
            key.removeprefix(f"{section}."): told[key] for key in told if key.startswith(section + ".")
        }
    return merged


def fill_wheelhouse(places: Sequence[str]) -> None:
    """Copy the wheels of the lock from local folders that pip looks in."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)==(\S+)", lock, flags=re.MULTILINE)
    pinned = {(_plain(name), version) for name, version in pins}
    for folder in (Path(unquote(place.removeprefix("file://"))) for place in places if not _remote(place)):
        for wheel in folder.glob("*.whl"):
            name, version = wheel.name.split("-")[:2]
            target = WHEELHOUSE / wheel.name
            if (_plain(name), version.split("+")[0]) in pinned and not target.exists():
                part = target.with_suffix(".part")
                shutil.copyfile(wheel, part)
                part.rename(target)


@contextmanager
def _secrets(configuration: dict[str, str]) -> Iterator[list[str]]:
    """The flags that give a build pip's configuration; its files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fineprune-pip-") as folder:
        lines = ["[global]"]
        flags = [f"--secret=id=pip,src={folder}/pip.conf"]
        for name, value in configuration.items():
            if name in _LISTS:
                value = " ".join(place for place in value.split() if _remote(place))
            if name in _PASSED_ON and value:
                lines.append(f"{name} = {value}")
        if "cert" in configuration:
            lines.append(f"cert = {CERTIFICATES}")
            flags.append(f"--secret=id=ca,src={configuration['cert']}")
        Path(folder, "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield flags


def _base(docker: str) -> str:
    """The public base image where it is here or can be pulled; else one made of Debian's packages."""
    for attempt in (["image", "inspect"], ["pull", "--quiet"]):
        if _output([docker, *attempt, PUBLIC_BASE]):
            return PUBLIC_BASE
    if not _output([docker, "image", "inspect", OWN_BASE]):
        _run([str(ROOT / "docker" / "base_image.sh"), OWN_BASE], f"no registry: {OWN_BASE}", DOCKER=docker)
    return OWN_BASE


def _run(command: Sequence[str], title: str, **environment: str) -> list[str]:
    """Run a command and give its last lines; the last one is shown meanwhile, and all where it fails.

    Raises:
        BuildError: it failed.
    """
    tail: list[str] = []
    terminal = sys.stdout.isatty()
    print(title, end="" if terminal else "\n", flush=True)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail, line.rstrip()][-_LAST_LINES:]
            if terminal:
                print(f"\r\033[K{title}  {tail[-1][:70]}", end="", flush=True)
    if terminal:
        print(f"\r\033[K{title}")
    if process.returncode:
        print("\n".join(tail), file=sys.stderr)
        raise BuildError(f"{title}: exit code {process.returncode}{_remedy(tail)}")
    return tail


def _remedy(said: Sequence[str]) -> str:
    """What to do about the failure that a fresh machine meets first; nothing for any other."""
    if not any(re.search(r"No matching distribution found for torch==\S+\+cpu", line) for line in said):
        return ""
    return (
        ": PyPI has no build of torch without CUDA: name PyTorch's index of those in pip's "
        "configuration (extra-index-url), or build with TORCH=cuda"
    )


def _table(docker: str, rows: Sequence[tuple[str, float]]) -> str:
    """Sizes and times; ``own`` is what no other image shares."""
    usage = _output([docker, "system", "df", "--verbose", "--format", "{{json .Images}}"])
    found = {f"{entry['Repository']}:{entry['Tag']}": entry for entry in json.loads(usage or "[]")}
    width = max(len(tag) for tag, _ in rows) + 2
    lines = [f"{'image':<{width}}{'size':>9}{'own':>9}{'seconds':>9}"]
    for tag, seconds in rows:
        entry = found.get(tag, {})
        size, own = entry.get("Size", "?"), entry.get("UniqueSize", "?")
        lines.append(f"{tag:<{width}}{size:>9}{own:>9}{seconds:>9.1f}")
    return "\n".join(lines)


def _commit() -> str:
    """The commit of the working tree, marked where the tree is not what was committed."""
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return _output(["git", "-C", str(ROOT), *describe]) or "unknown"


def _output(command: Sequence[str]) -> str:
    """What a command prints; empty where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _remote(place: str) -> bool:
    return "://" in place and not place.startswith("file:")


if __name__ == "__main__":
    sys.exit(main())
