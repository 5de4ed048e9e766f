"""What a stage is given that must refuse, and what is on stderr then."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fineprune.cli import load_stage
from fineprune.stages.base import CARDS, MODEL_CARD

COMMANDS = {
    "ingest": "ingest",
    "attack": "attack",
    "profile": "profile@undefended",
    "prune": "prune@undefended",
    "finetune": "finetune@fine_pruned",
    "evaluate": "evaluate",
    "promote": "promote",
}
Refused = Callable[..., str]


def error_lines(stderr: str) -> list[str]:
    """The lines on stderr, without progress bars."""
    lines = re.split(r"[\r\n]+", stderr)
    return [line for line in lines if line.strip() and not re.match(r"[\w ]+: +\d+%\|", line)]


def old_outputs(stage: str, folder: Path) -> dict[str, Path]:
    """A place for each output, with something old in it."""
    paths = {port: folder / "out" / port for port in load_stage(stage).outputs}
    for port, path in paths.items():
        path.mkdir(parents=True)
        card = CARDS.get(port, MODEL_CARD)  # by which a stage knows its own
        (path / card).write_text(json.dumps({"format": 1, "stage": stage}))
        (path / "old.npy").write_text("of an earlier run")
    return paths


def edit(card: Path, **changes: Any) -> None:
    """Change entries of a card as a meddler would."""
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))
