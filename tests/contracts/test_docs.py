"""Every README names only what is there: make targets, stages, flags, files."""

import argparse
import importlib
import re
from collections.abc import Collection
from pathlib import Path

import pytest

from fineprune.cli import load_stage, stage_parser
from fineprune.models import ARCHITECTURES
from fineprune.stages import STAGES
from pipeline.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md"))]
COMMAND = re.compile(r"\s*(?:\. [\w./-]+; *)?(?:[A-Z_]+=\S+ )*(?:[\w./-]+/)?(?:python|fineprune|dvc) ")
PATH_IN_COMMAND = re.compile(r"[\w./-]+\.(?:py|ya?ml|toml|sh)")


def doc_problems(text: str, root: Path) -> list[str]:
    """Targets, stages and paths that a README names but that are not there."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    trees = [block for block in blocks if _is_tree(block)]
    code = "\n".join([*(b for b in blocks if b not in trees), *re.findall(r"`([^`\n]+)`", text)])
    targets = re.findall(r"^([a-z][a-z-]*):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    found = [
        f"make {name}: no such target"
        for name in dict.fromkeys(re.findall(r"\bmake ([a-z][a-z-]*)", code))
        if name not in targets
    ]
    found += [
        f"fineprune {name}: no such stage"
        for name in dict.fromkeys(re.findall(r"\bfineprune ([a-z][a-z-]*)", code))
        if name not in STAGES
    ]
    found += [
        f"{command} {flag}: no such flag"
        for command, name, words in re.findall(r"\b((?:fineprune|python -m pipeline) ([a-z]+))\b(.*)", code)
        for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", words)
        if name in {*STAGES, *COMMANDS} and flag not in flags_of(command, name)
    ]
    found += [
        f"{path}: in a command, but not there"
        for line in code.splitlines()
        if COMMAND.match(line)
        for path in PATH_IN_COMMAND.findall(line)
        if not (root / path).exists()
    ]
    found += [
        f"{path}: in the tree, but not there"
        for tree in trees
        for path in tree_paths(tree)
        if not (root / path).exists()
    ]
    return found


def flags_of(command: str, name: str) -> Collection[str]:
    """The flags of a stage, or of a command of the pipeline."""
    if command.startswith("fineprune"):
        return stage_parser(load_stage(name))._option_string_actions
    parser = argparse.ArgumentParser()
    importlib.import_module(f"pipeline.{name}").add_arguments(parser)
    return parser._option_string_actions


def tree_paths(tree: str) -> list[str]:
    """The paths in a drawn tree: one entry per line, nested by indentation, a phrase after the name."""
    entries = []
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip(" │├└─\t"))
        if line.strip(" │├└─\t"):
            entries.append((depth, line[depth:].split()[0].rstrip("/")))
    if len(entries) > 1 and all(depth > entries[0][0] for depth, _ in entries[1:]):
        entries = entries[1:]  # the first line is the repository itself
    paths, above = [], []
    for depth, name in entries:
        above = [(d, n) for d, n in above if d < depth] + [(depth, name)]
        paths.append("/".join(n for _, n in above))
    return paths


def _is_tree(block: str) -> bool:
    return "├" in block or len(re.findall(r"^\s*[\w./-]+/(\s|$)", block, flags=re.MULTILINE)) >= 2


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_a_readme_names_only_what_is_there(path: Path) -> None:
    assert doc_problems(path.read_text(encoding="utf-8"), ROOT) == []


def test_flags_that_are_gone_are_found() -> None:
    lines = ("```sh", "fineprune finetune $ON --out x", "python -m pipeline submit --follow a=b", "```")
    text = "\n".join((*lines, "`fineprune prune --help`"))
    found = ["fineprune finetune --out: no such flag", "python -m pipeline submit --follow: no such flag"]
    assert doc_problems(text, ROOT) == found


def test_every_kind_that_can_be_chosen_is_listed() -> None:
    text = (ROOT / "cases" / "README.md").read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    kinds = {
        kind for source in sources for kind in re.findall(r'^    kind: Literal\["(\w+)"\]', source, re.M)
    }
    assert len(kinds) > 15
    nested = {"authors", "random", "fixed"}  # of a split, of a place
    assert [kind for kind in sorted({*kinds, *ARCHITECTURES} - nested) if f"`{kind}`" not in text] == []


README = """
Run `make demo`, or:

```sh
make everything
fineprune distil --config params.yaml --config cases/nowhere.yaml
. .venv/bin/activate; OMP_NUM_THREADS=1 python benchmarks/nowhere.py
```

```
src/fineprune/    the product
    gate.py       evidence + thresholds -> verdict
    door.py       is not there
tests/            unit/ mirrors src/
Makefile          demo, test, lint
```
"""


def test_what_is_not_there_is_found() -> None:
    assert doc_problems(README, ROOT) == [
        "make everything: no such target",
        "fineprune distil: no such stage",
        "cases/nowhere.yaml: in a command, but not there",
        "benchmarks/nowhere.py: in a command, but not there",
        "src/fineprune/door.py: in the tree, but not there",
    ]


def test_a_tree_drawn_with_lines_and_a_root_is_read_too() -> None:
    drawn = "fineprune/\n├── src/\n│   └── fineprune/   the product\n└── Makefile\n"
    assert tree_paths(drawn) == ["src", "src/fineprune", "Makefile"]
