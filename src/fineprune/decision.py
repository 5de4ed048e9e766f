"""The decision of ``promote``, and how it is told: on a page, in a terminal, to programs, as a run."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fineprune.lineage import FIGURES, StageRecord, as_json, flatten

WIDTH = 110


@dataclass(frozen=True)
class Decision:
    """What was decided, why, and where the version is; what a person asks first comes first.

    Attributes:
        verdict: ``promoted`` or ``held``.
        reasons: the conditions that were met, or those that were not; sentences.
        model: the row of the evaluation that was judged.
        model_digest, evaluation_digest: SHA-256 of the model's and the evaluation's card.
        registered_name, registered_version: of the registered model.
        alias: what the version is called now.
        champion_before: the version that was champion; None without one.
        run_id, tracking_uri: where the runs are; without credentials.
    """

    verdict: str
    reasons: tuple[str, ...]
    model: str
    model_digest: str
    registered_name: str
    registered_version: str
    alias: str
    champion_before: str | None
    evaluation_digest: str
    run_id: str
    tracking_uri: str

    @property
    def stays(self) -> bool:
        """Whether it was champion before, and is."""
        return self.verdict == "promoted" and self.champion_before == self.registered_version

    @property
    def contradicts_alias(self) -> bool:
        """Whether it is held, but was champion before and so still is."""
        return self.verdict == "held" and self.champion_before == self.registered_version

    @property
    def place(self) -> str:
        """Where the version is in the registry, and who is champion."""
        before, version = self.champion_before, f"{self.registered_name} version {self.registered_version}"
        if self.stays:
            return f"{version} is still {self.alias}"
        if self.verdict == "promoted":
            replaced = f"in place of version {before}" if before else "the first"
            return f"{version} is now {self.alias}, {replaced}"
        if self.contradicts_alias:
            text = "but still champion from an earlier decision: move the alias by hand"
            return f"{version} is held now, {text}"
        champion = f"version {before} stays champion" if before else "there is no champion"
        return f"{version} is now {self.alias}; {champion}"


def as_page(decision: Decision, numbers: Mapping[str, float]) -> str:
    """The decision with the figures of its model, in Markdown.

    Args:
        decision: what to tell.
        numbers: :func:`fineprune.lineage.evaluation_metrics`; a figure that is incomplete is left out.
    """
    lines = [f"# {decision.verdict}: {decision.model}", "", f"{decision.place}.", ""]
    lines += [f"- {reason}" for reason in decision.reasons]
    lines += ["", "| figure | value | 95 % interval | test inputs |", "|---|---:|---:|---:|"]
    for figure in FIGURES:
        keys = [f"{decision.model}.{figure}{end}" for end in ("", ".low", ".high", ".n")]
        if numbers.keys() >= set(keys):
            # Zero is added so that none is -0.0000.
            value, low, high = (f"{round(numbers[key], 4) + 0.0:.4f}" for key in keys[:3])
            lines.append(f"| {figure} | {value} | {low} to {high} | {numbers[keys[3]]:.0f} |")
    return "\n".join(lines) + "\n"


def as_text(decision: Decision, *, report: Path, look_at: str) -> str:
    """The decision for a terminal, at most :data:`WIDTH` wide but for a path or command that is wider.

    Args:
        decision: what to tell.
        report: the path of the evaluation's page.
        look_at: the command or address that shows the runs.
    """
    wrap = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    wrap.initial_indent, wrap.subsequent_indent = "  - ", "    "
    reasons = [wrap.fill(reason) for reason in decision.reasons]
    wrap.initial_indent, wrap.subsequent_indent = "registry  ", " " * 10
    return "\n".join(
        [
            f"{decision.verdict}: {decision.model}",
            *reasons,
            "",
            wrap.fill(decision.place),
            f"report    {report}",
            f"runs      {look_at}",
        ]
    )


def write(folder: Path, decision: Decision, *, page: str, text: str) -> None:
    """Write ``decision.json``, the verdict first, the page as ``verdict.md``, the text as ``summary.txt``."""
    plain = json.dumps(asdict(decision), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "decision.json").write_text(plain + "\n", encoding="utf-8")
    (folder / "verdict.md").write_text(page, encoding="utf-8")
    (folder / "summary.txt").write_text(f"\n{text}\n", encoding="utf-8")


def decision_record(decision: Decision, config: Mapping[str, Any], folder: Path) -> StageRecord:
    """The promote stage as a nested run; the same decision on the same config is one run."""
    params = {**config, "tracking_uri": decision.tracking_uri}
    said = asdict(decision)
    made_of = {name: said[name] for name in ("verdict", "reasons", "model_digest", "champion_before")}
    shown = ("verdict", "alias", "registered_version", "champion_before")
    return StageRecord(
        name="promote",
        key=f"promote:{hashlib.sha256(as_json([params, made_of]).encode()).hexdigest()}",
        params=dict(flatten(params)),
        metrics={"promoted": float(decision.verdict == "promoted")},
        tags={name: said[name] for name in shown if said[name] is not None},
        files={file.name: file for file in sorted(folder.iterdir())},
    )
