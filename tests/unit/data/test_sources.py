import gzip
import io
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from fineprune.data import expansion, sources
from fineprune.data.sources import open_source
from fineprune.digests import dvc_md5
from fineprune.errors import DataError, StorageError


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "set"
    for name in ("a/1", "a/2", "b/1"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


@pytest.fixture
def archive(folder):
    return shutil.make_archive(str(folder.parent / "packed"), "gztar", folder.parent, "set")


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_embedded_set_has_no_folder():
    with open_source("digits") as source:
        assert source.folder is None
        assert source.origin == {"source": "digits"}


def test_a_folder_is_read_where_it_is(folder):
    with open_source(str(folder)) as source:
        assert source.folder == folder
        assert source.origin == {"source": str(folder), "dvc_md5": dvc_md5(folder)}
    assert folder.is_dir()


@pytest.mark.parametrize("top", ["set", "."])
def test_an_archive_is_unpacked_for_as_long_as_it_is_needed(top, folder, tmp_path):
    root = tmp_path if top == "set" else folder
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", root, top)
    with open_source(archive) as source:
        assert names(source.folder) == names(folder)
        assert source.origin["dvc_md5"] == dvc_md5(tmp_path / "packed.tar.gz")
        unpacked = source.folder
    assert not unpacked.exists()


@pytest.mark.parametrize("added", ["._set", ".DS_Store"])
def test_what_macos_adds_to_an_archive_does_not_hide_its_folder(added, folder):
    (folder.parent / added).write_text("attributes")
    packed = folder.parent / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in (added, "set"):
            archive.add(folder.parent / name, name)
    with open_source(str(packed)) as source:
        assert names(source.folder) == names(folder)


def test_an_object_store_gives_a_tree_or_an_archive(folder, archive, s3):
    s3.create_bucket(Bucket="data")
    for name in names(folder):
        s3.upload_file(str(folder / name), "data", f"sets/one/{name}")
    s3.upload_file(archive, "data", "one.tar.gz")
    for url in ("s3://data/sets/one", "s3://data/one.tar.gz"):
        with open_source(url) as source:
            assert names(source.folder) == names(folder)
            assert source.origin["source"] == url
    with open_source("s3://data/sets/one") as source:
        assert source.origin["dvc_md5"] == dvc_md5(folder)


class Tracked:
    """A tracked path whose data must not be fetched before its md5 is known to be right."""

    md5, commit, fetched = "0" * 32 + ".dir", "c0ffee", False

    def __init__(self, source, scratch):
        self.folder = scratch

    def fetch(self):
        Tracked.fetched = True
        return self.folder


@pytest.fixture
def tracked(monkeypatch):
    monkeypatch.setattr(sources, "TrackedPath", Tracked)
    monkeypatch.setattr(Tracked, "fetched", False)
    return Tracked


def test_dvc_gives_the_commit_too_and_no_credentials(tracked):
    for revision in (None, "v2"):
        source = "dvc+https://me:secret@host/repo@v1:set"
        with open_source(source, revision=revision, md5=tracked.md5) as opened:
            assert opened.origin == {
                "source": f"dvc+https://host/repo@{revision or 'v1'}:set",
                "dvc_md5": tracked.md5,
                "revision": "c0ffee",
            }
    assert tracked.fetched


def test_another_md5_than_asked_for_is_refused_before_dvc_fetches(tracked):
    message = refusal("dvc+https://me:secret@host/repo@v1:set", md5="1" * 32)
    found = f"expected md5 {'1' * 32}, found {tracked.md5}"
    assert message == f"dvc+https://host/repo@v1:set: digest mismatch: {found}"
    assert not tracked.fetched


def test_the_md5_that_was_asked_for_is_checked(folder, archive):
    for path in (folder, Path(archive)):
        with open_source(str(path), md5=dvc_md5(path)) as source:
            assert source.origin["dvc_md5"] == dvc_md5(path)
        found = f"{path}: digest mismatch: expected md5 {'1' * 32}, found {dvc_md5(path)}"
        assert refusal(path, md5="1" * 32) == found


def test_refuses_an_md5_and_a_revision_where_there_is_none(folder):
    assert refusal("digits", md5="1" * 32).startswith("digits: expected no md5, because embedded data")
    for source in ("digits", str(folder)):
        message = refusal(source, StorageError, revision="v1")
        assert message == f"{source}: expected dvc+<repository>@<revision>:<path> for revision 'v1'"


def test_nothing_is_left_when_reading_fails(archive):
    stack = ExitStack()
    unpacked = stack.enter_context(open_source(archive)).folder
    assert unpacked.is_dir()
    with pytest.raises(ValueError, match="reading failed"), stack:
        raise ValueError("reading failed")
    assert not unpacked.exists()


def test_a_fault_in_a_file_names_the_archive_and_not_where_its_files_lie_for_now(archive):
    with pytest.raises(DataError) as caught, open_source(archive) as opened:
        raise DataError(f"{opened.folder}/a.wav: expected a whole file, found half of one")
    assert str(caught.value) == f"{archive}/a.wav: expected a whole file, found half of one"


def test_a_fault_in_a_file_of_a_folder_is_told_as_it_is(folder, monkeypatch):
    (folder / "e").mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=r"^e/1.wav: expected a whole file$"), open_source("./e"):
        raise DataError("e/1.wav: expected a whole file")


