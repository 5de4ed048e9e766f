"""Every refusal: exit code 2, one line that names the culprit, and old outputs as they were."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fineprune.cli import main
from tests.e2e.workspace import Workspace, tree

from .refusals import COMMANDS, Refused, error_lines, old_outputs


@pytest.fixture
def refused(chain: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a stage that must refuse; gives its one line."""

    def run(stage: str, *words: str, **given: Any) -> str:
        outputs = old_outputs(stage, tmp_path)
        before = tree(tmp_path / "out")
        argv = chain.argv(COMMANDS[stage], **{**outputs, **given})
        capfd.readouterr()
        code, told = main(argv), capfd.readouterr()
        lines = error_lines(told.err)
        assert code == 2, told
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"fineprune {stage}: error: ")
        assert "Traceback" not in told.out + told.err
        for word in words:
            assert word in lines[0]
        assert tree(tmp_path / "out") == before
        return lines[0]

    return run


@pytest.fixture
def copied(chain: Workspace, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the chain's folders, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(chain.path / "artifacts" / name, tmp_path / "given" / name))

    return copy
