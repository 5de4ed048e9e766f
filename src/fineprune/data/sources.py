"""Where data comes from: one string names an embedded set, a folder, an archive, S3, DVC or a generator."""

from __future__ import annotations

import gzip
import math
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from fineprune.data.dvc_source import PREFIX as DVC
from fineprune.data.dvc_source import TrackedPath, at_revision
from fineprune.data.expansion import most, room
from fineprune.data.generators import LICENCE, Options, generate
from fineprune.digests import dvc_md5
from fineprune.errors import DataError, without_credentials
from fineprune.files import hidden
from fineprune.storage import fetch

EMBEDDED = ("digits",)
GENERATED = "generated"
ARCHIVES = (".tar.gz", ".tgz")
# What tarfile passes on of a damaged archive: of a size, a time, a NUL byte, or headers
# without end or cut short.
_DAMAGED = (EOFError, IndexError, OSError, OverflowError, RecursionError, ValueError, zlib.error)
_PIECE = 2**20  # bytes
_BLOCK = 4096  # bytes that a file takes on disk at least
_MOST_MEMBERS = 4_000_000  # tarfile keeps half a kilobyte of each in memory; YouTube Faces has 621,126 frames


@dataclass(frozen=True)
class Source:
    """A source on this machine.

    Attributes:
        folder: where its files are; None for an embedded set.
        origin: what pins its content: the source as it was named, without credentials, and the md5
            that DVC records for it; the commit for a DVC source; the generator's name for what was drawn.
        licence: where the source itself says what it is: data that was generated is ``synthetic``.
    """

    folder: Path | None
    origin: dict[str, str]
    licence: str | None = None


@contextmanager
def open_source(
    source: str, *, revision: str | None = None, md5: str | None = None, generator: Options | None = None
) -> Iterator[Source]:
    """Bring a source to this machine for as long as the block runs.

    Args:
        source: ``digits``, a folder, a ``.tar.gz``, ``s3://…``, ``dvc+<repo>@<rev>:<path>`` or
            ``generated``.
        revision: of a DVC source, instead of the one it names.
        md5: which the source must have, as DVC computes it; known of a DVC source before it is fetched.
        generator: what makes the data of the source ``generated``.

    Raises:
        DataError: there is no such folder or archive; the archive is damaged or unsafe, or holds far more
            than it should or than the disk has room for; the content has another md5, or none; a generator
            is given for another source, or none for ``generated``, or it cannot do what its options say.
            One that the block raises names the source instead of the folder where its files lie for now.
        StorageError: an object store or a data repository does not deliver, or a revision is given for
            a source that has none.
    """
    if (generator is not None) != (source == GENERATED):
        found = "none" if generator is None else generator.kind
        raise DataError(f"{source}: expected a generator for the source {GENERATED} alone, found {found}")
    source = source if revision is None else at_revision(source, revision)
    with tempfile.TemporaryDirectory(prefix="fineprune-") as scratch:
        if source in EMBEDDED:
            if md5 is not None:
                raise DataError(f"{source}: expected no md5, because embedded data has none, found {md5}")
            yield Source(folder=None, origin={"source": source})
            return
        if generator is not None:
            opened = _generated(generator, md5, Path(scratch) / "generated")
        else:
            path, origin = _fetch(source, md5, Path(scratch))
            opened = Source(_unpacked(path, Path(scratch) / "unpacked", origin["source"]), origin)
        try:
            yield opened
        except DataError as error:
            if opened.folder is None or Path(scratch) not in opened.folder.parents:
                raise
            # Of a file in it: where it lies for now says nothing to a user.
            raise DataError(str(error).replace(str(opened.folder), opened.origin["source"])) from error


def _generated(generator: Options, md5: str | None, folder: Path) -> Source:
    """What the generator makes in a new folder."""
    folder.mkdir()
    generate(generator, folder)
    origin = {"source": GENERATED, "generator": generator.kind, "dvc_md5": dvc_md5(folder)}
    _check_md5(origin, md5)
    return Source(folder=folder, origin=origin, licence=LICENCE)


