"""DVC-tracked paths at a revision, without DVC: ``dvc+<repo>@<rev>:<path>``.

DVC keeps a small text file in git (``<path>.dvc``, or ``dvc.lock`` for a stage's outputs) that names
the md5 of the content, and the content under that md5 in a cache and in a remote:
``files/md5/<first two digits>/<the rest>``. A folder's md5 ends in ``.dir`` and is that of a JSON
list of its files. Read here: the layout of DVC 3, with the repository's cache, and the default
remote where that is a folder or ``s3://``; what ``.dvc/config`` and ``config.local`` say of both.
"""

from __future__ import annotations

import configparser
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from fineprune.data.git_revision import GitRevision
from fineprune.digests import dvc_folder_md5, dvc_md5
from fineprune.errors import StorageError, excerpt, without_credentials
from fineprune.files import as_mapping, read_json, stays_inside
from fineprune.storage import Bucket, split_url

PREFIX = "dvc+"

_REVISION = re.compile(r"[^@:]+")
_SOURCE = re.compile(rf"dvc\+(?P<repository>.+)@(?P<revision>{_REVISION.pattern}):(?P<path>[^@:]+)")
_EXPECTED = "expected dvc+<repository>@<revision>:<path>"
_MOST_MERGED = 100_000  # keys of a file, by YAML's <<
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


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
        self._tracked, self._inside = _tracked(git, path)
        self._objects = _Objects(git, scratch / "objects", endpoint)
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
        tracked = TrackedPath(at_revision(source, revision) if revision else source, Path(scratch))
        return tracked.commit, tracked.md5


def _tracked(git: GitRevision, path: PurePosixPath) -> tuple[str, PurePosixPath]:
    """The md5 of the tracked path that is or holds ``path``, and where in it ``path`` is."""
    holders = [path, *path.parents]
    outs: dict[PurePosixPath, Mapping[str, Any]] = {}
    for name in [*(f"{holder}.dvc" for holder in holders), *(str(up / "dvc.lock") for up in path.parents)]:
        outs |= _outs(git, name)
    for holder in holders:
        if holder in outs:
            return _md5_of(outs[holder], f"{git.repository}: {holder} at {git.revision}"), path.relative_to(
                holder
            )
    raise StorageError(f"{git.repository}: {path} is not tracked by DVC at {git.revision}")


def _outs(git: GitRevision, name: str) -> dict[PurePosixPath, Mapping[str, Any]]:
    """What a ``.dvc`` file, or the stages of a ``dvc.lock``, track, by path.

    A ``wdir`` that is a template is taken as it stands, so that no path is below it.
    """
    values, folder = _yaml(git, name), PurePosixPath(name).parent
    try:
        told = [(values.get("wdir"), values)]
        if stages := values.get("stages"):  # a lock does not say where its stages run
            defined = _yaml(git, str(folder / "dvc.yaml")).get("stages") or {}
            told += [(_wdir(defined.get(stage.partition("@")[0])), one) for stage, one in stages.items()]
        return {
            PurePosixPath(normpath(folder / (wdir or ".") / out["path"])): out
            for wdir, stage in told
            for out in stage.get("outs") or ()
        }
    except (AttributeError, KeyError, TypeError) as error:
        expected = "expected outs with a path each, as DVC writes them"
        raise StorageError(f"{git.repository}@{git.revision}: {name}: {expected}") from error


def _wdir(stage: object) -> Any:
    """Where a stage of a ``dvc.yaml`` runs, told by itself or under ``do``."""
    defined = as_mapping(stage)
    return (as_mapping(defined.get("do")) or defined).get("wdir")


def _yaml(git: GitRevision, name: str) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.load(git.show(name), _bounded()) or {}  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, or of deep nesting
        raise StorageError(f"{git.repository}@{git.revision}: {name}: not valid YAML") from error
    return as_mapping(values)


def _bounded() -> Any:
    """PyYAML's safe loader, which would copy what is merged into what is merged, tenfold in each line."""
    import yaml

    class Loader(yaml.SafeLoader):
        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            for key, value in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    self._count(value.value if isinstance(value, yaml.SequenceNode) else [value])
            super().flatten_mapping(node)

        def _count(self, sources: Sequence[Any]) -> None:
            for source in sources:
                if isinstance(source, yaml.MappingNode):
                    self.flatten_mapping(source)
                    self.merged += len(source.value)
                    if self.merged > _MOST_MERGED:
                        raise yaml.constructor.ConstructorError(problem="too much is merged")

    return Loader


