"""S3-compatible object stores: fetch an object or a tree, and check what arrived.

The only file that imports boto3, at first use. Credentials, region, ``AWS_ENDPOINT_URL(_S3)`` and
``AWS_MAX_ATTEMPTS`` are boto3's own settings; no message repeats a credential.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fineprune.digests import dvc_md5
from fineprune.environment import check_sendable
from fineprune.errors import StorageError, missing_extra, one_line
from fineprune.files import stays_inside
from fineprune.progress import in_threads

_WORKERS = 8
_CHUNK = 1 << 16
_FRUITLESS_TRIES = 3
_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")
_CAUSES = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    "404": "there is no such object",
    "403": "access denied to this key and secret",
    "AccessDenied": "access denied",
    "InvalidAccessKeyId": "access denied: the access key is not known",
    "SignatureDoesNotMatch": "access denied: the secret does not fit the access key",
    "PreconditionFailed": "the object changed while it was fetched",
}


@dataclass(frozen=True)
class Stored:
    """An object as its store describes it; ``md5`` is None where the store does not tell it."""

    key: str
    size: int
    etag: str
    md5: str | None


class Bucket:
    """One bucket.

    Args:
        name: the bucket.
        endpoint: the store's address; None for what the environment says, or else AWS.
    """

    def __init__(self, name: str, *, endpoint: str | None = None) -> None:
        self.name = name
        self._client = _client(endpoint)

    def check(self) -> None:
        """Raise :class:`StorageError` unless the store answers, has the bucket and lets us in."""
        try:
            with _one_line_errors(f"s3://{self.name}"):
                self._client.head_bucket(Bucket=self.name)
        except _MissingError:
            raise StorageError(f"s3://{self.name}: there is no such bucket") from None

    def find(self, key: str) -> Stored | None:
        """The object of that key, or None.

        Raises:
            StorageError: the store does not answer, or denies access.
        """
        try:
            with _one_line_errors(self._where(key)):
                head = self._client.head_object(Bucket=self.name, Key=key)
        except _MissingError:
            return None
        encrypted = "SSECustomerAlgorithm" in head or head.get("ServerSideEncryption", "").startswith(
            "aws:kms"
        )
        return _stored(key, head["ContentLength"], head["ETag"], plain=not encrypted)

    def below(self, prefix: str) -> list[Stored]:
        """Every object whose key starts with the prefix, but for the markers of empty folders.

        Raises:
            StorageError: the store does not answer, denies access, or has no such bucket.
        """
        with _one_line_errors(self._where(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            entries = [entry for page in pages for entry in page.get("Contents", ())]
        # A listing does not say how an object is encrypted, hence whether its ETag is an md5.
        return [
            _stored(entry["Key"], entry["Size"], entry["ETag"], plain=False)
            for entry in entries
            if not entry["Key"].endswith("/")
        ]

    def named(self, key: str) -> list[Stored]:
        """The object of that key, or else every object below it; none where there is neither."""
        stored = self.find(key) if key and not key.endswith("/") else None
        return self.below(_prefix(key)) if stored is None else [stored]

    def download(self, key: str, target: Path) -> None:
        """Fetch one object to a new file; a transfer that breaks off is continued, and the result is checked.

        Raises:
            StorageError: there is no such object, it is cut short, or its md5 is not that of the store.
        """
        stored = self.find(key)
        if stored is None:
            self.check()  # the answer for one object does not tell a missing bucket
            raise StorageError(f"{self._where(key)}: there is no such object")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            self._complete(stored, file)
        self._check(stored, target)

    def download_all(self, wanted: Iterable[tuple[str, Path]]) -> None:
        """Fetch several objects at a time, each as :meth:`download` does."""
        in_threads(lambda job: self.download(*job), list(wanted), threads=_WORKERS, name="fetch", unit="file")

    def _complete(self, stored: Stored, file: BinaryIO) -> None:
        """Append until all of the object is there; give up after tries that bring nothing."""
        fruitless = 0
        while (have := file.tell()) < stored.size:
            with _one_line_errors(self._where(stored.key)):
                self._append(stored, file)
            fruitless = 0 if file.tell() > have else fruitless + 1
            if fruitless == _FRUITLESS_TRIES:
                found = f"expected {stored.size} bytes, found {have}"
                raise StorageError(f"{self._where(stored.key)}: the transfer broke off: {found}")
            time.sleep(0.1 * fruitless)

    def _append(self, stored: Stored, file: BinaryIO) -> None:
        """Append what of the object is not there yet, as far as the transfer goes."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        start = file.tell()
        wanted = {"IfMatch": f'"{stored.etag}"'} | ({"Range": f"bytes={start}-"} if start else {})
        body = self._client.get_object(Bucket=self.name, Key=stored.key, **wanted)["Body"]
        # Unlike a refused request, a transfer that breaks off is worth another try.
        with suppress(HTTPClientError, IncompleteReadError):
            for chunk in body.iter_chunks(_CHUNK):
                file.write(chunk)

    def _check(self, stored: Stored, target: Path) -> None:
        found = target.stat().st_size
        if found != stored.size:
            raise StorageError(f"{self._where(stored.key)}: expected {stored.size} bytes, found {found}")
        if stored.md5 is not None and (md5 := dvc_md5(target)) != stored.md5:
            raise StorageError(f"{self._where(stored.key)}: expected md5 {stored.md5}, found {md5}")

    def _where(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


def fetch(url: str, folder: Path, *, endpoint: str | None = None) -> Path:
    """Fetch ``s3://bucket/key``: an object, or else every object below that prefix.

    Args:
        url: what to fetch.
        folder: where to put it; made if need be.
        endpoint: the store's address; None for what the environment says, or else AWS.

    Returns:
        The file for an object, and ``folder`` for a tree.

    Raises:
        StorageError: one line that names the bucket and key and says what is wrong.
    """
    name, key = split_url(url)
    bucket = Bucket(name, endpoint=endpoint)
    folder.mkdir(parents=True, exist_ok=True)
    found = bucket.named(key)
    if not found:
        raise StorageError(f"{url}: there is no such object, nor any below it")
    if found[0].key == key:
        target = _inside(folder, PurePosixPath(key).name, url)
        bucket.download(key, target)
        return target
    start = len(_prefix(key))
    bucket.download_all((entry.key, _inside(folder, entry.key[start:], url)) for entry in found)
    return folder


def _prefix(key: str) -> str:
    """What the keys of all objects below a key begin with; nothing for the whole bucket."""
    return f"{key.rstrip('/')}/" if key else ""


def split_url(url: str) -> tuple[str, str]:
    """The bucket and the key of ``s3://bucket/key``.

    Raises:
        StorageError: it is not such a URL, or holds credentials (which are not repeated).
    """
    scheme, _, place = url.partition("://")
    bucket, _, key = place.partition("/")
    if "@" in bucket or ":" in bucket:
        raise StorageError("s3://…: expected s3://bucket/key without credentials, found some")
    if scheme != "s3" or not bucket:
        raise StorageError(f"{url}: expected s3://bucket/key")
    return bucket, key.lstrip("/")


class AccessError(StorageError):
    """The store does not answer, or does not let us in."""


class _MissingError(StorageError):
    """The store answered that there is no such object."""


@contextmanager
def _one_line_errors(where: str) -> Iterator[None]:
    """Turn what boto3 raises into one line about ``where``."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        kind = _MissingError if code in ("404", "NoSuchKey") else AccessError
        raise kind(f"{where}: {_CAUSES.get(code, f'the store answered {code}')}") from None
    except NoCredentialsError:
        raise AccessError(
            f"{where}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except BotoCoreError as error:
        raise AccessError(f"{where}: cannot reach the store: {one_line(error)}") from None


def _client(endpoint: str | None) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise missing_extra("s3:// sources need", "boto3", "data") from error
    check_sendable("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")
    config = Config(
        retries={"mode": "standard"}, connect_timeout=10, read_timeout=60, max_pool_connections=_WORKERS
    )
    try:
        return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"S3: cannot be set up: {one_line(error)}") from None


def _stored(key: str, size: int, etag: str, *, plain: bool) -> Stored:
    etag = etag.strip('"')
    return Stored(key, size, etag, md5=etag if plain and _PLAIN_MD5.fullmatch(etag) else None)


def _inside(folder: Path, relative: str, url: str) -> Path:
    """``folder / relative``, unless that would leave the folder."""
    if not stays_inside(relative) or not PurePosixPath(relative).parts:
        raise StorageError(f"{url}: expected keys that stay inside a folder, found {relative!r}")
    return folder / relative
