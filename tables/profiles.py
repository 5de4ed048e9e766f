"""What there is to run: the cells of a profile, and the steps of a cell as ``dvc.yaml`` has them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from fineprune.errors import ConfigError
from fineprune.params import read_yaml

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
        target: its name for DVC, ``prune@faces-0-delivered1``.
        label: what to call it within its cell, ``prune-control``.
        reads, writes: its dependencies and outputs, as paths from the repository's root.
    """

    target: str
    label: str
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Profile:
    """The cells of a profile: all attacks on its cases, once per seed."""

    name: str
    cases: tuple[str, ...]
    attacks: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def cells(self) -> list[Cell]:
        """All cells, seed by seed."""
        wheel = product(self.seeds, self.attacks, self.cases)
        return [Cell(case, attack, seed) for seed, attack, case in wheel]

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
    """``dvc.yaml``: which steps a case or a cell has, in the order of the file, which is the order to run.

    A stage whose matrix has the case alone is of the case; others are of the cell with their case, attack and
    seed, where a mapping in the matrix may name the attack. The name of an entry is the stage's, and after an
    underscore what tells it from another of that stage.
    """

    def __init__(self, path: Path = HERE / "dvc.yaml") -> None:
        told = read_yaml(path)
        self._stages: Mapping[str, Any] = told["stages"]
        self._values = {
            name: value for file in told["vars"] for name, value in read_yaml(path.parent / file).items()
        }
        self._all = list(self._steps())

    def ingest(self, case: str) -> list[Step]:
        """What has to be done once for a case."""
        return [step for step, of in self._all if of == {"case": case}]

    def steps(self, cell: Cell) -> list[Step]:
        """What has to be done for a cell when all is there that its steps read of others."""
        return [step for step, of in self._all if of == asdict(cell)]

    def _steps(self) -> Iterator[tuple[Step, Mapping[str, Any]]]:
        """Every step, and what tells the case or the cell that it is of."""
        for name, entry in self._stages.items():
            stage = name.partition("_")[0]
            for words, item in self._members(entry["matrix"]):
                told: dict[str, Any] = {}
                for axis, value in item.items():
                    told |= value if isinstance(value, Mapping) else {axis: value}
                step = Step(
                    target=f"{name}@{'-'.join(words)}",
                    label=f"{stage}-{told['name']}" if "name" in told else stage,
                    reads=self._paths(entry.get("deps", ()), item),
                    writes=self._paths(entry["outs"], item),
                )
                yield step, {of.name: told[of.name] for of in fields(Cell) if of.name in told}

    def _members(self, matrix: Mapping[str, Any]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
        """Every combination: as DVC names it, where a mapping goes by its number, and its values."""
        axes = [
            [
                (f"{name}{i}" if isinstance(value, Mapping) else str(value), value)
                for i, value in enumerate(listed)
            ]
            for name, listed in ((name, self._listed(values)) for name, values in matrix.items())
        ]
        for chosen in product(*axes):
            yield [word for word, _ in chosen], dict(zip(matrix, (value for _, value in chosen), strict=True))

    def _listed(self, values: Any) -> Sequence[Any]:
        """What an axis of a matrix runs over."""
        found: Sequence[Any] = self._look_up(values[2:-1], {}) if isinstance(values, str) else values
        return found

    def _paths(self, told: Iterable[Any], item: Mapping[str, Any]) -> frozenset[str]:
        """The paths of a list of deps or outs, some of which have options."""
        names = (next(iter(one)) if isinstance(one, Mapping) else one for one in told)
        return frozenset(
            re.sub(r"\$\{([^}]+)\}", lambda match: str(self._look_up(match[1], item)), name) for name in names
        )

    def _look_up(self, name: str, item: Mapping[str, Any]) -> Any:
        found: Any = {**self._values, "item": item}
        for part in name.split("."):
            found = found[part]
        return found
