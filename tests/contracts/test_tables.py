"""The tables' dvc.yaml: every stage as its program has it, every cell by itself, every name as DVC has it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tables.profiles import Cell, Pipeline, Profile, read_profile

from .lineage import Wired, lineage_problems
from .pipeline_file import (
    Command,
    commands,
    flag_problems,
    params_problems,
    path_problems,
    program,
    settings,
    wired,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipeline() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "tables" / "dvc.yaml").read_text())


@pytest.fixture(scope="module")
def variables() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "tables" / "profiles.yaml").read_text())


def table_problems(pipeline: Mapping[str, Any], variables: Mapping[str, Any]) -> list[str]:
    """What is wrong with the tables' dvc.yaml, for one case in all its cells."""
    one = {**variables, "cases": variables["cases"][:1]}
    told = commands(pipeline, one)
    found = [
        f"{stage}: runs in {entry.get('wdir')}"
        for stage, entry in pipeline["stages"].items()
        if entry.get("wdir") != ".."
    ]
    for command in told:
        files = case_files(command, one["cases"][0])
        found += flag_problems(command, *files) + setting_problems(command) + params_problems(command, *files)
    if found:
        return found
    found = [text for command in told for text in path_problems(command)]
    outs = [out for command in told for out in command.outs]
    found += [f"{out}: written by several" for out in sorted({out for out in outs if outs.count(out) > 1})]
    if found:
        return found
    for attack in one["attacks"]:
        for seed in one["seeds"]:
            found += lineage_problems(seen_by(attack, seed, wired(told)))
    return found


def seen_by(attack: str, seed: int, everything: Sequence[Wired]) -> list[Wired]:
    """A cell's own stages, and what it may read of others: the dataset, and the seed's control."""
    own = [one for one in everything if one.stage == "ingest" or f"/{attack}/{seed}/" in one.ports["report"]]
    control = [
        replace(one, ports={port: one.ports[port] for port in ("dataset", "control")})
        if one.stage == "attack"
        else one
        for one in everything
        if one not in own
        and f"/baseline/{seed}/" in one.ports["report"]
        and (one.stage == "attack" or "/control" in one.ports.get("model", ""))
    ]
    return control + own


def case_files(command: Command, case: str) -> list[str]:
    """The params files that the command must read after params.yaml."""
    source = [f"artifacts/tables/sources/{case}.yaml"] if command.stage == "ingest" else []
    return [f"cases/{case}.yaml", *source]


def setting_problems(command: Command) -> list[str]:
    """What the cell must set and does not, or sets otherwise."""
    given = set(settings(command))
    words = command.name.partition("@")[2].split("-")
    expected = {
        "attack": {f"name={words[1:2] and words[1]}", f"seed={words[2:3] and words[2]}"},
        "finetune": {f"seed={words[1:2] and words[1]}"},
    }.get(command.stage, set())
    return [] if given == expected else [f"{command.name}: expected --set {expected}, found {given}"]


