import pytest

from fineprune.errors import DataError, ModelError
from fineprune.files import below, read_json, remove, write_json


def test_a_folder_that_cannot_be_read_is_not_passed_by(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(below(tmp_path / "gone"))


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
    with pytest.raises(DataError, match=r"none\.json: cannot read: No such file"):
        read_json(tmp_path / "none.json")
