"""Where data comes from: one string names an embedded set, a folder, an archive, S3 or DVC."""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fineprune.data.dvc_source import PREFIX as DVC
from fineprune.data.dvc_source import fetch_dvc
from fineprune.errors import DataError, without_credentials
from fineprune.files import dvc_md5
from fineprune.storage import fetch

EMBEDDED = ("digits",)
ARCHIVES = (".tar.gz", ".tgz")


@dataclass(frozen=True)
class Source:
    """A source on this machine.

    Attributes:
        folder: where its files are; None for an embedded set.
        origin: what pins its content: the source as it was named, without credentials, and the md5
            that DVC records for it; the commit for a DVC source.
    """

    folder: Path | None
    origin: dict[str, str]


@contextmanager
def open_source(source: str) -> Iterator[Source]:
    """Bring a source to this machine for as long as the block runs.

    Raises:
        DataError: there is no such folder or archive, or the archive is damaged or unsafe.
        StorageError: an object store or a data repository does not deliver.
    """
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        if source in EMBEDDED:
            yield Source(folder=None, origin={"source": source})
            return
        path, origin = _fetch(source, Path(scratch))
        yield Source(folder=_unpacked(path, Path(scratch) / "unpacked"), origin=origin)


def _fetch(source: str, scratch: Path) -> tuple[Path, dict[str, str]]:
    """Where the source's file or folder is on this machine, and its origin."""
    if source.startswith(DVC):
        delivery = fetch_dvc(source, scratch)
        origin = {"source": without_credentials(source), "dvc_md5": delivery.md5, "revision": delivery.commit}
        return delivery.path, origin
    path = fetch(source, scratch / "fetched") if "://" in source else Path(source)
    if not path.exists():
        raise DataError(f"{source}: no such folder or archive")
    return path, {"source": source, "dvc_md5": dvc_md5(path)}


def _unpacked(path: Path, target: Path) -> Path:
    """The folder itself, or what the archive holds; an archive's only folder stands for the archive."""
    if path.is_dir():
        return path
    if not path.name.endswith(ARCHIVES):
        raise DataError(f"{path}: expected a folder or a {' or '.join(ARCHIVES)} archive")
    try:
        with tarfile.open(path, "r:gz") as archive:
            archive.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: expected a whole and safe archive, found {error}") from error
    entries = list(target.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else target
