"""The tables' cells under the real DVC, with a stand-in for the stages' programs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tables.profiles import Profile, read_profile
from tables.run import Outcome, run

ROOT = Path(__file__).parents[2]
# Writes a folder behind each flag that is an output, whose content is that of all it was given.
FINEPRUNE = """#!{python} -IS
import hashlib, pathlib, sys
stage, words = sys.argv[1], sys.argv[2:]
given = [(flag[2:], pathlib.Path(path)) for flag, path in zip(words, words[1:]) if flag.startswith("--")]
outputs = {{"ingest": ["dataset"], "attack": ["control", "undefended", "attack"], "profile": ["profile"],
           "prune": ["pruned"], "finetune": ["tuned"]}}.get(stage, []) + ["report"]
seen = hashlib.sha256(stage.encode())
for flag, path in given:
    if flag in (*outputs, "set", "checkpoints"):
        continue
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        seen.update(file.read_bytes())
for flag, path in given:
    if flag in outputs:
        path.mkdir(parents=True, exist_ok=True)
        (path / "content").write_text(flag + seen.hexdigest())
with open("ran.txt", "a") as ran:
    ran.write(stage + "\\n")
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one case and one seed under both attacks."""
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "tables", root / "tables", ignore=shutil.ignore_patterns("dvc.lock"))
    shutil.copy(ROOT / "params.yaml", root)
    (root / "cases").mkdir()
    shutil.copy(ROOT / "cases" / "digits.yaml", root / "cases")
    one = {
        "cases": ["digits"],
        "attacks": ["baseline", "pruning_aware"],
        "seeds": [0],
        "cells": "artifacts/tables/cells",
    }
    profiles = yaml.safe_dump({**one, "quick": {"cases": ["digits"], "seeds": [0]}})
    (root / "tables" / "profiles.yaml").write_text(profiles)
    program = tmp_path / "bin" / "fineprune"
    program.parent.mkdir()
    program.write_text(FINEPRUNE.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=root, check=True)
    return root


@pytest.fixture
def go(root: Path) -> Callable[[], list[str]]:
    """Bring the cells up to date; gives the programs that this took."""

    def start() -> list[str]:
        (root / "ran.txt").write_text("")
        wanted: Profile = read_profile("quick", root / "tables" / "profiles.yaml")
        assert run(wanted, root=root, jobs=2, threads=1, sources={}) == Outcome([], [])
        return (root / "ran.txt").read_text().split()

    return start


def test_only_what_changed_is_run_again(root: Path, go: Callable[[], list[str]]) -> None:
    # The control's network is profiled, pruned and fine-tuned once.
    steps = [
        "ingest",
        *["attack"] * 2,
        *["profile"] * 3,
        *["prune"] * 3,
        *["finetune"] * 6,
        *["evaluate"] * 2,
    ]
    ran = go()
    assert sorted(ran) == sorted(steps)
    # Until there is the control that it waits for, the second cell does nothing.
    assert ran[:2] == ["ingest", "attack"]
    assert ran[-1] == "evaluate"

    lock = root / "tables" / "dvc.lock"
    lock.write_text(lock.read_text()[: lock.stat().st_size // 2])  # a kill while DVC was writing
    assert go() == []

    case = root / "cases" / "digits.yaml"
    case.write_text(case.read_text().replace("min_epochs: 20", "min_epochs: 5"))
    ran = go()
    assert sorted(ran) == ["evaluate"] * 2 + ["finetune"] * 6
    assert (ran[0], ran[-1]) == ("finetune", "evaluate")

    (root / "dvc.yaml").write_text("stages: {own: {cmd: 'echo own >> ran.txt'}}")
    shutil.rmtree(root / "artifacts" / "tables" / "cells")
    (root / "ran.txt").write_text("")
    subprocess.run(["dvc", "repro"], cwd=root, check=True, capture_output=True)
    assert (root / "ran.txt").read_text().split() == ["own"]
