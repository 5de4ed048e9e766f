"""A git repository at one revision, read by the ``git`` program; nothing is checked out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from fineprune.errors import StorageError, without_credentials

# What `git rev-parse --local-env-vars` lists that says which repository is meant.
_OF_A_REPOSITORY = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX"),
}
_PARTIAL = re.compile(r"extensions\.partialclone|remote\..*\.promisor", re.IGNORECASE)
_LARGEST = 2**22  # bytes: a lock of eight thousand stages
_URL = re.compile(r"[a-z+]+://|[^/]+@[^/]+:")


class CloneError(StorageError):
    """The repository cannot be cloned."""


class GitRevision:
    """The files of one commit, by their paths from the repository's top.

    ``commit`` is its full name, and ``root`` the repository's folder on this machine.

    Args:
        repository: its top folder, or a URL that ``git clone`` takes.
        revision: a commit, tag or branch.
        scratch: a folder that does not exist yet, for the clone of a URL.

    Raises:
        CloneError: there is no such repository, or it does not let us in.
        StorageError: there is no such folder or revision, or ``git`` is not installed.
    """

    def __init__(self, repository: str, revision: str, *, scratch: Path) -> None:
        self.repository, self.revision = without_credentials(repository), revision
        self.root, self._cloned = Path(repository), _URL.match(repository) is not None
        if self._cloned:
            # Without blobs: only the few files that are shown will be asked for.
            self._run(
                "clone", "--quiet", "--filter=blob:none", "--no-checkout", "--", repository, str(scratch)
            )
            self.root = scratch
        elif not self.root.is_dir():
            raise StorageError(f"{self.repository}: no such repository")
        self.commit = self._commit()

    def show(self, name: str) -> str:
        """The text of a file of the commit; empty if it has none of that name.

        Raises:
            StorageError: it is far larger than any that DVC writes.
        """
        # This name is asked for alone: a dozen git objects can describe a tree of ten billion files.
        entry = self._run("ls-tree", "-z", "--long", "--full-tree", self.commit, "--", name)
        kind, _, size = (entry.partition("\t")[0].split() or ["", "", "", ""])[1:]
        if kind != "blob":
            return ""
        if int(size) > _LARGEST:
            expected = f"expected at most {_LARGEST:,} bytes, found {int(size):,}"
            raise StorageError(f"{self.repository}@{self.revision}: {name}: {expected}")
        return self._run("show", f"{self.commit}:{name}")

    def _commit(self) -> str:
        if self.revision.startswith("-"):
            raise StorageError(f"{self.repository}: expected a revision, found {self.revision!r}")
        self._run("rev-parse", "--git-dir")
        if not self._cloned:
            self._check_whole()
        # A clone has the branches of its origin only by their remote names.
        for name in (self.revision, f"origin/{self.revision}"):
            try:
                return self._run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
            except StorageError:
                continue
        raise StorageError(f"{self.repository}: there is no revision {self.revision!r}")

    def _check_whole(self) -> None:
        """What a partial clone lacks git would ask for, with a program that the clone itself may name."""
        if any(map(_PARTIAL.fullmatch, self._run("config", "--list", "--name-only").split())):
            raise StorageError(f"{self.repository}: expected a whole repository, found a partial clone")

    def _run(self, *arguments: str) -> str:
        program = shutil.which("git")
        if program is None:
            raise StorageError("dvc+ sources need the git program, which is not installed")
        place = () if arguments[0] == "clone" else ("-C", str(self.root))
        # Never ask for a password: a stage has nobody to answer.
        # Nor look into another repository: in a hook, git's variables name its own.
        kept = {name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY}
        environment = kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        done = subprocess.run(  # noqa: S603 - a list of arguments, without a shell
            [program, *place, *arguments], capture_output=True, env=environment, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").splitlines()
            cause = next((line for line in said if line.startswith("fatal:")), f"exit code {done.returncode}")
            kind = CloneError if arguments[0] == "clone" else StorageError
            raise kind(f"{self.repository}: git {arguments[0]}: {without_credentials(cause)}")
        return done.stdout.decode(errors="replace")
