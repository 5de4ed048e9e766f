import shutil
import subprocess
from pathlib import Path

import pytest

from fineprune.revision import revision


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
