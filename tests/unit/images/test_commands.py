"""What is made of a command that fails."""

from pathlib import Path

import pytest

from .programs import commands


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("#9 ERROR: No matching distribution found for torch==2.13.0+cpu", "PyPI has no build of torch"),
        ("#9 ERROR: No matching distribution found for numpy==2.4.0", None),
    ],
)
def test_remedy_for_a_torch_that_pypi_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, told: str | None
) -> None:
    builder = tmp_path / "docker"
    builder.write_text(f"#!/bin/sh\necho '{said}'\nexit 3\n")
    builder.chmod(0o755)
    with pytest.raises(commands.BuildError, match=r"^build: exit code 3") as failure:
        commands.run([str(builder)], "build")
    assert (told in str(failure.value)) if told else str(failure.value) == "build: exit code 3"
    assert said in capsys.readouterr().err
