"""Where real data lies: told once, and a move is no change."""

from pathlib import Path

import pytest
import yaml

from fineprune.digests import dvc_md5
from fineprune.errors import ConfigError, MissingInputError
from tables.sources import write_sources

FOLDER = Path("sources")


@pytest.fixture(autouse=True)
def cases(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    for case, source in {"faces": "generated", "fsdd": "fsdd", "lfw": "lfw"}.items():
        (tmp_path / "cases" / f"{case}.yaml").write_text(yaml.safe_dump({"ingest": {"source": source}}))


def told(root: Path, case: str) -> dict[str, str]:
    return yaml.safe_load((root / FOLDER / f"{case}.yaml").read_text())["ingest"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.wav").write_bytes(b"RIFF")
    return tmp_path / "data"


def test_a_case_without_a_source_reads_what_its_own_file_says(tmp_path: Path) -> None:
    write_sources(tmp_path, FOLDER, ["faces"], {})
    assert told(tmp_path, "faces") == {}


def test_a_source_is_a_link_and_its_md5(tmp_path: Path, data: Path) -> None:
    write_sources(tmp_path, FOLDER, ["fsdd", "lfw"], {"fsdd": data})
    assert told(tmp_path, "fsdd") == {"source": "sources/fsdd", "md5": dvc_md5(data)}
    assert (tmp_path / "sources/fsdd/one.wav").read_bytes() == b"RIFF"
    assert told(tmp_path, "lfw") == {}


def test_a_source_is_the_old_one_until_the_new_one_is_known(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": data})
    before = told(tmp_path, "fsdd")
    (tmp_path / "other").mkdir()

    def interrupted(path: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("tables.sources.dvc_md5", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": tmp_path / "other"})
    assert (tmp_path / "sources/fsdd").resolve() == data
    assert told(tmp_path, "fsdd") == before


def test_a_source_may_be_named_from_where_one_is(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": Path("data")})
    assert (tmp_path / "sources/fsdd/one.wav").read_bytes() == b"RIFF"


def test_what_a_killed_run_left_of_a_link_is_no_obstacle(tmp_path: Path, data: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / ".fsdd.new").symlink_to("nowhere")
    write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": data})
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["fsdd", "fsdd.yaml"]


def test_an_archive_keeps_its_ending(tmp_path: Path) -> None:
    (tmp_path / "min10.tar.gz").write_bytes(b"")
    write_sources(tmp_path, FOLDER, ["lfw"], {"lfw": tmp_path / "min10.tar.gz"})
    assert told(tmp_path, "lfw")["source"] == "sources/lfw.tar.gz"


def test_a_source_is_remembered_and_the_same_data_elsewhere_is_no_change(tmp_path: Path, data: Path) -> None:
    write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": data})
    before = told(tmp_path, "fsdd")
    write_sources(tmp_path, FOLDER, ["fsdd"], {})
    assert told(tmp_path, "fsdd") == before
    moved = data.rename(tmp_path / "moved")
    write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": moved})
    assert told(tmp_path, "fsdd") == before
    (moved / "one.wav").write_bytes(b"other")
    write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": moved})
    assert told(tmp_path, "fsdd") != before


def test_a_source_that_is_not_there_or_that_no_case_of_the_run_reads_is_refused(
    tmp_path: Path, data: Path
) -> None:
    with pytest.raises(ConfigError, match="--source: expected one of fsdd, found lfw"):
        write_sources(tmp_path, FOLDER, ["fsdd"], {"lfw": data})
    with pytest.raises(ConfigError, match="expected a case that reads data, found faces"):
        write_sources(tmp_path, FOLDER, ["faces"], {"faces": data})
    assert not (tmp_path / FOLDER).exists()
    with pytest.raises(MissingInputError, match=r"--source fsdd: .*nowhere: no such folder or archive"):
        write_sources(tmp_path, FOLDER, ["fsdd"], {"fsdd": tmp_path / "nowhere"})
