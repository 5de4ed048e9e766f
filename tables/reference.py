"""The paper's own figures, with the grade of their evidence, and its contradictions: ``paper.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fineprune.config import read_yaml

FILE = Path(__file__).with_name("paper.yaml")


class Paper:
    """What the paper says.

    Attributes:
        studies: title, network, trigger and figures, by name.
        contradictions: title and text, in the order of their numbers, from 1.
        reading: what to know to read the figures.
        grades: what each grade means.
    """

    def __init__(self, path: Path = FILE) -> None:
        told = read_yaml(path)
        self.studies: Mapping[str, Any] = told["studies"]
        self.contradictions: Sequence[Mapping[str, Any]] = told["contradictions"]
        self.reading: Sequence[str] = told["reading"]
        self.grades: Mapping[str, str] = told["grades"]
        self._unsure = {_key(entry["at"]): entry for entry in told["unsure"]}

    def study(self, case: str) -> str | None:
        """The paper's case study that a case of ours repeats; None where the paper has none."""
        return next((name for name, told in self.studies.items() if case in told["cases"]), None)

    def figure(self, study: str | None, attack: str, defence: str, metric: str) -> dict[str, Any] | None:
        """``{"value", "grade", "note"}``, or None where the paper has no such figure."""
        if study is None or defence not in self.studies[study].get(attack, {}):
            return None
        stated = self.studies[study][attack][defence]
        if metric == "utility":
            value = round(stated["clean_accuracy"] - stated["backdoor_success"], 3)
            grade = "S" if defence in self.studies[study].get("printed_utility", []) else "I"
            return {"value": value, "grade": grade, "note": ""}
        if metric not in stated:
            return None
        at = {"study": study, "attack": attack, "defence": defence, "metric": metric}
        unsure = self._unsure.get(_key(at), {"grade": "S", "note": ""})
        return {"value": stated[metric], "grade": unsure["grade"], "note": unsure["note"]}

    def marks(self, **at: Any) -> list[int]:
        """The numbers of the contradictions that belong to exactly this place."""
        return [
            number
            for number, told in enumerate(self.contradictions, 1)
            if any(_key(place) == _key(at) for place in told["at"])
        ]


def _key(at: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(at.items())