def _fetch(source: str, md5: str | None, scratch: Path) -> tuple[Path, dict[str, str]]:
    """Where the source's file or folder is on this machine, and its origin."""
    if source.startswith(DVC):
        tracked = TrackedPath(source, scratch)
        origin = {"source": without_credentials(source), "dvc_md5": tracked.md5, "revision": tracked.commit}
        _check_md5(origin, md5)
        return tracked.fetch(), origin
    # Path's own expanduser raises where there is no such user.
    path = fetch(source, scratch / "fetched") if "://" in source else Path(os.path.expanduser(source))
    if not source or not path.exists():  # an empty one would be the working directory
        raise DataError(f"{source or repr(source)}: no such folder or archive")
    origin = {"source": source, "dvc_md5": dvc_md5(path)}
    _check_md5(origin, md5)
    return path, origin


def _check_md5(origin: Mapping[str, str], expected: str | None) -> None:
    found = origin["dvc_md5"]
    if expected not in (None, found):
        raise DataError(f"{origin['source']}: digest mismatch: expected md5 {expected}, found {found}")


def _unpacked(path: Path, target: Path, source: str) -> Path:
    """The folder itself, or what the archive holds; an archive's only folder stands for the archive."""
    if path.is_dir():
        return path
    if not path.name.endswith(ARCHIVES):
        raise DataError(
            f"{source}: expected a folder or a {' or '.join(ARCHIVES)} archive, found a file of another name"
        )
    target.mkdir()
    try:
        with _Unzipped(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            _check_members(archive, file, target, source)
            _check_end(archive)
            archive.extractall(target)  # noqa: S202 - every member is checked
    except (tarfile.TarError, *_DAMAGED) as error:
        raise DataError(f"{source}: expected a whole and safe archive, found {error}") from error
    entries = [entry for entry in target.iterdir() if not hidden(entry.relative_to(target))]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else target


class _Unzipped(gzip.GzipFile):
    """What a gzip file holds; no more than ``allowance`` bytes of it are read.

    Tarfile takes a header of any length into memory, a long name or the map of a sparse file.
    """

    allowance: float = _PIECE

    def read(self, size: int | None = -1) -> bytes:
        """See :class:`gzip.GzipFile`."""
        self.allowance -= size or 0
        if self.allowance < 0:
            raise tarfile.ReadError(f"a header of more than {_PIECE:,} bytes")
        return super().read(size)


def _check_members(archive: tarfile.TarFile, file: _Unzipped, target: Path, source: str) -> None:
    """Refuse members that are no plain files or folders, and more of them than there is reason or room for.

    One after the other: to find the next one, tarfile unpacks all before it.
    """
    stored, free, taken = Path(file.name).stat().st_size, room(target), 0
    for number, member in enumerate(archive, 1):
        _check_member(member)
        taken += max(1, -(-member.size // _BLOCK)) * _BLOCK
        for found, limit, expected in (
            (archive.offset, most(stored), f"bytes from an archive of {stored:,}"),
            (taken, free, "bytes, for which the disk has room"),
            (number, _MOST_MEMBERS, "files"),
        ):
            if found > limit:
                told = f"expected at most {limit:,} {expected}, found more"
                raise DataError(f"{source}: {told}: extract it yourself and name the folder")
        file.allowance = _PIECE
    file.allowance = math.inf


def _check_member(member: tarfile.TarInfo) -> None:
    """Refuse what an archive of data has no need of; Python before 3.11.4 knows no extraction filters."""
    place = PurePosixPath(member.name)
    plain = (member.isfile() and not member.issparse()) or member.isdir()  # a sparse one is any size
    if place.is_absolute() or ".." in place.parts or not plain:
        raise tarfile.TarError(f"{member.name!r}, which is no plain file or folder inside the archive")


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse an archive whose last member is not followed by a block of zeros, its end, or whose
    content is not what was compressed.

    Tarfile takes a damaged header for the end. Where nothing follows at all, its writer was stopped: tar lets
    that pass, but samples may be missing. Nor does it read on to gzip's checksum, which stands at the end.
    """
    file = cast(BinaryIO, archive.fileobj)
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.TarError(f"neither a member nor the end at byte {archive.offset}")
    while file.read(_PIECE):
        pass
