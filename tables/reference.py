"""The paper's own figures, with the grade of their evidence, and its contradictions: ``paper.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fineprune.params import read_yaml

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
            printed = defence in self.studies[study].get("printed_utility", [])
            sure, rests_on = "S" if printed else "I", [] if printed else list(stated)
        elif metric in stated:
            value, sure, rests_on = stated[metric], "S", [metric]
        else:
            return None
        # A difference is no surer than its terms.
        places = ({"study": study, "attack": attack, "defence": defence, "metric": name} for name in rests_on)
        unsure = next((self._unsure[key] for key in map(_key, places) if key in self._unsure), None)
        grade, note = (unsure["grade"], unsure["note"]) if unsure else (sure, "")
        return {"value": value, "grade": grade, "note": note}

    def marks(self, **at: Any) -> list[int]:
        """The numbers of the contradictions that belong to exactly this place."""
        return [
            number
            for number, told in enumerate(self.contradictions, 1)
            if any(_key(place) == _key(at) for place in told["at"])
        ]


def _key(at: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(at.items())
