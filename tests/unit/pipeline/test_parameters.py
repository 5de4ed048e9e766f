"""The pipelines' parameters and their defaults."""

import json
from pathlib import Path

import pytest

from fineprune.errors import ConfigError
from fineprune.params import read_section
from pipeline import parameters

DIGITS = [parameters.ROOT / "params.yaml", parameters.ROOT / "cases" / "digits.yaml"]


@pytest.mark.parametrize(("section", "own"), parameters.OWN.items())
def test_a_key_that_is_a_parameter_of_its_own_is_in_no_section(section: str, own: dict[str, str]) -> None:
    given = parameters.defaults("digits")
    assert not set(own) & set(given[section])
    assert set(own.values()) <= set(given)


def test_the_thresholds_are_those_of_the_params_files() -> None:
    section, given = read_section(DIGITS, "promote"), parameters.defaults("digits")
    for key in ("min_utility", "max_clean_loss", "registered_name"):
        assert given[key] == section[key]


def test_a_section_is_that_of_the_params_files_but_for_what_is_null() -> None:
    section = read_section(DIGITS, "attack")
    assert section["pruning_aware"].pop("final_epochs") is None
    assert parameters.defaults("digits")["attack"] == section


def test_no_default_is_null_at_any_depth() -> None:
    assert read_section(DIGITS, "ingest")["licence"] is None
    assert "null" not in json.dumps([parameters.defaults(case) for case in ("digits", "fsdd")])


def test_the_default_case_is_that_of_the_params_file() -> None:
    assert parameters.defaults(parameters.default_case())


def test_a_params_file_without_a_case_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text("attack: {}")
    monkeypatch.setattr(parameters, "ROOT", tmp_path)
    with pytest.raises(ConfigError, match=r"params\.yaml: expected case: NAME, found none"):
        parameters.default_case()


def test_an_unknown_case_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no case 'cifar'; there are digits, faces"):
        parameters.defaults("cifar")


def test_a_sweep_is_every_case_under_every_attack_with_every_seed() -> None:
    runs = parameters.sweep_runs(["digits", "fsdd"], ["baseline"], [3, 4, 5])
    told = [(run["source"], run["attack"]["seed"], run["finetune"]["seed"]) for run in runs]
    assert told == [(case, seed, seed) for case in ("digits", "fsdd") for seed in (3, 4, 5)]


def test_a_sweep_keeps_the_split_of_the_data() -> None:
    seeds = {run["ingest"]["seed"] for run in parameters.sweep_runs(["digits"], ["baseline"], [1, 2])}
    assert seeds == {parameters.defaults("digits")["ingest"]["seed"]}


def test_runs_of_a_sweep_share_nothing() -> None:
    one, other = parameters.sweep_runs(["digits"], ["baseline"], [0, 0])
    one["attack"]["poison"]["rate"] = 0.9
    assert other["attack"]["poison"]["rate"] == parameters.defaults("digits")["attack"]["poison"]["rate"]


def test_a_sweep_has_no_parameter_of_promotion() -> None:
    (run,) = parameters.sweep_runs(["digits"], ["baseline"], [0])
    assert not {"promote", *parameters.OWN["promote"].values()} & set(run)


def test_a_sweep_without_runs_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one case, one attack and one seed"):
        parameters.sweep_runs(["digits"], [], [0])
