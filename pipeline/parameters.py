"""The pipelines' parameters: which there are, and their defaults, from params.yaml and cases/."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from fineprune.errors import ConfigError
from fineprune.params import read_section, read_yaml

ROOT = Path(__file__).parents[1]

SECTIONS = ("ingest", "attack", "profile", "prune", "finetune", "evaluate", "promote")
"""Stages whose section of params.yaml is a parameter."""

OWN = {
    "ingest": {"source": "source", "revision": "revision", "md5": "data_md5"},
    "promote": {
        "registered_name": "registered_name",
        "min_utility": "min_utility",
        "max_clean_loss": "max_clean_loss",
    },
}
"""Keys of a section that are parameters of their own, and those parameters' names.

Such a key is in no section: a threshold in a section would be lost to the default of its parameter.
"""


def default_case() -> str:
    """The case that params.yaml names.

    Raises:
        ConfigError: it names none.
    """
    path = ROOT / "params.yaml"
    if "case" not in (values := read_yaml(path)):
        raise ConfigError(f"{path}: expected case: NAME, found none")
    return str(values["case"])


def defaults(case: str) -> dict[str, Any]:
    """The default of every parameter of ``fine_pruning``: a dict per stage, and the keys of :data:`OWN`.

    A key that is null in the params files is absent here, which a stage reads as null.

    Raises:
        ConfigError: there is no such case.
    """
    found: dict[str, Any] = {}
    for stage in SECTIONS:
        section = _section(stage, case)
        for key, parameter in OWN.get(stage, {}).items():
            value = section.pop(key, None)
            found[parameter] = "" if value is None else value
        found[stage] = without_nulls(section)
    return found


def sweep_runs(cases: Iterable[str], attacks: Iterable[str], seeds: Iterable[int]) -> list[dict[str, Any]]:
    """The parameters of every run of a sweep: each case under each attack with each seed.

    A seed is that of training, of the attack and of fine-tuning; the split of the data stays. A sweep
    measures and promotes nothing, so its runs have no parameters of promote.

    Raises:
        ConfigError: there is no such case.
    """
    measured = {case: _without_promotion(defaults(case)) for case in cases}
    runs = [
        _with(measured[case], attack=attack, seed=seed)
        for case, attack, seed in product(measured, attacks, seeds)
    ]
    if not runs:
        raise ConfigError("sweep: expected at least one case, one attack and one seed")
    return runs


def _section(stage: str, case: str) -> dict[str, Any]:
    path = ROOT / "cases" / f"{case}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ConfigError(f"no case {case!r}; there are {known}")
    return read_section([ROOT / "params.yaml", path], stage)


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: kfp's SDK cannot put a null into a dict parameter."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _without_promotion(parameters: Mapping[str, Any]) -> dict[str, Any]:
    left_out = {"promote", *OWN["promote"].values()}
    return {name: value for name, value in parameters.items() if name not in left_out}


def _with(parameters: Mapping[str, Any], *, attack: str, seed: int) -> dict[str, Any]:
    run = copy.deepcopy(dict(parameters))
    run["attack"] |= {"name": attack, "seed": seed}
    run["finetune"]["seed"] = seed
    return run