def refusal(source, kind=DataError, **pins):
    with pytest.raises(kind) as caught, open_source(str(source), **pins):
        pass
    return str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"not gzip", lambda data: b""]
)
def test_refuses_a_damaged_archive(damage, tmp_path, archive):
    path = tmp_path / "packed.tar.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}: expected a whole and safe archive, found" in refusal(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, header: data[: header + 150] + b"?" + data[header + 151 :],
        lambda data, header: data[:header],
        lambda data, header: data[: header + 200],
    ],
)
def test_refuses_an_archive_whose_members_end_before_its_end(damage, archive):
    with tarfile.open(archive) as packed:
        header = packed.getmembers()[-1].offset
    content = gzip.decompress(Path(archive).read_bytes())
    Path(archive).write_bytes(gzip.compress(damage(content, header)))
    assert refusal(archive) == (
        f"{archive}: expected a whole and safe archive, found neither a member nor the end at byte {header}"
    )


def test_refuses_an_archive_of_which_a_bit_was_turned(tmp_path):
    content = bytes(range(256)) * 400  # which deflate stores, and goes on reading whatever is in it
    member = tarfile.TarInfo("clip.wav")
    member.size = len(content)
    path = tmp_path / "stored.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        archive.addfile(member, io.BytesIO(content))
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 1
    path.write_bytes(packed)
    assert f"{path}: expected a whole and safe archive, found CRC check failed" in refusal(path)


@pytest.mark.parametrize("header", [{"mtime": "1e30"}, {"mtime": "nan"}, {"path": "a\0b"}])
def test_refuses_a_member_with_a_header_that_no_file_can_have(header, tmp_path):
    path = tmp_path / "odd.tar.gz"
    member = tarfile.TarInfo("a")
    member.pax_headers = header
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert f"{path}: expected a whole and safe archive, found" in refusal(path)


def test_refuses_a_file_that_is_more_than_the_archive_holds(tmp_path):
    member, path = tarfile.TarInfo("ann.json"), tmp_path / "sparse.tar.gz"
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 31)}
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert "no plain file or folder" in refusal(path)


