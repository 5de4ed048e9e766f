"""What there is to run: the cells of a profile, and the steps of a cell as ``dvc.yaml`` has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from fineprune.config import read_yaml
from fineprune.errors import ConfigError

HERE = Path(__file__).parent
PROFILES = ("quick", "real", "full")


@dataclass(frozen=True, order=True)
class Cell:
    """One attack on one case with one seed."""

    case: str
    attack: str
    seed: int

    def __str__(self) -> str:
        return f"{self.case}, {self.attack}, seed {self.seed}"


@dataclass(frozen=True)
class Step:
    """One stage of DVC.

    Attributes:
        target: its name for DVC, ``prune@faces-baseline-0-control``.
        stage: the program, ``prune``.
        label: what to call it within its cell, ``prune-control``.
    """

    target: str
    stage: str
    label: str


@dataclass(frozen=True)
class Profile:
    """The cells of a profile: all attacks on its cases, once per seed."""

    name: str
    cases: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that a run that is cut short has whole rows of the tables."""
        wheel = product(self.seeds, self.cases, self.attacks)
        return [Cell(case, attack, seed) for seed, case, attack in wheel]

    def only(self, cases: Collection[str]) -> Profile:
        """The profile with those of its cases, or with all where none is named.

        Raises:
            ConfigError: a case is not among them.
        """
        for case in cases:
            if case not in self.cases:
                raise ConfigError(f"--case: expected one of {', '.join(self.cases)}, found {case}")
        return replace(self, cases=tuple(case for case in self.cases if case in cases)) if cases else self


def read_profile(name: str, path: Path = HERE / "profiles.yaml") -> Profile:
    """The profile of that name.

    Raises:
        ConfigError: the file is damaged, or the profile asks for what ``dvc.yaml`` has no stages for.
    """
    told = read_yaml(path)
    try:
        found = told[name]
        strangers = [f"{of} {x}" for of in ("cases", "seeds") for x in found[of] if x not in told[of]]
        profile = Profile(
            name, *(tuple(values) for values in (found["cases"], told["attacks"], found["seeds"]))
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected cases and seeds for {name}, found no {error}") from error
    if strangers:
        raise ConfigError(
            f"{path}: {name}: expected what `cases` and `seeds` list, found {', '.join(strangers)}"
        )
    return profile


class Pipeline:
    """``dvc.yaml``: which steps a case or a cell has, in the order of the file, which is the order to run."""

    def __init__(self, path: Path = HERE / "dvc.yaml") -> None:
        self._stages: Mapping[str, Any] = read_yaml(path)["stages"]

    def ingest(self, case: str) -> list[Step]:
        """What has to be done once for a case."""
        return [
            Step(f"{stage}@{case}", stage, stage)
            for stage, entry in self._stages.items()
            if set(_matrix(entry)) == {"case"}
        ]

    def steps(self, cell: Cell) -> list[Step]:
        """What has to be done for a cell when its case is ingested."""
        found = []
        for stage, entry in self._stages.items():
            own = {name: values for name, values in _matrix(entry).items() if name not in vars(cell)}
            if "seed" in _matrix(entry):
                for words, labels in _members(own):
                    target = "-".join([cell.case, cell.attack, str(cell.seed), *words])
                    found.append(Step(f"{stage}@{target}", stage, "-".join([stage, *labels])))
        return found


def _matrix(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    matrix: Mapping[str, Any] = entry["matrix"]
    return matrix


def _members(matrix: Mapping[str, Sequence[Any]]) -> Iterator[tuple[list[str], list[str]]]:
    """Every combination: as DVC names it, where a mapping goes by its number, and as we call it."""
    for chosen in product(*(enumerate(values) for values in matrix.values())):
        named = list(zip(matrix, chosen, strict=True))
        words = [f"{name}{i}" if isinstance(value, Mapping) else str(value) for name, (i, value) in named]
        labels = [str(value["name"]) if isinstance(value, Mapping) else str(value) for _, (_, value) in named]
        yield words, labels
