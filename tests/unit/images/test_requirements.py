"""What the layers of the images install."""

from pathlib import Path

import pytest

from .programs import requirements

PROJECT = """\
[project]
dependencies = ["numpy>=2", "Torch>=2.10"]
optional-dependencies = {report = ["jinja2"]}
[build-system]
requires = ["hatchling"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\ntorch==2.13.0\n    # via fineprune\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("build", "line"), [("cpu", "torch==2.13.0+cpu"), ("cuda", "torch===2.13.0")])
def test_each_layer_has_its_extra_and_the_locked_torch_of_the_build(
    project: Path, monkeypatch: pytest.MonkeyPatch, build: str, line: str
) -> None:
    monkeypatch.setattr("sys.argv", ["requirements.py", "--torch", build, "core", "report", "build"])
    requirements.main()
    found = {path.stem: path.read_text().splitlines() for path in project.glob("*.txt")}
    assert found == {"core": ["numpy>=2", line], "report": ["jinja2"], "build": ["hatchling"]}