REMEDY = "found more: extract it yourself and name the folder"


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("files", [1, 50])
def test_refuses_an_archive_that_holds_far_more_than_it_should(files, tmp_path, monkeypatch):
    monkeypatch.setattr(expansion, "_SMALL", 2**17)
    members = {f"{number}.bmp": bytes(2**20 // files) for number in range(files)}
    path = write_archive(tmp_path / "bomb.tar.gz", members)
    size = path.stat().st_size
    limit = max(2**17, 200 * size)
    assert refusal(path) == f"{path}: expected at most {limit:,} bytes from an archive of {size:,}, {REMEDY}"


def test_takes_files_that_are_small_and_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(expansion, "_SMALL", 0)
    path = write_archive(tmp_path / "labels.tar.gz", {f"{number}.txt": b"1\n" for number in range(500)})
    with open_source(str(path)) as source:
        assert len(names(source.folder)) == 500


def test_refuses_an_archive_for_which_the_disk_has_no_room(archive, monkeypatch):
    monkeypatch.setattr(sources, "room", lambda folder: 4 * 4096)
    assert refusal(archive) == (
        f"{archive}: expected at most 16,384 bytes, for which the disk has room, {REMEDY}"
    )


def test_refuses_an_archive_of_more_files_than_memory_holds(archive, monkeypatch):
    monkeypatch.setattr(sources, "_MOST_MEMBERS", 5)
    assert refusal(archive) == f"{archive}: expected at most 5 files, {REMEDY}"
    monkeypatch.setattr(sources, "_MOST_MEMBERS", 6)
    with open_source(archive) as source:
        assert len(names(source.folder)) == 3


@pytest.mark.parametrize(
    ("form", "header"),
    [
        (tarfile.PAX_FORMAT, {"pax_headers": {"comment": "a" * 2**21}}),
        (tarfile.GNU_FORMAT, {"name": "a" * 2**21}),
    ],
)
def test_refuses_a_header_without_end(form, header, tmp_path):
    member, path = tarfile.TarInfo("a"), tmp_path / "long.tar.gz"
    for key, value in header.items():
        setattr(member, key, value)
    with tarfile.open(path, "w:gz", format=form) as archive:
        archive.addfile(member)
    found = "found a header of more than 1,048,576 bytes"
    assert refusal(path) == f"{path}: expected a whole and safe archive, {found}"


@pytest.mark.parametrize(("blocks", "found"), [(4096, "a header of more than"), (4, "index out of range")])
def test_refuses_the_map_of_a_sparse_file_that_goes_on_and_on(blocks, found, tmp_path):
    member = tarfile.TarInfo("a")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # the map goes on in the next block
    header[483:494] = b"0" * 11  # the size that the file is to have
    header[148:156] = b"%06o\0 " % (256 + sum(header[:148]) + sum(header[156:]))
    block = (b"00000000001\0" * 42).ljust(512, b"\1")
    path = tmp_path / "sparse.tar.gz"
    path.write_bytes(gzip.compress(bytes(header) + block * blocks))
    assert f"{path}: expected a whole and safe archive, found {found}" in refusal(path)


def test_an_empty_archive_is_an_empty_folder(tmp_path):
    tarfile.open(tmp_path / "empty.tar.gz", "w:gz").close()
    with open_source(str(tmp_path / "empty.tar.gz")) as source:
        assert names(source.folder) == []


def test_a_damaged_archive_of_an_object_store_is_named_as_it_was_asked_for(s3):
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="one.tar.gz", Body=b"not gzip")
    assert refusal("s3://data/one.tar.gz").startswith("s3://data/one.tar.gz: expected a whole and safe")


def test_a_folder_that_cannot_be_read_is_not_passed_by(folder, unreadable):
    unreadable(folder / "a")
    with pytest.raises(PermissionError) as caught, open_source(str(folder)):
        pass
    assert caught.value.filename == str(folder / "a")


def test_refuses_an_archive_that_leaves_its_folder(tmp_path):
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../escape"), io.BytesIO())
    assert "'../escape', which is no plain file or folder inside the archive" in refusal(path)


def test_refuses_an_archive_with_a_whole_path(tmp_path):
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("/etc/escape"), io.BytesIO())
    assert "expected a whole and safe archive, found" in refusal(path)


def test_refuses_a_link_out_of_the_archive(tmp_path):
    path = tmp_path / "evil.tar.gz"
    link = tarfile.TarInfo("a")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(link)
    assert "expected a whole and safe archive, found" in refusal(path)


def test_refuses_what_is_not_there_or_is_no_archive(folder, tmp_path):
    assert "nowhere: no such folder or archive" in refusal(tmp_path / "nowhere")
    assert refusal("~nosuchuser/data") == "~nosuchuser/data: no such folder or archive"
    assert refusal("") == "'': no such folder or archive"
    assert "expected a folder or a .tar.gz or .tgz archive, found a file of another name" in refusal(
        folder / "a/1"
    )
    assert "https://host/x: expected s3://bucket/key" in refusal("https://host/x", StorageError)
