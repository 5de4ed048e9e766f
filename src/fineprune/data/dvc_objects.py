"""The contents that DVC tracks, in its cache and its remotes: ``files/md5/<first two digits>/<the rest>``."""

from __future__ import annotations

import configparser
from pathlib import Path, PurePosixPath

from fineprune.data.git_revision import GitRevision
from fineprune.digests import dvc_md5
from fineprune.errors import StorageError, without_credentials
from fineprune.storage import Bucket, split_url


class DvcObjects:
    """The contents of a repository by their md5s: from its cache, or else from its default remote.

    Args:
        git: the commit whose config says where both are.
        folder: where objects from an object store are put.
        endpoint: the object store's address where the config names none; None for what the environment says.

    Raises:
        StorageError: the config is none.
    """

    def __init__(self, git: GitRevision, folder: Path, endpoint: str | None) -> None:
        self._git = git
        self._folder = folder
        self._base = git.root / ".dvc"
        config = _config(git)
        self._cache = self._base / config.get("cache", "dir", fallback="cache")
        remote = f"'remote \"{config.get('core', 'remote', fallback='')}\"'"
        self._url = config.get(remote, "url", fallback="").strip("\"'")  # DVC quotes one with a comma
        self._endpoint = config.get(remote, "endpointurl", fallback=endpoint)

    def fetch(self, md5s: set[str]) -> dict[str, Path]:
        """Where the content of each md5 is on this machine; each is checked.

        Raises:
            StorageError: one is in neither place, or is not what its md5 says.
        """
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
        """The default remote, without credentials, if it is an object store that has the object.

        Raises:
            StorageError: it is none, does not answer, or has no such object.
        """
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
