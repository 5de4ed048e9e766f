"""Which code is at work."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

# DVC writes its lock after every stage; it is no code.
_TRACKED = ("--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude,glob)**/dvc.lock")


def revision() -> dict[str, str]:
    """The git commit of the working directory and, if git says, whether it is dirty; else
    ``FINEPRUNE_GIT_COMMIT``.

    An image has that variable: the commit, with ``-dirty`` behind it where the tree was not what it holds.
    """
    commit, changes = _git("rev-parse", "HEAD"), _git("status", *_TRACKED)
    if commit:
        known = {} if changes is None else {"git.dirty": str(bool(changes)).lower()}
        return {"git.commit": commit} | known
    commit, _, dirty = os.environ.get("FINEPRUNE_GIT_COMMIT", "").partition("-")
    return {"git.commit": commit, "git.dirty": str(bool(dirty)).lower()} if commit else {}


def source_digest() -> str:
    """A SHA-256 of the package's own source files, committed or not."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
