import shutil
import subprocess
from pathlib import Path

import pytest

from fineprune import revision as module
from fineprune.revision import revision, source_digest


@pytest.mark.skipif(shutil.which("git") is None, reason="needs the git program")
def test_the_revision_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINEPRUNE_GIT_COMMIT", "c0ffee-dirty")
    assert revision() == {"git.commit": "c0ffee", "git.dirty": "true"}
    monkeypatch.setenv("FINEPRUNE_GIT_COMMIT", "c0ffee")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision() == {"git.commit": "c0ffee", "git.dirty": "false"}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], check=True)
    found = revision()
    assert (len(found["git.commit"]), found["git.dirty"]) == (40, "false")
    (tmp_path / "file").write_text("two")
    assert revision() == found | {"git.dirty": "true"}
    (tmp_path / "file").write_text("one")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'")
    subprocess.run(["git", "add", "dvc.lock"], check=True)  # which DVC changes while a stage runs
    assert revision() == found
    (tmp_path / ".git" / "index").write_bytes(b"damaged")  # of which git cannot say what has changed
    assert revision() == {"git.commit": found["git.commit"]}


def test_the_digest_of_the_source_is_that_of_its_files_and_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "revision.py"))
    (tmp_path / "stages").mkdir()
    found = []
    for name, content in (("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("notes.txt", "2")):
        path = tmp_path / "stages" / name
        path.write_text(content)
        found.append(source_digest())
        if name != "a.py" or content == "2":
            path.unlink()
    empty = source_digest()
    assert len({*found[:3], empty}) == 4
    assert found[3] == empty
