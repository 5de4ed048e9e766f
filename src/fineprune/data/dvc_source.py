"""DVC-tracked paths at a revision, without DVC: ``dvc+<repo>@<rev>:<path>``.

DVC keeps a small text file in git (``<path>.dvc``, or ``dvc.lock`` for a stage's outputs) that names
the md5 of the content, and the content under that md5 in a cache and in a remote:
``files/md5/<first two digits>/<the rest>``. A folder's md5 ends in ``.dir`` and is that of a JSON
list of its files. Read here: the layout of DVC 3, with the repository's cache, and the default
remote where that is a folder or ``s3://``. Of ``.dvc/config`` and ``config.local`` the remote's ``url`` and
``endpointurl`` and the cache's ``dir`` are read; keys, profile and region are the environment's.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from fineprune.data.dvc_files import MD5, tracked
from fineprune.data.dvc_objects import DvcObjects
from fineprune.data.git_revision import GitRevision
from fineprune.digests import dvc_folder_md5
from fineprune.errors import StorageError, excerpt, without_credentials
from fineprune.files import as_mapping, read_json, stays_inside

PREFIX = "dvc+"

_REVISION = re.compile(r"[^@:]+")
_SOURCE = re.compile(rf"dvc\+(?P<repository>.+)@(?P<revision>{_REVISION.pattern}):(?P<path>[^@:]+)")
_EXPECTED = "expected dvc+<repository>@<revision>:<path>"


class TrackedPath:
    """A tracked path, or a path inside a tracked folder, at one revision; ``commit`` is what that stands for.

    Args:
        source: ``dvc+<repo>@<rev>:<path>``; the repository is a folder or a git URL.
        scratch: an existing folder for the clone and for the files.
        endpoint: the object store's address where the remote's config names none; None for what the
            environment says, or else AWS.

    Raises:
        StorageError: there is no such revision, or the path is not tracked.
    """

    def __init__(self, source: str, scratch: Path, *, endpoint: str | None = None) -> None:
        address = _SOURCE.fullmatch(source)
        if address is None:
            raise StorageError(f"{without_credentials(source)}: {_EXPECTED}")
        path = PurePosixPath(address["path"])
        if not stays_inside(path):
            raise StorageError(
                f"{without_credentials(source)}: expected a path inside the repository, found {path}"
            )
        git = GitRevision(address["repository"], address["revision"], scratch=scratch / "clone")
        self.commit = git.commit
        self._absent = f"{git.repository}: {path} is not in what DVC tracks there at {git.revision}"
        self._tracked, self._inside = tracked(git, path)
        self._objects = DvcObjects(git, scratch / "objects", endpoint)
        self._target = scratch / "files" / path.name

    @property
    def md5(self) -> str:
        """What DVC records for the file or folder (``….dir``); at most a folder's list is fetched for it.

        Raises:
            StorageError: the tracked folder's list is nowhere, or has no such path.
        """
        return _md5_of_members(self._members) if self._inside.parts else self._tracked

    def fetch(self) -> Path:
        """Bring the file or folder to the scratch folder and check every md5.

        Raises:
            StorageError: the content is neither in the cache nor in the remote, or is not what DVC recorded.
        """
        content = self._objects.fetch(set(self._members.values()))
        for name, md5 in self._members.items():
            (self._target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content[md5], self._target / name)
        return self._target

    def in_remote(self) -> str:
        """Where the default remote has what is tracked: the remote's address, without credentials.

        Raises:
            StorageError: the remote is no ``s3://``, does not answer, or has no such object.
        """
        return self._objects.in_remote(self._tracked)

    @cached_property
    def _members(self) -> dict[PurePosixPath, str]:
        """The files at or below the path, relative to it, and their md5s."""
        if not self._tracked.endswith(".dir"):
            members = {} if self._inside.parts else {self._inside: self._tracked}
        else:
            members = _listed(self._objects.fetch({self._tracked})[self._tracked], self._inside)
        if not members:
            raise StorageError(self._absent)
        return members


def at_revision(source: str, revision: str) -> str:
    """The source ``dvc+<repo>@<rev>:<path>`` with another revision.

    Raises:
        StorageError: the source is not of that form, or the revision cannot stand in it.
    """
    address = _SOURCE.fullmatch(source)
    if address is None or not _REVISION.fullmatch(revision):
        raise StorageError(f"{without_credentials(source)}: {_EXPECTED} for revision {revision!r}")
    return f"{PREFIX}{address['repository']}@{revision}:{address['path']}"


def resolve(source: str, revision: str | None = None) -> tuple[str, str]:
    """The commit and the md5 that a source stands for now, without its data.

    Args:
        source: ``dvc+<repo>@<rev>:<path>``.
        revision: instead of the one that the source names.

    Raises:
        StorageError: there is no such revision, or the path is not tracked.
    """
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        found = TrackedPath(at_revision(source, revision) if revision else source, Path(scratch))
        return found.commit, found.md5


def _listed(listing: Path, inside: PurePosixPath) -> dict[PurePosixPath, str]:
    """The files of a tracked folder at or below ``inside``, relative to it, and their md5s."""
    entries, members = read_json(listing, StorageError), {}
    for entry in entries if isinstance(entries, list) else [entries]:
        relpath, md5 = as_mapping(entry).get("relpath"), as_mapping(entry).get("md5")
        if not isinstance(relpath, str) or not isinstance(md5, str) or not MD5.fullmatch(md5):
            raise StorageError(f"{listing.name}: expected paths with their md5s, found {excerpt(entry)}")
        path = PurePosixPath(relpath)
        if not stays_inside(path):
            raise StorageError(f"{listing.name}: expected paths inside the folder, found {relpath!r}")
        if path.is_relative_to(inside):
            members[path.relative_to(inside)] = md5
    return members


def _md5_of_members(members: Mapping[PurePosixPath, str]) -> str:
    """What DVC records for those files: one file, or a folder."""
    if PurePosixPath() in members:
        return members[PurePosixPath()]
    return dvc_folder_md5({str(name): md5 for name, md5 in members.items()})