def _md5_of(out: Mapping[str, Any], where: str) -> str:
    md5 = out.get("md5")
    if out.get("hash") != "md5" or not isinstance(md5, str) or not MD5.fullmatch(md5):
        raise StorageError(f"{where}: expected an entry of DVC 3 with hash: md5, found {excerpt(out)}")
    return md5


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
    """What :func:`dvc_md5` gives for those files once they are here: one file, or a folder."""
    if PurePosixPath() in members:
        return members[PurePosixPath()]
    return dvc_folder_md5({str(name): md5 for name, md5 in members.items()})


class _Objects:
    """Objects by md5: from the cache, or else from the default remote; each is checked."""

    def __init__(self, git: GitRevision, folder: Path, endpoint: str | None) -> None:
        self._git = git
        self._folder = folder
        self._base = git.root / ".dvc"
        config = _config(git)
        self._cache = self._base / config.get("cache", "dir", fallback="cache")
        remote = f"'remote \"{config.get('core', 'remote', fallback='')}\"'"
        self._url = config.get(remote, "url", fallback="")
        self._endpoint = config.get(remote, "endpointurl", fallback=endpoint)

    def fetch(self, md5s: set[str]) -> dict[str, Path]:
        """Where the content of each md5 is on this machine."""
        found = {md5: path for md5 in md5s if (path := self._cache / _layout(md5)).is_file()}
        found |= self._from_remote(sorted(md5s - set(found)))
        for md5, path in found.items():
            if (actual := dvc_md5(path)) != md5.removesuffix(".dir"):
                raise StorageError(f"{path}: digest mismatch: expected md5 {md5}, found {actual}")
        return found

    def _from_remote(self, md5s: list[str]) -> dict[str, Path]:
        if self._url.startswith("s3://") and md5s:
            return self._from_s3(md5s)
        if md5s and "://" in self._url:
            expected = "expected a folder or s3:// as default remote"
            raise StorageError(f"{self._missing}: {expected}, found {without_credentials(self._url)}")
        # A relative folder is meant from where the config is.
        found = {md5: self._base / self._url / _layout(md5) for md5 in md5s}
        for md5, path in found.items():
            if not self._url or not path.is_file():
                remote = without_credentials(self._url) or "(none)"
                raise StorageError(f"{self._missing} nor in the default remote {remote}: md5 {md5}")
        return found

    def in_remote(self, md5: str) -> str:
        """The default remote, if it is an object store that has the object."""
        remote = without_credentials(self._url)
        if not self._url.startswith("s3://"):
            raise StorageError(
                f"{self._git.repository}: expected an s3:// default remote, found {remote or 'none'}"
            )
        name, key = self._place(md5)
        bucket = Bucket(name, endpoint=self._endpoint)
        if bucket.find(key) is None:
            bucket.check()
            raise StorageError(f"s3://{name}/{key}: there is no such object; dvc push it")
        return remote

    def _place(self, md5: str) -> tuple[str, str]:
        """The bucket and the key of an object in the default remote."""
        name, prefix = split_url(self._url)
        return name, str(PurePosixPath(prefix) / _layout(md5))

    def _from_s3(self, md5s: list[str]) -> dict[str, Path]:
        targets = {md5: self._folder / md5 for md5 in md5s}
        name, _ = split_url(self._url)
        try:
            Bucket(name, endpoint=self._endpoint).download_all(
                (self._place(md5)[1], target) for md5, target in targets.items()
            )
        except StorageError as error:
            raise StorageError(
                f"{self._missing}, and the default remote does not deliver: {error}"
            ) from error
        return targets

    @property
    def _missing(self) -> str:
        return f"{self._git.repository}: not in the cache {self._cache}"


def _config(git: GitRevision) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser()
    try:
        config.read_string(git.show(".dvc/config"))
        config.read(git.root / ".dvc/config.local", encoding="utf-8")  # of a repository on this machine
    except (configparser.Error, ValueError) as error:
        raise StorageError(f"{git.repository}@{git.revision}: .dvc/config: not a valid config") from error
    return config


def _layout(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"
