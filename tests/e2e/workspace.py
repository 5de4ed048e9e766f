"""A copy of dvc.yaml, params.yaml and the cases in a folder of its own, and the stages' commands in it."""

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fineprune.cli import load_stage, main
from fineprune.params import merge, read_section
from tests.contracts.pipeline_file import Command, commands, ports

ROOT = Path(__file__).parents[2]


class Workspace:
    """The pipeline of dvc.yaml in ``path``, for one of the cases.

    Attributes:
        commands: by name: ``prune@control``.
    """

    def __init__(self, path: Path, case: str = "digits") -> None:
        self.path, self.case = path, f"cases/{case}.yaml"
        if not path.exists():
            path.mkdir(parents=True)
            for name in ("dvc.yaml", "params.yaml"):
                shutil.copy(ROOT / name, path / name)
            shutil.copytree(ROOT / "cases", path / "cases")
        variables = {**yaml.safe_load((path / "params.yaml").read_text()), "case": case}
        told = commands(yaml.safe_load((path / "dvc.yaml").read_text()), variables)
        self.commands: dict[str, Command] = {command.name: command for command in told}

    def set(self, **sections: Mapping[str, Any]) -> None:
        """Change sections of the case file."""
        path = self.path / self.case
        case = yaml.safe_load(path.read_text())
        # Anchors share a mapping between keys: a change to one would show in the other.
        case = json.loads(json.dumps(case))
        path.write_text(yaml.safe_dump(merge(case, sections)))

    def run(self, name: str) -> int:
        """Run a command as dvc.yaml has it, in this process."""
        with contextlib.chdir(self.path):
            return main(self.commands[name].argv[1:])

    def ports(self, name: str) -> dict[str, Path]:
        """The whole path behind each flag of a command."""
        return {port: self.path / path for port, path in ports(self.commands[name]).items()}

    def section(self, stage: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A stage's section, with changes laid over it."""
        told = read_section([self.path / "params.yaml", self.path / self.case], stage)
        return merge(told, changes or {})

    def argv(
        self,
        name: str,
        *,
        section: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        **paths: Path,
    ) -> list[str]:
        """A command with whole paths, some of them others, and its section as JSON."""
        stage = load_stage(self.commands[name].stage)
        given = {**self.ports(name), **paths}
        told = self.section(stage.name, changes) if section is None else section
        words = [stage.name, "--params", json.dumps(told)]
        for port in (*stage.inputs, *stage.outputs):
            words += [f"--{port.replace('_', '-')}", str(given[port])]
        return [*words, *flags]


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, hidden ones too."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }
