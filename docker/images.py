"""Build the stages' images, and push them: ``make images``, or ``python docker/images.py [STAGE …]``."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
import sys
import time
from collections.abc import Callable, Sequence

from commands import ROOT, BuildError, output, run
from fineprune import __version__
from fineprune.stages import STAGES
from pip_settings import build_secrets, fill_wheelhouse, pip_configuration

PUBLIC_BASE = "python:3.11-slim-bookworm"
OWN_BASE = "fineprune-base:bookworm"
CLUSTER_PLATFORM = "linux/amd64"  # whatever this machine is
# Docker knows these build arguments: they end in no image, and change nothing in its cache.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
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
    parser.add_argument(
        "--platform",
        help=f"default: {CLUSTER_PLATFORM} with --registry, else that of the engine",
    )
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
    given.platform = given.platform or (CLUSTER_PLATFORM if given.registry else None)
    return given


def _build(given: argparse.Namespace) -> None:
    docker = find_docker()
    torch = torch_build(docker) if given.torch == "auto" else given.torch
    platform = [f"--platform={given.platform}"] if given.platform else []
    base = given.base_image or _base(docker, platform)
    pushed = {stage: image(stage, given.registry) for stage in given.stages or STAGES}
    tags = pushed | ({"mlflow": image("mlflow")} if given.server else {})
    configuration = pip_configuration()
    fill_wheelhouse(configuration.get("find-links", "").split())
    passed_on = [f"--build-arg={name}" for name in PROXIES if os.environ.get(name)]
    commit = _commit()
    print(f"version {__version__}, commit {commit}, torch for {torch}, on {base}")
    rows = []
    with build_secrets(configuration) as flags:
        for number, (target, tag) in enumerate(tags.items(), start=1):
            command = [
                *(docker, "build", "--network=host", "--progress=plain", "--file=docker/Dockerfile"),
                *(f"--target={target}", f"--tag={tag}", *platform, *flags, *passed_on),
                *(f"--build-arg=BASE_IMAGE={base}", f"--build-arg=TORCH={torch}"),
                *(f"--build-arg=VERSION={__version__}", f"--build-arg=COMMIT={commit}", "."),
            ]
            started = time.monotonic()
            run(command, f"[{number}/{len(tags)}] {tag}")
            rows.append((tag, time.monotonic() - started))
    print(_table(docker, rows))
    if given.push:
        print(_push(docker, pushed))


def image(target: str, registry: str | None = None) -> str:
    """The tag of a target."""
    return f"{registry}/{_tag(target)}" if registry else _tag(target)


def torch_build(docker: str) -> str:
    """The build of torch that the engine can make use of: cuda where it passes GPUs on, else cpu."""
    runtimes = json.loads(output([docker, "info", "--format", "{{json .Runtimes}}"]) or "null")
    return "cuda" if "nvidia" in (runtimes or {}) else "cpu"


def _push(docker: str, tags: dict[str, str]) -> str:
    """Push the images of the stages; gives their digests as pipeline/settings.yaml takes them.

    Raises:
        BuildError: the registry does not take one, or tells no digest.
    """
    lines = ["images.digests of pipeline/settings.yaml:", "    digests:"]
    for number, (stage, tag) in enumerate(tags.items(), start=1):
        said = run([docker, "push", tag], f"push [{number}/{len(tags)}] {tag}")
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
    if (client := shutil.which("docker")) and not output([client, "info", "--format", "{{.ID}}"]):
        raise BuildError("expected a Docker Engine, found none that answers: docker info says more")
    clients = [path for folder in folders if (path := shutil.which("docker", path=folder))]
    for client in clients:
        version = re.match(r"\d+", output([client, "version", "--format", "{{.Client.Version}}"]))
        old = version is not None and int(version[0]) in range(19, 23)
        if old or output([client, "buildx", "version"]):
            return client
    raise BuildError(f"expected a docker client with BuildKit, found {', '.join(clients) or 'none'}")


def _base(docker: str, platform: Sequence[str]) -> str:
    """The public base image where it is here or can be pulled; else one made of Debian's packages."""
    for attempt in (["image", "inspect"], ["pull", "--quiet", *platform]):
        if output([docker, *attempt, PUBLIC_BASE]):
            return PUBLIC_BASE
    if not output([docker, "image", "inspect", OWN_BASE]):
        run([str(ROOT / "docker" / "base_image.sh"), OWN_BASE], f"no registry: {OWN_BASE}", DOCKER=docker)
    return OWN_BASE


def _table(docker: str, rows: Sequence[tuple[str, float]]) -> str:
    """Sizes and times; ``own`` is what no other image shares."""
    usage = output([docker, "system", "df", "--verbose", "--format", "{{json .Images}}"])
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
    return output(["git", "-C", str(ROOT), *describe]) or "unknown"


if __name__ == "__main__":
    sys.exit(main())