def test_every_stage_of_every_cell_is_as_its_program_has_it(
    pipeline: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    assert table_problems(pipeline, variables) == []


def test_all_stages_are_there_but_those_that_promote_or_tabulate(pipeline: Mapping[str, Any]) -> None:
    root = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert set(map(program, pipeline["stages"])) == set(root["stages"]) - {"promote"}


def test_the_steps_that_the_driver_asks_for_are_all_that_there_are(
    pipeline: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    ours = Pipeline()
    every = Profile("all", *(tuple(variables[name]) for name in ("cases", "attacks", "seeds")))
    asked = [step.target for case in every.cases for step in ours.ingest(case)]
    asked += [step.target for cell in every.cells for step in ours.steps(cell)]
    assert sorted(asked) == sorted(command.name for command in commands(pipeline, variables))


def test_the_driver_knows_what_each_step_reads_and_writes(
    pipeline: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    by_name = {command.name: command for command in commands(pipeline, variables)}
    ours, case = Pipeline(), variables["cases"][0]
    cells = [Cell(case, attack, 1) for attack in variables["attacks"]]
    for step in [*ours.ingest(case), *(step for cell in cells for step in ours.steps(cell))]:
        assert (step.reads, step.writes) == (set(by_name[step.target].deps), set(by_name[step.target].outs))


def test_the_driver_runs_a_step_after_those_that_it_reads_from(
    pipeline: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    by_name = {command.name: command for command in commands(pipeline, variables)}
    case = variables["cases"][0]
    ours = Pipeline()
    there: set[str] = set()
    cells = [Cell(case, attack, 0) for attack in variables["attacks"]]
    for step in [*ours.ingest(case), *(step for cell in cells for step in ours.steps(cell))]:
        assert set(by_name[step.target].deps) <= there
        there |= set(by_name[step.target].outs)


@pytest.mark.parametrize("name", ["quick", "real", "full"])
def test_every_case_of_a_profile_has_a_file(name: str) -> None:
    missing = [case for case in read_profile(name).cases if not (ROOT / "cases" / f"{case}.yaml").exists()]
    assert missing == []


def _shared_output(pipeline: Any) -> None:
    text = yaml.safe_dump(pipeline["stages"]["evaluate"], width=9999, sort_keys=False).replace(
        "${item.seed}/evaluate", "evaluate"
    )
    pipeline["stages"]["evaluate"] = yaml.safe_load(text)


def _seed_not_set(pipeline: Any) -> None:
    entry = pipeline["stages"]["attack"]
    entry["cmd"] = entry["cmd"].replace("--set seed=${item.seed}", "")


def _another_seeds_network(pipeline: Any) -> None:
    text = yaml.safe_dump(pipeline["stages"]["prune"], width=9999, sort_keys=False)
    wrong = text.replace("${item.seed}/attack/${item.delivered.name}", "9/attack/${item.delivered.name}")
    assert wrong != text
    pipeline["stages"]["prune"] = yaml.safe_load(wrong)


def _swapped_networks(pipeline: Any) -> None:
    pipeline["stages"]["finetune"]["matrix"]["tuned"][3]["from"] = "prune/control/model"


def _another_attacks_network(pipeline: Any) -> None:
    text = yaml.safe_dump(pipeline["stages"]["evaluate"], width=9999, sort_keys=False)
    wrong = text.replace(
        "${item.attack}/${item.seed}/prune/undefended", "baseline/${item.seed}/prune/undefended"
    )
    assert wrong != text
    pipeline["stages"]["evaluate"] = yaml.safe_load(wrong)


def _undefended_as_control(pipeline: Any) -> None:
    text = yaml.safe_dump(pipeline["stages"]["attack_with_control"], width=9999, sort_keys=False)
    wrong = text.replace("baseline/${item.seed}/attack/control", "baseline/${item.seed}/attack/undefended")
    assert wrong != text
    pipeline["stages"]["attack_with_control"] = yaml.safe_load(wrong)


def _rate_not_tracked(pipeline: Any) -> None:
    pipeline["stages"]["attack"]["params"].remove("attack.poison")


def _seed_of_others_tracked(pipeline: Any) -> None:
    pipeline["stages"]["finetune"]["params"].append("finetune")


def _source_not_tracked(pipeline: Any) -> None:
    del pipeline["stages"]["ingest"]["params"][2]


FAULTS = {
    _shared_output: "evaluate: written by several",
    _seed_not_set: "expected --set",
    _another_seeds_network: "expected attack.control or attack.undefended behind --model, found nothing",
    _swapped_networks: "expected finetune.tuned(prune.pruned(attack.undefended)) behind --fine-pruned",
    _another_attacks_network: "evaluate@faces-pruning_aware-0: expected prune.pruned(attack.undefended)",
    _undefended_as_control: "expected attack.control behind --trained-control, found nothing",
    _rate_not_tracked: "attack@faces-baseline-0: expected to track the params",
    _seed_of_others_tracked: "finetune@faces-0-tuned0: expected to track the params",
    _source_not_tracked: "ingest@faces: expected to track the params",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_seeded_in_the_tables_dvc_yaml_is_found(
    pipeline: Mapping[str, Any], variables: Mapping[str, Any], fault: Any
) -> None:
    faulty = copy.deepcopy(dict(pipeline))
    fault(faulty)
    found = table_problems(faulty, variables)
    assert any(FAULTS[fault] in problem for problem in found), found
