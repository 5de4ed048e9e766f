"""Who may import whom."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]
ONLY_HOME = {"mlflow": "tracking/", "boto3": "storage.py"}


def imports(source: str) -> set[str]:
    """The top-level names of every module that a source imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            values = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
            found |= {str(value).partition(".")[0] for value in values}
    return found


def test_import_linter_keeps_its_contracts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("library", ONLY_HOME)
def test_a_service_is_imported_in_one_place_only(library: str) -> None:
    homes = [
        path.relative_to(ROOT / "src" / "fineprune").as_posix()
        for path in sorted((ROOT / "src").rglob("*.py"))
        if library in imports(path.read_text(encoding="utf-8"))
    ]
    assert homes
    assert [home for home in homes if not home.startswith(ONLY_HOME[library])] == []


@pytest.mark.parametrize(
    "source",
    [
        "import mlflow",
        "import os, mlflow.pytorch as pt",
        "def late():\n    from mlflow.models import Model",
        "import importlib\nimportlib.import_module('mlflow.pytorch')",
        "__import__('mlflow')",
    ],
)
def test_the_scan_sees_every_way_to_import(source: str) -> None:
    assert "mlflow" in imports(source)


@pytest.mark.parametrize(
    "source", ["from .mlflow import x", "name = 'mlflow'", "from fineprune import mlflow"]
)
def test_the_scan_does_not_cry_wolf(source: str) -> None:
    assert "mlflow" not in imports(source)
