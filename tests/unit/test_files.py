import os
from pathlib import PurePath

import pytest

from fineprune.errors import DataError, ModelError
from fineprune.files import as_mapping, below, hidden, read_json, remove, stays_inside, sync, write_json


def test_a_folder_that_cannot_be_read_is_not_passed_by(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(below(tmp_path / "gone"))


def test_folders_and_links_are_below_a_folder_too_and_links_are_not_followed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.npy").touch()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    found = {path.relative_to(tmp_path).as_posix() for path in below(tmp_path)}
    assert found == {"sub", "sub/a.npy", "link"}


def test_every_file_of_a_folder_is_flushed(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    files = [tmp_path / "a.npy", tmp_path / "sub" / "b.npy"]
    for file in files:
        file.touch()
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    sync(tmp_path)
    assert sorted(flushed) == sorted(file.stat().st_ino for file in files)


@pytest.mark.parametrize("path", ["a", "a/b.npy", ".", "a..b"])
def test_a_path_that_stays_inside(path):
    assert stays_inside(path)


@pytest.mark.parametrize("path", ["", "/a", "..", "../a", "a/../../b", "a\0b"])
def test_a_path_that_may_leave_or_is_none(path):
    assert not stays_inside(path)


def test_what_a_hidden_folder_holds_is_hidden():
    assert hidden(PurePath(".ipynb_checkpoints/a.jpg"))
    assert hidden(PurePath("a/._b.jpg"))
    assert not hidden(PurePath("a.b/c.jpg"))


@pytest.mark.parametrize("value", [None, [1], "text", 3])
def test_what_is_no_mapping_is_an_empty_one(value):
    assert as_mapping(value) == {}
    assert as_mapping({"a": value}) == {"a": value}


def test_remove_takes_files_folders_links_and_nothing(tmp_path):
    folder, file, link = (tmp_path / name for name in ("folder", "file.json", "link"))
    folder.mkdir()
    for kept in (folder / "value.txt", file):
        kept.write_text("old")
    link.symlink_to(folder)
    remove(link)
    assert (folder / "value.txt").read_text() == file.read_text() == "old"
    for path in (folder, file, tmp_path / "was never there"):
        remove(path)
    assert not list(tmp_path.iterdir())


def test_json_round_trips_with_sorted_keys(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": [None, "ü", 0.1]})
    text = (tmp_path / "x.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert read_json(tmp_path / "x.json") == {"a": [None, "ü", 0.1], "b": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_write_json_refuses_what_json_does_not_know(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": value})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_read_json_refuses_what_is_not_json(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.json: not valid JSON") as error:
        read_json(tmp_path / "x.json", ModelError)
    assert len(str(error.value).splitlines()) == 1


def test_read_json_says_which_file_is_missing(tmp_path):
    for error in (DataError, ModelError):
        with pytest.raises(error, match=r"none\.json: cannot read: No such file"):
            read_json(tmp_path / "none.json", error)
