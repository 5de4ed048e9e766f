"""Where pip finds packages on this machine, told to the build of an image.

Wheels that pip would find in a folder of this machine are laid into ``docker/wheelhouse``; the rest of pip's
configuration goes into the build as a secret, so that no index address is left in an image.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from commands import ROOT, output

WHEELHOUSE = ROOT / "docker" / "wheelhouse"
CERTIFICATES = "/run/secrets/ca.pem"
_PASSED_ON = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host"),
    *("proxy", "timeout", "default-timeout"),
)
_PLACES = ("extra-index-url", "find-links")


def pip_configuration() -> dict[str, str]:
    """The settings of pip on this machine; those of a command win, and those of the environment most."""
    pip = next(
        command
        for command in ([sys.executable, "-m", "pip"], [shutil.which("pip") or "pip"])
        if output([*command, "--version"])
    )
    lines = output([*pip, "config", "list"]).splitlines()
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
    for place in (place for place in places if not _remote(place)):
        for wheel in Path(unquote(place.removeprefix("file://"))).expanduser().glob("*.whl"):
            name, version = wheel.name.split("-")[:2]
            target = WHEELHOUSE / wheel.name
            if (_plain(name), version.split("+")[0]) in pinned and not target.exists():
                part = target.with_suffix(".part")
                shutil.copyfile(wheel, part)
                part.rename(target)


@contextmanager
def build_secrets(configuration: dict[str, str]) -> Iterator[list[str]]:
    """The flags that give a build pip's configuration; its files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fineprune-pip-") as folder:
        lines = ["[global]"]
        flags = [f"--secret=id=pip,src={folder}/pip.conf"]
        for name, value in configuration.items():
            words = [word for word in value.split() if name not in _PLACES or _remote(word)]
            if name in _PASSED_ON and words:
                lines.append(f"{name} = {' '.join(words)}")
        if "cert" in configuration:
            lines.append(f"cert = {CERTIFICATES}")
            flags.append(f"--secret=id=ca,src={Path(configuration['cert']).expanduser()}")
        Path(folder, "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield flags


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _remote(place: str) -> bool:
    return "://" in place and not place.startswith("file:")
