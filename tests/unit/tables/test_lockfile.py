"""The spare copy of dvc.lock: only a whole file becomes one, and only a damaged file is replaced."""

from pathlib import Path

import pytest
import yaml

from tables.lockfile import Spare


def text(*names: str) -> str:
    out = {"path": "out", "hash": "md5", "md5": "0" * 32, "size": 1}
    stages = {name: {"cmd": "true", "outs": [out, {**out, "path": "report"}]} for name in names}
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


@pytest.fixture
def spare(tmp_path: Path) -> Spare:
    spare = Spare(tmp_path / "dvc.lock", tmp_path / "kept" / "spare")
    spare.lock.write_text(text("a", "b"))
    spare.keep()
    return spare


WHOLE = text("a", "b")


def test_a_file_that_was_cut_anywhere_is_mended(spare: Spare) -> None:
    for length in range(len(WHOLE.rstrip())):
        spare.lock.write_text(WHOLE[:length])
        assert spare.mend(), length
        assert spare.lock.read_text() == WHOLE
        assert not spare.mend()


def test_a_file_that_was_cut_does_not_become_the_spare_one(spare: Spare) -> None:
    for cut in (text("a", "b", "c")[:-20], text("a")):
        spare.lock.write_text(cut)
        spare.keep()
        assert spare.copy.read_text() == text("a", "b")


def test_a_stage_may_have_other_outputs_with_another_command(spare: Spare) -> None:
    other = yaml.safe_load(text("a", "b"))
    del other["stages"]["b"]["outs"][1]
    spare.lock.write_text(yaml.safe_dump(other))
    assert spare.mend()
    other["stages"]["b"]["cmd"] = "false"
    spare.lock.write_text(yaml.safe_dump(other))
    assert not spare.mend()
    spare.keep()
    assert yaml.safe_load(spare.copy.read_text()) == other


def test_a_longer_file_is_taken_as_it_is(spare: Spare) -> None:
    spare.lock.write_text(text("a", "b", "c"))
    assert not spare.mend()
    spare.keep()
    assert spare.copy.read_text() == text("a", "b", "c")


def test_without_the_file_everything_is_to_be_done_anew(spare: Spare) -> None:
    spare.lock.unlink()
    assert not spare.mend()
    assert not spare.copy.exists()


@pytest.mark.parametrize("content", ["stages: [", "stages: [a]", "[]", ""])
def test_a_damaged_file_without_a_spare_one_goes(tmp_path: Path, content: str) -> None:
    spare = Spare(tmp_path / "dvc.lock", tmp_path / "spare")
    spare.lock.write_text(content)
    assert spare.mend()
    assert not spare.lock.exists()
