"""Commands that a build of images runs: asked for what they print, or shown at work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LAST_LINES = 25


class BuildError(Exception):
    """An image cannot be built."""


def output(command: Sequence[str]) -> str:
    """What a command prints; empty where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def run(command: Sequence[str], title: str, **environment: str) -> list[str]:
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
